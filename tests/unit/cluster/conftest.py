"""A real Redis, and engines that use it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from itertools import count

import pytest

from gateway.cluster.engine import Engine
from gateway.config.model import Cluster
from tests.support.waiting import eventually


NewEngine = Callable[..., Engine]

_numbers = count(1)


@pytest.fixture
async def engine(prefix: str) -> AsyncIterator[NewEngine]:
    """Make a started engine: ``engine(redis.url)``."""
    async with AsyncExitStack() as stack:

        def make(url: str, **settings: object) -> Engine:
            given = {"url": url, "prefix": prefix, "timeout_seconds": 5.0, **settings}
            made = Engine(Cluster(**given), gateway=f"gateway{next(_numbers)}")  # type: ignore[arg-type]
            stack.push_async_callback(made.close)
            made.start()
            return made

        yield make


async def up(engine: Engine) -> Engine:
    """Wait until an engine is up."""
    await eventually(lambda: engine.up, saying=lambda: engine.problem)
    return engine


async def down(engine: Engine) -> Engine:
    await eventually(lambda: not engine.up)
    return engine
