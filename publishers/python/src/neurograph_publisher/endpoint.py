"""One endpoint of a publisher: its queue and its subscriptions."""

import re
import time
from collections import deque
from contextlib import suppress
from functools import partial
from itertools import islice

import zmq
from zmq.utils.monitor import parse_monitor_message

from neurograph_publisher.checks import PublisherError
from neurograph_publisher.curve import Keys


Socket = zmq.Socket[bytes]
Context = zmq.Context[Socket]

_SUBSCRIPTIONS_PER_CALL = 1000
_MEND_SECONDS = 1.0
_PING_MS = 5_000
_FAILED = zmq.Event.HANDSHAKE_FAILED_NO_DETAIL | zmq.Event.HANDSHAKE_FAILED_PROTOCOL | zmq.Event.HANDSHAKE_FAILED_AUTH
_UP = zmq.Event.HANDSHAKE_SUCCEEDED
_MONITORED = _FAILED | _UP | zmq.Event.DISCONNECTED | zmq.Event.CONNECT_RETRIED | zmq.Event.CONNECTED
# As plain numbers, and frame by frame below: publishing spends most of its time in these calls.
_EVENTS, _READABLE = int(zmq.EVENTS), int(zmq.POLLIN)
_LAST, _MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)


def bound_address(socket: zmq.Socket[bytes]) -> str:
    """Return a socket's address. ZeroMQ shows IPv4 on a socket for both families as ``[::ffff:127.0.0.1]``; this is undone."""
    address: str = socket.getsockopt_string(zmq.LAST_ENDPOINT)
    return re.sub(r"\[::ffff:([\d.]+)\]", r"\1", address)


def announced(address: str) -> str:
    """Return a bound address for heartbeats: ``*`` in it means the host to which the gateway is connected already."""
    return re.sub(r"^tcp://(0\.0\.0\.0|\[::\]):", "tcp://*:", address)


class Endpoint:
    """An XPUB socket. ZeroMQ's are not thread-safe: the publisher's lock is held for every call.

    Raises:
        PublisherError: The address cannot be connected or bound.
    """

    def __init__(
        self,
        context: Context,
        address: str,
        *,
        bind: bool,
        high_water_mark: int,
        linger_seconds: float,
        keys: Keys | None,
        named: bool = False,
    ) -> None:
        self.named = named
        """Whether it is one address of a name."""
        self.connected = False
        """Whether a gateway is connected, if this end connects; ZeroMQ keeps subscriptions and queue while none is."""
        self.subscribed: set[bytes] = set()
        """The prefixes subscribed to; changed only under the lock, read without it."""
        self.heartbeat_due = False
        """Whether there was a new subscription since this was last set to False."""
        self.refused = 0
        """Failed handshakes, if this end connects."""
        self._received: deque[bytes] = deque()
        self.asked = address
        self._given_up: float | None = None
        """Since when ZeroMQ has not tried to connect again, in monotonic seconds."""
        self._speaks_zmtp = bind
        """Whether the newest connection completed its handshake; always true if this end binds."""
        self._socket = context.socket(zmq.XPUB)
        self._socket.sndhwm = high_water_mark
        self._socket.setsockopt(zmq.IPV6, 1)
        self._socket.linger = round(linger_seconds * 1000)
        # Without NODROP a PUB at its high-water mark drops messages silently; with VERBOSE a second subscriber to
        # the same topics, or one that subscribes again, is noticed, too.
        self._socket.setsockopt(zmq.XPUB_NODROP, 1)
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        if named:  # a gateway may vanish with its host, and its queue must not stay
            self._socket.setsockopt(zmq.HEARTBEAT_IVL, _PING_MS)
            self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3 * _PING_MS)
        if keys is not None:
            (keys.serve if bind else keys.approach)(self._socket)
        else:
            # With a domain, ZeroMQ refuses what does not speak ZMTP 2 or later. Otherwise it assumes ZMTP 1, which has no
            # subscriptions, and makes one; it aborts the process if the socket is just being closed.
            self._socket.setsockopt_string(zmq.ZAP_DOMAIN, "publisher")
        self._monitor = None if bind else self._socket.get_monitor_socket(int(_MONITORED))
        try:
            (self._socket.bind if bind else self._socket.connect)(address)
        except zmq.ZMQError as error:
            raise PublisherError(f"{address}: {error}") from error
        self.address: str = bound_address(self._socket)
        """The address of the argument, with the actual port in place of ``*``."""
        self.descriptor = int(self._socket.getsockopt(zmq.FD))
        """A file descriptor that becomes readable when subscriptions may have arrived."""

    def send(self, *frames: bytes) -> bool:
        """Queue a message; return False if that is not possible at the high-water mark."""
        try:
            for frame in frames[:-1]:
                self._socket.send(frame, _MORE)
            self._socket.send(frames[-1], _LAST)
        except zmq.Again:
            return False
        except BaseException:
            # A signal handler raised, perhaps between two frames. Unless the message is ended here, the frames
            # of the next one become part of it. The gateway rejects the torn message.
            with suppress(zmq.ZMQError):
                self._socket.send(b"", _LAST)
            raise
        return True

    def take_subscriptions(self) -> None:
        """Read subscriptions, which would otherwise fill ZeroMQ's queue."""
        if not int(self._socket.getsockopt(_EVENTS)) & _READABLE and not self._received:
            return
        # A single call, which no signal handler interrupts: so an exception of one loses no subscription.
        messages = iter(partial(self._socket.recv, zmq.NOBLOCK), None)
        with suppress(zmq.Again):
            self._received.extend(islice(messages, _SUBSCRIPTIONS_PER_CALL))
        while self._received:
            message = self._received[0]
            if message[:1] == b"\x01":
                self.subscribed.add(message[1:])
                self.heartbeat_due = True
            elif message[:1] == b"\x00":
                self.subscribed.discard(message[1:])
            self._received.popleft()

    def reaches(self, topic: bytes) -> bool:
        """Whether there is a subscription to this topic, or to a prefix of it."""
        return any(topic[:length] in self.subscribed for length in range(len(topic) + 1))

    def mend(self) -> None:
        """Connect again if ZeroMQ has stopped trying: it does so when the other end refuses a handshake or
        violates the protocol, for example if only one end uses CURVE.
        """
        now = time.monotonic()
        self._read_monitor(now)
        if self._given_up is not None and now - self._given_up >= _MEND_SECONDS:
            self._given_up = None
            with suppress(zmq.ZMQError):
                self._socket.disconnect(self.asked)
            with suppress(zmq.ZMQError):  # the name cannot be resolved now
                self._socket.connect(self.asked)

    def close(self) -> None:
        """Send queued messages in the background, for at most the linger time.

        Nothing is sent if the other end does not speak ZMTP: ZeroMQ must not connect to it again for that.
        """
        self._read_monitor(time.monotonic())
        if not self._speaks_zmtp:
            self._socket.linger = 0
        if self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close(linger=0)
        self._socket.close()

    def _read_monitor(self, now: float) -> None:
        if self._monitor is None:
            return
        with suppress(zmq.Again):
            while True:
                event = parse_monitor_message(self._monitor.recv_multipart(zmq.NOBLOCK))["event"]
                self.refused += bool(event & _FAILED)
                self._given_up = now if event == zmq.Event.DISCONNECTED else None
                if event in {zmq.Event.DISCONNECTED, _UP}:
                    self.connected = event == _UP
                if event in {zmq.Event.CONNECTED, _UP}:
                    self._speaks_zmtp = event == _UP
