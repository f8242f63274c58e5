"""Channel names and the patterns that select them.

A name is one or more segments of ``[A-Za-z0-9_-]`` joined by dots, at most 128 bytes. In a pattern,
``*`` stands for exactly one segment and a final ``>`` for one or more (the wildcards of NATS). Names
that begin with ``$`` are the gateway's own and match no wildcard."""

import re
from functools import lru_cache


NAME_BYTES_MAX = 128

EVERYONE = "$everyone"
"""Messages to everyone; every client is subscribed to it."""
PERSONAL = "$personal"
"""Messages to one client or one user; each client has its own."""

_NAME = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_PATTERN = re.compile(r"(?:[A-Za-z0-9_-]+|\*)(?:\.(?:[A-Za-z0-9_-]+|\*))*(?:\.>)?|>")


def is_name(text: str) -> bool:
    return len(text) <= NAME_BYTES_MAX and _NAME.fullmatch(text) is not None


def is_pattern(text: str) -> bool:
    return len(text) <= NAME_BYTES_MAX and _PATTERN.fullmatch(text) is not None


def is_wildcard(pattern: str) -> bool:
    """Return whether a pattern can match other names than itself."""
    return "*" in pattern or ">" in pattern


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    if pattern == ">":
        return re.compile(r"[^$].*")
    segments = pattern.removesuffix(".>").split(".")
    body = r"\.".join("[^.$]+" if s == "*" else re.escape(s) for s in segments)
    return re.compile(body + (r"\..+" if pattern.endswith(".>") else ""))


def matches(pattern: str, name: str) -> bool:
    """Return whether a valid pattern selects the channel `name`."""
    if not is_wildcard(pattern):
        return pattern == name
    return _compiled(pattern).fullmatch(name) is not None
