"""Counts what happens, for Prometheus, and for the gateway's own events on `metrics.gateway`."""
