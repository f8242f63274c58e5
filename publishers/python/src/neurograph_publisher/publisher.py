"""One publisher: events in, ZeroMQ messages out, and every drop counted."""

import os
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import orjson
import zmq

from neurograph_publisher import envelope, events


_is_topic = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*").fullmatch
_TOPIC_BYTES_MAX = 128
_HIGH_WATER_MARK_MAX = 2**31 - 1
_LINGER_SECONDS_MAX = 3600.0
_LOOK_SECONDS = 0.005
_SUBSCRIPTIONS_PER_CALL = 1000
_DEFERRED_MAX = 1000

_Socket = zmq.Socket[bytes]


class PublisherError(Exception):
    """An event that cannot be published; the text says what to do about it."""


class Publisher(events.StandardChannels):
    """Publishes events on a bus.

    Either `connect` to the gateway's endpoint, or `bind` one that gateways connect to; both take
    one endpoint or several, and each endpoint has a queue of its own. Messages carry an envelope,
    numbered per topic.

    Publishing never waits, so it may be called from asyncio as well as from any thread. A signal
    handler or a finaliser that interrupts another call on its own thread may publish and close,
    too: that is done when the interrupted call ends, or else with the next one. Beyond 1,000 such
    messages they count as dropped.

    Where a subscriber is so far behind that `high_water_mark` messages wait for it (0 = no limit),
    the message is not queued at that endpoint: `publish` returns False and `dropped` counts it. Its
    number stays used, so that the gateway sees the hole. Subscribers of one bound endpoint share
    this fate: give each gateway an endpoint of its own, and a stalled one costs the others nothing.
    Without a subscriber there is nobody to queue for: ZeroMQ lets the message go.

    Closing waits up to `linger_seconds` for what is queued. Do not share one over a fork.

    Raises:
        PublisherError: Neither or both of `connect` and `bind`, or an endpoint or a number that
            cannot be used.
    """

    def __init__(
        self,
        connect: str | Sequence[str] = (),
        *,
        bind: str | Sequence[str] = (),
        high_water_mark: int = 100_000,
        linger_seconds: float = 1.0,
    ) -> None:
        if bool(connect) == bool(bind):
            raise PublisherError("give either connect=… or bind=…")
        if not 0 <= high_water_mark <= _HIGH_WATER_MARK_MAX:
            raise PublisherError(
                f"high_water_mark: {high_water_mark} is not within 0 to {_HIGH_WATER_MARK_MAX}"
            )
        if not 0 <= linger_seconds <= _LINGER_SECONDS_MAX:
            raise PublisherError(
                f"linger_seconds: {linger_seconds} is not within 0 to {_LINGER_SECONDS_MAX:.0f}"
            )
        self.incarnation = secrets.randbits(64)
        self.published = 0
        """Messages handed to ZeroMQ for every endpoint."""
        self.dropped = 0
        """Messages not sent to every endpoint because a subscriber was at the high-water mark."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._busy = threading.local()
        self._closed = False
        self._close_asked = False
        self._deferred: deque[tuple[str, bytes]] = deque()
        self._sequences: dict[str, int] = {}
        self._context: zmq.Context[_Socket] = zmq.Context()
        self._subscribed: dict[_Socket, set[bytes]] = {}  # also the list of the sockets
        given = connect or bind
        for endpoint in [given] if isinstance(given, str) else given:
            socket = self._context.socket(zmq.XPUB)
            socket.sndhwm = high_water_mark
            socket.linger = round(linger_seconds * 1000)
            # Without this a PUB at its mark drops in silence.
            socket.setsockopt(zmq.XPUB_NODROP, 1)
            try:
                (socket.connect if connect else socket.bind)(endpoint)
            except zmq.ZMQError as error:
                self._context.destroy(linger=0)
                raise PublisherError(f"{endpoint}: {error}") from error
            self._subscribed[socket] = set()

    @property
    def endpoint(self) -> str:
        """The endpoint bound or connected last, with its real port where ``*`` was asked for."""
        return list(self._subscribed)[-1].getsockopt_string(zmq.LAST_ENDPOINT)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def publish(
        self,
        topic: str,
        data: Any,
        event_type: str | None = None,
        timestamp: datetime | str | None = None,
    ) -> bool:
        """Publish JSON on a topic: as an event object if `event_type` is given, else as it is.

        Returns whether the message was handed over; see the class for when it is not.

        Raises:
            PublisherError: The topic or the timestamp is not one, the data is not JSON, or the
                publisher is closed or was made in another process.
        """
        _check_topic(topic)
        if event_type is None and timestamp is not None:
            raise PublisherError("a timestamp belongs to an event: give its event_type, too")
        try:
            if event_type is not None:
                data = events.event(event_type, data, timestamp=timestamp)
            payload = orjson.dumps(data)
        except (TypeError, ValueError) as error:  # orjson.JSONEncodeError is a TypeError
            raise PublisherError(f"{topic}: {error}") from error
        if self._interrupted():
            return self._defer(topic, payload)
        with self._exclusive():
            self._take_subscriptions()
            return self._hand_over(topic, payload)

    def wait_for_subscriber(self, timeout_seconds: float) -> bool:
        """Wait until every endpoint has a subscriber; who subscribes later misses what came before.

        Not for signal handlers: what they interrupt might have to go on first.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            with self._exclusive():
                self._take_subscriptions()
                if all(self._subscribed.values()):
                    return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, _LOOK_SECONDS))

    def close(self) -> None:
        """Send what is queued, for as long as the linger allows, and close; twice is once."""
        if self._pid != os.getpid():
            return
        if self._interrupted():
            self._close_asked = True
            return
        self._busy.now = True
        try:
            with self._lock:
                if self._closed:
                    return
                self._closed = True
                self._send_deferred()
                for socket in self._subscribed:
                    socket.close()
        finally:
            self._busy.now = False
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _interrupted(self) -> bool:
        """Whether this call interrupts one that holds the sockets, or is about to."""
        return getattr(self._busy, "now", False)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the sockets; who interrupts the holder on its own thread can tell."""
        if self._pid != os.getpid():  # before the lock: at a fork, another thread may have held it
            raise PublisherError("this publisher was made before a fork; make one in each process")
        if self._interrupted():
            raise PublisherError("a signal handler may publish and close, but not wait")
        self._busy.now = True
        try:
            with self._lock:
                if self._closed:
                    raise PublisherError("this publisher is closed")
                yield
                self._send_deferred()
        finally:
            self._busy.now = False
            if self._close_asked:
                self.close()

    def _defer(self, topic: str, payload: bytes) -> bool:
        """Leave a message to the call that this one interrupts: waiting for it would be for ever."""
        if self._closed:
            raise PublisherError("this publisher is closed")
        if len(self._deferred) >= _DEFERRED_MAX:
            self.dropped += 1
            return False
        self._deferred.append((topic, payload))
        return True

    def _send_deferred(self) -> None:
        while self._deferred:
            self._hand_over(*self._deferred.popleft())

    def _hand_over(self, topic: str, payload: bytes) -> bool:
        sequence = self._sequences[topic] = self._sequences.get(topic, 0) + 1
        frame = envelope.pack(
            incarnation=self.incarnation, sequence=sequence, time_ns=time.time_ns()
        )
        everywhere = True
        for socket in self._subscribed:
            try:
                socket.send_multipart([topic.encode(), payload, frame], zmq.NOBLOCK)
            except zmq.Again:
                everywhere = False
            except BaseException:
                # A signal handler raised, perhaps between two frames. Unless the message is ended,
                # the next one is taken for more of it. What this leaves is rejected by the gateway.
                with suppress(zmq.ZMQError):
                    socket.send(b"", zmq.NOBLOCK)
                raise
        if everywhere:
            self.published += 1
        else:
            self.dropped += 1
        return everywhere

    def _take_subscriptions(self) -> None:
        """Read who subscribes; unread, these messages would pile up."""
        for socket, subscribed in self._subscribed.items():
            for _ in range(_SUBSCRIPTIONS_PER_CALL):
                if not socket.poll(0, zmq.POLLIN):
                    break
                message = socket.recv(zmq.NOBLOCK)
                if message[:1] == b"\x01":
                    subscribed.add(message[1:])
                elif message[:1] == b"\x00":
                    subscribed.discard(message[1:])


def _check_topic(topic: object) -> None:
    if not isinstance(topic, str) or len(topic) > _TOPIC_BYTES_MAX or not _is_topic(topic):
        raise PublisherError(
            f"{topic!r} is not a topic: text, segments of [A-Za-z0-9_-] joined by dots, "
            f"at most {_TOPIC_BYTES_MAX} bytes"
        )
