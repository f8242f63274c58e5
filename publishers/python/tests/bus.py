"""The other side of a publisher: a subscriber on a real socket."""

from __future__ import annotations

import json
import struct
from typing import Any

import zmq
from neurograph_publisher import Publisher


WITHIN_MS = 10_000

Message = tuple[str, Any, tuple[int, int, int, int]]


class Bus:
    """A gateway's side of the bus: binds a SUB, or connects one, and reads."""

    def __init__(self, *, connect: str = "", high_water_mark: int = 100_000) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(zmq.SUB)
        self.socket.rcvhwm = high_water_mark
        self.socket.subscribe(b"")
        if connect:
            self.socket.connect(connect)
        else:
            self.socket.bind("tcp://127.0.0.1:*")
        self.endpoint = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def read(self, *, within_ms: int = WITHIN_MS) -> Message:
        topic, payload, *rest = self._next(within_ms)
        while topic == b"$heartbeat":
            topic, payload, *rest = self._next(within_ms)
        [frame] = rest
        magic, flags, incarnation, sequence, time_ns = struct.unpack(">4sIQQQ", frame)
        assert magic == b"NGE1"
        return topic.decode(), json.loads(payload), (flags, incarnation, sequence, time_ns)

    def beat(self, *, within_ms: int = WITHIN_MS) -> dict[str, Any]:
        """The next heartbeat, whatever is before it."""
        while True:
            topic, payload, *_ = self._next(within_ms)
            if topic == b"$heartbeat":
                return json.loads(payload)  # type: ignore[no-any-return]  # an object

    def _next(self, within_ms: int) -> list[bytes]:
        assert self.socket.poll(within_ms), "nothing came"
        return self.socket.recv_multipart()

    def await_publisher(self, publisher: Publisher, *others: Bus) -> None:
        """Wait until the publisher knows that this side, and others, have subscribed.

        A SUB sends its subscriptions only when its own thread touches it.
        """
        for _ in range(200):
            for bus in (self, *others):
                bus.socket.get(zmq.EVENTS)
            if publisher.wait_for_subscriber(0.05):
                return
        raise AssertionError("no subscription came")

    def close(self) -> None:
        self._context.destroy(linger=0)
