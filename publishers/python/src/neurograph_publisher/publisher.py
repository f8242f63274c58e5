"""One publisher: events in, ZeroMQ messages out, and every drop counted."""

import os
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import orjson
import zmq

from neurograph_publisher import envelope, events


_is_topic = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*").fullmatch
_TOPIC_BYTES_MAX = 128
_LOOK_SECONDS = 0.005
_DEFERRED_MAX = 1000


class PublisherError(Exception):
    """An event that cannot be published; the text says what to do about it."""


class Publisher:
    """Publishes events on a bus.

    Either `connect` to the gateway's endpoint, or `bind` one that gateways connect to; both take
    one endpoint or several. Messages carry an envelope, numbered per topic.

    Publishing never waits, so it may be called from asyncio as well as from any thread, and from a
    signal handler or a finaliser that interrupts another call of it: then the message goes out when
    that call does (or, beyond 1,000 of them, counts as dropped). Where a
    subscriber is so far behind that `high_water_mark` messages wait for it, the message is not
    queued for anyone: `publish` returns False and `dropped` counts it. Its number stays used, so
    that the gateway sees the hole. Without a subscriber there is nobody to queue for: ZeroMQ lets
    the message go.

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
        self.incarnation = secrets.randbits(64)
        self.published = 0
        """Messages handed to ZeroMQ."""
        self.dropped = 0
        """Messages not sent because a subscriber was at the high-water mark."""
        self._lock = threading.Lock()
        self._busy = threading.local()
        self._deferred: deque[tuple[str, bytes]] = deque()
        self._pid = os.getpid()
        self._sequences: dict[str, int] = {}
        self._subscribed: set[bytes] = set()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        if high_water_mark < 0 or linger_seconds < 0:
            self._context.destroy(linger=0)
            raise PublisherError("high_water_mark and linger_seconds: 0 or more")
        self._socket.sndhwm = high_water_mark
        self._socket.linger = round(linger_seconds * 1000)
        # Without this a PUB at its mark drops in silence.
        self._socket.setsockopt(zmq.XPUB_NODROP, 1)
        open_one = self._socket.connect if connect else self._socket.bind
        given = connect or bind
        for endpoint in [given] if isinstance(given, str) else given:
            try:
                open_one(endpoint)
            except zmq.ZMQError as error:
                self._context.destroy(linger=0)
                raise PublisherError(f"{endpoint}: {error}") from error

    @property
    def endpoint(self) -> str:
        """The endpoint bound or connected last, with its real port where ``*`` was asked for."""
        return self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._socket.closed

    def publish(
        self,
        topic: str,
        data: Any,
        *,
        event_type: str | None = None,
        timestamp: Any = None,
    ) -> bool:
        """Publish JSON on a topic: as an event object if `event_type` is given, else as it is.

        Returns whether the message was handed over; see the class for when it is not.

        Raises:
            PublisherError: The topic or the timestamp is not one, the data is not JSON, or the
                publisher is closed or was made in another process.
        """
        if event_type is None and timestamp is not None:
            raise PublisherError("a timestamp belongs to an event: give its event_type, too")
        if event_type is not None:
            try:
                data = events.event(event_type, data, timestamp=timestamp)
            except ValueError as error:
                raise PublisherError(str(error)) from error
        return self._send(topic, data)

    def signal(self, kind: str, **fields: Any) -> bool:
        """Publish a signal that entered the core; fields as in `events.signal`."""
        return self._send(*events.signal(kind, **fields))

    def action(self, kind: str, **fields: Any) -> bool:
        """Publish something that the core did; fields as in `events.action`."""
        return self._send(*events.action(kind, **fields))

    def metrics(self, **fields: Any) -> bool:
        """Publish figures of a system; fields as in `events.metrics`."""
        return self._send(*events.metrics(**fields))

    def log(self, level: str, message: str, **fields: Any) -> bool:
        """Publish a line of a log; fields as in `events.log`."""
        return self._send(*events.log(level, message, **fields))

    def status(self, state: str, **fields: Any) -> bool:
        """Publish how a service is; fields as in `events.status`."""
        return self._send(*events.status(state, **fields))

    def connection(self, change: str, client_id: str, **fields: Any) -> bool:
        """Publish that a client came or went; fields as in `events.connection`."""
        return self._send(*events.connection(change, client_id, **fields))

    def wait_for_subscriber(self, timeout_seconds: float) -> bool:
        """Wait until somebody subscribes; what is published before that reaches nobody."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            with self._exclusive():
                self._take_subscriptions()
                if self._subscribed:
                    return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, _LOOK_SECONDS))

    def close(self) -> None:
        """Send what is queued, for as long as the linger allows, and close; twice is once."""
        if self._pid != os.getpid() or self._socket.closed:
            return
        with self._exclusive():
            self._send_deferred()
            self._socket.close()
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

    def _send(self, topic: str, event: Any) -> bool:
        if len(topic) > _TOPIC_BYTES_MAX or not _is_topic(topic):
            raise PublisherError(
                f"{topic!r} is not a topic: segments of [A-Za-z0-9_-] joined by dots, "
                f"at most {_TOPIC_BYTES_MAX} bytes"
            )
        try:
            payload = orjson.dumps(event)
        except TypeError as error:  # orjson.JSONEncodeError is one
            raise PublisherError(f"{topic}: {error}") from error
        if getattr(self._busy, "now", False):
            return self._defer(topic, payload)
        with self._exclusive():
            self._take_subscriptions()
            sent = self._hand_over(topic, payload)
            self._send_deferred()
            return sent

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the socket; who interrupts the holder on its own thread can tell that it is held."""
        if self._pid != os.getpid():  # before the lock: at a fork, another thread may have held it
            raise PublisherError("this publisher was made before a fork; make one in each process")
        self._busy.now = True
        try:
            with self._lock:
                if self._socket.closed:
                    raise PublisherError("this publisher is closed")
                yield
        finally:
            self._busy.now = False

    def _defer(self, topic: str, payload: bytes) -> bool:
        """Leave a message to the call that this one interrupts: waiting for it would be for ever."""
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
        try:
            self._socket.send_multipart([topic.encode(), payload, frame], zmq.NOBLOCK)
        except zmq.Again:
            self.dropped += 1
            return False
        self.published += 1
        return True

    def _take_subscriptions(self) -> None:
        """Read who subscribes; unread, these messages would pile up."""
        while self._socket.poll(0, zmq.POLLIN):
            message = self._socket.recv(zmq.NOBLOCK)
            if message[:1] == b"\x01":
                self._subscribed.add(message[1:])
            elif message[:1] == b"\x00":
                self._subscribed.discard(message[1:])
