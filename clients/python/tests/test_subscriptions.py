"""Subscriptions of an application by loops and handlers, and the errors of those that are refused."""

from __future__ import annotations

import asyncio
from typing import assert_type

import pytest
from neurograph_client import METRICS, Client, ClosedError, Event, Gap, Position, RequestRefusedError, Subscription
from neurograph_client.models import SystemMetrics

from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.waiting import DEADLINE_SECONDS, eventually, scaled


async def numbers(subscription: Subscription[dict[str, int]], count: int) -> list[int]:
    """Return the numbers of the next items, which must all be events."""
    found = []
    async with asyncio.timeout(scaled(DEADLINE_SECONDS)):
        for _ in range(count):
            item = await anext(subscription)
            assert isinstance(item, Event), item
            found.append(item.data["n"])
    return found


async def test_an_event_has_all_that_its_publisher_sent(gateway: Gateway, bus: Publisher, channel: str) -> None:
    async with Client(gateway.url) as client, client.subscribe(channel) as events:
        bus.send(channel, {"n": 1}, event_type="t", enveloped=True, host="r2")
        event = await anext(events)

    assert isinstance(event, Event)
    assert (event.channel, event.event_type, event.data) == (channel, "t", {"n": 1})
    assert event.message["host"] == "r2"
    assert event.position == Position(f"{bus.incarnation:016x}", 1)


async def test_bare_data_has_no_event_type(gateway: Gateway, bus: Publisher, channel: str) -> None:
    async with Client(gateway.url) as client, client.subscribe(channel) as events:
        bus.send_payload(channel, b"[1, 2]")
        event = await anext(events)

    assert isinstance(event, Event)
    assert (event.event_type, event.data) == (None, [1, 2])


async def test_typed_events_of_a_standard_channel(gateway: Gateway, bus: Publisher) -> None:
    async with Client(gateway.url) as client, client.subscribe(METRICS) as events:
        bus.send("metrics", {"cpu_percent": 12.5, "host": "r2"}, event_type="system_metrics")
        event = await anext(events)

    assert isinstance(event, Event)
    assert_type(event, Event[SystemMetrics])
    assert event.data["cpu_percent"] == 12.5


async def test_leaving_a_loop_unsubscribes(gateway: Gateway, bus: Publisher, channel: str) -> None:
    bus.send(channel, {"n": 1})
    async with Client(gateway.url) as client:
        async for _ in client.subscribe(channel, last=1):
            assert await client.subscriptions() == [channel]
            break

        async def gone() -> bool:
            return await client.subscriptions() == []

        await eventually(gone)


async def test_a_shared_channel_stays_subscribed_until_its_last_subscription_ends(
    gateway: Gateway, bus: Publisher, channel: str
) -> None:
    async with Client(gateway.url) as client:
        first, second = client.subscribe(channel), client.subscribe(channel)
        await first.confirmed()
        await second.confirmed()
        first.close()
        bus.send(channel, {"n": 1})

        assert await numbers(second, 1) == [1]
        assert await client.subscriptions() == [channel]


async def test_a_subscription_resumes_after_a_position(gateway: Gateway, bus: Publisher, channel: str) -> None:
    """The position is all that another process needs to resume."""
    pattern, channel = f"{channel}.*", f"{channel}.x"
    async with Client(gateway.url) as client, client.subscribe(channel) as events:
        bus.send_numbered(channel, range(1, 11))
        await numbers(events, 4)
        event = await anext(events)
    assert isinstance(event, Event)
    async with Client(gateway.url) as client:
        assert await numbers(client.subscribe(channel, since=event.position), 5) == [*range(6, 11)]
        since = {channel: event.position}
        assert await numbers(client.subscribe(pattern, since=since), 5) == [*range(6, 11)]


async def test_a_gap_is_an_item_in_its_place(gateway: Gateway, bus: Publisher, channel: str) -> None:
    async with Client(gateway.url) as client, client.subscribe(channel) as events:
        bus.send(channel, {"n": 1}, enveloped=True)
        bus.sequences[channel] += 3
        bus.send(channel, {"n": 5}, enveloped=True)
        items = [await anext(events) for _ in range(3)]

    epoch = f"{bus.incarnation:016x}"
    assert [type(item) for item in items] == [Event, Gap, Event]
    assert items[1] == Gap(channel, epoch, 2, 4, 3, "bus_loss")


async def test_a_refused_subscription_raises_where_it_is_used(gateway: Gateway, channel: str) -> None:
    async with Client(gateway.url) as client:
        with pytest.raises(RequestRefusedError, match="invalid_filter"):
            await anext(client.subscribe(channel, filter="1 +"))
        with pytest.raises(RequestRefusedError) as refused:
            async with client.subscribe("no channel"):
                pass
        assert refused.value.code == "invalid_channel"
        assert refused.value.status == 400
        assert await client.subscriptions() == []


async def test_a_channel_can_have_subscriptions_with_different_filters(
    gateway: Gateway, bus: Publisher, channel: str
) -> None:
    bus.send_numbered(channel, range(1, 5), enveloped=True)
    await gateway.holds(channel, 4)
    client = Client(gateway.url)
    async with client:
        panels = [client.subscribe(channel, filter=f"data.n == {number}", last=4) for number in (1, 2, 3)]
        found = [(await anext(panel)) for panel in panels]

        assert [item.data["n"] for item in found if isinstance(item, Event)] == [1, 2, 3]
        assert await client.subscriptions() == [channel]
    with pytest.raises(ClosedError):
        client.subscribe(channel, filter="data.n == 4")


async def test_invalid_channels_and_positions_are_refused(gateway: Gateway, channel: str) -> None:
    async with Client(gateway.url) as client:
        with pytest.raises(ValueError, match="name a channel"):
            client.subscribe()
        with pytest.raises(ValueError, match="a position for each channel"):
            client.subscribe(channel, "other", since=Position("e", 1))


async def test_handlers_get_each_event_in_turn(gateway: Gateway, bus: Publisher, channel: str) -> None:
    """Handlers may be functions or coroutine functions, and be added before or after the start."""
    seen: list[tuple[str, int]] = []
    client = Client(gateway.url)

    def sync(item: Event[dict[str, int]] | Gap) -> None:
        assert isinstance(item, Event)
        seen.append(("sync", item.data["n"]))

    async def slow(item: Event[dict[str, int]] | Gap) -> None:
        assert isinstance(item, Event)
        await asyncio.sleep(0)
        seen.append(("async", item.data["n"]))

    bus.send_numbered(channel, range(1, 4))
    client.on(channel, sync, last=3)
    running = asyncio.create_task(client.run_forever())
    await eventually(lambda: client.state == "connected")
    client.on(channel, slow, last=3)
    await eventually(lambda: len(seen) == 6)
    await client.close()
    await running

    assert [n for kind, n in seen if kind == "sync"] == [1, 2, 3]
    assert [n for kind, n in seen if kind == "async"] == [1, 2, 3]


async def test_an_exception_in_a_handler_ends_run_forever(gateway: Gateway, bus: Publisher, channel: str) -> None:
    def handler(_: object) -> None:
        raise LookupError("mine")

    bus.send(channel, {"n": 1})
    client = Client(gateway.url)
    client.on(channel, last=1)(handler)
    with pytest.raises(LookupError, match="mine"):
        await client.run_forever()

    assert client.state == "closed"


async def test_personal_messages_and_those_to_everyone(gateway: Gateway, channel: str) -> None:
    async with (
        Client(gateway.url, user_id=channel) as client,
        client.subscribe("$personal") as own,
        client.subscribe("$everyone") as all_,
    ):
        assert await client.broadcast("hello", 1, client_id=client.info.client_id) == 1
        assert await client.broadcast("hello", 2, user_id=channel) == 1
        assert await client.broadcast("hello", 3) >= 1
        found = [await anext(own), await anext(own), await anext(all_)]

    assert [event.data for event in found if isinstance(event, Event)] == [1, 2, 3]


async def test_closing_ends_loops_and_leaves_no_task(gateway: Gateway, channel: str) -> None:
    before = asyncio.all_tasks()

    async def follow(subscription: Subscription[object]) -> list[object]:
        return [item async for item in subscription]

    async with Client(gateway.url) as client:
        client.on(channel, print)
        subscription = client.subscribe(channel)
        loop = asyncio.create_task(follow(subscription))
        await subscription.confirmed()

    assert await loop == []
    assert asyncio.all_tasks() == before
    assert client.state == "closed"
    with pytest.raises(ClosedError):
        client.subscribe(channel)


async def test_a_cancelled_loop_leaves_no_task(gateway: Gateway, channel: str) -> None:
    before = asyncio.all_tasks()

    async def follow() -> None:
        async with Client(gateway.url) as client, client.subscribe(channel) as events:
            await anext(events)

    for _ in range(5):
        task = asyncio.create_task(follow())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert asyncio.all_tasks() == before
