"""The sockets by which the gateway publishes its clients' events on the bus: an XPUB, and a ROUTER for replay."""

import asyncio
import re
import socket as socket_module
from collections.abc import Callable
from contextlib import suppress

import zmq

from gateway.bus.connection_limit import AcceptMonitor, ConnectionLimit
from gateway.bus.curve import Curve
from gateway.bus.subscriber import HANDSHAKE_SECONDS, BusError
from gateway.config.model import Bus
from gateway.core.ingest.outlet import Outlet
from gateway.core.protocol.channels import is_topic, matches
from gateway.runtime.logs import logger


HEARTBEAT_SECONDS = 1.0
HIGH_WATER_MARK = 100_000
_REQUESTS_AT_ONCE_MAX = 100
_SUBSCRIPTIONS_AT_ONCE_MAX = 1_000
SUBSCRIPTIONS_MAX = 10_000
"""Prefixes that processes on the bus subscribe to; further ones get events, but do not count as reached."""
_REPLIES_QUEUED_MAX = 32
_REQUEST_BYTES_MAX = 64 * 1024
_LINGER_MS = 500
_RETRY_SECONDS = 0.1

_Socket = zmq.Socket[bytes]

log = logger("gateway.bus")


class BusOutlet:
    """Publishes on `bus.publish`. Needs a running event loop from `open` to `close`."""

    def __init__(
        self,
        context: zmq.Context[_Socket],
        config: Bus,
        curve: Curve,
        *,
        unix_ns: Callable[[], int],
        limit: ConnectionLimit,
        incarnation: int,
    ) -> None:
        self.subscribed: set[bytes] = set()
        """The prefixes that processes on the bus subscribe to."""
        self._context = context
        self._config = config
        self._curve = curve
        self._unix_ns = unix_ns
        self._limit = limit
        self._monitors: list[AcceptMonitor] = []
        self._loop = asyncio.get_running_loop()
        self._outlet = Outlet(incarnation=incarnation, name=f"gateway:{socket_module.gethostname()}"[:64])
        self._socket: _Socket | None = None
        self._router: _Socket | None = None
        self._replay = ""
        self.reopen_failures = 0
        """How often the sockets could not be opened again."""
        self._is_waiting = False
        self._retrying: asyncio.TimerHandle | None = None

    def reopen(self) -> None:
        """Open the sockets as soon as their addresses, which this process had, are free."""
        self._retrying = None
        try:
            self.open()
        except BusError as error:
            if not self._is_waiting:
                log.warning("bus_publish_unavailable", endpoint=self._config.publish, reason=str(error))
            self._is_waiting = True
            self.reopen_failures += 1
            self._retrying = self._loop.call_later(_RETRY_SECONDS, self.reopen)
        else:
            if self._is_waiting:
                log.info("bus_publish_reopened", endpoint=self._config.publish)
            self._is_waiting = False

    def open(self) -> None:
        """Bind the sockets. Raises BusError: an endpoint is not valid on this machine, or in use."""
        config = self._config
        publisher, router = self._context.socket(zmq.XPUB), self._context.socket(zmq.ROUTER)
        try:
            publisher.sndhwm = HIGH_WATER_MARK
            # Without it, a socket at its mark drops in silence; and a second subscriber would not be noticed.
            publisher.setsockopt(zmq.XPUB_NODROP, 1)
            publisher.setsockopt(zmq.XPUB_VERBOSE, 1)
            if config.heartbeat_seconds:
                publisher.setsockopt(zmq.HEARTBEAT_IVL, round(config.heartbeat_seconds * 1000))
                publisher.setsockopt(zmq.HEARTBEAT_TIMEOUT, round(config.heartbeat_timeout_seconds * 1000))
            router.sndhwm = _REPLIES_QUEUED_MAX
            router.setsockopt(zmq.ROUTER_MANDATORY, 1)  # else it drops in silence what it cannot queue
            for one in (publisher, router):
                one.setsockopt(zmq.MAXMSGSIZE, _REQUEST_BYTES_MAX)
                one.setsockopt(zmq.HANDSHAKE_IVL, round(HANDSHAKE_SECONDS * 1000))
                self._monitors.append(AcceptMonitor(one, self._limit))
                one.linger = _LINGER_MS
                one.setsockopt(zmq.IPV6, 1)
                self._curve.configure_server(one)
            publisher.bind(config.publish)
            router.bind(replay_endpoint(config.publish, config.publish_replay))
        except zmq.ZMQError as error:
            self._close_monitors()
            publisher.close(linger=0)
            router.close(linger=0)
            raise BusError(f"bus.publish: cannot bind {config.publish} ({error})") from error
        bound = re.sub(r"\[::ffff:([\d.]+)\]", r"\1", router.getsockopt_string(zmq.LAST_ENDPOINT))
        self._replay = re.sub(r"^tcp://(0\.0\.0\.0|\[::\]):", f"tcp://{socket_module.gethostname()}:", bound)
        self._socket, self._router = publisher, router
        self._loop.add_reader(publisher.FD, self.poll)
        self._loop.add_reader(router.FD, self.poll)

    def close(self) -> None:
        """Say that this was all, and close."""
        if self._retrying is not None:
            self._retrying.cancel()
        if self._socket is None or self._router is None:
            return
        self._beat(interval=0)
        self._close_monitors()
        for one in (self._socket, self._router):
            self._loop.remove_reader(one.FD)
            one.close()
        self._socket = self._router = None
        self.subscribed.clear()

    def _close_monitors(self) -> None:
        for monitor in self._monitors:
            monitor.close()
        self._monitors.clear()

    # -- events --------------------------------------------------------------------------------

    def carries(self, channel: str) -> bool:
        """Return whether clients' events on a channel are published on the bus."""
        return is_topic(channel) and any(matches(pattern, channel) for pattern in self._config.publish_channels)

    def reaches(self, channel: str) -> bool:
        """Return whether a process on the bus subscribes to a channel."""
        self._take_subscriptions()
        name = channel.encode()
        return self._socket is not None and any(name.startswith(prefix) for prefix in self.subscribed)

    def send(self, channel: str, payload: bytes, *, mandatory: bool) -> bool:
        """Publish an event; return whether a process on the bus subscribes to it and its queue has room.

        If not, a `mandatory` event is not sent at all. Others are kept, for processes that ask later."""
        reaches = self.reaches(channel)
        if self._socket is None or not self._outlet.has_room(channel) or (mandatory and not reaches):
            return False
        frames = self._outlet.message(channel, payload, sent_ns=self._unix_ns())
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            if mandatory:
                return False
            reaches = False
        self._outlet.sent(frames)
        return reaches

    # -- sockets -------------------------------------------------------------------------------

    def beat(self) -> None:
        """Send a heartbeat; to be called every `HEARTBEAT_SECONDS`."""
        self.poll()
        for monitor in self._monitors:
            monitor.poll()
        self._beat(interval=HEARTBEAT_SECONDS)

    def _beat(self, *, interval: float) -> None:
        if self._socket is not None:
            for frames in self._outlet.heartbeat(interval=interval, replay=self._replay, replay_key=self._curve.public):
                with suppress(zmq.Again):
                    self._socket.send_multipart(frames, zmq.NOBLOCK)

    def poll(self) -> None:
        """Read subscriptions, answer replay requests."""
        self._take_subscriptions()
        router = self._router
        if router is None:
            return
        for _ in range(_REQUESTS_AT_ONCE_MAX):
            try:
                asker, *request = router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            reply = self._outlet.reply(request)
            if reply is not None:
                with suppress(zmq.ZMQError):  # it is gone, or reads nothing: it asks again
                    router.send_multipart([asker, *reply], zmq.NOBLOCK)
        self._loop.call_soon(self.poll)  # the FD is edge-triggered

    def _take_subscriptions(self) -> None:
        """Read who subscribes; a new subscriber gets a heartbeat before the next event."""
        socket = self._socket
        if socket is None:
            return
        new = False
        for _ in range(_SUBSCRIPTIONS_AT_ONCE_MAX):
            try:
                message = socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                break
            if message[:1] == b"\x01":
                if len(self.subscribed) < SUBSCRIPTIONS_MAX:
                    self.subscribed.add(message[1:])
                new = True
            elif message[:1] == b"\x00":
                self.subscribed.discard(message[1:])
        else:
            self._loop.call_soon(self.poll)  # the FD is edge-triggered
        if new:
            self._beat(interval=HEARTBEAT_SECONDS)


def replay_endpoint(publish: str, replay: str) -> str:
    """Return where a ROUTER for replay is bound: beside `publish`, unless the settings say it."""
    if replay or not publish.startswith("tcp://"):
        return replay or f"{publish}.replay"
    return f"{publish.rpartition(':')[0]}:*"
