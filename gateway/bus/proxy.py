"""libzmq's own proxy between publishers and gateways: an XSUB, an XPUB, and a ROUTER for replay.

A thread runs zmq_proxy_steerable, which moves messages without Python. It owns the XSUB and the XPUB; the event loop
steers it, hears the publishers' heartbeats as one more subscriber, and passes on replay requests."""

import asyncio
import re
import secrets
import socket as socket_module
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec
import zmq
from zmq.utils.monitor import parse_monitor_message

from gateway.bus.connection_limit import ConnectionLimit
from gateway.bus.connections import Connections
from gateway.bus.context import Context, make_context
from gateway.bus.curve import Curve
from gateway.bus.framing import Frames
from gateway.bus.outlet import replay_endpoint
from gateway.bus.replay import ReplayClient
from gateway.bus.subscriber import FAILED, MONITORED, BusError, configure
from gateway.config.model import Config
from gateway.core.ingest import publishers
from gateway.core.ingest.forwarding import Forwarding
from gateway.core.ingest.publishers import Heartbeat


HEARTBEAT_SECONDS = 1.0
_OWN, _OUT, _STEERING = "inproc://own", "inproc://out", "inproc://steering"
_AT_ONCE_MAX = 100
_REPLIES_QUEUED_MAX = 32
_REQUEST_BYTES_MAX = 64 * 1024
_LINGER_MS = 1_000
_STEERED_MS = 5_000
_GIVEN_UP_SECONDS = 1.0
_RETRIES = {zmq.Event.CONNECTED, zmq.Event.CONNECT_DELAYED, zmq.Event.CONNECT_RETRIED}

_Socket = zmq.Socket[bytes]


@dataclass(slots=True)
class Traffic:
    """What the proxy has moved: frames, of which an event has two or three, and bytes."""

    frames_received: int = 0
    bytes_received: int = 0
    frames_sent: int = 0
    bytes_sent: int = 0


class BusProxy:
    """Raises BusError: an endpoint cannot be bound. Raises ConfigError: a CURVE key cannot be used.

    Needs a running event loop until `close`, and `poll` every `HEARTBEAT_SECONDS`. `on_failure` is called if the
    thread ends by itself."""

    def __init__(self, config: Config, *, now_ns: Callable[[], int], on_failure: Callable[[str], None]) -> None:
        self.forwarding = Forwarding()
        self.traffic = Traffic()
        self.refused = 0
        """Failed handshakes."""
        self._config = config
        self._now_ns = now_ns
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._incarnation = secrets.randbits(64)
        self._context: Context = make_context()
        self._curve = Curve(self._context, config.bus)
        self.limit = ConnectionLimit(config.bus.connections_max)
        self._changes: list[tuple[str, str]] = []
        """``connect`` or ``disconnect`` and an endpoint, for the thread to do."""
        self._ending = False
        self._up: set[str] = set()
        """The endpoints of publishers that are connected to."""
        self._asked: set[str] = set()
        """The endpoints to connect to."""
        self._given_up: dict[str, float] = {}
        """Endpoints that libzmq does not connect to again, and since when."""
        self._replay_client = ReplayClient(self._context, config.bus, self._curve, on_replies=self._on_replies)
        self._base = Traffic()
        self._sides: list[_Side] = []
        try:
            self._open()
        except zmq.ZMQError as error:
            for side in self._sides:
                side.close()  # the loop would abort the process if what it watches were closed below it
            self._context.destroy(linger=0)
            raise BusError(f"{self._opening} cannot be bound ({error})") from error
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    def _open(self) -> None:
        """Make the sockets of the thread, bind them, then connect those of the event loop to them.
        Raises zmq.ZMQError: what `_opening` says cannot be bound."""
        self._make()
        self._bind()
        # Sockets have the options that they had when they were bound: from now on this one is a client.
        self._may_connect = self._curve.configure_client(self._xsub) if self._config.connect else False
        self._connect_own()

    def _make(self) -> None:
        config, context = self._config, self._context
        self._xsub, self._xpub = context.socket(zmq.XSUB), context.socket(zmq.XPUB)
        self._router, self._steered = context.socket(zmq.ROUTER), context.socket(zmq.REP)
        configure(self._xsub, config.bus)
        for one in (self._xpub, self._router):
            configure(one, config.bus)
            one.linger = _LINGER_MS
            self._curve.configure_server(one)
        self._xpub.sndhwm = config.proxy.send_hwm
        # Each new gateway's subscription goes on to the publishers, which then send their heartbeats.
        self._xpub.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._router.sndhwm = _REPLIES_QUEUED_MAX
        self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)  # else it drops in silence what it cannot queue
        self._router.setsockopt(zmq.MAXMSGSIZE, _REQUEST_BYTES_MAX)
        self._sides = [_Side(self, one) for one in (self._xsub, self._xpub)]

    def _bind(self) -> None:
        config = self._config
        self._opening = f"bind: {config.bind}"
        if config.bind:
            self._curve.configure_server(self._xsub)
            self._xsub.bind(config.bind)
        self._opening = f"proxy.publish: {config.proxy.publish}"
        self._xpub.bind(config.proxy.publish)
        where = replay_endpoint(config.proxy.publish, config.proxy.replay)
        self._opening = f"proxy.replay: {where}"
        self._router.bind(where)
        bound = re.sub(r"\[::ffff:([\d.]+)\]", r"\1", self._router.getsockopt_string(zmq.LAST_ENDPOINT))
        # Gateways know the host at which they are connected to the proxy.
        self.replay = re.sub(r"^tcp://.*:", "tcp://*:", bound)
        self.publish = re.sub(r"\[::ffff:([\d.]+)\]", r"\1", self._xpub.getsockopt_string(zmq.LAST_ENDPOINT))
        self._opening = "inproc"
        self._xsub.bind(_OWN)
        self._xpub.bind(_OUT)
        self._steered.bind(_STEERING)

    def _connect_own(self) -> None:
        config, context = self._config, self._context
        self._own, self._heartbeats = context.socket(zmq.XPUB), context.socket(zmq.SUB)
        self._own.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._own.connect(_OWN)
        self._heartbeats.subscribe(publishers.TOPIC)
        self._heartbeats.connect(_OUT)
        self._steering = context.socket(zmq.REQ)
        self._steering.rcvtimeo = self._steering.sndtimeo = _STEERED_MS
        self._steering.connect(_STEERING)
        for one in (self._own, self._heartbeats, self._router):
            one.rcvhwm = config.bus.receive_hwm
            self._loop.add_reader(one.FD, self.poll)

    # -- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        reason = ""
        try:
            while not self._ending:
                zmq.proxy_steerable(self._xsub, self._xpub, None, self._steered)
                while self._changes:
                    act, endpoint = self._changes.pop(0)
                    with suppress(zmq.ZMQError):
                        (self._xsub.connect if act == "connect" else self._xsub.disconnect)(endpoint)
        except zmq.ZMQError as error:
            reason = str(error)
        if not self._ending:
            self._loop.call_soon_threadsafe(self._on_failure, f"the proxy has ended: {reason}")

    def _steer(self, command: bytes) -> list[bytes]:
        self._steering.send(command)
        return self._steering.recv_multipart()

    def _interrupt(self) -> None:
        """Let the thread do what is in `_changes`; it takes less than a millisecond, and messages wait."""
        self._steer(b"PAUSE")
        self._count()
        self._base = Traffic(*(getattr(self.traffic, name) for name in Traffic.__slots__))
        self._steer(b"TERMINATE")

    def _count(self) -> None:
        found = [int.from_bytes(one, "little") for one in self._steer(b"STATISTICS")]
        base = self._base
        self.traffic = Traffic(
            base.frames_received + found[0],
            base.bytes_received + found[1],
            base.frames_sent + found[6],
            base.bytes_sent + found[7],
        )

    # -- publishers that are connected to ------------------------------------------------------

    def connect(self, endpoint: str) -> None:
        if self._may_connect:
            self._asked.add(endpoint)
            self._change("connect", endpoint)

    def disconnect(self, endpoint: str) -> None:
        self._given_up.pop(endpoint, None)
        self._asked.discard(endpoint)
        self._change("disconnect", endpoint)

    def is_connected(self, endpoint: str) -> bool:
        """Tell whether there is a connection to a publisher's endpoint."""
        return endpoint in self._up

    def _change(self, act: str, endpoint: str) -> None:
        self._changes.append((act, endpoint))
        self._interrupt()

    @property
    def publishers(self) -> int:
        """Connections with publishers."""
        return self._sides[0].peers

    @property
    def gateways(self) -> int:
        """Connections with gateways, and whatever else subscribes."""
        return self._sides[1].peers

    def on_event(self, side: "_Side", event: int, endpoint: str) -> None:
        """Note what the monitor of a socket says."""
        self.refused += bool(event & FAILED)
        if side is not self._sides[0]:
            return
        if event == zmq.Event.HANDSHAKE_SUCCEEDED:
            self._up.add(endpoint)
        elif event == zmq.Event.DISCONNECTED:
            self._up.discard(endpoint)
            if endpoint in self._asked:
                self._given_up[endpoint] = self._loop.time()
        elif event in _RETRIES:
            self._given_up.pop(endpoint, None)

    def _mend(self) -> None:
        """Connect again where libzmq does not, as after a message that is too large."""
        late = self._loop.time() - _GIVEN_UP_SECONDS
        for endpoint in [one for one, since in self._given_up.items() if since < late]:
            del self._given_up[endpoint]
            self._changes.append(("disconnect", endpoint))
            self._change("connect", endpoint)

    # -- heartbeats and replay -----------------------------------------------------------------

    def tick(self) -> None:
        """Count, send a heartbeat, and give up what takes too long."""
        for side in self._sides:
            side.poll()
        self._mend()
        self._count()
        self.forwarding.expire(now_ns=self._now_ns())
        self._replay_client.poll()
        self._curve.poll()
        self._beat(HEARTBEAT_SECONDS)
        self.poll()

    def poll(self) -> None:
        """Read subscriptions, publishers' heartbeats and gateways' requests."""
        new, more = False, False
        for socket, act in ((self._own, None), (self._heartbeats, self._hear), (self._router, self._ask)):
            for _ in range(_AT_ONCE_MAX):
                try:
                    frames = socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
                if act is None:
                    new |= frames[0][:1] == b"\x01"
                else:
                    act(frames)
            else:
                more = True
        if new:
            self._beat(HEARTBEAT_SECONDS)
        if more:
            self._loop.call_soon(self.poll)  # the FDs are edge-triggered

    def _beat(self, interval: float) -> None:
        said = Heartbeat(
            incarnation=f"{self._incarnation:016x}",
            interval=interval,
            name=f"proxy:{socket_module.gethostname()}"[:64],
            replay=self.replay,
            replay_key=self._curve.public,
            proxy=True,
        )
        with suppress(zmq.Again):
            self._own.send_multipart([publishers.TOPIC, msgspec.json.encode(said)], zmq.NOBLOCK)

    def _hear(self, frames: Frames) -> None:
        with suppress(ValueError):  # gateways reject it, and say why
            if len(frames) == 2:
                self.forwarding.hear(publishers.parse(frames[1]), now_ns=self._now_ns())

    def _ask(self, frames: Frames) -> None:
        while self._heartbeats.poll(0):  # a gateway asks because of one that may still wait here
            self._hear(self._heartbeats.recv_multipart())
        request = self.forwarding.ask(frames, now_ns=self._now_ns())
        if request is not None:
            self._replay_client.send_request(request)

    def _on_replies(self, replies: list[Frames]) -> None:
        for reply in replies:
            answer = self.forwarding.answer(reply)
            if answer is not None:
                with suppress(zmq.ZMQError):  # the gateway is gone, or reads nothing: it asks again
                    self._router.send_multipart(answer, zmq.NOBLOCK)

    def close(self) -> None:
        """Say that this was all, and close."""
        for one in (self._own, self._heartbeats, self._router):
            self._loop.remove_reader(one.FD)
        if self._thread.is_alive():
            self._beat(0)
            self._steer(b"STATISTICS")  # the thread has looked at its sockets since
            self._ending = True
            self._steer(b"TERMINATE")
            self._thread.join()
        self._replay_client.close()
        self._curve.close()
        for side in self._sides:
            side.close()
        for one in (self._own, self._heartbeats, self._steering, self._steered):
            one.close(linger=0)
        for one in (self._xsub, self._xpub, self._router):
            one.close()
        self._context.term()


class _Side:
    """The connections of the XSUB or the XPUB, from its monitor."""

    def __init__(self, proxy: BusProxy, watched: _Socket) -> None:
        self._proxy = proxy
        self._watched = watched
        self._connections = Connections()
        self._monitor = watched.get_monitor_socket(int(MONITORED))
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._monitor.FD, self.poll)

    @property
    def peers(self) -> int:
        return self._connections.peers

    def poll(self) -> None:
        with suppress(zmq.Again):
            while True:
                found = parse_monitor_message(self._monitor.recv_multipart(zmq.NOBLOCK))
                event, value = found["event"], found["value"]
                endpoint = re.sub(r"\[::ffff:([\d.]+)\]", r"\1", found["endpoint"].decode())
                if event == zmq.Event.HANDSHAKE_SUCCEEDED:
                    self._connections.succeeded()
                elif event & FAILED:
                    self._connections.failed()
                elif event == zmq.Event.DISCONNECTED:
                    self._connections.closed(value)
                    self._proxy.limit.closed(self, value)
                elif event in {zmq.Event.CONNECTED, zmq.Event.ACCEPTED}:
                    self._connections.opened(value)
                if event == zmq.Event.ACCEPTED:
                    self._proxy.limit.opened(self, found["endpoint"].decode(), value)
                self._proxy.on_event(self, event, endpoint)

    def close(self) -> None:
        self._loop.remove_reader(self._monitor.FD)
        self._watched.disable_monitor()
        self._monitor.close(linger=0)
