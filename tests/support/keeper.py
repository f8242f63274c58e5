"""A publisher that keeps what it sent and replays it: the bus protocol in plain pyzmq, a second time.

It runs in the test's own loop, sends what the test sends, and loses messages on request.
"""

from __future__ import annotations

import asyncio
import struct
from collections import defaultdict, deque
from typing import Any

import orjson
import zmq

from tests.support.publisher import Publisher, envelope


class Keeper(Publisher):
    """A `Publisher` with heartbeats and replay.

    With `lose` it keeps messages and does not send them, with `mute` it does not answer requests."""

    def __init__(self, endpoint: str, *, bind: bool = False, keep: int = 10_000, interval: float = 0.2) -> None:
        super().__init__(endpoint, bind=bind)
        self.name = "keeper"
        self.interval = interval
        self.lose = False
        self.mute = False
        self.asked: list[tuple[str, int, int]] = []
        self.kept: dict[str, deque[tuple[int, bytes, bytes]]] = defaultdict(lambda: deque(maxlen=keep))
        self.router: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        self.router.setsockopt(zmq.LINGER, 0)
        self.router.bind("tcp://127.0.0.1:*")
        self.replay: str = self.router.getsockopt_string(zmq.LAST_ENDPOINT)
        self.task = asyncio.get_running_loop().create_task(self._live())

    def send_payload(self, channel: str, payload: bytes, *, enveloped: bool = True) -> None:
        """Number a message and keep it; send it, unless it is to be lost."""
        self.sequences[channel] += 1
        number = self.sequences[channel]
        frame = bytearray(envelope(self.incarnation, number))
        frame[7] = 1  # the flag: heartbeats come
        self.kept[channel].append((number, payload, bytes(frame)))
        if not self.lose:
            self.send_frames(channel.encode(), payload, bytes(frame))

    def beat(self, *, interval: float | None = None, **changed: Any) -> None:
        """Send a heartbeat; an interval of 0 is a farewell."""
        text = {
            "incarnation": f"{self.incarnation:016x}",
            "name": self.name,
            "interval": self.interval if interval is None else interval,
            "replay": self.replay,
            "sequences": dict(self.sequences),
            **changed,
        }
        self.send_frames(b"$heartbeat", orjson.dumps(text))

    def close(self) -> None:
        self.task.cancel()
        self.router.close(0)
        super().close()

    async def _live(self) -> None:
        beat_at = 0.0
        known = 0
        while True:
            now = asyncio.get_running_loop().time()
            self._count()
            if self.interval and (now >= beat_at or self.subscribers > known):
                self.beat()
                beat_at = now + self.interval
            known = self.subscribers
            while self.router.poll(0):
                self._answer(self.router.recv_multipart())
            await asyncio.sleep(0.005)

    def _answer(self, frames: list[bytes]) -> None:
        peer, magic, number, topic, wanted = frames
        assert magic == b"NGR1"
        first, last = struct.unpack(">QQ", wanted)
        self.asked.append((topic.decode(), first, last))
        if self.mute:
            return
        held = [one for one in self.kept[topic.decode()] if first <= one[0] <= last][:256]
        pairs = [frame for _, payload, stamp in held for frame in (payload, stamp)]
        reply = [peer, b"NGR1", number, self.incarnation.to_bytes(8), *pairs]
        self.router.send_multipart(reply)
