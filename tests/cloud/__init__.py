"""Drivers against the services of a real cloud; ``tools/test --cloud`` runs them."""
