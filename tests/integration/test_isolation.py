"""However a client's connection ends, the others miss nothing."""

from __future__ import annotations

import asyncio
import signal
import socket
import struct
import threading
from collections.abc import Callable

import pytest

from tests.conftest import Connect, Launch, NewPublisher, OpenRaw
from tests.support.publisher import Publisher
from tests.support.raw import BINARY, CLOSE, RawPeer, encode_frame
from tests.support.waiting import eventually
from tests.support.ws import Client


PADDING = "x" * 300


def _reset(peer: RawPeer) -> None:
    """End the connection with a TCP reset."""
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.socket.close()


def _cut(peer: RawPeer) -> None:
    """End the connection with what was received still unread."""
    peer.socket.close()


def _half_close(peer: RawPeer) -> None:
    """Say that nothing more will come, and leave the rest to the gateway."""
    peer.socket.shutdown(socket.SHUT_WR)


def _offend(peer: RawPeer) -> None:
    """Have the gateway close the connection."""
    peer.socket.send(encode_frame(BINARY, b"x"))


@pytest.mark.parametrize("end", [_reset, _cut, _half_close, _offend])
async def test_clients_that_end_under_load_harm_nobody(
    launch: Launch, publisher: NewPublisher, connect: Connect, raw: OpenRaw, end: Callable[[RawPeer], None]
) -> None:
    """A hundred clients of one channel end in the midst of a stream; the others miss nothing."""
    gateway = await launch(settings={"history.events_max": 100_000, "history.bytes_max": 1 << 28})
    bus = await publisher(gateway.bus_in)
    first, last = await connect("crowd", to=gateway), await connect("crowd", to=gateway)
    peers = [await raw("/ws?channels=crowd", to=gateway) for _ in range(100)]
    for peer in peers:
        await peer.expect("subscribed")
    between = await connect("crowd", to=gateway)
    sent = await _pour_while_they_end(bus, peers, end)
    bus.send("crowd", {"n": sent + 1})
    for client in (first, last, between):
        await _has_all(client, sent + 1)
    for peer in peers:
        peer.close()

    async def gone() -> bool:
        return bool((await gateway.status())["connections"] == 3)

    await eventually(gone)


async def _pour_while_they_end(bus: Publisher, peers: list[RawPeer], end: Callable[[RawPeer], None]) -> int:
    sent = 0
    for peer in peers:
        for _ in range(3):
            for _ in range(20):
                sent += 1
                bus.send("crowd", {"n": sent, "padding": PADDING})
            await asyncio.sleep(0)
        end(peer)
        await asyncio.sleep(0)
    return sent


@pytest.mark.parametrize("why", ["violation", "drain", "takeover"])
async def test_nothing_follows_a_close_frame(
    launch: Launch, publisher: NewPublisher, connect: Connect, raw: OpenRaw, why: str
) -> None:
    """Events pour in while the gateway closes: `closing` is its last message, close its last frame."""
    gateway = await launch()
    bus = await publisher(gateway.bus_in)
    peers = [await raw(to=gateway, upgrade=False) for _ in range(10)]
    secrets = []
    for peer in peers:
        peer.answers_closes = False
        await peer.upgrade("/ws?channels=pouring")
        secrets.append((await peer.expect("connected"))["session"])
    enough = threading.Event()
    pouring = asyncio.create_task(asyncio.to_thread(_pour, bus, "pouring", enough))
    try:
        await peers[-1].expect("subscribed")
        await peers[-1].expect("event")
        # All read meanwhile: one that does not would be cut off without a close frame once its socket is full.
        reading = [asyncio.create_task(peer.read_ending()) for peer in peers]
        if why == "drain":
            gateway.kill(signal.SIGTERM)
        for peer, secret in zip(peers, secrets, strict=True):
            if why == "violation":
                await peer.send_frame(BINARY, b"x")
            elif why == "takeover":
                await connect(to=gateway, session=secret)
        endings = await asyncio.gather(*reading)
    finally:
        enough.set()
        await pouring

    for ending in endings:
        assert ending.frames[-1].opcode == CLOSE
        assert [frame.opcode for frame in ending.frames].count(CLOSE) == 1
        assert ending.closing is not None


def _pour(bus: Publisher, channel: str, enough: threading.Event) -> None:
    """Publish about two events per millisecond, which this process can read for all peers, until it is stopped."""
    number = 0
    while not enough.wait(0.001):
        bus.send_numbered(channel, range(number, number + 2))
        number += 2


async def _has_all(client: Client, count: int) -> None:
    record = client.channel("crowd")
    await eventually(
        lambda: record.offsets[-1:] == [count],
        saying=lambda: f"{count} events; {len(record.offsets)} came, up to {record.offsets[-1:]}",
    )
    assert record.numbers == list(range(1, count + 1))
