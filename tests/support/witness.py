"""A client that must get every event in order, whatever other peers do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.publisher import Publisher
from tests.support.ws import Client


PACE_SECONDS = 0.005


@asynccontextmanager
async def undisturbed(bus: Publisher, witness: Client, channel: str) -> AsyncIterator[None]:
    """Publish all the while to a client that must get everything in order."""
    ends = asyncio.Event()
    count = 0

    async def publish() -> None:
        nonlocal count
        while not ends.is_set():
            count += 1
            bus.send(channel, {"n": count})
            await witness.until("event", channel=channel, offset=count)
            await asyncio.sleep(PACE_SECONDS)

    publishing = asyncio.create_task(publish())
    try:
        yield
    finally:
        ends.set()
        await publishing
    assert list(range(1, count + 1)) == witness.channel(channel).numbers
