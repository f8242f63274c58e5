"""A publisher without envelopes, whose messages only the gateways number.

Nothing disturbs its connections to the gateways: nobody could notice what is lost there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import orjson
import zmq

from tests.chaos.cluster.client import PLAIN
from tests.support.waiting import eventually


class PlainPublisher:
    """Appends to `sent` the time at which it publishes each message; the first message has number 1."""

    def __init__(self, endpoints: Sequence[str], sent: list[float], *, rate: float) -> None:
        self._sent = sent
        self._rate = rate
        self._gateways = len(endpoints)
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.set(zmq.XPUB_VERBOSE, 1)
        self._socket.set(zmq.SNDHWM, 0)  # no limit: keep everything for a gateway that is stopped
        self._socket.set(zmq.LINGER, 0)
        for endpoint in endpoints:
            self._socket.connect(endpoint)
        self._subscriptions = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Wait until every gateway has subscribed, then begin to publish."""
        await eventually(self._all_subscribed, saying="every gateway has subscribed to the publisher without envelopes")
        self._task = asyncio.create_task(self._run())

    async def finish(self) -> None:
        """Stop publishing, with one last message."""
        await self._end()
        self._publish()

    async def close(self) -> None:
        await self._end()
        self._context.destroy()

    async def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._publish()
            self._all_subscribed()
            await asyncio.sleep(1 / self._rate)

    def _publish(self) -> None:
        self._sent.append(time.monotonic())
        self._socket.send_multipart([PLAIN.encode(), orjson.dumps({"n": len(self._sent)})])

    def _all_subscribed(self) -> bool:
        """Receive subscriptions; return whether every gateway has subscribed."""
        while self._socket.poll(0):
            self._subscriptions += self._socket.recv()[:1] == b"\x01"
        return self._subscriptions >= self._gateways
