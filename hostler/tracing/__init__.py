"""What a worker tells an OpenTelemetry collector: one trace a migration, across both hosts; off unless configured."""
