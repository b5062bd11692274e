"""What runs in an environment of a service, not in ours."""
