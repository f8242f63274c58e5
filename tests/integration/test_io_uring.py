"""Many clients that follow the same, written to with one system call or with one each."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import pytest

from tests.conftest import Connect, Launch, NewPublisher, OpenRaw
from tests.support.gateway import Gateway
from tests.support.record import Record
from tests.support.sse import EventSource
from tests.support.waiting import eventually
from tests.support.ws import Client


CLIENTS = 20
EVENTS = 2_000
SMALL = {"clients.send_buffer_bytes": 32768, "clients.write_buffer_bytes_max": 32768}


def rings(gateway: Gateway) -> int:
    """Count descriptors of such; the event loop has some of its own."""
    folder = Path(f"/proc/{gateway.process.pid}/fd")
    return sum("io_uring" in os.readlink(one) for one in folder.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="io_uring is Linux's")
async def test_it_is_used_where_it_may_be_and_else_the_log_says_why(launch: Launch, connect: Connect) -> None:
    """It is opened for the first client."""
    uses, does_not = [
        await launch(settings={"fanout.io_uring": wanted, "logging.level": "info"}) for wanted in (True, False)
    ]
    for gateway in (uses, does_not):
        await connect("load", to=gateway)
    told = any("io_uring_unavailable" in line for line in uses.lines)

    assert told is not (rings(uses) > rings(does_not))
    assert not any("io_uring_unavailable" in line for line in does_not.lines)


@pytest.mark.parametrize("io_uring", [True, False])
async def test_all_get_everything_beside_their_other_messages(
    launch: Launch, publisher: NewPublisher, connect: Connect, raw: OpenRaw, io_uring: bool
) -> None:
    """Answers, and one client that does not read: nothing is lost or mixed up."""
    gateway = await launch(settings={"fanout.io_uring": io_uring, "clients.pings_burst": 10_000, **SMALL})
    bus = await publisher(gateway.bus_in)
    slow = await raw("/ws?channels=load", to=gateway, receive_buffer=8192)
    await slow.expect("subscribed")
    clients = [await connect("load", to=gateway) for _ in range(CLIENTS)]
    for client in clients:
        await client.expect("subscribed")
    for first in range(1, EVENTS + 1, 20):
        for n in range(first, first + 20):
            bus.send("load", {"n": n, "padding": "x" * 1000})
        pings = [client.ping() for client in clients[: first % 7]]
        await asyncio.gather(*pings)
        if first % 400 == 1:  # nobody is further behind than that
            await asyncio.gather(*[client.events("load", first) for client in clients])
    await asyncio.gather(*[client.events("load", EVENTS) for client in clients])

    numbers = list(range(1, EVENTS + 1))
    assert [numbers] * CLIENTS == [client.channel("load").numbers for client in clients]
    record = Record()
    while not record.offsets or record.offsets[-1] < EVENTS:
        message = await slow.read_message()
        if message["type"] in {"event", "gap"}:
            record.add(message)
    assert [] == record.faults(after=0, until=EVENTS)

    async def caught_up() -> bool:
        return not any(one["lagging"] for one in (await gateway.status())["clients"])

    await eventually(caught_up)
    bus.send("load", {"n": EVENTS + 1})
    await asyncio.gather(*[client.events("load", EVENTS + 1) for client in clients])


async def test_clients_of_every_kind_get_the_same(launch: Launch, publisher: NewPublisher, connect: Connect) -> None:
    """Plain and compressed WebSockets and event streams, side by side in one cohort."""
    gateway = await launch(settings={"clients.compression_bytes_min": 1})
    bus = await publisher(gateway.bus_in)
    async with contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(EventSource(gateway.url, "channels=load")) for _ in range(7)]
        plain = [await connect("load", to=gateway) for _ in range(7)]
        compressed = [await connect("load", to=gateway, compress=15) for _ in range(7)]
        for stream in streams:
            await stream.next("subscribed")
        bus.send_numbered("load", range(1, 201))
        for client in plain + compressed:
            await client.events("load", 200)

        numbers = list(range(1, 201))
        assert [True] * 7 == [client.compressed for client in compressed]
        assert [numbers] * 14 == [client.channel("load").numbers for client in plain + compressed]
        for stream in streams:
            assert numbers == [one["data"]["n"] for one in await stream.messages(200)]


async def test_a_descriptor_that_is_used_again_gets_nothing_of_its_last_client(
    launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    """Clients of one channel are cut in every way while those of another come in their places."""
    gateway = await launch()
    bus = await publisher(gateway.bus_in)
    staying = [await connect("old", to=gateway) for _ in range(8)]
    going = [await connect("old", to=gateway) for _ in range(24)]
    coming: list[Client] = []
    for sent, client in enumerate(going, start=1):
        bus.send("old", {"n": 2 * sent - 1, "padding": "x" * 500})
        match sent % 4:
            case 0:
                await client.lose()
            case 1:
                await client.close()
            case 2:
                coming.append(await connect("new", to=gateway, session=client.session))
            case _:
                client._ws._writer.transport.close()
        bus.send("old", {"n": 2 * sent})
        coming.append(await connect("new", to=gateway))
        bus.send("new", {"n": sent})
    for client in staying:
        await client.events("old", 48)

    assert [list(range(1, 49))] * 8 == [client.channel("old").numbers for client in staying]
    for client in coming:
        await eventually(lambda: 24 in client.channel("new").numbers)  # noqa: B023  # awaited
        assert [] == client.channel("new").faults(until=24)
        if client.hello["resumed"] is False:
            assert [] == client.channel("old").events
