"""A client that must get every event in order, whatever other peers do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from tests.support import ws
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher


PACE_SECONDS = 0.005


@asynccontextmanager
async def undisturbed(gateway: Gateway, channel: str = "beside", **query: Any) -> AsyncIterator[None]:
    """Publish all the while to a client that must get everything in order; the block begins when it has the first event."""
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(Publisher(gateway.bus_in))
        witness = await ws.connect(gateway.url, channel, **query)
        stack.push_async_callback(witness.close)
        ends = asyncio.Event()
        count = 0

        async def publish() -> None:
            nonlocal count
            count += 1
            bus.send(channel, {"n": count})
            await witness.until("event", channel=channel, offset=count)

        async def go_on() -> None:
            while not ends.is_set():
                await asyncio.sleep(PACE_SECONDS)
                await publish()

        await publish()
        publishing = asyncio.create_task(go_on())
        try:
            yield
        finally:
            ends.set()
            await publishing
        assert list(range(1, count + 1)) == witness.channel(channel).numbers
