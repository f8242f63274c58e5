"""The SUB side of the bus: one socket per endpoint, drained whole on each wake-up.

A socket's FD is edge-triggered (zmq_getsockopt, ZMQ_FD): it says once that something changed, so
each wake-up reads until EAGAIN; where its budget ends before that, it is called again at once.
`zmq.asyncio` makes a future per message and is not used.

One socket per endpoint, because libzmq gives a connecting SUB up for good when its peer breaks the
protocol, an oversize message included: its monitor tells, and that one socket is replaced.
"""

import asyncio
import errno
from collections.abc import Callable
from typing import Literal

import zmq
from zmq.utils.monitor import parse_monitor_message

from gateway.bus.curve import Curve
from gateway.bus.framing import Frames, MessageReader
from gateway.config.model import Bus


Mode = Literal["connect", "bind"]

REOPEN_AFTER_SECONDS = 1.0

_UP = zmq.Event.HANDSHAKE_SUCCEEDED
_FAILED = (
    zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.HANDSHAKE_FAILED_AUTH
)
_MONITORED = (
    _FAILED
    | zmq.Event.HANDSHAKE_SUCCEEDED
    | zmq.Event.DISCONNECTED
    | zmq.Event.CONNECT_RETRIED
    | zmq.Event.CONNECT_DELAYED
    | zmq.Event.CONNECTED
)


class BusError(Exception):
    """An endpoint cannot be opened; the text names it and the remedy."""


def _configure(socket: "zmq.Socket[bytes]", config: Bus) -> None:
    """Set every option explicitly: libzmq's defaults lose messages in silence."""
    socket.linger = 0
    socket.rcvhwm = config.receive_hwm
    socket.sndhwm = 0  # subscriptions are messages too: never drop one
    socket.setsockopt(zmq.MAXMSGSIZE, config.message_bytes_max)
    socket.setsockopt(zmq.HEARTBEAT_IVL, round(config.heartbeat_seconds * 1000))
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, round(config.heartbeat_timeout_seconds * 1000))
    socket.setsockopt(zmq.RECONNECT_IVL, round(config.reconnect_seconds * 1000))
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, round(config.reconnect_seconds_max * 1000))


class Subscriber:
    """One endpoint's socket and what is known of it.

    `on_messages` is called with all that one wake-up brought, `on_change` with the link when a peer
    came or went (``up``, ``down``), failed to shake hands (``refused``), or its socket was replaced
    (``stalled``, ``reopened``). `rest` is asked after each batch of so many messages for how many seconds
    to let the next one gather. Needs a running event loop from `open` to `close`.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        endpoint: str,
        mode: Mode,
        config: Bus,
        curve: Curve,
        *,
        on_messages: Callable[[list[Frames]], None],
        on_change: Callable[["Subscriber", str], None],
        rest: Callable[[int], float] = lambda _: 0.0,
    ) -> None:
        self.endpoint = endpoint
        self.mode: Mode = mode
        self.peers = 0
        self.received = 0
        self.reopened = 0
        self.refused = 0
        """Handshakes that failed."""
        self.problem = ""
        """Why the last handshake failed; empty once one succeeded."""
        self.last_message: float | None = None
        """Loop time of the last message."""
        self.due_seconds = 0.0
        """A silence above this means that the link is dead, whatever TCP says; 0 = none does."""
        self._context = context
        self._config = config
        self._curve = curve
        self._on_messages = on_messages
        self._on_change = on_change
        self._rest = rest
        self._loop = asyncio.get_running_loop()
        self._prefixes: frozenset[str] = frozenset({""})
        self._socket: zmq.Socket[bytes] | None = None
        self._reader: MessageReader | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._strangers = 0
        """Those whose handshake failed, and whose end was not told yet."""
        self._reopen: asyncio.TimerHandle | None = None
        self._again: asyncio.Handle | None = None
        self._listening = False

    @property
    def state(self) -> str:
        """``connected`` with at least one peer, else ``listening``, or ``connecting`` or ``refused``."""
        if self.peers:
            return "connected"
        if self.mode == "bind":
            return "listening"
        return "refused" if self.problem else "connecting"

    def open(self) -> None:
        """Open the socket and begin to read.

        Raises:
            BusError: The endpoint is not valid here, or taken.
        """
        socket = self._context.socket(zmq.SUB)
        try:
            _configure(socket, self._config)
            monitor = socket.get_monitor_socket(int(_MONITORED))
            for prefix in self._prefixes:
                socket.subscribe(prefix.encode())
            if self.mode == "bind":
                self._curve.serve(socket)
                socket.bind(self.endpoint)
            elif self._curve.approach(socket):
                socket.connect(self.endpoint)
        except zmq.ZMQError as error:
            socket.disable_monitor()
            socket.close(linger=0)
            raise BusError(self._explain(error)) from error
        self._socket, self._monitor, self._reader = socket, monitor, MessageReader(socket)
        self._loop.add_reader(monitor.FD, self._watch)
        self._drain()
        self._watch()

    def close(self) -> None:
        """Stop reading and close the socket."""
        self.last_message = None
        for handle in (self._reopen, self._again):
            if handle is not None:
                handle.cancel()
        self._reopen = self._again = None
        self._listen(False)
        socket, monitor = self._socket, self._monitor
        self._socket = self._monitor = self._reader = None
        if socket is not None and monitor is not None:
            self._loop.remove_reader(monitor.FD)
            socket.disable_monitor()
            monitor.close(linger=0)
            socket.close(linger=0)
        self.peers = self._strangers = 0

    def fetch(self, prefixes: frozenset[str]) -> None:
        """Subscribe to topics with these prefixes, and no others."""
        socket = self._socket
        if socket is not None:
            for prefix in prefixes - self._prefixes:
                socket.subscribe(prefix.encode())
            for prefix in self._prefixes - prefixes:
                socket.unsubscribe(prefix.encode())
            self._loop.call_soon(self._drain)  # what was sent may have spent the edge
        self._prefixes = prefixes

    def touch(self) -> None:
        """Look at the socket though nothing woke us; replace it if a sign of life is overdue.

        A SUB sends its subscriptions again after a reconnect only when its thread touches it.
        """
        self._drain()
        self._watch()
        if self.peers and self.due_seconds and self.last_message is not None:
            silent = self._loop.time() - self.last_message
            if silent > self.due_seconds:
                self._on_change(self, "stalled")
                self._replace()

    def _drain(self) -> bool:
        """Read all that is there, up to the budget, and hand it on; True if there may be more."""
        reader = self._reader
        if reader is None:
            return False
        if self._again is not None:  # one pending call, however often we are woken
            self._again.cancel()
            self._again = None
        batch, more = reader.read(self._config.batch_messages_max)
        try:
            if batch:
                self.received += len(batch)
                self.last_message = self._loop.time()
                self._on_messages(batch)
        finally:
            if reader is self._reader:
                self._go_on(len(batch), more)
        return more

    def _go_on(self, read: int, more: bool) -> None:
        """Come back for what is left, after a rest, or when there is something."""
        if more:  # the edge is spent: nothing would wake us for what is left
            self._again = self._loop.call_soon(self._drain)
            return
        rest = self._rest(read)
        if rest:
            self._again = self._loop.call_later(rest, self._drain)
        self._listen(not rest)

    def _listen(self, on: bool) -> None:
        """Be woken when there is something, or not."""
        if self._socket is not None and on is not self._listening:
            self._listening = on
            if on:
                self._loop.add_reader(self._socket.FD, self._drain)
            else:
                self._loop.remove_reader(self._socket.FD)

    def _watch(self) -> None:
        monitor = self._monitor
        if monitor is None:
            return
        try:
            while True:
                told = parse_monitor_message(monitor.recv_multipart(zmq.NOBLOCK))
                self._note(told["event"], told["value"])
        except zmq.Again:
            return

    def _note(self, event: int, value: int) -> None:
        if event == _UP:
            self.peers += 1
            self.problem = ""
            self._on_change(self, "up")
        elif event & _FAILED:
            # Who never shook hands was no peer, and takes none away when its end is told.
            self._strangers += 1
            self.refused += 1
            self.problem = self._curve.explain(event, value, bound=self.mode == "bind")
            self._on_change(self, "refused")
            return
        elif event == zmq.Event.DISCONNECTED:
            if self._strangers:
                self._strangers -= 1
            else:
                self.peers = max(self.peers - 1, 0)
                self._on_change(self, "down")
            if self.mode == "connect" and self._reopen is None:
                self._reopen = self._loop.call_later(REOPEN_AFTER_SECONDS, self._replace)
            return
        if self._reopen is not None:  # libzmq is at it itself
            self._reopen.cancel()
            self._reopen = None

    def _replace(self) -> None:
        """Open a fresh socket where libzmq has given up, once the old one is read to its end."""
        self._reopen = None
        while self._drain():
            pass
        self.close()
        self.reopened += 1
        self._on_change(self, "reopened")
        try:
            self.open()
        except BusError:  # out of file descriptors, say
            self._reopen = self._loop.call_later(REOPEN_AFTER_SECONDS, self._replace)

    def _explain(self, error: zmq.ZMQError) -> str:
        remedies = {
            zmq.EADDRINUSE: "is in use, perhaps by another gateway; choose another address, "
            "or bind nothing with --bind ''",
            errno.EACCES: "may not be used by this user",
            errno.ENODEV: "is not an address of this machine",
            zmq.EINVAL: "is not an endpoint: tcp://HOST:PORT or ipc://PATH",
        }
        remedy = remedies.get(error.errno or 0, str(error))
        return f"{self.mode}: {self.endpoint} {remedy}"
