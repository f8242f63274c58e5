"""Gateways in several processes, or of a cluster, and clients of different ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Connect, Launch, NewPublisher
from tests.support import ws
from tests.support.cluster import launch_pair
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.redis import RedisServer
from tests.support.vllm import Vllm
from tests.support.workers import elsewhere, holder


Pair = Callable[..., Awaitable[tuple[ws.Client, ws.Client]]]


@pytest.fixture
def vllm(tmp_path: Path) -> Iterator[Vllm]:
    found = Vllm(tmp_path)
    yield found
    found.close()


@pytest.fixture
async def divided(launch: Launch) -> Gateway:
    """A gateway with two workers."""
    return await launch(flags=["--workers", "2"])


@pytest.fixture
async def divided_bus(divided: Gateway, publisher: NewPublisher) -> Publisher:
    """A publisher to which it has subscribed."""
    return await publisher(divided.bus_in)


@pytest.fixture
async def pair(divided: Gateway, connect: Connect) -> Pair:
    """Connect two clients alike, to two different workers."""

    async def make(*channels: str, to: Gateway | None = None, **query: Any) -> Any:
        first = await connect(*channels, to=to or divided, **query)
        there = holder(to or divided, first)
        return first, await elsewhere(to or divided, connect, there, *channels, **query)

    return make


@pytest.fixture
async def cluster_pair(
    request: pytest.FixtureRequest, redis: RedisServer, prefix: str, launch: Launch
) -> list[Gateway]:
    """Two gateways of a cluster, each in one process, or with as many workers as the test says."""
    workers = getattr(request, "param", 1)
    return await launch_pair(launch, redis, prefix, workers=workers)
