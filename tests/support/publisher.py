"""A publisher in plain pyzmq, as any program in any language could be one."""

from __future__ import annotations

import contextlib
import secrets
import struct
import time
from collections import defaultdict
from types import TracebackType
from typing import Any

import orjson
import zmq

from tests.support.waiting import DEADLINE_SECONDS, eventually


ENVELOPE = struct.Struct(">4sIQQQ")


def envelope(incarnation: int, sequence: int, *, magic: bytes = b"NGE1", time_ns: int = 0) -> bytes:
    """The 32 bytes of frame 2."""
    return ENVELOPE.pack(magic, 0, incarnation, sequence, time_ns or time.time_ns())


class Publisher:
    """Publishes on one endpoint; knows whether somebody has really subscribed.

    An XPUB socket speaks as a PUB does, and hands out the subscriptions that it receives: what is sent
    after ``subscribed()`` returned is not lost to a slow joiner. Its queue has no limit, so whatever
    does not arrive was lost by the gateway.
    """

    def __init__(self, endpoint: str, *, bind: bool = False) -> None:
        self.endpoint = endpoint
        self.incarnation = secrets.randbits(63)
        self.sequences: dict[str, int] = defaultdict(int)
        self.subscribers = 0
        self.subscriptions = 0
        """All there were, also those that have ended."""
        self.topics: set[bytes] = set()
        """What is subscribed to."""
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.XPUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDHWM, 0)
        self.socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 20)
        if bind:
            self.socket.bind(endpoint)
        else:
            self.socket.connect(endpoint)

    @property
    def epoch(self) -> str:
        """The name of this source in positions."""
        return f"{self.incarnation:016x}"

    def send_frames(self, *frames: bytes) -> None:
        """Send any frames at all."""
        self.socket.send_multipart(frames, zmq.NOBLOCK)

    def send(
        self, channel: str, data: Any = None, *, event_type: str = "test.event", enveloped: bool = False, **fields: Any
    ) -> None:
        """Send an event object; `fields` go beside `event_type` and `data`."""
        event = {"event_type": event_type, "data": {} if data is None else data, **fields}
        self.send_payload(channel, orjson.dumps(event), enveloped=enveloped)

    def send_payload(self, channel: str, payload: bytes, *, enveloped: bool = False) -> None:
        """Send these bytes as the payload, with an envelope as a third frame if wanted."""
        frames = [channel.encode(), payload]
        if enveloped:
            self.sequences[channel] += 1
            frames.append(envelope(self.incarnation, self.sequences[channel]))
        self.send_frames(*frames)

    def send_numbered(self, channel: str, numbers: range, *, enveloped: bool = False) -> None:
        """Send one event for each number, its data ``{"n": number}``."""
        for number in numbers:
            self.send(channel, {"n": number}, enveloped=enveloped)

    async def subscribed(self, *, within: float = DEADLINE_SECONDS) -> Publisher:
        """Wait until somebody has subscribed here."""
        await eventually(lambda: self._count() >= 1, within=within, saying=f"subscribed at {self.endpoint}")
        return self

    async def subscribed_again(self) -> None:
        """Wait for a second subscription, whether or not the first has ended meanwhile."""

        def counted() -> bool:
            self._count()
            return self.subscriptions >= 2

        await eventually(counted, saying=f"subscribed twice at {self.endpoint}")

    async def unsubscribed(self, *, within: float = DEADLINE_SECONDS) -> None:
        """Wait until the last subscriber is gone."""
        await eventually(lambda: self._count() == 0, within=within, saying="unsubscribed")

    def close(self) -> None:
        """Leave the bus; what was not sent yet is lost."""
        self.socket.close(0)

    async def __aenter__(self) -> Publisher:
        return await self.subscribed()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _count(self) -> int:
        with contextlib.suppress(zmq.Again):
            while True:
                told = self.socket.recv(zmq.NOBLOCK)
                self.subscribers += 1 if told[:1] == b"\x01" else -1
                self.subscriptions += told[:1] == b"\x01"
                (self.topics.add if told[:1] == b"\x01" else self.topics.discard)(told[1:])
        return self.subscribers
