"""Asks publishers with numbers of their own for what is missing, as vLLM's ZmqEventPublisher offers it.

A request is an empty frame and the first number wanted, 8 bytes big-endian; the publisher's ROUTER answers
with a message of an empty frame, number and payload for each that it holds from there on, then one with the
number -1. Answers do not say to which request they belong, so they are matched in order."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import zmq

from gateway.bus.curve import Curve
from gateway.bus.framing import Frames
from gateway.bus.replay import open_dealer
from gateway.config.model import Bus
from gateway.core.ingest.publishers import ReplayRequest
from gateway.core.ingest.sequence_replay import Answer


_Socket = zmq.Socket[bytes]

ANSWER_SECONDS_MAX = 2.0
"""If the oldest request has no answer for so long, the socket is replaced before the next one."""
MESSAGES_PER_READ = 1_000

_END = (2**64 - 1).to_bytes(8)


@dataclass(slots=True, eq=False, repr=False)
class SequenceReplayClient:
    """The connection to one publisher's replay endpoint.

    `on_reply` gets each answer as a reply that ingest takes. `convert` makes JSON of a payload; `first` is
    the publisher's first number."""

    _context: "zmq.Context[_Socket]"
    _endpoint: str
    _config: Bus
    _curve: Curve
    first: int
    convert: Callable[[bytes], bytes]
    on_reply: Callable[[Frames], None]
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _socket: _Socket | None = None
    _unanswered: deque[tuple[float, Answer]] = field(default_factory=deque)
    """When each request was sent, and what has come of its answer."""

    def send_request(self, request: ReplayRequest) -> None:
        """Send a request. A failure has no other effect than an answer that does not come."""
        now = self._loop.time()
        if self._unanswered and now - self._unanswered[0][0] > ANSWER_SECONDS_MAX:
            self.close()
        socket = self._socket or self._connect()
        if socket is None:
            return
        try:
            socket.send_multipart([b"", (request.first - 1 + self.first).to_bytes(8)], zmq.NOBLOCK)
        except zmq.ZMQError:
            return
        self._unanswered.append((now, Answer(request, first=self.first, convert=self.convert)))
        self._loop.call_soon(self.poll)  # sending may have consumed the edge of the FD

    def poll(self) -> None:
        """Read the answers that are there, and go on at once if there may be more."""
        socket = self._socket
        if socket is None:
            return
        for _ in range(MESSAGES_PER_READ):
            try:
                self._receive(socket.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return
            except zmq.ZMQError:
                self.close()
                return
        self._loop.call_soon(self.poll)

    def close(self) -> None:
        self._unanswered.clear()
        socket, self._socket = self._socket, None
        if socket is not None:
            self._loop.remove_reader(socket.FD)
            socket.close(linger=0)

    def _receive(self, frames: Frames) -> None:
        if len(frames) < 2 or not self._unanswered:
            return
        if frames[1] == _END:
            self.on_reply(self._unanswered.popleft()[1].reply())
        else:
            self._unanswered[0][1].add(frames[1], frames[-1])

    def _connect(self) -> _Socket | None:
        socket = open_dealer(self._context, self._config, self._curve, self._endpoint)
        if socket is not None:
            self._socket = socket
            self._loop.add_reader(socket.FD, self.poll)
        return socket
