"""The configurations of ops/proxies, each run with the real proxy in front of a real gateway: ``make proxies``."""
