"""The gateway beside a bare loop in C and beside other servers: what a delivery costs.

`make bench` runs all of it; docs/performance.md says what is measured and what came out.
"""
