"""Accepts connections and limits them: how many there are, and how long each may stay idle.

asyncio's own server is not used: uvloop's stops for good, without an error, when the process runs out of
open files, and its certificate cannot be replaced."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence

from aiohttp import web

from gateway.config.model import Clients, Config
from gateway.metrics.table import Refused
from gateway.runtime.logs import Throttle, logger
from gateway.runtime.system import open_files_max
from gateway.runtime.tasks import Tasks
from gateway.web.problems import drop_traceback
from gateway.web.sockets.http import CLOSE_SECONDS, HttpProtocol


log = logger("gateway.http")

SOCKETS_RESERVED = 256
"""Sockets beside one per client: for REST, metrics, health, and unfinished handshakes."""
FILES_RESERVED = 64
"""Open files left to the rest of the process, besides those of the bus."""
BUS_FILES_RESERVED = 256
"""Open files left to publishers' connections; under a low limit, a quarter of it."""
UNREAD_BYTES_MAX = 16_777_216
"""Limit for the bytes of all HTTP answers that peers do not read."""
_ACCEPTS_PER_WAKE_UP = 8
"""More wait in the kernel, so that many new connections do not delay events."""
_BACK_OFF_SECONDS = 0.25
_LOOK_SECONDS = 0.01
_LOGGED_SECONDS = 1.0


class Slot:
    """One of a listener's sockets; its protocol reports what happens on it.

    A slot has a deadline while it waits for the head of its first request, or for the rest of a later one, and
    while its peer does not read an answer. A socket that misses its deadline is disconnected."""

    __slots__ = ("_deadline", "_listener", "_socket")

    def __init__(self, listener: "Listener", accepted: socket.socket):
        self._listener = listener
        self._socket = accepted
        self._deadline: asyncio.TimerHandle | None = None
        self._await_head()

    @property
    def waits_for_head(self) -> bool:
        """Whether the head of a request is due: the first one, or one that has begun."""
        return self._deadline is not None

    def request_begun(self) -> None:
        """Note that a part of a request's head has been received."""
        if self in self._listener.idle and self._deadline is None:
            self._await_head()

    def request_received(self) -> None:
        """Note that the whole head of a request has been received."""
        if self in self._listener.idle:
            del self._listener.idle[self]
            self._cancel_deadline()

    def request_answered(self) -> None:
        """Note that the socket is idle again; aiohttp limits how long it may be."""
        self._listener.idle[self] = None

    def writing_stalled(self, unread_bytes: int) -> None:
        """Note that the peer does not read an answer; those of all peers together are limited."""
        unread = self._listener.unread_bytes
        unread[self] = unread_bytes
        while sum(unread.values()) > UNREAD_BYTES_MAX:
            next(iter(unread)).disconnect()
        self._deadline = asyncio.get_running_loop().call_later(self._listener.stall_seconds, self.disconnect)

    def writing_resumed(self) -> None:
        if self._listener.unread_bytes.pop(self, None) is not None:
            self._cancel_deadline()

    def release(self) -> None:
        self.request_received()
        self.writing_resumed()
        self._cancel_deadline()
        self._listener.slots.discard(self)

    def disconnect(self) -> None:
        """Shut the socket itself down, without a TLS closing handshake."""
        self.request_received()
        self.writing_resumed()
        with contextlib.suppress(OSError):  # the peer has closed it already
            self._socket.shutdown(socket.SHUT_RDWR)

    def _await_head(self) -> None:
        self._deadline = asyncio.get_running_loop().call_later(
            self._listener.handshake_seconds, self._time_out_handshake
        )

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _time_out_handshake(self) -> None:
        self._listener.on_refused("handshake")
        self.disconnect()


def sockets_max(connections_max: int, files: int | None) -> int:
    """Return how many sockets a listener may have under a limit of open files; None is no limit."""
    wanted = connections_max + SOCKETS_RESERVED
    if files is None:
        return wanted
    return min(wanted, max(files - FILES_RESERVED - min(BUS_FILES_RESERVED, files // 4), 1))


def bus_connections_max(config: Config, *, files: int | None) -> int:
    """Return how many connections the bus may have, beside those of the listener, under a limit of open files."""
    if files is None:
        return config.bus.connections_max
    left = files - FILES_RESERVED - sockets_max(config.clients.connections_max, files)
    return min(config.bus.connections_max, max(left, 1))


class Listener:
    """Accepts connections for a runner that has been set up; the caller closes it, then the runner.

    At the limit of sockets, an idle one makes room for a new one. `tls` is called for every
    connection; None means no TLS."""

    def __init__(
        self,
        runner: web.AppRunner,
        clients: Clients,
        *,
        tls: Callable[[], ssl.SSLContext | None],
        on_refused: Callable[[Refused], None],
    ) -> None:
        assert runner.server is not None
        self.on_refused = on_refused
        self.on_accepted: Callable[[socket.socket], object] = self.serve
        self.slots: set[Slot] = set()
        self.idle: dict[Slot, None] = {}
        """Slots without a request, the longest idle first."""
        self.unread_bytes: dict[Slot, int] = {}
        """Bytes that a peer does not read, the longest stalled first."""
        self.stall_seconds = clients.stall_timeout_seconds
        self._server = runner.server
        self.handshake_seconds = clients.handshake_timeout_seconds
        self._keepalive_seconds = clients.keepalive_timeout_seconds
        self._header_bytes_max = clients.header_bytes_max
        self._send_buffer_bytes = clients.send_buffer_bytes
        self.set_limit(clients.connections_max)
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._listening: list[socket.socket] = []
        self._handshakes = Tasks()
        self._logged = Throttle(count=1, interval_seconds=_LOGGED_SECONDS)

    def set_limit(self, connections_max: int) -> None:
        """Allow sockets for so many clients."""
        self._sockets_max = sockets_max(connections_max, open_files_max())

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [one.getsockname()[:2] for one in self._listening]

    def listen(self, sockets: Sequence[socket.socket]) -> None:
        """Listen with these sockets. Accept nothing yet."""
        self._listening += sockets

    @property
    def sockets(self) -> Sequence[socket.socket]:
        """The sockets that listen."""
        return self._listening

    async def begun_requests(self, *, within: float) -> None:
        """Wait until every connection has sent the head of a request, at most for so many seconds."""
        until = self._loop.time() + within
        while any(slot.waits_for_head for slot in self.idle) and self._loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)

    def leave_port(self, *, accept_waiting: bool = False) -> None:
        """Listen no more; what is accepted is still served. If no other process listens there, `accept_waiting`
        keeps the connections that wait from being reset."""
        self.pause_accepting()
        for one in self._listening if accept_waiting else ():
            self._accept(one)
        for one in self._listening:
            one.close()
        self._listening.clear()

    def pause_accepting(self) -> None:
        for one in self._listening:
            self._loop.remove_reader(one)

    def resume_accepting(self) -> None:
        for one in self._listening:
            self._watch(one)

    def close(self) -> None:
        """Stop listening, and cancel unfinished TLS handshakes."""
        self.leave_port()
        self._handshakes.cancel()

    def serve(self, accepted: socket.socket) -> None:
        """Serve a connection; at the limit, an idle one is disconnected, or else this one refused."""
        if len(self.slots) >= self._sockets_max:
            self.on_refused("sockets")
            suppressed = self._logged.allow("sockets", now=self._loop.time())
            if suppressed is not None:
                log.warning("too_many_sockets", open=len(self.slots), suppressed=suppressed)
            idle = next(iter(self.idle or self.unread_bytes), None)
            if idle is None:
                accepted.close()
                return
            idle.disconnect()
        accepted.setblocking(False)
        if self._send_buffer_bytes:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer_bytes)
        slot = Slot(self, accepted)
        self.slots.add(slot)
        self.idle[slot] = None
        self._handshakes.start(self._connect(accepted, slot))

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTS_PER_WAKE_UP):
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # out of open files or memory
                self.on_refused("files")
                suppressed = self._logged.allow("files", now=self._loop.time())
                if suppressed is not None:
                    log.warning("cannot_accept", reason=str(error), suppressed=suppressed)
                self._loop.remove_reader(listening)  # connections wait in the kernel's queue
                self._loop.call_later(_BACK_OFF_SECONDS, self._watch, listening)
                return
            self.on_accepted(accepted)

    def _watch(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            self._loop.add_reader(listening, self._accept, listening)

    async def _connect(self, accepted: socket.socket, slot: Slot) -> None:
        tls, seconds = self._tls(), self.handshake_seconds
        protocol = HttpProtocol(
            self._server,
            slot=slot,
            loop=self._loop,
            keepalive_seconds=self._keepalive_seconds,
            header_bytes_max=self._header_bytes_max,
        )
        try:
            await self._loop.connect_accepted_socket(
                lambda: protocol,
                accepted,
                ssl=tls,
                ssl_handshake_timeout=seconds if tls else None,
                ssl_shutdown_timeout=CLOSE_SECONDS if tls else None,
            )
        except OSError as error:  # TLS errors are OSErrors too
            slot.release()
            accepted.close()
            protocol.head.release()  # the protocol and its parser refer to each other
            drop_traceback(error)
            self.on_refused("tls")
            log.debug("tls_handshake_failed", reason=str(error))
