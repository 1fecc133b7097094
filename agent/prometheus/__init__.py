"""Prometheus rules made from the config's objective and intervals."""
