"""What numbers in the configuration count, and between which limits."""

from msgspec import Meta


_INT_MAX = 2**31 - 1  # what ZeroMQ and the kernel's socket options can hold
_SECONDS_MAX = 1_000_000.0  # as milliseconds still within _INT_MAX


def number(unit: str, doc: str, *, least: int = 0, most: int = _INT_MAX) -> Meta:
    """Describe a whole number of something, and its limits."""
    return Meta(ge=least, le=most, description=doc, extra={"unit": unit})


def duration(doc: str, *, least: float = 0.0, most: float = _SECONDS_MAX) -> Meta:
    """Describe a time."""
    return Meta(ge=least, le=most, description=doc, extra={"unit": "seconds"})


def rate(doc: str) -> Meta:
    """Describe how often something may be."""
    return Meta(ge=0.01, le=_SECONDS_MAX, description=doc, extra={"unit": "per second"})
