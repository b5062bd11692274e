"""What a service in memory and the real one both must do: each test runs in `tests/unit` and in `tests/cloud`."""
