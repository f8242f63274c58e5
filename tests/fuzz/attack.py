"""An attack on one gateway, and what must be as before when it is over."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

from tests.fuzz.mutations import Strange
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.waiting import eventually, scaled
from tests.support.ws import connect


BLOBS = 10
"""What is sent on each connection."""
_AT_ONCE = 40
_MOMENT_SECONDS = 0.1
_BYTES_MAX = 50_000
_MEMORY_GROWTH_MAX = 64 * 1024 * 1024


@dataclass
class Outcome:
    """What came of an attack."""

    sent: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    """What was answered, by type and error code."""
    faults: list[str] = field(default_factory=list)


async def attack(gateway: Gateway, *, connections: int, seed: int) -> Outcome:
    """Send strange things on so many connections while somebody follows events; say what went wrong."""
    outcome = Outcome()
    publisher = await Publisher(gateway.bus_in).subscribed()
    healthy = await connect(gateway.url, "healthy")
    await healthy.expect("subscribed")
    for warm in range(20):  # what is made once for all is there before the look at what is there
        await _stranger(gateway, Strange(-1 - warm), Outcome())
    before = await _standing(gateway)
    publishing = asyncio.create_task(_publish(publisher))
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int) -> None:
        async with limit:
            await _stranger(gateway, Strange(seed * 1_000_003 + number), outcome)

    await asyncio.gather(*map(one, range(connections)))
    publishing.cancel()
    published = publisher.sequences["healthy"]
    await healthy.events("healthy", published, within=20)
    offsets = [event["offset"] for event in healthy.channel("healthy").events]
    if offsets != list(range(1, published + 1)) or healthy.channel("healthy").gaps:
        outcome.faults.append("the healthy client has missed something")
    await _settled(gateway, before, outcome)
    if outcome.answers["error internal"] or await gateway.metric(
        "gateway_connections_closed_total", code="1011"
    ):
        outcome.faults.append("the gateway found a fault of its own")
    await healthy.close()
    publisher.close()
    return outcome


async def _publish(publisher: Publisher) -> None:
    while True:
        publisher.send("healthy", {"n": publisher.sequences["healthy"]}, enveloped=True)
        await asyncio.sleep(0.01)


async def _stranger(gateway: Gateway, strange: Strange, outcome: Outcome) -> None:
    """Connect, say strange things, and hang up in one way or another."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        writer.write(strange.head() + b"".join(strange.blob() for _ in range(BLOBS)))
        outcome.sent += BLOBS
        await writer.drain()
        if strange.rng.random() < 0.5:
            return
        _note(await _all(reader), outcome)
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def _all(reader: asyncio.StreamReader) -> bytes:
    """Read until nothing more comes for a moment; who follows everything hears no end of it."""
    data = b""
    with suppress(TimeoutError):
        while len(data) < _BYTES_MAX:
            async with asyncio.timeout(scaled(_MOMENT_SECONDS)):
                part = await reader.read(65_536)
            if not part:
                break
            data += part
    return data


def _note(data: bytes, outcome: Outcome) -> None:
    """Count what was answered; whatever looks like JSON must be."""
    if not data.startswith(b"HTTP/1.1 101"):
        outcome.answers[data[9:12].decode(errors="replace") or "nothing"] += 1
        if data.startswith(b"HTTP/1.1 5"):
            outcome.faults.append(data[:500].decode(errors="replace"))
        return
    data = data.partition(b"\r\n\r\n")[2]
    while len(data) >= 2:
        opcode, size, at = data[0] & 15, data[1], 2
        if size == 126:
            size, at = int.from_bytes(data[2:4]), 4
        elif size == 127:
            size, at = int.from_bytes(data[2:10]), 10
        payload, data = data[at : at + size], data[at + size :]
        if opcode == 1 and len(payload) == size:
            message = json.loads(payload)
            outcome.answers[f"{message['type']} {message.get('code', '')}".strip()] += 1


async def _standing(gateway: Gateway) -> tuple[float, int, int]:
    """Tasks, open files and memory of a gateway."""
    process = psutil.Process(gateway.process.pid)
    return await gateway.metric("gateway_event_loop_tasks"), process.num_fds(), gateway.rss()


async def _settled(gateway: Gateway, before: tuple[float, int, int], outcome: Outcome) -> None:
    """Wait until nothing is left of the strangers."""
    now = before

    async def as_before() -> bool:
        nonlocal now
        now = await _standing(gateway)
        return now[0] <= before[0] and now[1] <= before[1]

    try:
        await eventually(as_before, within=30, every=0.2)
    except AssertionError:
        outcome.faults.append(f"tasks, files and memory were {before} and are {now}")
    if now[2] - before[2] > _MEMORY_GROWTH_MAX:
        outcome.faults.append(f"memory has grown by {(now[2] - before[2]) >> 20} MiB")
