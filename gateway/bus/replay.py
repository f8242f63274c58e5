"""The DEALER side of the bus: requests missing messages from publishers.

A DEALER can have several requests in flight, and an unanswered one does not block the socket, as it
would with a REQ (the ZeroMQ guide, chapter 4). See docs/protocol.md, part 1."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

import zmq

from gateway.bus.curve import Curve
from gateway.bus.framing import Frames
from gateway.config.model import Bus
from gateway.core.ingest.ingest import REPLAY
from gateway.core.ingest.publishers import ReplayRequest


ENDPOINTS_MAX = 64
"""Replay sockets; a new one replaces the least recently used of those whose requests were answered."""
IDLE_SECONDS = 30.0
DEAD_SECONDS = 2.0
"""A socket whose requests are unanswered for this long is replaced before the next request: after a
protocol error, such as an oversize reply, libzmq silently never reconnects it."""

_Socket = zmq.Socket[bytes]
_Address = tuple[str, str | None]  # endpoint, and the CURVE key that its publisher announced


class ReplayClient:
    """Sends replay requests; calls `on_replies` with all replies of one wake-up."""

    def __init__(
        self, context: zmq.Context[_Socket], config: Bus, curve: Curve, *, on_replies: Callable[[list[Frames]], None]
    ) -> None:
        self._context = context
        self._config = config
        self._curve = curve
        self._on_replies = on_replies
        self._loop = asyncio.get_running_loop()
        self._sockets: OrderedDict[_Address, _Socket] = OrderedDict()
        self._used: dict[_Address, float] = {}
        self._unanswered: dict[_Address, float] = {}
        """When the first request was sent since the last reply."""

    def send_request(self, request: ReplayRequest) -> None:
        """Send a request. A failure has no other effect than an answer that does not come."""
        now, address = self._loop.time(), (request.endpoint, request.key)
        if now - self._unanswered.get(address, now) > DEAD_SECONDS:
            self._close(address)
        socket = self._sockets.get(address) or self._open(address)
        if socket is None:
            return
        self._sockets.move_to_end(address)
        self._used[address] = now
        self._unanswered.setdefault(address, now)
        wanted = request.first.to_bytes(8) + request.last.to_bytes(8)
        frames = [REPLAY, request.number.to_bytes(8), request.topic.encode(), wanted]
        if request.forwarded:
            frames.append(request.incarnation.to_bytes(8))
        try:
            socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.ZMQError:
            return
        self._loop.call_soon(self._drain, address, socket)  # sending may have consumed the edge of the FD

    def poll(self) -> None:
        """Read all sockets, also without a wake-up, and close those that are idle."""
        idle = self._loop.time() - IDLE_SECONDS
        for address, socket in list(self._sockets.items()):
            self._drain(address, socket)
            if self._used[address] < idle:
                self._close(address)

    def close(self) -> None:
        for address in list(self._sockets):
            self._close(address)

    def _open(self, address: _Address) -> _Socket | None:
        socket = open_dealer(self._context, self._config, self._curve, *address)
        if socket is None:
            return None
        if len(self._sockets) >= ENDPOINTS_MAX:
            answered = (one for one in self._sockets if one not in self._unanswered)
            self._close(next(answered, next(iter(self._sockets))))
        self._sockets[address] = socket
        self._loop.add_reader(socket.FD, self._drain, address, socket)
        return socket

    def _close(self, address: _Address) -> None:
        socket = self._sockets.pop(address)
        del self._used[address]
        self._unanswered.pop(address, None)
        self._loop.remove_reader(socket.FD)
        socket.close(linger=0)

    def _drain(self, address: _Address, socket: _Socket) -> None:
        replies: list[Frames] = []
        while not socket.closed:
            try:
                replies.append(socket.recv_multipart(zmq.NOBLOCK))
            except zmq.ZMQError:
                break
        if replies:
            self._unanswered.pop(address, None)
            self._on_replies(replies)


def open_dealer(
    context: zmq.Context[_Socket], config: Bus, curve: Curve, endpoint: str, key: str | None = None
) -> _Socket | None:
    """Return a DEALER that connects to a replay endpoint; None if that is none, not trusted, or no socket is free."""
    try:
        socket = context.socket(zmq.DEALER)
    except zmq.ZMQError:  # for example, no free file descriptors
        return None
    socket.linger = 0
    socket.rcvhwm = config.receive_hwm
    socket.setsockopt(zmq.IPV6, 1)
    socket.setsockopt(zmq.MAXMSGSIZE, config.message_bytes_max)
    socket.setsockopt(zmq.RECONNECT_IVL, round(config.reconnect_seconds * 1000))
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, round(config.reconnect_seconds_max * 1000))
    try:
        trusted = curve.configure_client(socket, key)
        if trusted:
            socket.connect(endpoint)
    except zmq.ZMQError:  # the publisher announced an address that is no endpoint
        trusted = False
    if not trusted:
        socket.close(linger=0)
        return None
    return socket
