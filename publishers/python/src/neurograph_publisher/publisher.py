"""One publisher: events in, ZeroMQ messages out, and every drop counted."""

import os
import re
import secrets
import selectors
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
import zmq

from neurograph_publisher import envelope, events, heartbeat
from neurograph_publisher import replay as replay_


_is_topic = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*").fullmatch
_TOPIC_BYTES_MAX = 128
_HIGH_WATER_MARK_MAX = 2**31 - 1
_LINGER_SECONDS_MAX = 3600.0
_LOOK_SECONDS = 0.005
_SUBSCRIPTIONS_PER_CALL = 1000
_DEFERRED_MAX = 1000
_TOPICS_MAX = 10_000
_REPLAY_BYTES_MAX = 64 * 1024 * 1024
_REQUEST_BYTES_MAX = 4096
_INTERVAL_SECONDS_MAX = 3600.0
_NAME_CHARS_MAX = 64
_WAKE_SECONDS = 0.1

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

    Every `heartbeat_seconds` (0 = never), to each new subscriber and at the end it tells gateways which
    numbers it has used, so that they notice what is missing, and when it falls silent. With `replay`
    it keeps so many of the newest messages of each topic, 64 MiB at most, also those that were
    dropped, and gateways ask for what they missed at `replay_endpoint`; `replay_address` is what they
    are told, if it is another.

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
        replay: int = 0,
        replay_endpoint: str = "tcp://127.0.0.1:*",
        replay_address: str | None = None,
        heartbeat_seconds: float = 1.0,
        name: str | None = None,
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
        if not 0 <= heartbeat_seconds <= _INTERVAL_SECONDS_MAX:
            raise PublisherError(
                f"heartbeat_seconds: {heartbeat_seconds} is not within 0 to "
                f"{_INTERVAL_SECONDS_MAX:.0f}"
            )
        if replay < 0 or (replay and not heartbeat_seconds):
            raise PublisherError(
                f"replay: {replay} is not a number of messages, or there are no heartbeats to tell "
                "gateways of it: leave heartbeat_seconds above 0"
            )
        self.incarnation = secrets.randbits(64)
        self.name = (Path(sys.argv[0]).name if name is None else name)[:_NAME_CHARS_MAX]
        """Who this is, for people: the program's name unless given."""
        self.replayed = 0
        """Messages that gateways asked for and were given."""
        self.bad_requests = 0
        """Requests for replay that were none, or whose asker was gone."""
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
            # Every subscriber gets its heartbeat, also one that wants what others have.
            socket.setsockopt(zmq.XPUB_VERBOSE, 1)
            self._open(socket, endpoint, bind=not connect)
            self._subscribed[socket] = set()
        self._store = (
            replay_.Store(messages_max=replay, bytes_max=_REPLAY_BYTES_MAX) if replay else None
        )
        self._router: _Socket | None = None
        self._replay_address: str | None = None
        if replay:
            self._router = self._context.socket(zmq.ROUTER)
            self._router.linger = 0
            self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)
            self._router.setsockopt(zmq.MAXMSGSIZE, _REQUEST_BYTES_MAX)
            self._open(self._router, replay_endpoint, bind=True)
            bound = self._router.getsockopt_string(zmq.LAST_ENDPOINT)
            self._replay_address = replay_address or bound
        self._heartbeat_seconds = heartbeat_seconds
        self._beat_at = 0.0
        if heartbeat_seconds:
            selector = selectors.DefaultSelector()
            for each in (*self._subscribed, self._router):
                if each is not None:
                    selector.register(each.FD, selectors.EVENT_READ)
            threading.Thread(
                target=self._live, args=(selector,), name="neurograph-publisher", daemon=True
            ).start()

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
        if len(self._sequences) >= _TOPICS_MAX and topic not in self._sequences:
            raise PublisherError(f"{topic}: {_TOPICS_MAX} topics have been used; use fewer")
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

    def watched(self, topic: str) -> bool:
        """Tell whether anybody would get a message on this topic now: else it need not be made."""
        with self._exclusive():
            self._take_subscriptions()
            return any(
                topic.encode().startswith(prefix)
                for prefixes in self._subscribed.values()
                for prefix in prefixes
            )

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
                self._beat(self._subscribed, interval_seconds=0.0)
                for socket in self._subscribed:
                    socket.close()
                if self._router is not None:
                    self._router.close()
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
            incarnation=self.incarnation,
            sequence=sequence,
            time_ns=time.time_ns(),
            flags=heartbeat.FLAG if self._heartbeat_seconds else 0,
        )
        if self._store is not None:
            self._store.keep(topic, replay_.Kept(sequence, payload, frame))
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
        """Read who subscribes, and greet who is new; unread, these messages would pile up."""
        new = []
        for socket, subscribed in self._subscribed.items():
            for _ in range(_SUBSCRIPTIONS_PER_CALL):
                if not socket.poll(0, zmq.POLLIN):
                    break
                message = socket.recv(zmq.NOBLOCK)
                if message[:1] == b"\x01":
                    subscribed.add(message[1:])
                    new.append(socket)
                elif message[:1] == b"\x00":
                    subscribed.discard(message[1:])
        if new and self._heartbeat_seconds:
            self._beat(dict.fromkeys(new), interval_seconds=self._heartbeat_seconds)

    # -- heartbeats and replay -----------------------------------------------------------------

    def _live(self, selector: selectors.BaseSelector) -> None:
        """Send heartbeats and answer requests until closed.

        What it waits for are bare file descriptors, as sockets are used under the lock only. They
        tell of a change once, and perhaps to a thread that publishes: hence the short wait.
        """
        wait = min(_WAKE_SECONDS, self._heartbeat_seconds)
        while True:
            selector.select(wait)
            try:
                with self._exclusive():
                    self._take_subscriptions()
                    if time.monotonic() >= self._beat_at:
                        self._beat_at = time.monotonic() + self._heartbeat_seconds
                        self._beat(self._subscribed, interval_seconds=self._heartbeat_seconds)
                    self._answer()
            except PublisherError:  # closed
                selector.close()
                return

    def _beat(self, sockets: Iterable[_Socket], *, interval_seconds: float) -> None:
        if not self._heartbeat_seconds:
            return
        for payload in heartbeat.payloads(
            self._sequences,
            incarnation=self.incarnation,
            name=self.name,
            interval_seconds=interval_seconds,
            replay=self._replay_address,
        ):
            for socket in sockets:
                # At its high-water mark a subscriber has no use for it; the next one says the same.
                with suppress(zmq.Again):
                    socket.send_multipart([heartbeat.TOPIC, payload], zmq.NOBLOCK)

    def _answer(self) -> None:
        if self._router is not None and self._store is not None:
            served = replay_.serve(self._router, self._store, incarnation=self.incarnation)
            self.replayed += served.replayed
            self.bad_requests += served.bad

    def _open(self, socket: _Socket, endpoint: str, *, bind: bool) -> None:
        try:
            (socket.bind if bind else socket.connect)(endpoint)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise PublisherError(f"{endpoint}: {error}") from error


def _check_topic(topic: object) -> None:
    if not isinstance(topic, str) or len(topic) > _TOPIC_BYTES_MAX or not _is_topic(topic):
        raise PublisherError(
            f"{topic!r} is not a topic: text, segments of [A-Za-z0-9_-] joined by dots, "
            f"at most {_TOPIC_BYTES_MAX} bytes"
        )
