"""Server-Sent Events: the same stream and the same guarantees without a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from tests.conftest import Launch, NewPublisher
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.sse import EventSource
from tests.support.waiting import eventually


async def test_events_and_what_is_said_about_them_arrive(gateway: Gateway, bus: Publisher, channel: str) -> None:
    async with EventSource(gateway.url, f"channels={channel}") as source:
        connected, subscribed = await source.next("connected"), await source.next("subscribed")
        bus.send_numbered(channel, range(3))
        messages = await source.messages(3)

    assert source.response.content_type == "text/event-stream"
    assert connected.data["type"] == "connected"
    assert subscribed.data["channels"] == [channel]
    assert [message["data"]["n"] for message in messages] == [0, 1, 2]
    assert [message["channel"] for message in messages] == [channel] * 3


async def test_a_client_that_reconnects_with_the_last_id_misses_nothing_on_any_channel(
    gateway: Gateway, bus: Publisher, channel: str
) -> None:
    """Whichever event was the last, each channel goes on where it stood then."""
    one, other = f"{channel}.a", f"{channel}.b"
    seen: dict[str, list[int]] = {one: [], other: []}
    last_id = ""
    sent = 0
    query = f"channels={one},{other}"

    def see(messages: list[dict[str, Any]]) -> None:
        """Note new events; those of a write that was not read to its end come again."""
        for message in messages:
            numbers, n = seen[message["channel"]], message["data"]["n"]
            assert n in {*numbers, len(numbers)}
            if n == len(numbers):
                numbers.append(n)

    for taken in (1, 2, 3, 5, 1, 4):
        async with EventSource(gateway.url, query, last_id=last_id) as source:
            await source.next("subscribed")
            for _ in range(3):
                bus.send(one, {"n": sent}, enveloped=True)
                bus.send(other, {"n": sent}, enveloped=True)
                sent += 1
            see(await source.messages(taken))
            last_id = source.last_id
    async with EventSource(gateway.url, query, last_id=last_id) as source:
        while seen != {one: list(range(sent)), other: list(range(sent))}:
            see(await source.messages(1))


async def test_an_id_holds_on_another_gateway_of_the_same_bus(launch: Launch, publisher: NewPublisher) -> None:
    """Both take over the publisher's numbers, so a position means the same to both."""
    first, second = await launch(), await launch()
    buses = [await publisher(one.bus_in) for one in (first, second)]
    for bus in buses:  # one publisher that two gateways hear
        bus.incarnation = 77

    def send(numbers: range) -> None:
        for bus in buses:
            bus.send_numbered("shared", numbers, enveloped=True)

    async with EventSource(first.url, "channels=shared") as source:
        await source.next("subscribed")
        send(range(7))
        await source.messages(7)
    send(range(7, 10))
    await second.holds("shared", 10)
    async with EventSource(second.url, "channels=shared", last_id=source.last_id) as source:
        subscribed = await source.next("subscribed")
        rest = await source.messages(3)

    assert subscribed.data["recovered"] == {"shared": True}
    assert [message["data"]["n"] for message in rest] == [7, 8, 9]


@pytest.mark.parametrize("stale", ["{channel}=feedbeef:2", "nonsense", "{channel}=x:1x"])
async def test_an_id_of_another_epoch_or_nonsense_is_reported_and_everything_held_follows(
    gateway: Gateway, bus: Publisher, channel: str, stale: str
) -> None:
    """An EventSource sends it again with every attempt, and gives up at an error."""
    bus.send_numbered(channel, range(3))
    stale = stale.format(channel=channel)
    async with EventSource(gateway.url, f"channels={channel}", last_id=stale) as source:
        subscribed = await source.next("subscribed")
        gap = await source.next("gap")
        messages = await source.messages(3)

    assert subscribed.data["recovered"] == {channel: False}
    assert gap.data["reason"] == "epoch"
    assert [message["data"]["n"] for message in messages] == [0, 1, 2]


@pytest.mark.parametrize("as_header", [True, False])
@pytest.mark.parametrize(("count", "fits"), [(15, True), (60, False)])
async def test_an_id_comes_back_in_a_head_that_servers_take_and_loses_nothing_if_it_would_not_fit(
    launch: Launch, publisher: NewPublisher, count: int, fits: bool, as_header: bool
) -> None:
    """Also in the address, as a page sends it that makes another EventSource after an HTTP error."""
    gateway = await launch(settings={"clients.header_bytes_max": 1024})
    bus = await publisher(gateway.bus_in)
    names = [f"c{n}" for n in range(count)]
    for name in names:
        bus.send(name, {"n": 1})
    query = f"channels={','.join(names)}"
    async with EventSource(gateway.url, f"{query}&last=1") as source:
        await source.messages(count)
    async with EventSource(gateway.url, query) as source:
        assert (await source.next("subscribed")).last_id == source.last_id
    for name in (names[0], names[-1]):
        bus.send(name, {"n": 2})
    last_id, more = (source.last_id, "") if as_header else ("", f"&lastEventId={source.last_id}")
    async with EventSource(gateway.url, query + more, last_id=last_id) as source:
        assert 200 == source.response.status
        back = await source.next("subscribed")
        found: list[tuple[str, int]] = []
        while not {(names[0], 2), (names[-1], 2)} <= set(found):
            message = (await source.next()).data
            found.append((message["channel"], message["data"]["n"]))

    assert dict.fromkeys(names, fits) == back.data["recovered"]
    assert fits is (len(found) == 2)


async def test_a_publishers_line_breaks_do_not_break_the_stream(gateway: Gateway, bus: Publisher, channel: str) -> None:
    async with EventSource(gateway.url, f"channels={channel}") as source:
        await source.next("subscribed")
        bus.send_payload(channel, b'{\n "event_type": "x",\r\n "data": {\r "n": 1}}\n')
        [message] = await source.messages(1)

    assert message["data"] == {"n": 1}


async def test_last_rate_and_filter_work_as_for_a_websocket(gateway: Gateway, bus: Publisher, channel: str) -> None:
    bus.send_numbered(channel, range(5))
    query = f"channels={channel}&last=5&filter=data.n%20%3E%3D%203"
    async with EventSource(gateway.url, query) as source:
        messages = await source.messages(2)
    async with EventSource(gateway.url, f"channels={channel}&last=5&rate=5") as source:
        history = await source.messages(5)

    assert [message["data"]["n"] for message in messages] == [3, 4]
    assert [message["data"]["n"] for message in history] == [0, 1, 2, 3, 4], "a rate limits what is live"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "invalid_field"),
        ("channels=a..b", "invalid_channel"),
        ("channels=a&rate=0", "invalid_field"),
        ("channels=a&last=x", "invalid_field"),
        ("channels=a&filter=data.n%20%3D%3D", "invalid_filter"),
    ],
)
async def test_a_wrong_request_is_answered_before_the_stream(gateway: Gateway, query: str, code: str) -> None:
    answer = await gateway.request("GET", f"/events?{query}")

    assert (answer.status, answer.json["code"]) == (400, code)


async def test_a_drain_tells_a_stream_when_to_come_back_and_ends_it(launch: Launch) -> None:
    gateway = await launch()
    async with EventSource(gateway.url, "channels=metrics") as source:
        await source.next("subscribed")
        gateway.kill(15)
        [closing] = await source.rest()

    assert (closing.name, closing.data["code"]) == ("closing", 1012)
    assert source.retry_ms == closing.data["after_ms"]


async def test_a_quiet_stream_is_kept_alive(launch: Launch) -> None:
    gateway = await launch(settings={"clients.heartbeat_seconds": 0.05})
    async with EventSource(gateway.url, "channels=metrics") as source:
        await source.next("subscribed")
        reading = asyncio.ensure_future(source.rest())
        await eventually(lambda: source.comments >= 2)
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading


async def test_a_stream_that_stops_reading_catches_up_from_the_log(launch: Launch, publisher: NewPublisher) -> None:
    gateway = await launch(
        settings={"history.events_max": 5000, "clients.write_buffer_bytes_max": 4096, "clients.send_buffer_bytes": 4096}
    )
    bus = await publisher(gateway.bus_in)
    async with EventSource(gateway.url, "channels=slow") as source:
        await source.next("subscribed")
        for n in range(4000):
            bus.send("slow", {"n": n, "x": "y" * 1000})

        async def lags() -> bool:
            return bool(await gateway.metric("neurograph_gateway_clients_lagging") == 1)

        await eventually(lags)
        messages = await source.messages(4000)

    assert [message["data"]["n"] for message in messages] == list(range(4000))


async def test_a_stream_leaves_nothing_behind(gateway: Gateway, channel: str) -> None:
    before = (await gateway.status())["sessions_remembered"]
    async with EventSource(gateway.url, f"channels={channel}") as source:
        client_id = (await source.next("connected")).data["client_id"]
        clients = (await gateway.status("?limit=1000"))["clients"]
        assert client_id in [client["client_id"] for client in clients]

    async def gone() -> bool:
        clients = (await gateway.status("?limit=1000"))["clients"]
        return client_id not in [client["client_id"] for client in clients]

    await eventually(gone)
    assert (await gateway.status())["sessions_remembered"] == before
