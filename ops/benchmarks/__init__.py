"""Compares the gateway with a bare loop in C and with other servers: what a delivery costs.

`make bench` runs all of it; docs/performance.md says what is measured and what came out.
"""
