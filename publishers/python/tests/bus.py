"""A subscriber on a real socket, in the role of the gateway."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from typing import Any

import zmq
from neurograph_publisher import Publisher

from tests.support.waiting import DEADLINE_SECONDS, scaled


WITHIN_MS = int(scaled(DEADLINE_SECONDS) * 1000)
HEARTBEAT = b"$heartbeat"

Message = tuple[str, Any, tuple[int, int, int, int]]


class Bus:
    """The gateway's end of the bus: a SUB socket that binds or connects, and reads messages."""

    def __init__(
        self,
        *,
        connect: str = "",
        bind: str = "tcp://127.0.0.1:*",
        high_water_mark: int = 100_000,
        subscribe: bytes | None = b"",
        prepare: Callable[[zmq.Socket[bytes]], None] = lambda _: None,
    ) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(zmq.SUB)
        self.socket.rcvhwm = high_water_mark
        if subscribe is not None:
            self.socket.subscribe(subscribe)
        prepare(self.socket)
        if connect:
            self.socket.connect(connect)
        else:
            self.socket.bind(bind)
        self.endpoint = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def frames(self, *, within_ms: int = WITHIN_MS) -> list[bytes]:
        """Return the next message of any kind."""
        assert self.socket.poll(within_ms), "nothing came"
        return self.socket.recv_multipart()

    def heartbeat(self) -> dict[str, Any]:
        """Return the next heartbeat; events before it are skipped."""
        while (frames := self.frames())[0] != HEARTBEAT:
            pass
        [_, payload] = frames
        return dict(json.loads(payload))

    def event_frames(self, *, within_ms: int = WITHIN_MS) -> list[bytes]:
        """Return the next event; heartbeats before it are skipped."""
        while (frames := self.frames(within_ms=within_ms))[0] == HEARTBEAT:
            pass
        return frames

    def read(self, *, within_ms: int = WITHIN_MS) -> Message:
        """Return the next event, decoded."""
        topic, payload, frame = self.event_frames(within_ms=within_ms)
        magic, flags, incarnation, sequence, time_ns = struct.unpack(">4sIQQQ", frame)
        assert magic == b"NGE1"
        return topic.decode(), json.loads(payload), (flags, incarnation, sequence, time_ns)

    def await_publisher(self, publisher: Publisher, *others: Bus) -> None:
        """Wait until the publisher has the subscriptions of this bus, and of `others`.

        A SUB sends its subscriptions only when its own thread uses it.
        """
        ends = time.monotonic() + scaled(DEADLINE_SECONDS)
        while time.monotonic() < ends:
            for bus in (self, *others):
                bus.socket.get(zmq.EVENTS)
            if publisher.wait_for_subscriber(0.05):
                return
        raise AssertionError("the publisher did not receive the subscription in time")

    def close(self) -> None:
        self._context.destroy(linger=0)
