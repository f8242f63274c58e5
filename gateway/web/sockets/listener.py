"""Sockets from accept to close: how many there may be, and how long they may say nothing.

asyncio's own server is not used: uvloop's closes for good, and silently, when a process runs out
of open files, and its certificate cannot be replaced.
"""

import asyncio
import contextlib
import functools
import resource
import socket
import ssl
from collections.abc import Callable

from aiohttp import web

from gateway.config.model import Config
from gateway.logs import Throttle, logger
from gateway.metrics import Refused
from gateway.web.sockets.http import CLOSE_SECONDS, HttpProtocol


log = logger("gateway.http")

BACKLOG = 4096
"""Connections that may wait to be accepted: a whole fleet may come back at once."""
SOCKETS_RESERVED = 256
"""Sockets beside one per client: for REST, metrics, health, and for those who are not in yet."""
FILES_RESERVED = 64
"""Open files that sockets leave to the rest of the process."""
UNREAD_BYTES_MAX = 16_777_216
"""What answers may wait for, in all, for peers that do not read them."""
_ACCEPTS_PER_WAKE_UP = 8
"""Others wait in the kernel: events do not wait for a crowd at the door."""
_PAUSE_SECONDS = 0.25
_LOGGED_SECONDS = 1.0


class Slot:
    """One socket's place among all; its protocol says what it does."""

    __slots__ = ("_deadline", "_listener", "_socket")

    def __init__(self, listener: "Listener", accepted: socket.socket, deadline_seconds: float):
        self._listener = listener
        self._socket = accepted
        self._deadline: asyncio.TimerHandle | None = asyncio.get_running_loop().call_later(
            deadline_seconds, self._late
        )

    def busy(self) -> None:
        """Take note that a whole head of a request has come."""
        if self in self._listener.waiting:
            del self._listener.waiting[self]
            self._in_time()

    def idle(self) -> None:
        """Take note that a request has been answered."""
        self._listener.waiting[self] = None

    def stalled(self, unread_bytes: int) -> None:
        """Take note that the peer does not read an answer."""
        self._deadline = self._listener.stalled(self, unread_bytes)

    def flows(self) -> None:
        """Take note that it does again."""
        if self._listener.unread.pop(self, None) is not None:
            self._in_time()

    def leave(self) -> None:
        """Give the place back."""
        self.busy()
        self.flows()
        self._in_time()
        self._listener.slots.discard(self)

    def cut(self) -> None:
        """End the connection, whatever stands between this socket and its protocol, as TLS."""
        self.busy()
        self.flows()
        with contextlib.suppress(OSError):  # the peer was faster
            self._socket.shutdown(socket.SHUT_RDWR)

    def _in_time(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._listener.on_refused("handshake")
        self.cut()


class Listener:
    """Accepts connections, and lets go of those that hold a place for nothing."""

    def __init__(
        self,
        protocol: Callable[[Slot], HttpProtocol],
        *,
        sockets_max: int,
        handshake_seconds: float,
        stall_seconds: float,
        send_buffer_bytes: int,
        tls: Callable[[], ssl.SSLContext | None],
        on_refused: Callable[[Refused], None],
    ) -> None:
        self.on_refused = on_refused
        self.take: Callable[[socket.socket], object] = self.admit
        """Called with each connection that is accepted."""
        self.slots: set[Slot] = set()
        self.waiting: dict[Slot, None] = {}
        """Who waits for a request, longest first."""
        self.unread: dict[Slot, int] = {}
        """How many bytes wait for who does not read an answer, longest first."""
        self._protocol = protocol
        self._sockets_max = sockets_max
        self._handshake_seconds = handshake_seconds
        self._stall_seconds = stall_seconds
        self._send_buffer_bytes = send_buffer_bytes
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._listening: list[socket.socket] = []
        self._handshakes: set[asyncio.Task[None]] = set()
        self._logged = Throttle(count=1, interval_seconds=_LOGGED_SECONDS)

    @property
    def address(self) -> tuple[str, int]:
        """Where the first socket listens: its address and port."""
        host, port = self._listening[0].getsockname()[:2]
        return host, port

    async def open(self, host: str, port: int) -> None:
        """Listen on every address that a host has.

        Raises:
            OSError: One cannot be bound.
        """
        found = await self._loop.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, _, _, _, address in dict.fromkeys(found):
            one = socket.create_server(address, family=family, backlog=BACKLOG)
            one.setblocking(False)
            self._listening.append(one)
        for one in self._listening:
            self._loop.add_reader(one, self._accept, one)

    def hold(self) -> None:
        """Leave who comes now in the kernel's queue."""
        for one in self._listening:
            self._loop.remove_reader(one)

    def go_on(self) -> None:
        """Accept again."""
        for one in self._listening:
            self._resume(one)

    def close(self) -> None:
        """Accept nobody more."""
        self.hold()
        for one in self._listening:
            one.close()
        for task in self._handshakes:
            task.cancel()

    def stalled(self, slot: Slot, unread_bytes: int) -> asyncio.TimerHandle:
        """Note what waits for a peer that does not read; if it is too much, the longest ends.

        Returns what ends this one if it goes on so.
        """
        self.unread[slot] = unread_bytes
        while sum(self.unread.values()) > UNREAD_BYTES_MAX:
            next(iter(self.unread)).cut()
        return self._loop.call_later(self._stall_seconds, slot.cut)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTS_PER_WAKE_UP):
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no more files or memory
                self._pause(listening, error)
                return
            self.take(accepted)

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        """Leave them in the kernel's queue until there may be room."""
        self.on_refused("files")
        suppressed = self._logged.allow("files", now=self._loop.time())
        if suppressed is not None:
            log.warning("cannot_accept", reason=str(error), suppressed=suppressed)
        self._loop.remove_reader(listening)
        self._loop.call_later(_PAUSE_SECONDS, self._resume, listening)

    def _resume(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            self._loop.add_reader(listening, self._accept, listening)

    def admit(self, accepted: socket.socket) -> None:
        """Give a socket its place: at the limit that of one which has long done nothing."""
        if len(self.slots) >= self._sockets_max:
            self.on_refused("sockets")
            suppressed = self._logged.allow("sockets", now=self._loop.time())
            if suppressed is not None:
                log.warning("too_many_sockets", open=len(self.slots), suppressed=suppressed)
            useless = next(iter(self.waiting or self.unread), None)
            if useless is None:
                accepted.close()
                return
            useless.cut()
        accepted.setblocking(False)
        if self._send_buffer_bytes:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer_bytes)
        slot = Slot(self, accepted, self._handshake_seconds)
        self.slots.add(slot)
        self.waiting[slot] = None
        task = self._loop.create_task(self._serve(accepted, slot))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _serve(self, accepted: socket.socket, slot: Slot) -> None:
        tls = self._tls()
        try:
            await self._loop.connect_accepted_socket(
                functools.partial(self._protocol, slot),
                accepted,
                ssl=tls,
                ssl_handshake_timeout=self._handshake_seconds if tls else None,
                ssl_shutdown_timeout=CLOSE_SECONDS if tls else None,
            )
        except OSError as error:  # TLS errors are such
            slot.leave()
            accepted.close()
            self.on_refused("tls")
            log.debug("tls_handshake_failed", reason=str(error))


def listener_of(
    runner: web.AppRunner,
    config: Config,
    *,
    tls: Callable[[], ssl.SSLContext | None],
    on_refused: Callable[[Refused], None],
) -> Listener:
    """Return what accepts connections for a set-up runner once it is opened.

    The caller closes it, then the runner. `tls` is asked at every connection; None stands for none.
    """
    loop = asyncio.get_running_loop()
    server = runner.server
    assert server is not None
    clients = config.clients
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    sockets_max = clients.connections_max + SOCKETS_RESERVED
    if files != resource.RLIM_INFINITY:
        sockets_max = min(sockets_max, max(files - FILES_RESERVED, 1))

    def protocol(slot: Slot) -> HttpProtocol:
        return HttpProtocol(
            server,
            slot=slot,
            loop=loop,
            keepalive_timeout=clients.handshake_timeout_seconds,
            lingering_time=CLOSE_SECONDS,
            access_log=None,
            auto_decompress=False,  # a body is JSON as it is: nothing to inflate, and no bomb
        )

    return Listener(
        protocol,
        sockets_max=sockets_max,
        handshake_seconds=clients.handshake_timeout_seconds,
        stall_seconds=clients.stall_timeout_seconds,
        send_buffer_bytes=clients.send_buffer_bytes,
        tls=tls,
        on_refused=on_refused,
    )
