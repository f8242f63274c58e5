"""Receive events that a gateway's clients publish, in a process on the bus: each once and in order, or as a gap."""

import re
import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

import orjson
import zmq

from neurograph_publisher import envelope, heartbeat, replay
from neurograph_publisher.checks import PublisherError, check_within
from neurograph_publisher.curve import Curve, Keys


HELD_MAX = 10_000
"""How many messages may wait for earlier ones; beyond that, the earlier ones are reported as missing."""
_PUBLISHERS_MAX = 64
_STREAMS_MAX = 10_000
_REPLY_SECONDS = 2.0
_LOOK_SECONDS = 0.5
_AT_ONCE_MAX = 1_000
_PING_MS, _SILENT_MS = 5_000, 15_000
_is_channel = re.compile(r"(?:[A-Za-z0-9_-]+|\*)(?:\.(?:[A-Za-z0-9_-]+|\*))*(?:\.>)?|>").fullmatch

_is_position = re.compile(r"([0-9a-f]{16}):(\d{1,19})").fullmatch

Socket = zmq.Socket[bytes]
Positions = dict[str, dict[str, str]]
"""Positions by endpoint and channel, as text that only an inbox reads."""
_Place = tuple[int, int, str]  # endpoint, incarnation, channel


@dataclass(frozen=True, slots=True)
class Message:
    """An event that a client published; the gateway sets `client_id` and `user_id`, so a client cannot forge them.

    `client_id` is None if it came over HTTP. `reply_to` is set if the client waits for an answer: see
    `Publisher.reply`. `members` is the whole event.
    """

    channel: str
    event_type: str
    data: Any
    timestamp: str
    client_id: str | None
    user_id: str | None
    reply_to: dict[str, str] | None
    members: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Gap:
    """Events of a channel that will not arrive: the numbers `first` to `last` of one run of the gateway.

    `last` is None for the reason ``restart``: the gateway ended without a farewell, and its last events may be
    missing. The reason ``lost`` means that the gateway no longer holds them, or does not answer.
    """

    channel: str
    first: int
    last: int | None
    reason: Literal["lost", "restart"]


class _Publisher:
    """One run of a gateway."""

    def __init__(self, *, is_first: bool) -> None:
        self.is_first = is_first
        """Whether events from before its first message are not reported as missing: the inbox had not yet subscribed."""
        self.name = ""
        self.replay: str | None = None
        self.is_heard = is_first
        """Whether a heartbeat was received, or need not be waited for."""
        self.is_known = False
        """Whether a complete heartbeat was received: topics that appear later begin with number 1."""
        self.ended = False


class _Stream:
    """One channel of one run of a gateway: `newest` is the last number that was delivered or reported as missing."""

    def __init__(self, at: int, incarnation: int, newest: int) -> None:
        self.at = at
        self.incarnation = incarnation
        self.newest = newest
        self.last = newest
        """The highest number that is known to be used."""
        self.held: dict[int, bytes] = {}
        self.request = 0
        """The number of the pending request; 0 if there is none."""
        self.until = 0.0
        self.is_given_up = False
        """Whether the missing messages before the held ones cannot be replayed."""


class Inbox:
    """Receives events that clients publish, from one or several gateways: their endpoints `bus.publish`.

    `channels` are names or patterns (``core.*``, ``core.>``); without any, all channels are received. It begins with
    new events, or with `since` after the `positions` of an earlier inbox: a gateway keeps its newest 10,000 messages
    for that. After a lost connection it requests missed events from the gateway; so each event arrives once, or a
    `Gap` reports it. With `curve` the connections are encrypted: see `Curve`.

    For one thread at a time. Iterate it, or call `receive`.

    Raises:
        PublisherError: An endpoint, a channel, a position or a key cannot be used.
    """

    def __init__(
        self,
        connect: str | Sequence[str],
        *channels: str,
        since: Positions | None = None,
        high_water_mark: int = 100_000,
        curve: Curve | None = None,
    ) -> None:
        check_within("high_water_mark", high_water_mark, 0, 2**31 - 1)
        for channel in channels:
            if not _is_channel(channel):
                raise PublisherError(f"{channel!r} is not a channel or pattern")
        self.rejected = 0
        """The number of messages that no gateway sends."""
        self._selects = [re.compile(_expression(channel)) for channel in channels or (">",)]
        self._addresses = [connect] if isinstance(connect, str) else [*connect]
        self._since = _read_positions(since or {}, self._addresses)
        self._resumes = [address in (since or {}) for address in self._addresses]
        self._reached: OrderedDict[tuple[int, str], tuple[int, int]] = OrderedDict(self._since)
        self._keys = Keys(curve) if curve else None
        self._context: zmq.Context[Socket] = zmq.Context()
        self._poller = zmq.Poller()
        self._sockets: dict[Socket, int] = {}
        self._dealers: OrderedDict[str, Socket] = OrderedDict()
        self._publishers: OrderedDict[tuple[int, int], _Publisher] = OrderedDict()  # by endpoint and incarnation
        self._streams: OrderedDict[tuple[int, str], _Stream] = OrderedDict()  # by incarnation and channel
        self._requests: dict[int, tuple[int, str]] = {}
        self._number = 0
        self._held = 0
        self._ready: deque[tuple[Message | Gap, _Place, int]] = deque()
        try:
            for at, address in enumerate(self._addresses):
                socket = self._open(zmq.SUB, address)
                socket.rcvhwm = high_water_mark
                for prefix in {re.split(r"[*>]", channel)[0] for channel in channels or (">",)}:
                    socket.subscribe(prefix.encode())
                socket.subscribe(heartbeat.TOPIC)  # last: so a heartbeat shows that the gateway has all subscriptions
                self._sockets[socket] = at
        except PublisherError:
            self.close()
            raise

    def receive(self, timeout_seconds: float | None = None) -> Message | Gap | None:
        """Return the next message or gap; None if none arrives in time. Without a timeout it waits without a limit."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while not self._ready:
            left = _LOOK_SECONDS if deadline is None else min(deadline - time.monotonic(), _LOOK_SECONDS)
            for socket, _ in self._poller.poll(max(0, round(left * 1000))):
                self._read(socket)
            self._expire()
            if not self._ready and deadline is not None and time.monotonic() >= deadline:
                return None
        item, (at, incarnation, channel), number = self._ready.popleft()
        self._reached[at, channel] = incarnation, number
        self._reached.move_to_end((at, channel))
        while len(self._reached) > _STREAMS_MAX:
            self._reached.popitem(last=False)
        return item

    @property
    def positions(self) -> Positions:
        """The positions reached by `receive`, as JSON: for the `since` of a later inbox, also in another process.

        Store them after each message that is done: events received after that arrive again."""
        heard = {at for (at, _), publisher in self._publishers.items() if publisher.is_known}
        found: Positions = {one: {} for at, one in enumerate(self._addresses) if at in heard or self._resumes[at]}
        for (at, channel), (incarnation, number) in self._reached.items():
            found.setdefault(self._addresses[at], {})[channel] = f"{incarnation:016x}:{number}"
        return found

    def __iter__(self) -> Iterator[Message | Gap]:
        while True:
            item = self.receive()
            assert item is not None
            yield item

    def wait_for_gateway(self, timeout_seconds: float) -> bool:
        """Wait until each endpoint's gateway has sent a heartbeat; events published from then on are received."""
        deadline = time.monotonic() + timeout_seconds
        while {at for (at, _), one in self._publishers.items() if one.is_known} != set(self._sockets.values()):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            for socket, _ in self._poller.poll(max(1, round(min(left, _LOOK_SECONDS) * 1000))):
                self._read(socket)
        return True

    def close(self) -> None:
        """Close the sockets; a second call does nothing."""
        self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, kind: int, address: str) -> Socket:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.IPV6, 1)
        socket.setsockopt(zmq.HEARTBEAT_IVL, _PING_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _SILENT_MS)
        if self._keys is not None:
            self._keys.approach(socket)
        try:
            socket.connect(address)
        except zmq.ZMQError as error:
            socket.close(linger=0)
            raise PublisherError(f"{address}: {error}") from error
        self._poller.register(socket, zmq.POLLIN)
        return socket

    # -- messages received -----------------------------------------------------------------------

    def _read(self, socket: Socket) -> None:
        with suppress(zmq.Again):
            for _ in range(_AT_ONCE_MAX):
                frames = socket.recv_multipart(zmq.NOBLOCK)
                try:
                    self._take(self._sockets.get(socket), frames)
                except (ValueError, LookupError, TypeError, AttributeError):  # nothing that a gateway sends
                    self.rejected += 1

    def _take(self, at: int | None, frames: Sequence[bytes]) -> None:
        if at is None:
            self._take_reply(frames)
        elif frames[0] == heartbeat.TOPIC:
            self._take_heartbeat(at, frames[1])
        else:
            self._take_event(at, *frames)

    def _take_heartbeat(self, at: int, payload: bytes) -> None:
        message = orjson.loads(payload)
        incarnation = int(message["incarnation"], 16)
        publisher = self._publisher(at, incarnation)
        if not publisher.name:
            publisher.name = message.get("name") or "?"
            self._supersede(at, incarnation, publisher.name)
        publisher.replay = message.get("replay")
        begins_now = publisher.is_first and not publisher.is_known
        # Events before the first heartbeat are held: only the heartbeat has the endpoint for requests.
        publisher.is_heard = True
        for channel, last in message["sequences"].items():
            if self._is_selected(channel):
                stream = self._stream(at, incarnation, channel, last if begins_now else 0)
                stream.last = max(stream.last, last)
        for (of, channel), stream in list(self._streams.items()):
            if of == incarnation:
                self._go_on(publisher, channel, stream)
        publisher.is_known = publisher.is_known or not message.get("more")
        publisher.ended = message["interval"] == 0

    def _take_event(self, at: int, topic: bytes, payload: bytes, frame: bytes) -> None:
        channel = topic.decode()
        found = envelope.unpack(frame)
        if found is None or not self._is_selected(channel):
            return
        incarnation, sequence = found
        publisher = self._publisher(at, incarnation)
        begins_now = publisher.is_first and not publisher.is_known
        stream = self._stream(at, incarnation, channel, sequence - 1 if begins_now else 0)
        self._hold(stream, sequence, payload)
        self._go_on(publisher, channel, stream)

    def _take_reply(self, frames: Sequence[bytes]) -> None:
        if len(frames) < 3 or frames[0] != replay.MAGIC:
            return
        key = self._requests.pop(int.from_bytes(frames[1]), None)
        stream = self._streams.get(key) if key else None
        if key is None or stream is None:
            return
        stream.request = 0
        found = [(envelope.unpack(frame), payload) for payload, frame in zip(frames[3::2], frames[4::2], strict=False)]
        for numbered, payload in found:
            if numbered is not None:
                self._hold(stream, numbered[1], payload)
        # Numbers in a reply are ascending: the gateway no longer holds those that it skips.
        stream.is_given_up = stream.newest + 1 not in stream.held
        self._go_on(self._publishers.get((stream.at, stream.incarnation)), key[1], stream)

    # -- in order --------------------------------------------------------------------------------

    def _hold(self, stream: _Stream, sequence: int, payload: bytes) -> None:
        if sequence > stream.newest and sequence not in stream.held:
            stream.held[sequence] = payload
            stream.last = max(stream.last, sequence)
            self._held += 1

    def _go_on(self, publisher: _Publisher | None, channel: str, stream: _Stream) -> None:
        """Deliver the next messages; request missing ones, or report them if they cannot be requested."""
        place = stream.at, stream.incarnation, channel
        while stream.newest < stream.last:
            held = stream.held.pop(stream.newest + 1, None)
            if held is not None:
                self._held -= 1
                stream.newest += 1
                self._ready.append((_message(channel, held), place, stream.newest))
                continue
            following = min(stream.held, default=stream.last + 1)
            is_awaited = stream.request or (publisher is not None and not publisher.is_heard)
            if is_awaited and self._held <= HELD_MAX:
                return
            may_ask = not stream.is_given_up and self._held <= HELD_MAX
            if may_ask and self._ask(publisher, channel, stream, following - 1):
                return
            self._ready.append((Gap(channel, stream.newest + 1, following - 1, "lost"), place, following - 1))
            stream.newest = following - 1
            stream.is_given_up = False
        stream.is_given_up = False

    def _ask(self, publisher: _Publisher | None, channel: str, stream: _Stream, last: int) -> bool:
        """Request missing messages from a gateway; return whether that is possible."""
        if publisher is None or publisher.replay is None or publisher.ended:
            return False
        try:
            dealer = self._dealer(publisher.replay)
            self._number += 1
            dealer.send_multipart(replay.request(self._number, channel, stream.newest + 1, last), zmq.NOBLOCK)
        except (PublisherError, zmq.ZMQError):
            return False
        self._requests[self._number] = stream.incarnation, channel
        stream.request, stream.until = self._number, time.monotonic() + _REPLY_SECONDS
        return True

    def _dealer(self, address: str) -> Socket:
        found = self._dealers.get(address)
        if found is None:
            found = self._dealers[address] = self._open(zmq.DEALER, address)
            found.linger = 0
            if len(self._dealers) > _PUBLISHERS_MAX:
                _, oldest = self._dealers.popitem(last=False)
                self._poller.unregister(oldest)
                oldest.close(linger=0)
        return found

    def _expire(self) -> None:
        """Report messages as missing whose request was not answered in time."""
        now = time.monotonic()
        for number, key in list(self._requests.items()):
            stream = self._streams.get(key)
            if stream is None or stream.request != number:
                del self._requests[number]
            elif stream.until <= now:
                del self._requests[number]
                stream.request, stream.is_given_up = 0, True
                self._go_on(self._publishers.get((stream.at, stream.incarnation)), key[1], stream)

    def _supersede(self, at: int, incarnation: int, name: str) -> None:
        """Report that the last events of an earlier run of the same gateway may be missing, unless it sent a farewell."""
        for (where, channel), (before, number) in list(self._since.items()):
            if where == at:
                del self._since[where, channel]
                if before != incarnation:
                    self._ready.append((Gap(channel, number + 1, None, "restart"), (at, before, channel), number))
                else:
                    self._stream(at, incarnation, channel, number)
        for (where, before), publisher in self._publishers.items():
            if where == at and before != incarnation and publisher.name == name and not publisher.ended:
                publisher.ended = True
                for (of, channel), stream in self._streams.items():
                    if of == before:
                        stream.request, stream.is_given_up = 0, True
                        self._go_on(publisher, channel, stream)
                        gap = Gap(channel, stream.newest + 1, None, "restart")
                        self._ready.append((gap, (at, before, channel), stream.newest))

    def _publisher(self, at: int, incarnation: int) -> _Publisher:
        key = at, incarnation
        found = self._publishers.get(key)
        if found is None:
            is_first = not self._resumes[at] and all(where != at for where, _ in self._publishers)
            found = self._publishers[key] = _Publisher(is_first=is_first)
            if len(self._publishers) > _PUBLISHERS_MAX:
                (_, forgotten), _ = self._publishers.popitem(last=False)
                for one in [one for one in self._streams if one[0] == forgotten]:
                    self._held -= len(self._streams.pop(one).held)
        self._publishers.move_to_end(key)
        return found

    def _stream(self, at: int, incarnation: int, channel: str, newest: int) -> _Stream:
        found = self._streams.get((incarnation, channel))
        if found is None:
            before, number = self._since.get((at, channel), (None, 0))
            newest = number if before == incarnation else newest
            found = self._streams[incarnation, channel] = _Stream(at, incarnation, newest)
            self._reached.setdefault((at, channel), (incarnation, newest))
            if len(self._streams) > _STREAMS_MAX:
                _, forgotten = self._streams.popitem(last=False)
                self._held -= len(forgotten.held)
        return found

    def _is_selected(self, channel: str) -> bool:
        return any(one.fullmatch(channel) for one in self._selects)


def _message(channel: str, payload: bytes) -> Message:
    members = orjson.loads(payload)
    return Message(
        channel=channel,
        event_type=members.get("event_type", ""),
        data=members.get("data", members.get("data_base64")),
        timestamp=members.get("timestamp", ""),
        client_id=members.get("client_id"),
        user_id=members.get("user_id"),
        reply_to=members.get("reply_to"),
        members=members,
    )


def _read_positions(since: Positions, addresses: Sequence[str]) -> dict[tuple[int, str], tuple[int, int]]:
    found = {}
    for address, channels in since.items():
        if address not in addresses:
            raise PublisherError(f"since: {address} is not one of the endpoints")
        for channel, position in channels.items():
            match = _is_position(position)
            if match is None:
                raise PublisherError(f"since: {position!r} is no position that an inbox gave")
            found[addresses.index(address), channel] = int(match[1], 16), int(match[2])
    return found


def _expression(pattern: str) -> str:
    """Return the regular expression of the channels that a pattern selects."""
    if pattern == ">":
        return r"[^$].*"
    body = r"\.".join("[^.]+" if one == "*" else re.escape(one) for one in pattern.removesuffix(".>").split("."))
    return body + (r"\..+" if pattern.endswith(".>") else "")
