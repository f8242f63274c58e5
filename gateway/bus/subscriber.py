"""The receiving side of the bus: one socket per endpoint; each wake-up reads all messages that are there.

The FD of a ZeroMQ socket is edge-triggered (zmq_getsockopt, ZMQ_FD): it signals a change once, so each
wake-up reads until EAGAIN. If `bus.batch_messages_max` ends it earlier, the next read follows at once.
`zmq.asyncio` is not used: it makes a future per message.

There is one socket per endpoint, because libzmq never reconnects a SUB whose peer broke the protocol, for
example with an oversize message. The socket's monitor shows that, and the socket is replaced."""

import asyncio
import contextlib
import errno
import os
import random
import socket as socket_module
import struct
from collections.abc import Callable, Iterable
from itertools import chain

import zmq
from zmq.utils.monitor import parse_monitor_message

from gateway.bus import zmtp_probe
from gateway.bus.connection_limit import ConnectionLimit
from gateway.bus.connections import Connections
from gateway.bus.curve import Curve, Mode
from gateway.bus.diagnosis import Diagnosis
from gateway.bus.framing import Frames, MessageReader
from gateway.config.model import Bus, Source


REOPEN_AFTER_SECONDS = 1.0
BATCH_SECONDS = 0.0005
"""How much longer a batch may take to read and to check than if each of its messages took `MESSAGE_SECONDS`.

libzmq takes turns between publishers: what one sends waits for a batch of what another one floods the gateway with, which
may take far longer than good events do. Those come in large batches, which cost less."""
BATCH_SECONDS_MORE = 0.0001
"""How much more time a batch gets than the one before, if that one did not read all there was: else clients could take so
much of each turn of the event loop that the bus falls ever further behind."""
BATCH_SECONDS_MAX = 0.005
"""The most that it becomes."""
MESSAGE_SECONDS = 1e-5
"""What a valid event takes at most, about."""
HANDSHAKE_SECONDS = 5.0
"""A connection that does not complete its handshake within this time is closed; each holds an open file."""
_CREDENTIALS = struct.Struct("iii")
"""The process, user and group at the other end of a Unix socket (unix(7), SO_PEERCRED)."""
_VISIT_SECONDS = 1.0
_SPREAD_MIN = 0.6
_PING_ANSWER_SECONDS = 1.0
_LOST_BY_PINGS_MAX = 2
"""Connections in a row that ended right after the first ping, after which the endpoint gets no pings."""

_UP = zmq.Event.HANDSHAKE_SUCCEEDED
FAILED = zmq.Event.HANDSHAKE_FAILED_NO_DETAIL | zmq.Event.HANDSHAKE_FAILED_PROTOCOL | zmq.Event.HANDSHAKE_FAILED_AUTH
MONITORED = (
    FAILED
    | zmq.Event.HANDSHAKE_SUCCEEDED
    | zmq.Event.DISCONNECTED
    | zmq.Event.CONNECT_RETRIED
    | zmq.Event.CONNECT_DELAYED
    | zmq.Event.CONNECTED
    | zmq.Event.ACCEPTED
)


class BusError(Exception):
    """An endpoint cannot be opened; the text names the endpoint and the remedy."""


def configure(socket: "zmq.Socket[bytes]", config: Bus, *, pings: bool = True) -> None:
    """Set every option explicitly: libzmq's defaults silently lose messages, and do not know IPv6."""
    socket.linger = 0
    socket.rcvhwm = config.receive_hwm
    socket.sndhwm = 0  # subscriptions are sent as messages: never drop one
    socket.setsockopt(zmq.IPV6, 1)
    socket.setsockopt(zmq.MAXMSGSIZE, config.message_bytes_max)
    socket.setsockopt(zmq.HANDSHAKE_IVL, round(HANDSHAKE_SECONDS * 1000))
    if pings:
        socket.setsockopt(zmq.HEARTBEAT_IVL, round(config.heartbeat_seconds * 1000))
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, round(config.heartbeat_timeout_seconds * 1000))
    # Gateways that lost the same publisher must not all come back at the same moment.
    spread = random.uniform(_SPREAD_MIN, 1.0)  # noqa: S311  # a delay, no secret
    socket.setsockopt(zmq.RECONNECT_IVL, max(round(config.reconnect_seconds * spread * 1000), 1))
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, max(round(config.reconnect_seconds_max * spread * 1000), 1))


class Subscriber:
    """The socket of one endpoint, and its state.

    `on_messages` gets the messages of one wake-up, each read when it is asked for. `on_change` gets this subscriber and a word: a peer
    connected (``up``) or disconnected (``down``), its handshake failed (``refused``), its heartbeats
    stopped (``stalled``), the socket was replaced (``reopened``), no peer has come (``waiting``).
    `pause_seconds` gets the number of messages read, and returns for how long to pause reading, so that more
    arrive. With a `source`, its settings say what kind of socket it is, and which topics it subscribes to.
    A `limit` is shared with the other endpoints that are bound.
    Needs a running event loop from `open` to `close`."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        endpoint: str,
        mode: Mode,
        config: Bus,
        curve: Curve,
        *,
        on_messages: Callable[[Iterable[Frames]], object],
        on_change: Callable[["Subscriber", str], None],
        pause_seconds: Callable[[int], float] = lambda _: 0.0,
        source: Source | None = None,
        limit: ConnectionLimit | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.mode: Mode = mode
        self.received = 0
        self.reopened = 0
        self.last_message: float | None = None
        """Loop time of the last message."""
        self.silence_seconds_max = 0.0
        """Without a message for longer than this the connection is dead; 0 = no limit."""
        self._context = context
        self._config = config
        self._curve = curve
        self._on_messages = on_messages
        self._on_change = on_change
        self._pause_seconds = pause_seconds
        self._loop = asyncio.get_running_loop()
        self._receiver: zmtp_probe.Receiver = "sub" if source is None else source.socket
        self._has_source = source is not None
        self._prefixes = frozenset(source.subscribe if source is not None and source.subscribe else {""})
        path = endpoint.removeprefix("ipc://")
        self._path = path if mode == "bind" and path.startswith("/") else None
        """The file of the endpoint that is bound, if it has one."""
        self._unbound = False
        """Whether the file was removed, and has to be bound again."""
        self._socket: zmq.Socket[bytes] | None = None
        self._reader: MessageReader | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._connections = Connections()
        self._limit = ConnectionLimit(config.connections_max) if limit is None else limit
        self.diagnosis = Diagnosis(
            endpoint,
            mode,
            self._receiver,
            curve,
            has_peer=lambda: self.peers > 0,
            on_change=lambda change: on_change(self, change),
        )
        self.pings = config.heartbeat_seconds > 0
        """Whether ZeroMQ's pings are sent; False for a peer that does not survive them."""
        self._up_since = 0.0
        self._lost_by_pings = 0
        self._reopen_timer: asyncio.TimerHandle | None = None
        self._next_read: asyncio.Handle | None = None
        self._batch_seconds = BATCH_SECONDS
        self._wake_up = False

    @property
    def peers(self) -> int:
        return self._connections.peers

    @property
    def state(self) -> str:
        """``connected`` with at least one peer, else ``listening``, or ``connecting`` or ``refused``."""
        if self.peers:
            return "connected"
        if self.mode == "bind":
            return "listening"
        return "refused" if self.diagnosis.is_refused else "connecting"

    def open(self, *, again: bool = False) -> None:
        """Open the socket and start to read. Raises BusError: the endpoint is not valid on this machine, or in use.

        With `again`, for an endpoint that this process had, it is tried until it is free."""
        try:
            self._open()
        except BusError:
            if not again:
                raise
            self._reopen_timer = self._loop.call_later(REOPEN_AFTER_SECONDS, self._reopen)

    def _open(self) -> None:
        socket = self._context.socket(zmq.PULL if self._receiver == "pull" else zmq.SUB)
        try:
            configure(socket, self._config, pings=self.pings)
            monitor = socket.get_monitor_socket(int(MONITORED))
            for prefix in () if self._receiver == "pull" else self._prefixes:
                socket.subscribe(prefix.encode())
            if self.mode == "bind":
                self._curve.configure_server(socket)
                self._check_unused()
                socket.bind(self.endpoint)
            elif self._curve.configure_client(socket):
                socket.connect(self.endpoint)
        except (zmq.ZMQError, BusError) as error:
            socket.disable_monitor()
            socket.close(linger=0)
            if isinstance(error, BusError):
                raise
            raise BusError(self._error_text(error)) from error
        reader = MessageReader(socket)
        self._socket, self._monitor, self._reader = socket, monitor, reader
        self._loop.add_reader(monitor.FD, self._read_monitor)
        self._read()
        self._read_monitor()

    def close(self) -> None:
        self.diagnosis.close()
        self._close()

    def suspend(self) -> None:
        """Close the socket, after reading what it holds, until `resume`."""
        while self._read():
            pass
        self._close()

    def resume(self) -> None:
        if self._socket is None:
            self.open(again=True)

    def replace(self) -> None:
        """Replace the socket, and so end all its connections; publishers connect again."""
        if self._socket is not None:
            self._reopen()

    def subscribe(self, prefixes: frozenset[str]) -> None:
        """Subscribe to topics with these prefixes, and to no others; a source says itself to which."""
        if self._has_source:
            return
        socket = self._socket
        if socket is not None:
            for prefix in prefixes - self._prefixes:
                socket.subscribe(prefix.encode())
            for prefix in self._prefixes - prefixes:
                socket.unsubscribe(prefix.encode())
            self._loop.call_soon(self._read)  # sending may have consumed the edge of the FD
        self._prefixes = prefixes

    def poll(self) -> None:
        """Read without a wake-up, and replace the socket if its heartbeats stopped.

        After a reconnect, libzmq sends the subscriptions again only when the socket is used."""
        self._read()
        self._read_monitor()
        self._bind_removed_path()
        if self.peers and self.silence_seconds_max and self.last_message is not None:
            silent = self._loop.time() - self.last_message
            if silent > self.silence_seconds_max:
                self._on_change(self, "stalled")
                self._reopen()
        self.diagnosis.poll()

    def _check_unused(self) -> None:
        """Raise BusError if another process listens at the path: libzmq would take it from there in silence."""
        if self._path is None or not hasattr(socket_module, "SO_PEERCRED"):
            return
        with socket_module.socket(socket_module.AF_UNIX) as visitor:
            visitor.settimeout(_VISIT_SECONDS)
            try:
                visitor.connect(self._path)
                found = visitor.getsockopt(socket_module.SOL_SOCKET, socket_module.SO_PEERCRED, _CREDENTIALS.size)
            except OSError:  # nobody listens
                return
        pid, _, _ = _CREDENTIALS.unpack(found)
        if pid != os.getpid():  # else it is this socket, which libzmq has not closed yet
            raise BusError(
                f"bind: {self.endpoint} is in use by process {pid}, perhaps another gateway; choose another path"
            )

    def _bind_removed_path(self) -> None:
        """Bind again if the endpoint's file was removed: nobody could connect any more."""
        if self._path is None or self._socket is None:
            return
        with contextlib.suppress(zmq.ZMQError):  # libzmq has not ended the old listener: next time
            if self._unbound:
                self._socket.bind(self.endpoint)
                self._unbound = False
                self.reopened += 1
                self._on_change(self, "reopened")
            elif not os.path.exists(self._path):
                self._unbound = True
                self._socket.unbind(self.endpoint)

    def _close(self) -> None:
        self.last_message = None
        for handle in (self._reopen_timer, self._next_read):
            if handle is not None:
                handle.cancel()
        self._reopen_timer = self._next_read = None
        self._set_wake_up(False)
        socket, monitor = self._socket, self._monitor
        self._socket = self._monitor = self._reader = None
        if socket is not None and monitor is not None:
            self._loop.remove_reader(monitor.FD)
            socket.disable_monitor()
            monitor.close(linger=0)
            socket.close(linger=0)
        self._connections = Connections()
        self._limit.forget(self)
        self._unbound = False

    def _read(self) -> bool:
        """Read and pass on messages, at most a batch; True if there may be more."""
        reader = self._reader
        if reader is None:
            return False
        if self._next_read is not None:  # one pending read, however often we are woken
            self._next_read.cancel()
            self._next_read = None
        batch = reader.read(
            self._config.batch_messages_max, seconds_max=self._batch_seconds, seconds_each=MESSAGE_SECONDS
        )
        try:
            if (first := next(batch, None)) is not None:
                self.last_message = self._loop.time()
                self._on_messages(chain((first,), batch))
        finally:
            self.received += reader.count
            more_seconds = min(self._batch_seconds + BATCH_SECONDS_MORE, BATCH_SECONDS_MAX)
            self._batch_seconds = more_seconds if reader.more else BATCH_SECONDS
            if reader is self._reader:
                self._schedule_read(reader.count, reader.more)
        return reader.more

    def _schedule_read(self, read: int, more: bool) -> None:
        """Read again at once if there is more, else after a pause or when the socket wakes us."""
        if more:  # the edge is consumed: nothing would wake us for the remaining messages
            self._next_read = self._loop.call_soon(self._read)
            return
        pause = self._pause_seconds(read)
        if pause:
            self._next_read = self._loop.call_later(pause, self._read)
        self._set_wake_up(not pause)

    def _set_wake_up(self, on: bool) -> None:
        if self._socket is not None and on is not self._wake_up:
            self._wake_up = on
            if on:
                self._loop.add_reader(self._socket.FD, self._read)
            else:
                self._loop.remove_reader(self._socket.FD)

    def _read_monitor(self) -> None:
        monitor = self._monitor
        if monitor is None:
            return
        try:
            while True:
                found = parse_monitor_message(monitor.recv_multipart(zmq.NOBLOCK))
                self._handle_event(found["event"], found["value"], found["endpoint"])
        except zmq.Again:
            return

    def _handle_event(self, event: int, value: int, endpoint: bytes) -> None:
        if event == _UP:
            self._connections.succeeded()
            self.diagnosis.succeeded()
            self._up_since = self._loop.time()
            self._on_change(self, "up")
        elif event & FAILED:
            self._connections.failed()
            if self._limit.ends(self):
                self.diagnosis.refuse(self._limit.problem, exact=True)
            else:
                self.diagnosis.failed(event, value)
            return
        elif event == zmq.Event.DISCONNECTED:
            too_many = self._limit.closed(self, value)
            closed = self._connections.closed(value)
            if closed == "down":
                self._on_change(self, "down")
                if self._dies_of_pings():
                    self.pings = False
                    self._reopen()
                    return
            elif closed == "wrong_kind":
                if too_many:
                    self.diagnosis.refuse(self._limit.problem, exact=True)
                else:
                    self.diagnosis.wrong_kind()
            if self.mode == "connect" and self._reopen_timer is None:
                self._reopen_timer = self._loop.call_later(REOPEN_AFTER_SECONDS, self._reopen)
            return
        elif event in {zmq.Event.CONNECTED, zmq.Event.ACCEPTED}:
            self._connections.opened(value)
            if event == zmq.Event.ACCEPTED:
                self._limit.opened(self, endpoint.decode(), value)
        if self._reopen_timer is not None:  # libzmq reconnects by itself
            self._reopen_timer.cancel()
            self._reopen_timer = None

    def _dies_of_pings(self) -> bool:
        """Tell whether the connections of this endpoint end right after the first ping, again and again."""
        if self.mode == "bind" or not self.pings:
            return False
        after = self._loop.time() - self._up_since - self._config.heartbeat_seconds
        self._lost_by_pings = self._lost_by_pings + 1 if 0 <= after < _PING_ANSWER_SECONDS else 0
        return self._lost_by_pings >= _LOST_BY_PINGS_MAX

    def _reopen(self) -> None:
        """Replace a socket that libzmq does not reconnect, after reading the rest of its messages."""
        self._reopen_timer = None
        while self._read():
            pass
        self._close()
        self.reopened += 1
        self._on_change(self, "reopened")
        self.open(again=True)  # it may fail, for example without a free file descriptor

    def _error_text(self, error: zmq.ZMQError) -> str:
        remedies = {
            zmq.EADDRINUSE: "is in use, perhaps by another gateway; choose another address, "
            "or bind none with --bind ''",
            errno.EACCES: "needs permissions that this user does not have",
            errno.ENODEV: "is not an address of this machine",
            zmq.EINVAL: "is not an endpoint; expected tcp://HOST:PORT or ipc://PATH",
        }
        remedy = remedies.get(error.errno or 0, str(error))
        return f"{self.mode}: {self.endpoint} {remedy}"
