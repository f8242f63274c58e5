"""How much of a long test is run: in CI all of it, with ``make test`` as much as finds most of what it finds."""

from __future__ import annotations

import os
from typing import TypeVar


T = TypeVar("T")

FULL = os.environ.get("TEST_FULL") == "1"


def full(size: T, otherwise: T) -> T:
    """Return the full size with TEST_FULL=1."""
    return size if FULL else otherwise
