"""Clients that a gateway of a cluster sends away come back through a balancer, and lose nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from neurograph_client import Backoff, Client, Event

from tests.conftest import Connect, Launch
from tests.support.cluster import clustered, members
from tests.support.gateway import Gateway
from tests.support.proxy import Balancer
from tests.support.redis import RedisServer
from tests.support.waiting import eventually


CHANNEL = "moves"
SOON = Backoff(first=0.01, most=0.1)
REBALANCED = 4003
SETTINGS = {"shutdown.reconnect_spread_seconds": 0.2, "cluster.ttl_seconds": 2.0, "cluster.balance": True}


class Reader:
    """A client that notes what it gets of the channel."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.numbers: list[int] = []
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        async with self.client.subscribe(CHANNEL) as events:
            async for item in events:
                self.numbers.append(item.data["n"] if isinstance(item, Event) else -1)

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)


async def behind(balancer: Balancer, stack: AsyncExitStack) -> Reader:
    client = await stack.enter_async_context(Client(f"http://127.0.0.1:{balancer.port}", backoff=SOON))
    reader = Reader(client)
    stack.push_async_callback(reader.close)
    return reader


@pytest.fixture
async def pair(request: pytest.FixtureRequest, redis: RedisServer, prefix: str, launch: Launch) -> list[Gateway]:
    """Two gateways that know each other as ready."""
    workers = getattr(request, "param", 1)
    settings = [clustered(redis, prefix, name, workers=workers) | SETTINGS for name in ("first", "second")]
    gateways = [await launch(settings=one) for one in settings]
    for gateway in gateways:

        async def ready(gateway: Gateway = gateway) -> bool:
            return [True, True] == [one["ready"] for one in await members(gateway)]

        await eventually(ready, saying="both are ready")
    return gateways


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as made:
        yield made


async def subscribed(gateway: Gateway, clients: int) -> None:
    """Wait until so many clients are subscribed, on all gateways."""

    async def there() -> bool:
        found = await gateway.get_json(f"/api/v1/websocket/channels/{CHANNEL}/presence")
        return bool(clients == found["subscribers"])

    await eventually(there, saying=f"{clients} are subscribed")


async def send(gateway: Gateway, *numbers: int) -> None:
    for n in numbers:
        event: dict[str, Any] = {"event_type": "note", "data": {"n": n}}
        await gateway.broadcast({"channel": CHANNEL, "event": event})


async def have(readers: list[Reader], count: int) -> None:
    """Wait until each has exactly the events up to a number, each once, and nothing else."""
    await eventually(lambda: all(len(one.numbers) >= count for one in readers))
    assert [list(range(count))] * len(readers) == [one.numbers for one in readers]


@pytest.mark.long
@pytest.mark.parametrize("pair", [1, 2], indirect=True)
async def test_a_gateway_with_many_more_clients_asks_some_to_come_elsewhere(
    pair: list[Gateway], connect: Connect, stack: AsyncExitStack
) -> None:
    """Those that have been there for longest first; they get every event once."""
    first, second = pair
    async with Balancer([first.port]) as balancer:
        readers = [await behind(balancer, stack) for _ in range(2)]
        await subscribed(second, 2)
        await send(first, *range(10))
        await have(readers, 10)
        balancer.serve([second.port, first.port])
        for _ in range(46):
            await connect(to=first)
        await eventually(lambda: all(one.client.connection_count > 1 for one in readers), saying="all are asked")
        await send(second, *range(10, 20))
        await have(readers, 20)

    assert 2 <= await first.metric("neurograph_gateway_connections_closed_total", code=str(REBALANCED))
    assert await first.logged("cluster_rebalancing")


async def test_a_gateway_that_drains_leaves_its_port_to_the_others_before_its_clients(
    pair: list[Gateway], connect: Connect, stack: AsyncExitStack
) -> None:
    first, second = pair
    async with Balancer([first.port, second.port]) as balancer:
        readers = [await behind(balancer, stack) for _ in range(2)]
        await subscribed(second, 2)
        await send(first, *range(10))
        await have(readers, 10)
        watching = await connect(to=first)
        first.kill(15)
        await watching.expect("closing")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", first.port)
        await send(second, *range(10, 20))
        await have(readers, 20)
        await first.exited()
