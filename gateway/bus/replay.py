"""The DEALER side of the bus: asks publishers for what was missed.

A DEALER, not a REQ: several requests may be under way, and one that is never answered leaves
nothing out of step (the ZeroMQ guide, chapter 4). See docs/protocol.md, part 1.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

import zmq

from gateway.bus.subscriber import Frames
from gateway.config.model import Bus
from gateway.core.ingest import REPLAY
from gateway.core.joiner import Ask


ENDPOINTS_MAX = 64
"""Publishers that are connected to for replay; the one asked longest ago makes room."""
IDLE_SECONDS = 30.0
DEAD_SECONDS = 2.0
"""A socket whose requests went unanswered for so long is replaced before the next: libzmq gives one up
for good, in silence, when a reply breaks its rules, as an oversize message does."""

_Socket = zmq.Socket[bytes]


class Asker:
    """Sends requests, and hands on all replies that one wake-up brought."""

    def __init__(
        self,
        context: zmq.Context[_Socket],
        config: Bus,
        *,
        on_replies: Callable[[list[Frames]], None],
    ) -> None:
        self._context = context
        self._config = config
        self._on_replies = on_replies
        self._loop = asyncio.get_running_loop()
        self._sockets: OrderedDict[str, _Socket] = OrderedDict()
        self._used: dict[str, float] = {}
        self._unanswered: dict[str, float] = {}
        """When the first request was sent that nothing has been heard since."""

    def ask(self, ask: Ask) -> None:
        """Send a request; where that cannot be done it will be missed like one that is not answered."""
        now = self._loop.time()
        if now - self._unanswered.get(ask.endpoint, now) > DEAD_SECONDS:
            self._close(ask.endpoint)
        socket = self._sockets.get(ask.endpoint) or self._open(ask.endpoint)
        if socket is None:
            return
        self._sockets.move_to_end(ask.endpoint)
        self._used[ask.endpoint] = now
        self._unanswered.setdefault(ask.endpoint, now)
        wanted = ask.first.to_bytes(8) + ask.last.to_bytes(8)
        try:
            socket.send_multipart(
                [REPLAY, ask.number.to_bytes(8), ask.topic.encode(), wanted], zmq.NOBLOCK
            )
        except zmq.ZMQError:
            return
        self._loop.call_soon(self._drain, ask.endpoint, socket)  # sending may have spent the edge

    def touch(self) -> None:
        """Look at all sockets though nothing woke us, and close those that are idle."""
        idle = self._loop.time() - IDLE_SECONDS
        for endpoint, socket in list(self._sockets.items()):
            self._drain(endpoint, socket)
            if self._used[endpoint] < idle:
                self._close(endpoint)

    def close(self) -> None:
        """Close all sockets."""
        for endpoint in list(self._sockets):
            self._close(endpoint)

    def _open(self, endpoint: str) -> _Socket | None:
        config = self._config
        try:
            socket = self._context.socket(zmq.DEALER)
        except zmq.ZMQError:  # out of file descriptors, say
            return None
        socket.linger = 0
        socket.setsockopt(zmq.MAXMSGSIZE, config.message_bytes_max)
        socket.setsockopt(zmq.RECONNECT_IVL, round(config.reconnect_seconds * 1000))
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, round(config.reconnect_seconds_max * 1000))
        try:
            socket.connect(endpoint)
        except zmq.ZMQError:  # the publisher announces what is no endpoint here
            socket.close(linger=0)
            return None
        if len(self._sockets) >= ENDPOINTS_MAX:
            self._close(next(iter(self._sockets)))
        self._sockets[endpoint] = socket
        self._loop.add_reader(socket.FD, self._drain, endpoint, socket)
        return socket

    def _close(self, endpoint: str) -> None:
        socket = self._sockets.pop(endpoint)
        del self._used[endpoint]
        self._unanswered.pop(endpoint, None)
        self._loop.remove_reader(socket.FD)
        socket.close(linger=0)

    def _drain(self, endpoint: str, socket: _Socket) -> None:
        """Read all that is there; requests are few, so it is little."""
        replies: list[Frames] = []
        while not socket.closed:
            try:
                replies.append(socket.recv_multipart(zmq.NOBLOCK))
            except zmq.ZMQError:
                break
        if replies:
            self._unanswered.pop(endpoint, None)
            self._on_replies(replies)
