"""Reads whole messages from a ZeroMQ socket: each frame says whether more of its message follow."""

from collections.abc import Callable
from typing import Literal

import zmq


Frames = list[bytes]

_NOBLOCK = int(zmq.NOBLOCK)


class MessageReader:
    """Reads whole messages from one socket.

    A `zmq.Frame` takes longer to make than plain bytes, but nothing that is faster tells where a message ends:
    `recv_multipart` and RCVMORE take twice as long."""

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self._receive: Callable[[int, Literal[False]], zmq.Frame] = socket.recv

    def read(self, messages_max: int) -> tuple[list[Frames], bool]:
        """Return up to `messages_max` messages that are there, and whether there may be more."""
        receive = self._receive
        batch: list[Frames] = []
        try:
            for _ in range(messages_max):
                frame = receive(_NOBLOCK, False)
                frames = [frame.bytes]
                while frame.more:  # messages arrive whole, so the others are there
                    frame = receive(_NOBLOCK, False)
                    frames.append(frame.bytes)
                batch.append(frames)
        except zmq.Again:
            return batch, False
        return batch, True
