"""Malformed frames and messages by the thousand, beside a client that must not notice."""
