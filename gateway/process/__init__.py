"""The processes that a user starts: a gateway, and a proxy for the bus."""
