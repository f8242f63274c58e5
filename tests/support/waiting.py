"""Waiting for conditions, never for time."""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload


T = TypeVar("T")

FACTOR = float(os.environ.get("TEST_TIMEOUT_FACTOR", "1"))
"""Multiplies every deadline of the tests: raise it on a slow machine."""


DEADLINE_SECONDS = 60.0
"""How long a test waits for what must come: longer than any machine needs, however busy it is."""

PAUSE_SECONDS_MAX = 0.1
"""Up to this grow the pauses between two looks at a condition: looking may cost a gateway some CPU."""


def scaled(seconds: float) -> float:
    """A deadline in seconds, scaled for this machine."""
    return seconds * FACTOR


@overload
async def eventually(
    condition: Callable[[], Awaitable[T]],
    *,
    within: float = ...,
    every: float | None = ...,
    saying: str | Callable[[], str] = ...,
) -> T: ...


@overload
async def eventually(
    condition: Callable[[], T], *, within: float = ..., every: float = ..., saying: str | Callable[[], str] = ...
) -> T: ...


async def eventually(
    condition: Callable[[], Any],  # Any: a value or an awaitable of one, see above
    *,
    within: float = DEADLINE_SECONDS,
    every: float | None = None,
    saying: str | Callable[[], str] = "",
) -> Any:
    """Return the first true value of `condition`, which may be async, or fail after `within` seconds.

    `saying` is what the failure tells the reader; a callable is asked when it fails. `every` is how many
    seconds to pause between two looks; without it the pauses grow.
    """
    ends, pause = time.monotonic() + scaled(within), 0.01
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        if time.monotonic() > ends:
            told = saying() if callable(saying) else saying
            raise AssertionError(f"not so within {scaled(within):.1f} s: {told or condition}")
        await asyncio.sleep(every or pause)
        pause = min(pause * 1.3, PAUSE_SECONDS_MAX)
