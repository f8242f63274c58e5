"""Applications that read more slowly than events arrive."""

from __future__ import annotations

import asyncio

from neurograph_client import Client, Event, Subscription

from tests.conftest import Launch, NewPublisher
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.waiting import DEADLINE_SECONDS, eventually, scaled


async def full(subscription: Subscription[object]) -> None:
    await eventually(lambda: subscription.waiting >= 5)


COUNT = 20_000
ROOMY = {"history.events_max": 100_000, "history.bytes_max": 1 << 28}


async def test_a_slow_application_slows_the_socket_and_loses_nothing(launch: Launch, publisher: NewPublisher) -> None:
    gateway = await launch(settings=ROOMY)
    one = await publisher(gateway.bus_in)
    async with Client(gateway.url, buffer=50) as client, client.subscribe("a") as events:
        for number in range(1, COUNT + 1):
            one.send("a", {"n": number, "pad": "x" * 1000})

        async def lags() -> bool:
            return bool((await gateway.status())["lagging"] == 1)

        await eventually(lags)
        assert events.waiting <= 51
        seen: list[int] = []
        async with asyncio.timeout(scaled(DEADLINE_SECONDS)):
            while len(seen) < COUNT:
                item = await anext(events)
                assert isinstance(item, Event), item
                seen.append(item.data["n"])

    assert seen == list(range(1, COUNT + 1))
    assert client.connection_count == 1


async def test_a_request_is_answered_while_events_wait(gateway: Gateway, bus: Publisher, channel: str) -> None:
    """Otherwise a loop that sends a request between two events would block for ever."""
    async with Client(gateway.url, buffer=5) as client, client.subscribe(channel) as events:
        bus.send_numbered(channel, range(1, 201))
        await eventually(lambda: events.waiting >= 5)
        seen = []
        async for item in events:
            assert isinstance(item, Event)
            seen.append(item.data["n"])
            if len(seen) % 50 == 0:
                assert await client.subscriptions() == [channel]
            if len(seen) == 200:
                break

    assert seen == list(range(1, 201))


async def test_a_subscription_that_reads_nothing_does_not_delay_closing(
    gateway: Gateway, bus: Publisher, channel: str
) -> None:
    async with Client(gateway.url, buffer=5) as client, client.subscribe(channel) as events:
        bus.send_numbered(channel, range(1, 101))
        await eventually(lambda: events.waiting >= 5)

    assert client.state == "closed"


async def test_a_subscription_without_a_reference_does_not_delay_others(
    gateway: Gateway, bus: Publisher, channel: str
) -> None:
    async with Client(gateway.url, buffer=5) as client, client.subscribe(channel) as kept:
        slow = client.subscribe(channel)
        await slow.confirmed()
        bus.send_numbered(channel, range(1, 101))
        await full(slow)
        del slow
        async with asyncio.timeout(scaled(DEADLINE_SECONDS)):
            for number in range(1, 101):
                item = await anext(kept)
                assert isinstance(item, Event)
                assert item.data["n"] == number
