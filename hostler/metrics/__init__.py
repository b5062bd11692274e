"""What a worker tells Prometheus: how much, how long, how many; never of which server."""
