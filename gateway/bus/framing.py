"""Reads whole messages from a ZeroMQ socket: each frame says whether more of its message follow."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Literal

import zmq


Frames = list[bytes]

_NOBLOCK = int(zmq.NOBLOCK)


class MessageReader:
    """Reads whole messages from one socket.

    A `zmq.Frame` takes longer to make than plain bytes, but nothing that is faster tells where a message ends:
    `recv_multipart` and RCVMORE take twice as long."""

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self._socket = socket
        self._receive: Callable[[int, Literal[False]], zmq.Frame] = socket.recv
        self.count = 0
        """How many messages the last `read` has brought."""
        self.more = False
        """Whether it may have left some."""

    def read(self, messages_max: int, *, seconds_max: float = math.inf, seconds_each: float = 0.0) -> Iterator[Frames]:
        """Yield the messages that are there: at most `messages_max`, and none once they have taken `seconds_max` and
        `seconds_each` of the CPU, with what is done with each before the next. What others send meanwhile then comes next."""
        receive, clock = self._receive, time.perf_counter
        until, began = clock() + seconds_max, time.thread_time()
        if self.more:
            # While messages wait, libzmq looks only after each 100th for publishers that have sent meanwhile, unless it is asked.
            self._socket.getsockopt(zmq.EVENTS)
        self.count, self.more = 0, True
        try:
            while self.count < messages_max:
                frame = receive(_NOBLOCK, False)
                frames = [frame.bytes]
                while frame.more:  # messages arrive whole, so the others are there
                    frame = receive(_NOBLOCK, False)
                    frames.append(frame.bytes)
                self.count += 1
                yield frames
                until += seconds_each
                if clock() > until:
                    left = seconds_max + seconds_each * self.count - (time.thread_time() - began)
                    if left <= 0:
                        return
                    until = clock() + left  # this thread has waited for a CPU
        except zmq.Again:
            self.more = False
