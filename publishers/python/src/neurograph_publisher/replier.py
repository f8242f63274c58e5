"""Answers gateways' replay requests, over a ROUTER socket."""

import time
from collections import deque
from collections.abc import Callable

import zmq

from neurograph_publisher.checks import PublisherError
from neurograph_publisher.curve import Keys
from neurograph_publisher.endpoint import Context, bound_address
from neurograph_publisher.replay import Request, parse, reply


_AT_ONCE_MAX = 100
_WAITING_MAX = 1000
_WAIT_SECONDS_MAX = 2.0
_REPLIES_QUEUED_MAX = 32
_FRAME_BYTES_MAX = 64 * 1024


_Waiting = deque[tuple[float, Request]]  # until when, and what is asked


class Replier:
    """A ROUTER socket, and counts of the requests to it; only one thread may use it.

    At most 32 replies are queued for a requester. Its further requests wait until it reads: up to
    1,000 of them, for 2 s; then they are discarded. ZeroMQ disconnects a peer that sends a frame of more
    than 64 KiB.

    Raises:
        PublisherError: The endpoint cannot be bound.
    """

    def __init__(
        self,
        context: Context,
        endpoint: str,
        *,
        incarnation: int,
        linger_seconds: float,
        keys: Keys | None,
        read: Callable[[bytes, int, int], list[bytes]],
    ) -> None:
        self.replayed = 0
        self.unanswered = 0
        self.bad_requests = 0
        self._incarnation = incarnation
        self._read = read
        self._waiting: dict[bytes, _Waiting] = {}  # by asker
        self.socket = context.socket(zmq.ROUTER)
        self.socket.linger = round(linger_seconds * 1000)
        self.socket.sndhwm = _REPLIES_QUEUED_MAX
        self.socket.setsockopt(zmq.IPV6, 1)
        self.socket.setsockopt(zmq.MAXMSGSIZE, _FRAME_BYTES_MAX)
        # Without this a ROUTER silently drops messages that it cannot queue.
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        if keys is not None:
            keys.serve(self.socket)
        try:
            self.socket.bind(endpoint)
        except zmq.ZMQError as error:
            raise PublisherError(f"{endpoint}: {error}") from error
        self.address: str = bound_address(self.socket)

    def serve(self) -> bool:
        """Answer requests, up to 100 new ones; return whether any wait until their requester reads."""
        now = time.monotonic()
        for asker in list(self._waiting):
            self._catch_up(asker, now)
        for _ in range(_AT_ONCE_MAX):
            try:
                asker, *frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            request = parse(frames)
            waiting = self._waiting.get(asker)
            if request is None:
                self.bad_requests += 1
            elif waiting is None:
                self._waiting[asker] = deque([(now + _WAIT_SECONDS_MAX, request)])
                self._catch_up(asker, now)
            elif len(waiting) < _WAITING_MAX:
                waiting.append((now + _WAIT_SECONDS_MAX, request))
            else:
                self.unanswered += 1
        return bool(self._waiting)

    def _catch_up(self, asker: bytes, now: float) -> None:
        """Answer a requester's waiting requests, as far as there is room for the replies."""
        waiting = self._waiting[asker]
        try:
            for _ in range(min(len(waiting), _AT_ONCE_MAX)):
                self._answer(asker, waiting[0][1])
                waiting.popleft()
        except zmq.Again:
            while waiting and waiting[0][0] < now:
                waiting.popleft()
                self.unanswered += 1
        except zmq.ZMQError:  # it is gone
            self.unanswered += len(waiting)
            waiting.clear()
        if not waiting:
            del self._waiting[asker]

    def _answer(self, asker: bytes, request: Request) -> None:
        # Without room ZeroMQ refuses this first frame, and the store is not read in vain.
        self.socket.send(asker, zmq.NOBLOCK | zmq.SNDMORE)
        pairs = self._read(request.topic, request.first, request.last)
        self.replayed += 1  # before the requester can receive the reply
        self.socket.send_multipart(reply(request, self._incarnation, pairs), zmq.NOBLOCK)
