"""The few things that tests are made of: gateways, publishers, clients."""

from __future__ import annotations

import itertools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings


sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gateway.core.protocol.events import set_clock_offset
from tests.support import ws
from tests.support.gateway import Gateway, allow_many_files
from tests.support.publisher import Publisher
from tests.support.raw import RawPeer, open_raw
from tests.support.redis import RedisServer
from tests.support.resumed import trace_resumed_coroutines
from tests.support.sizes import full


Launch = Callable[..., Awaitable[Gateway]]
Connect = Callable[..., Awaitable[ws.Client]]
OpenRaw = Callable[..., Awaitable[RawPeer]]
NewPublisher = Callable[..., Awaitable[Publisher]]

_names = itertools.count(1)

trace_resumed_coroutines()

# How fast the machine is just now fails no test.
settings.register_profile(
    "any machine", deadline=None, max_examples=full(100, 25), suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _unix_time() -> Iterator[None]:
    """A gateway in this process lets timestamps follow the wall clock; for the next test they begin in 1970 again."""
    yield
    set_clock_offset(0)


@pytest.fixture(scope="session")
def gateway() -> Iterator[Gateway]:
    """A gateway with its defaults, shared by the tests that need no other."""
    allow_many_files()
    with Gateway() as running:
        yield running


@pytest.fixture(scope="module")
def packing() -> Iterator[Gateway]:
    """A gateway that compresses messages, for a module's tests."""
    with Gateway(settings={"clients.compression_bytes_min": 1024}) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def shared_publisher(gateway: Gateway) -> Iterator[Publisher]:
    publisher = Publisher(gateway.bus_in)
    yield publisher
    publisher.close()


@pytest.fixture
async def bus(shared_publisher: Publisher) -> Publisher:
    """A publisher to which the shared gateway has subscribed."""
    return await shared_publisher.subscribed()


@pytest.fixture
def channel() -> str:
    """A channel's name that no other test uses."""
    return f"test.c{next(_names)}"


@pytest.fixture
async def launch() -> AsyncIterator[Launch]:
    """Start a gateway for this test alone: ``await launch(settings={"history.events_max": 10})``."""
    allow_many_files()
    async with AsyncExitStack() as stack:

        async def start(**how: Any) -> Gateway:
            return await stack.enter_async_context(Gateway(**how))

        yield start


@pytest.fixture
async def publisher() -> AsyncIterator[NewPublisher]:
    """Make a publisher at an endpoint and wait until it is subscribed to: ``await publisher(endpoint)``."""
    made: list[Publisher] = []

    async def make(endpoint: str, *, bind: bool = False, wait: bool = True) -> Publisher:
        made.append(Publisher(endpoint, bind=bind))
        return await made[-1].subscribed() if wait else made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A server that the tests of a module share, each with a prefix of its own."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server that this test may stop and kill; it keeps its data."""
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@pytest.fixture
def prefix() -> str:
    """What the keys of a test's cluster begin with."""
    return f"test{next(_names)}"


@pytest.fixture
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Connect a client: ``await connect("metrics", last=1, to=gateway)``; to the shared one by default."""
    made: list[ws.Client] = []

    async def make(*channels: str, to: Gateway | None = None, **query: Any) -> ws.Client:
        to = to or request.getfixturevalue("gateway")
        made.append(await ws.connect(to.url, *channels, **query))
        return made[-1]

    yield make
    for one in made:
        await one.close()


@pytest.fixture
async def raw(request: pytest.FixtureRequest) -> AsyncIterator[OpenRaw]:
    """Open a raw peer, upgraded and greeted: ``await raw()``; ``upgrade=False`` leaves it a bare socket."""
    made: list[RawPeer] = []

    async def make(
        path: str = "/ws", *, to: Gateway | None = None, upgrade: bool = True, receive_buffer: int = 0
    ) -> RawPeer:
        to = to or request.getfixturevalue("gateway")
        if upgrade:
            made.append(await open_raw(to.port, path, receive_buffer=receive_buffer))
        else:
            made.append(RawPeer(to.port, receive_buffer=receive_buffer))
        return made[-1]

    yield make
    for one in made:
        one.close()
