"""The DEALER side of the bus: asks publishers for what was missed.

A DEALER, not a REQ: several requests may be under way, and one that is never answered leaves
nothing out of step (the ZeroMQ guide, chapter 4). See docs/protocol.md, part 1.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

import zmq

from gateway.bus.curve import Curve
from gateway.bus.framing import Frames
from gateway.config.model import Bus
from gateway.core.ingest.ingest import REPLAY
from gateway.core.ingest.recovery import ReplayRequest


ENDPOINTS_MAX = 64
"""Publishers that are connected to for replay; the one asked longest ago makes room."""
IDLE_SECONDS = 30.0
DEAD_SECONDS = 2.0
"""A socket whose requests went unanswered for so long is replaced before the next: libzmq gives one up
for good, in silence, when a reply breaks its rules, as an oversize message does."""

_Socket = zmq.Socket[bytes]
_Place = tuple[str, str | None]  # endpoint, and the CURVE key that its publisher announced


class ReplayClient:
    """Sends requests, and hands on all replies that one wake-up brought."""

    def __init__(
        self,
        context: zmq.Context[_Socket],
        config: Bus,
        curve: Curve,
        *,
        on_replies: Callable[[list[Frames]], None],
    ) -> None:
        self._context = context
        self._config = config
        self._curve = curve
        self._on_replies = on_replies
        self._loop = asyncio.get_running_loop()
        self._sockets: OrderedDict[_Place, _Socket] = OrderedDict()
        self._used: dict[_Place, float] = {}
        self._unanswered: dict[_Place, float] = {}
        """When the first request was sent that nothing has been heard since."""

    def ask(self, ask: ReplayRequest) -> None:
        """Send a request; where that cannot be done it will be missed like one that is not answered."""
        now, place = self._loop.time(), (ask.endpoint, ask.key)
        if now - self._unanswered.get(place, now) > DEAD_SECONDS:
            self._close(place)
        socket = self._sockets.get(place) or self._open(place)
        if socket is None:
            return
        self._sockets.move_to_end(place)
        self._used[place] = now
        self._unanswered.setdefault(place, now)
        wanted = ask.first.to_bytes(8) + ask.last.to_bytes(8)
        try:
            socket.send_multipart(
                [REPLAY, ask.number.to_bytes(8), ask.topic.encode(), wanted], zmq.NOBLOCK
            )
        except zmq.ZMQError:
            return
        self._loop.call_soon(self._drain, place, socket)  # sending may have spent the edge

    def touch(self) -> None:
        """Look at all sockets though nothing woke us, and close those that are idle."""
        idle = self._loop.time() - IDLE_SECONDS
        for place, socket in list(self._sockets.items()):
            self._drain(place, socket)
            if self._used[place] < idle:
                self._close(place)

    def close(self) -> None:
        """Close all sockets."""
        for place in list(self._sockets):
            self._close(place)

    def _open(self, place: _Place) -> _Socket | None:
        config, (endpoint, key) = self._config, place
        try:
            socket = self._context.socket(zmq.DEALER)
        except zmq.ZMQError:  # out of file descriptors, say
            return None
        socket.linger = 0
        socket.setsockopt(zmq.MAXMSGSIZE, config.message_bytes_max)
        socket.setsockopt(zmq.RECONNECT_IVL, round(config.reconnect_seconds * 1000))
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, round(config.reconnect_seconds_max * 1000))
        try:
            trusted = self._curve.approach(socket, key)
            if trusted:
                socket.connect(endpoint)
        except zmq.ZMQError:  # the publisher announces what is no endpoint here
            trusted = False
        if not trusted:
            socket.close(linger=0)
            return None
        if len(self._sockets) >= ENDPOINTS_MAX:
            self._close(next(iter(self._sockets)))
        self._sockets[place] = socket
        self._loop.add_reader(socket.FD, self._drain, place, socket)
        return socket

    def _close(self, place: _Place) -> None:
        socket = self._sockets.pop(place)
        del self._used[place]
        self._unanswered.pop(place, None)
        self._loop.remove_reader(socket.FD)
        socket.close(linger=0)

    def _drain(self, place: _Place, socket: _Socket) -> None:
        """Read all that is there; requests are few, so it is little."""
        replies: list[Frames] = []
        while not socket.closed:
            try:
                replies.append(socket.recv_multipart(zmq.NOBLOCK))
            except zmq.ZMQError:
                break
        if replies:
            self._unanswered.pop(place, None)
            self._on_replies(replies)
