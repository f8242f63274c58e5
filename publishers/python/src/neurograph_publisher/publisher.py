"""The publisher: it sends events as ZeroMQ messages, and counts every dropped message."""

import atexit
import math
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from socket import socketpair
from types import TracebackType
from typing import Any, Self

import orjson
import zmq

from neurograph_publisher import envelope, events, heartbeat
from neurograph_publisher.checks import (
    PublisherError,
    check_event_type,
    check_name,
    check_process,
    check_topic,
    check_within,
)
from neurograph_publisher.curve import Curve, Keys, ZapServer
from neurograph_publisher.endpoint import Context, Endpoint, announced
from neurograph_publisher.inbox import Message
from neurograph_publisher.names import Names, host_name
from neurograph_publisher.replay import Store
from neurograph_publisher.replier import Replier


PERSONAL = b"$personal"
"""The topic of messages to one client."""
_TOPICS_MAX = 100_000
_LOOK_SECONDS = 0.005
_ATTEND_SECONDS = 1.0
_RETRY_SECONDS = 0.005
_DEFERRED_MAX = 1000
_WAKE_UPS_MAX = 64


class Publisher(events.StandardChannels):
    """Publishes events on a bus.

    Either `connect` to the gateway's endpoint, or `bind` one that gateways connect to; both take
    one endpoint or several, and each endpoint has its own queue. A DNS name to connect to means all its
    addresses: every `resolve_seconds` it is looked up again, the publisher connects to new addresses, and
    disconnects from those that the name no longer has once their gateway is gone; `problem` says why a name
    could not be looked up. Messages have an envelope with a number per topic, for up to 100,000 topics.

    Publishing never waits, so it may be called from asyncio as well as from any thread. A signal
    handler or a finaliser that interrupts another call on its own thread may publish and close,
    too: that is done when the interrupted call ends, or else with the next one. Beyond 1,000 such
    messages they count as dropped.

    If `high_water_mark` messages wait for a subscriber (0 = no limit), further messages are not queued
    at its endpoint: `publish` returns False and `dropped` counts them. Their numbers stay used, so that the
    gateway notices the loss. Such a drop affects all subscribers of a bound endpoint: with an endpoint for each
    gateway, a stalled one does not affect the others. Without a subscriber, ZeroMQ discards messages.

    Heartbeats have the newest number of each topic. They are sent to each new subscriber, to all every
    `heartbeat_seconds` (0 = no heartbeats), and at the end, so that a gateway notices even the loss of the last
    event. They also have `name`, of at most 64 characters, by default host and process.

    With `replay`, this many of the newest messages of each topic are kept, also dropped ones, and gateways
    request missed messages from `replay_endpoint`; `replay_address` is the address by which they reach it, if that
    is not the endpoint bound. For ``tcp://*:5557``, gateways that the publisher does not connect to know the host.
    16 MiB are kept of a topic, and 128 MiB of 10,000 topics; the least recently used topic is dropped first.

    With `curve` the connections are encrypted, and both ends prove their identity: see `Curve`.

    A payload above `payload_bytes_max` is refused, as the gateway would reject it: see its setting
    `ingest.payload_bytes_max`.

    Closing waits up to `linger_seconds` until queued messages are sent; the interpreter's exit closes an open
    publisher. Do not share a publisher over a fork.

    Raises:
        PublisherError: Neither or both of `connect` and `bind`, or an endpoint, a number, a name
            or a key that cannot be used.
    """

    def __init__(
        self,
        connect: str | Sequence[str] = (),
        *,
        bind: str | Sequence[str] = (),
        high_water_mark: int = 100_000,
        payload_bytes_max: int = 1_048_576,
        linger_seconds: float = 1.0,
        heartbeat_seconds: float = 1.0,
        name: str | None = None,
        replay: int = 0,
        replay_endpoint: str = "tcp://127.0.0.1:*",
        replay_address: str | None = None,
        curve: Curve | None = None,
        resolve_seconds: float = 5.0,
    ) -> None:
        check_process()
        if bool(connect) == bool(bind):
            raise PublisherError("give either connect=… or bind=…")
        check_within("high_water_mark", high_water_mark, 0, 2**31 - 1)
        check_within("payload_bytes_max", payload_bytes_max, 2, 2**31 - 1)
        check_within("linger_seconds", linger_seconds, 0, 3600)
        check_within("heartbeat_seconds", heartbeat_seconds or 1, 0.01, 3600)
        check_within("replay", replay, 0, 1_000_000)
        check_within("resolve_seconds", resolve_seconds, 0.1, 3600)
        if replay and not heartbeat_seconds:
            raise PublisherError("replay: heartbeats say where; heartbeat_seconds is 0")
        self._arguments: dict[str, Any] = {
            "connect": connect,
            "bind": bind,
            "high_water_mark": high_water_mark,
            "payload_bytes_max": payload_bytes_max,
            "linger_seconds": linger_seconds,
            "heartbeat_seconds": heartbeat_seconds,
            "name": name,
            "replay": replay,
            "replay_endpoint": replay_endpoint,
            "replay_address": replay_address,
            "curve": curve,
            "resolve_seconds": resolve_seconds,
        }
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
        self._name = check_name(name)
        self._heartbeat_seconds = heartbeat_seconds
        self._payload_bytes_max = payload_bytes_max
        self._flags = envelope.HEARTBEATS if heartbeat_seconds else 0
        self._store = Store(replay) if replay else None
        self._keys = keys = Keys(curve) if curve else None
        self._context: Context = zmq.Context()
        given = [one] if isinstance(one := connect or bind, str) else list(one)
        names = [one for one in given if connect and host_name(one)]
        self._open = partial(
            Endpoint,
            self._context,
            bind=bool(bind),
            high_water_mark=high_water_mark,
            linger_seconds=linger_seconds,
            keys=keys,
        )
        try:
            self._zap = ZapServer(self._context, keys) if keys else None
            self._endpoints = [self._open(address) for address in given if address not in names]
            self._replier = (
                Replier(
                    self._context,
                    replay_endpoint,
                    incarnation=self.incarnation,
                    linger_seconds=linger_seconds,
                    keys=keys,
                    read=self._read,
                )
                if replay
                else None
            )
        except PublisherError:
            self._context.destroy(linger=0)
            raise
        self.replay_address = (replay_address or announced(self._replier.address)) if self._replier else None
        """The address for replay requests in heartbeats; None without `replay`."""
        self._asked = given[-1]
        self._woken, self._waker = socketpair()
        self._woken.setblocking(False)
        self._names = Names(names, seconds=resolve_seconds, wake=partial(self._waker.send, b"n")) if names else None
        self._attendant = threading.Thread(target=self._attend, name="neurograph-publisher", daemon=True)
        self._attendant.start()
        atexit.register(self.close)

    @property
    def endpoint(self) -> str:
        """The endpoint bound or connected last, with its actual port in place of ``*``."""
        return self._endpoints[-1].address if self._endpoints else self._asked

    @property
    def problem(self) -> str:
        """The reason why not all addresses of a name are known; empty if they are."""
        return self._names.problem if self._names else ""

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def replayed(self) -> int:
        """The number of replay requests that were answered."""
        return self._replier.replayed if self._replier else 0

    @property
    def unanswered(self) -> int:
        """The number of replay requests without an answer: the requester was gone, or did not read earlier answers."""
        return self._replier.unanswered if self._replier else 0

    @property
    def bad_requests(self) -> int:
        """The number of invalid messages to the replay endpoint."""
        return self._replier.bad_requests if self._replier else 0

    @property
    def refused(self) -> int:
        """The number of failed handshakes with gateways: wrong keys, or CURVE at only one end.

        Of gateways that connect to this publisher, those with unknown keys are counted.
        """
        refused = sum(endpoint.refused for endpoint in self._endpoints)
        return refused + (self._zap.refused if self._zap else 0)

    def for_this_process(self) -> "Publisher":
        """Return this publisher; in a process forked since, a new one with the same arguments.

        Raises:
            PublisherError: The parent process has bound the endpoint, so a new publisher cannot bind it.
        """
        return self if self._pid == os.getpid() else Publisher(**self._arguments)

    def publish(
        self, topic: str, data: Any, event_type: str | None = None, timestamp: datetime | str | None = None
    ) -> bool:
        """Publish JSON on a topic: as an event object if `event_type` is given, else unchanged.

        Returns whether the message was queued for all subscribers; see the class.

        Raises:
            PublisherError: The topic, the event_type or the timestamp is invalid, the data is not
                JSON or too large, there are too many topics, or the publisher is closed or was
                made in another process.
        """
        check_topic(topic)
        if event_type is not None:
            check_event_type(event_type)
        if event_type is None and timestamp is not None:
            raise PublisherError("a timestamp belongs to an event: give its event_type, too")
        try:
            if event_type is not None:
                data = events.event(event_type, data, timestamp=timestamp)
        except ValueError as error:
            raise PublisherError(f"{topic}: {error}") from error
        return self._publish(topic, data)

    def publish_bytes(
        self,
        topic: str,
        payload: bytes | bytearray | memoryview,
        content_type: str | None = None,
        *,
        event_type: str | None = None,
        timestamp: datetime | str | None = None,
    ) -> bool:
        """Publish bytes, such as an image, on a topic that is none of the standard channels.

        On the bus they are base64 within an event object, where 3 bytes take 4. Clients get the bytes,
        with `content_type` as a member of the event. Returns and raises what `publish` does.
        """
        check_topic(topic)
        if topic in events.STANDARD:
            raise PublisherError(f"{topic}: a standard channel has typed JSON; publish bytes on another topic")
        if event_type is not None:
            check_event_type(event_type)
        try:
            event = events.bytes_event(payload, content_type=content_type, event_type=event_type, timestamp=timestamp)
        except (TypeError, ValueError) as error:
            raise PublisherError(f"{topic}: {error}") from error
        return self._publish(topic, event)

    def reply(self, to: Message, data: Any, event_type: str = "reply") -> bool:
        """Answer a client that waits for it, with an event on its channel ``$personal``.

        Returns whether the answer was queued at every endpoint; False if no gateway is subscribed.

        Raises:
            PublisherError: The client does not wait for an answer, or the data is not JSON or too large.
        """
        check_event_type(event_type)
        if to.reply_to is None:
            raise PublisherError(f"{to.channel}: this event does not request an answer: it has no `reply_to`")
        payload = self._encoded(PERSONAL.decode(), {**events.event(event_type, data), **to.reply_to})
        with self._exclusive():
            sent = [one.reaches(PERSONAL) and one.send(PERSONAL, payload) for one in self._endpoints]
        if all(sent):
            self.published += 1
        else:
            self.dropped += 1
        return all(sent)

    def _publish(self, topic: str, data: Any) -> bool:
        payload = self._encoded(topic, data)
        if self._interrupted():
            return self._defer(topic, payload)
        with self._exclusive():
            return self._hand_over(topic, payload)

    def _encoded(self, topic: str, data: Any) -> bytes:
        try:
            payload = orjson.dumps(data)
        except (TypeError, ValueError) as error:  # orjson.JSONEncodeError is a TypeError
            raise PublisherError(f"{topic}: {error}") from error
        if len(payload) > self._payload_bytes_max:
            raise PublisherError(
                f"{topic}: {len(payload)} bytes of JSON exceed {self._payload_bytes_max}: publish less at "
                "once, or raise payload_bytes_max here and ingest.payload_bytes_max at the gateway"
            )
        return payload

    def watched(self, topic: str) -> bool:
        """Whether the topic has a subscriber now, at any endpoint.

        Raises:
            PublisherError: The topic is invalid.
        """
        check_topic(topic)
        name = topic.encode()
        return not self._closed and any(endpoint.reaches(name) for endpoint in self._endpoints)

    def wait_for_subscriber(self, timeout_seconds: float) -> bool:
        """Wait until every endpoint has a subscriber; later subscribers miss earlier events.

        Not for signal handlers: the wait might need the call that the handler interrupted.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            with self._exclusive():
                known = self._endpoints and (self._names is None or self._names.known)
                if known and all(endpoint.subscribed for endpoint in self._endpoints):
                    return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, _LOOK_SECONDS))

    def close(self) -> None:
        """Send queued messages, for at most the linger time, and close; a second call does nothing."""
        if self._pid != os.getpid():
            return
        if self._interrupted():
            self._close_asked = True
            return
        with self._holding():
            if not self._closed:
                self._closed = True
                atexit.unregister(self.close)
                try:
                    self._welcome_subscribers()
                    self._send_deferred()
                    self._beat(self._endpoints, interval=0)
                finally:
                    self._waker.send(b"closed")
        # A signal handler may interrupt a `close` that waits here: Python's `join` is not to be entered twice by a thread.
        if threading.current_thread() is not self._attendant and not getattr(self._busy, "waiting", False):
            self._busy.waiting = True
            try:
                self._attendant.join()
            finally:
                self._busy.waiting = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _interrupted(self) -> bool:
        """Whether this call interrupts one that holds the sockets, or is about to."""
        return getattr(self._busy, "now", False)

    @contextmanager
    def _holding(self) -> Iterator[None]:
        """Hold the lock, and record it for a signal handler that interrupts the holder on the same thread."""
        self._busy.now = True
        try:
            with self._lock:
                yield
        finally:
            self._busy.now = False

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the sockets of an open publisher, and then send messages that signal handlers have deferred."""
        if self._pid != os.getpid():  # before the lock: at a fork, another thread may have held it
            raise PublisherError("this publisher was made before a fork; make one in each process")
        if self._interrupted():
            raise PublisherError("a signal handler may publish and close, but not wait")
        try:
            with self._holding():
                if self._closed:
                    raise PublisherError("this publisher is closed")
                self._welcome_subscribers()
                yield
                self._send_deferred()
        finally:
            if self._close_asked:
                self.close()

    def _defer(self, topic: str, payload: bytes) -> bool:
        """Leave a message to the call that this one interrupts: to wait for that call would deadlock."""
        if self._closed:
            raise PublisherError("this publisher is closed")
        if len(self._deferred) >= _DEFERRED_MAX:
            self.dropped += 1
            return False
        self._deferred.append((topic, payload))
        return True

    def _send_deferred(self) -> None:
        while self._deferred:
            try:
                self._hand_over(*self._deferred.popleft())
            except PublisherError:
                self.dropped += 1

    def _hand_over(self, topic: str, payload: bytes) -> bool:
        sequence = self._sequences.get(topic, 0) + 1
        if sequence == 1 and len(self._sequences) >= _TOPICS_MAX:
            raise PublisherError(f"{topic}: one topic too many; a publisher numbers {_TOPICS_MAX:,} of them")
        self._sequences[topic] = sequence
        name = topic.encode()
        frame = envelope.pack(
            incarnation=self.incarnation, sequence=sequence, time_ns=time.time_ns(), flags=self._flags
        )
        if self._store is not None:
            self._store.append(name, sequence, payload, frame)
        everywhere = True
        for endpoint in self._endpoints:
            if not endpoint.send(name, payload, frame):
                everywhere = False
        if everywhere:
            self.published += 1
        else:
            self.dropped += 1
        return everywhere

    def _welcome_subscribers(self) -> None:
        """Read subscriptions, and send new subscribers a heartbeat before the next event.

        If ZeroMQ handles a subscription while an event is sent, the heartbeat follows that event.
        """
        for endpoint in self._endpoints:
            endpoint.take_subscriptions()
            if endpoint.heartbeat_due:
                self._beat([endpoint], interval=self._heartbeat_seconds)
                endpoint.heartbeat_due = False

    def _beat(self, endpoints: Iterable[Endpoint], *, interval: float) -> None:
        if not self._heartbeat_seconds:
            return
        messages = heartbeat.payloads(
            incarnation=self.incarnation,
            name=self._name,
            interval=interval,
            replay=self.replay_address,
            replay_key=self._keys.public.decode() if self._keys and self._replier else None,
            sequences=self._sequences,
        )
        for endpoint in endpoints:
            for message in messages:
                if not endpoint.send(heartbeat.TOPIC, message):
                    break

    def _attend(self) -> None:
        """The publisher's thread: sends heartbeats and answers replay requests until it is closed."""
        try:
            with suppress(PublisherError):  # closed
                self._serve()
        finally:
            self._release()

    def _serve(self) -> None:
        # Other threads publish on the sockets meanwhile, so this thread waits without using them: for
        # the descriptors by which ZeroMQ announces messages. Sending can reset a descriptor
        # unnoticed; so the next call, or this loop within a second, checks the socket itself.
        poller = zmq.Poller()
        poller.register(self._woken, zmq.POLLIN)
        for endpoint in self._endpoints:
            poller.register(endpoint.descriptor, zmq.POLLIN)
        if self._replier:
            poller.register(self._replier.socket, zmq.POLLIN)
        if self._zap:
            poller.register(self._zap.socket, zmq.POLLIN)
        interval = self._heartbeat_seconds or math.inf
        due, longest = time.monotonic() + interval, _ATTEND_SECONDS
        while True:
            seconds = min(due - time.monotonic(), longest)
            poller.poll(max(0, math.ceil(seconds * 1000)))
            if self._zap:
                self._zap.serve()
            with self._exclusive():
                for endpoint in self._endpoints:
                    endpoint.mend()
                self._follow_names(poller)
                if time.monotonic() >= due:
                    self._beat(self._endpoints, interval=interval)
                    due = max(due + interval, time.monotonic())
            if self._replier:
                longest = _RETRY_SECONDS if self._replier.serve() else _ATTEND_SECONDS

    def _follow_names(self, poller: zmq.Poller) -> None:
        """Connect to new addresses, and disconnect from removed ones once their gateways are gone."""
        if self._names is None:
            return
        with suppress(BlockingIOError):
            self._woken.recv(_WAKE_UPS_MAX)
        wanted = self._names.endpoints
        for endpoint in [one for one in self._endpoints if one.named and not one.connected and one.asked not in wanted]:
            # Other threads may read the list meanwhile: it is replaced, never changed.
            self._endpoints = [one for one in self._endpoints if one is not endpoint]
            poller.unregister(endpoint.descriptor)
            endpoint.close()
        connected = {one.asked for one in self._endpoints}
        for address in wanted:
            if address not in connected:
                with suppress(PublisherError):  # no free socket: at the next wake-up
                    endpoint = self._open(address, named=True)
                    self._endpoints = [*self._endpoints, endpoint]
                    poller.register(endpoint.descriptor, zmq.POLLIN)

    def _read(self, topic: bytes, first: int, last: int) -> list[bytes]:
        with self._exclusive():
            return self._store.read(topic, first, last) if self._store else []

    def _release(self) -> None:
        with self._holding():  # `close` has sent the farewell by now
            self._closed = True
            if self._names:
                self._names.close()
            for endpoint in self._endpoints:
                endpoint.close()
        if self._replier:
            self._replier.socket.close()
        if self._zap:
            self._zap.socket.close()
        self._woken.close()
        self._waker.close()
        self._context.term()
