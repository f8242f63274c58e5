"""Channel names and the patterns that select them.

A name is one or more segments joined by dots. A segment consists of ``[A-Za-z0-9_-]`` and of other bytes
as ``%`` and two hexadecimal digits, as sources write them (`gateway.core.sources.topics`). A name has at
most 255 bytes, where such an escape counts as one. In a pattern, ``*`` stands for exactly one segment and a
final ``>`` for one or more (the wildcards of NATS). Names that begin with ``$`` are the gateway's own and
match no wildcard."""

import re
from collections.abc import Iterable
from functools import lru_cache


NAME_BYTES_MAX = 255
TOPIC_BYTES_MAX = 128
"""Of a topic that is a channel's name as it stands."""

EVERYONE = "$everyone"
"""Messages to everyone; every client is subscribed to it."""
PERSONAL = "$personal"
"""Messages to one client or one user; each client has its own."""
OWN_FIGURES = "metrics.gateway"
"""The gateway's own figures. Not ``metrics``: two sources there would end the publisher's numbering."""

_TOPIC = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_SEGMENT = "(?:[A-Za-z0-9_-]|%[0-9A-F]{2})+"
_NAME = re.compile(rf"{_SEGMENT}(?:\.{_SEGMENT})*")
_PATTERN = re.compile(rf"(?:{_SEGMENT}|\*)(?:\.(?:{_SEGMENT}|\*))*(?:\.>)?|>")


def is_topic(text: str) -> bool:
    """Return whether publishers may use `text` as a topic without a source that maps it."""
    return len(text) <= TOPIC_BYTES_MAX and _TOPIC.fullmatch(text) is not None


def is_name(text: str) -> bool:
    return _is_short(text) and _NAME.fullmatch(text) is not None


def is_pattern(text: str) -> bool:
    return _is_short(text) and _PATTERN.fullmatch(text) is not None


def _is_short(text: str) -> bool:
    return len(text) <= NAME_BYTES_MAX or len(text) - 2 * text.count("%") <= NAME_BYTES_MAX


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


def selected_by(pattern: str, names: Iterable[str]) -> Iterable[str]:
    """Return those of many channels that a wildcard selects."""
    if pattern == ">":
        return [name for name in names if name[0] != "$"]
    return filter(_compiled(pattern).fullmatch, names)
