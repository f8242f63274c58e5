"""Connections that are lost, and how the client reconnects."""

from __future__ import annotations

import asyncio
import gc
import os

import aiohttp
import psutil
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from neurograph_client import Backoff, Client, ClosedError, Disconnect, Event, Gap

from tests.conftest import Launch, NewPublisher
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.sizes import full
from tests.support.waiting import eventually

from .conftest import NewProxy


LOST = full(1_000, 250)
"""How many times the test cuts the connection."""
SOON = Backoff(0.001, 0.005)
MB = 1 << 20


async def reconnected(client: Client, connection_count: int) -> None:
    await eventually(lambda: client.connection_count > connection_count, every=0.001)


@pytest.mark.long
async def test_many_reconnects_leak_nothing(gateway: Gateway, bus: Publisher, proxy: NewProxy, channel: str) -> None:
    """Every event arrives once, in order; the counts of tasks and sockets, and memory, do not grow."""
    between = await proxy(gateway)
    process = psutil.Process(os.getpid())
    seen: list[int] = []
    async with Client(between.url, backoff=SOON) as client, client.subscribe(channel) as events:

        async def lose(times: int) -> None:
            for _ in range(times):
                connection_count = client.connection_count
                bus.send(channel, {"n": len(seen) + 1})
                between.cut()
                item = await anext(events)
                assert isinstance(item, Event)
                seen.append(item.data["n"])
                await reconnected(client, connection_count)

        await lose(100)
        gc.collect()
        tasks, files = len(asyncio.all_tasks()), process.num_fds()
        memory = process.memory_info().rss
        await lose(LOST - 100)
        gc.collect()
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks)
        await eventually(lambda: process.num_fds() <= files + 2)
        grown = process.memory_info().rss - memory

    assert seen == list(range(1, LOST + 1))
    assert client.connection_count > LOST
    assert grown < 8 * MB


async def test_the_backoff_doubles_up_to_its_bound() -> None:
    backoff = Backoff()

    assert [backoff.bound(attempt) for attempt in range(8)] == [0.5, 1, 2, 4, 8, 16, 20, 20]
    assert backoff.bound(10_000) == 20
    drawn = [backoff.pause(3) for _ in range(1000)]
    assert 0 <= min(drawn) < 1 < 3 < max(drawn) <= 4, (
        f"the pauses are not spread from 0 to their bound: {sorted(drawn)}"
    )


async def test_states_are_reported(gateway: Gateway, proxy: NewProxy) -> None:
    between = await proxy(gateway)
    states: list[str] = []
    async with Client(between.url, backoff=SOON, on_state=states.append) as client:
        between.cut()
        await eventually(lambda: client.connection_count == 2)
        assert client.last_disconnect is not None
        assert client.last_disconnect.reconnect

    assert states == ["connecting", "connected", "reconnecting", "connecting", "connected", "closed"]


async def test_a_client_waits_for_the_delay_that_a_closing_gateway_gave(launch: Launch, proxy: NewProxy) -> None:
    """The client waits for that delay even if its backoff is shorter."""
    gateway = await launch(settings={"shutdown.reconnect_spread_seconds": 1})
    between = await proxy(gateway)
    changes: list[tuple[str, float, Disconnect | None]] = []
    now = asyncio.get_running_loop().time

    def note(state: str) -> None:
        changes.append((state, now(), client.last_disconnect))

    client = Client(between.url, backoff=SOON, on_state=note)
    async with client:
        gateway.kill(15)
        await eventually(lambda: len(changes) >= 4)
        await gateway.exited()
    (reconnecting, since, end), (connecting, until, _) = changes[2:4]

    assert (reconnecting, connecting) == ("reconnecting", "connecting")
    assert end is not None
    assert (end.code, end.reason, end.reconnect) == (1012, "restart", True)
    assert until - since >= (end.after or 0.0) - 0.01


async def test_a_client_does_not_reconnect_after_another_took_its_session(gateway: Gateway, channel: str) -> None:
    """Close code 4500 raises in a loop that waits for an event, and the client does not reconnect."""
    async with Client(gateway.url, backoff=SOON) as client, client.subscribe(channel) as events:
        thief = Client(gateway.url)
        thief._link.hello = dict(client._link.hello)
        async with thief:
            with pytest.raises(ClosedError) as closed:
                await anext(events)
            assert closed.value.code == 4500
            assert thief.info.resumed
            assert client.connection_count == 1


async def test_personal_messages_that_may_be_lost_are_a_gap(launch: Launch, proxy: NewProxy) -> None:
    """The messages that waited in an expired session are lost; the new session numbers its messages from 1."""
    gateway = await launch(settings={"sessions.ttl_seconds": 0})
    between = await proxy(gateway)
    async with Client(between.url, backoff=SOON) as client, client.subscribe("$personal") as own:
        await client.broadcast("t", 1, client_id=client.info.client_id)
        first = await anext(own)
        between.cut()
        gap = await anext(own)
        await client.broadcast("t", 2, client_id=client.info.client_id)
        second = await anext(own)

    assert isinstance(gap, Gap)
    assert gap.reason == "epoch"
    assert [e.data for e in (first, second) if isinstance(e, Event)] == [1, 2]


async def test_positions_too_long_for_a_url_are_resumed(
    gateway: Gateway, bus: Publisher, proxy: NewProxy, channel: str
) -> None:
    """With a pattern of many channels, events after positions that do not fit arrive again; the client drops them."""
    names = [f"{channel}.{'x' * 40}-{number}" for number in range(200)]
    between = await proxy(gateway)
    async with Client(between.url, backoff=SOON) as client, client.subscribe(f"{channel}.*") as events:
        for n in range(1, 4):
            for name in names:
                bus.send(name, {"n": n}, enveloped=True)
            seen: dict[str, list[object]] = {}
            for _ in names:
                item = await anext(events)
                assert isinstance(item, Event), item
                seen.setdefault(item.channel, []).append(item.data["n"])
            assert seen == {name: [n] for name in names}
            connection_count = client.connection_count
            between.cut()
            await reconnected(client, connection_count)
        await client.ping()

        assert events.waiting == 0
        assert events.duplicates > 0


async def test_run_forever_waits_for_a_gateway_that_starts_later(
    launch: Launch, proxy: NewProxy, publisher: NewPublisher
) -> None:
    """`run_forever` keeps trying without a time limit."""
    gateway = await launch()
    between = await proxy(gateway)
    between.refusing = True
    seen: list[object] = []
    client = Client(between.url, backoff=SOON, timeout=0.2)
    client.on("early", seen.append)
    running = asyncio.create_task(client.run_forever())
    await eventually(lambda: between.accepted > 20)
    between.refusing = False
    await eventually(lambda: client.state == "connected")
    one = await publisher(gateway.bus_in)
    await eventually(lambda: all(feed.confirmed.is_set() for feed in client._link.feeds))
    one.send("early", {"n": 1})
    await eventually(lambda: len(seen) == 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert client.state == "closed"


async def test_a_ping_right_before_the_connection_ends_ends_only_the_connection(gateway: Gateway) -> None:
    async with aiohttp.ClientSession() as http, http.ws_connect(f"{gateway.url}/ws") as real:
        hello = await real.receive_str()
    connections = []

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=["neurograph"])
        await socket.prepare(request)
        connections.append(socket)
        await socket.send_str(hello)
        if len(connections) == 1:
            await socket.ping(b"part")
            assert request.transport is not None
            request.transport.close()
        async for _ in socket:
            pass
        return socket

    application = web.Application()
    application.router.add_get("/ws", serve)
    async with TestServer(application) as server:
        client = Client(f"http://127.0.0.1:{server.port}", backoff=SOON)
        async with client:
            await eventually(lambda: client.connection_count == 2)


async def test_held_events_are_collected_across_a_lost_connection(
    launch: Launch, publisher: NewPublisher, proxy: NewProxy
) -> None:
    gateway = await launch(settings={"history.events_max": 20_000})
    bus = await publisher(gateway.bus_in)
    bus.send_numbered("robots.r2", range(1, 10_001))
    await gateway.holds("robots.r2", 10_000)
    between = await proxy(gateway)

    async with Client(between.url, buffer=100) as client:
        between.cut_after_bytes(200_000)
        found = await client.columns("robots.r2", last=20_000)

        assert 2 == client.connection_count
    assert (10_000, []) == (len(found), found.gaps)
