"""One gateway of a cluster numbers for all what the bus brings without numbers."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.conftest import Connect, Launch, NewPublisher
from tests.support.cluster import clustered, degraded, whole
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.redis import RedisServer
from tests.support.waiting import eventually
from tests.support.ws import Client


@pytest.fixture
async def pair(own_redis: RedisServer, prefix: str, launch: Launch) -> list[Gateway]:
    """Two gateways; the first has the lease."""
    gateways = []
    for name, state in (("first", "holding"), ("second", "following")):
        gateways.append(await launch(settings=clustered(own_redis, prefix, name) | {"cluster.numbering": "one"}))
        await is_state(gateways[-1], state)
    return gateways


async def is_state(gateway: Gateway, state: str) -> None:
    async def found() -> bool:
        return await gateway.metric("neurograph_gateway_cluster_lease", state=state) == 1

    await eventually(found, saying=f"it is {state}")


class Raw:
    """A publisher without envelopes that both gateways hear, and a client of each."""

    def __init__(self, buses: list[Publisher], clients: list[Client]) -> None:
        self._buses = buses
        self.clients = clients

    def send(self, *numbers: int) -> None:
        for bus in self._buses:
            for n in numbers:
                bus.send_numbered("raw", range(n, n + 1))

    def numbers(self, client: Client) -> list[int]:
        return [event["data"]["n"] for event in client.channel("raw").events]


async def raw(pair: list[Gateway], publisher: NewPublisher, connect: Connect) -> Raw:
    buses = [await publisher(one.bus_in) for one in pair]
    clients = [await connect("raw", to=one) for one in pair]
    for one in clients:
        await one.expect("subscribed")
    return Raw(buses, clients)


def positions(client: Client) -> list[tuple[int, int]]:
    """Number and offset of each event."""
    return [(one["data"]["n"], one["offset"]) for one in client.channel("raw").events]


async def test_events_without_numbers_have_one_position_on_all_gateways(
    pair: list[Gateway], publisher: NewPublisher, connect: Connect
) -> None:
    """A client goes on at the other gateway; each event comes once."""
    bus = await raw(pair, publisher, connect)
    bus.send(*range(1, 101))
    for client in bus.clients:
        await client.events("raw", 100)
    [position] = {
        str(one): one for one in [(await client.ping())["positions"]["raw"] for client in bus.clients]
    }.values()
    bus.send(*range(101, 111))
    for client in bus.clients:
        await client.events("raw", 110)
    back = await connect("raw", to=pair[1], since={"raw": position})
    await back.events("raw", 10)

    assert [[(n, n) for n in range(1, 111)]] * 2 == [positions(client) for client in bus.clients]
    assert [(n, n) for n in range(101, 111)] == positions(back)


async def test_a_holder_that_was_stopped_numbers_nothing_more(
    pair: list[Gateway], publisher: NewPublisher, connect: Connect
) -> None:
    """The other one takes the lease meanwhile. Clients of both have the same, each event once."""
    first, second = pair
    bus = await raw(pair, publisher, connect)
    bus.send(*range(1, 11))
    for client in bus.clients:
        await client.events("raw", 10)
    first.kill(signal.SIGSTOP)
    await is_state(second, "holding")
    bus.send(*range(11, 21))
    await bus.clients[1].events("raw", 20)
    first.kill(signal.SIGCONT)
    await is_state(first, "following")
    bus.send(*range(21, 31))
    for client in bus.clients:
        await client.events("raw", 30)

    assert [list(range(1, 31))] * 2 == [bus.numbers(client) for client in bus.clients]
    assert positions(bus.clients[0]) == positions(bus.clients[1])
    assert [["epoch"]] * 2 == [[gap["reason"] for gap in client.channel("raw").gaps] for client in bus.clients]


@pytest.mark.long
async def test_when_the_holder_is_killed_the_other_one_goes_on(
    pair: list[Gateway], publisher: NewPublisher, connect: Connect
) -> None:
    """A gap says that what came in between is not known."""
    first, second = pair
    bus = await raw(pair, publisher, connect)
    bus.send(*range(1, 11))
    await bus.clients[1].events("raw", 10)
    first.kill()
    await first.exited()
    await is_state(second, "holding")
    bus.send(*range(11, 21))
    await bus.clients[1].events("raw", 20)

    assert list(range(1, 21)) == bus.numbers(bus.clients[1])
    assert ["epoch"] == [gap["reason"] for gap in bus.clients[1].channel("raw").gaps]


@pytest.mark.long
async def test_without_the_engine_each_gateway_numbers_for_itself_until_it_is_back(
    pair: list[Gateway], own_redis: RedisServer, publisher: NewPublisher, connect: Connect
) -> None:
    """Clients see two sources, and nothing is missing."""
    bus = await raw(pair, publisher, connect)
    bus.send(*range(1, 11))
    for client in bus.clients:
        await client.events("raw", 10)
    own_redis.kill()
    await degraded(*pair)
    bus.send(*range(11, 21))
    for client in bus.clients:
        await client.events("raw", 20)
    for one in pair:
        await is_state(one, "alone")
    await asyncio.to_thread(own_redis.start)
    await whole(*pair)

    async def is_settled() -> bool:
        states = [
            [await one.metric("neurograph_gateway_cluster_lease", state=state) for state in ("holding", "following")]
            for one in pair
        ]
        return sorted(states) == [[0, 1], [1, 0]]

    await eventually(is_settled)
    bus.send(*range(21, 31))
    for client in bus.clients:
        await client.events("raw", 30)

    assert [list(range(1, 31))] * 2 == [bus.numbers(client) for client in bus.clients]
    assert [each[-10:] for each in map(positions, bus.clients)] == [[(n, n - 20) for n in range(21, 31)]] * 2
