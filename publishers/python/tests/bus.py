"""The other side of a publisher: a subscriber on a real socket."""

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
    """A gateway's side of the bus: binds a SUB, or connects one, and reads."""

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
        """The next message, of whichever kind."""
        assert self.socket.poll(within_ms), "nothing came"
        return self.socket.recv_multipart()

    def heartbeat(self) -> dict[str, Any]:
        """The next heartbeat; events before it are passed over."""
        while (frames := self.frames())[0] != HEARTBEAT:
            pass
        [_, payload] = frames
        return dict(json.loads(payload))

    def event_frames(self, *, within_ms: int = WITHIN_MS) -> list[bytes]:
        """The next event; heartbeats before it are passed over."""
        while (frames := self.frames(within_ms=within_ms))[0] == HEARTBEAT:
            pass
        return frames

    def read(self, *, within_ms: int = WITHIN_MS) -> Message:
        """The next event, taken apart."""
        topic, payload, frame = self.event_frames(within_ms=within_ms)
        magic, flags, incarnation, sequence, time_ns = struct.unpack(">4sIQQQ", frame)
        assert magic == b"NGE1"
        return topic.decode(), json.loads(payload), (flags, incarnation, sequence, time_ns)

    def await_publisher(self, publisher: Publisher, *others: Bus) -> None:
        """Wait until the publisher knows that this side, and others, have subscribed.

        A SUB sends its subscriptions only when its own thread touches it.
        """
        ends = time.monotonic() + scaled(DEADLINE_SECONDS)
        while time.monotonic() < ends:
            for bus in (self, *others):
                bus.socket.get(zmq.EVENTS)
            if publisher.wait_for_subscriber(0.05):
                return
        raise AssertionError("no subscription came")

    def close(self) -> None:
        self._context.destroy(linger=0)
