"""Clients' sockets: accepted, parsed, written to, closed."""
