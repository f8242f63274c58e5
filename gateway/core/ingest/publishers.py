"""Which publishers are there: what their heartbeats say.

A publisher's heartbeat comes over the same connection as its events, in order with them, and has the
newest number of each topic: so the loss of a topic's last messages shows, too. A publisher without a
heartbeat for `MISSED_HEARTBEATS_MAX` of its intervals is stale. It is forgotten when a later incarnation
of the same name lives, or after `STALE_NS_MAX`."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.core.protocol.channels import TOPIC_BYTES_MAX, is_topic
from gateway.core.protocol.envelope import SEQUENCE_MAX


TOPIC = b"$heartbeat"
MISSED_HEARTBEATS_MAX = 3
PUBLISHERS_MAX = 1000
"""Publishers remembered; the one whose last heartbeat is oldest is forgotten first."""
TOPICS_MAX = 10_000
"""Topics in one heartbeat message; publishers with more send several messages."""
FIRST_HEARTBEAT_TIMEOUT_NS = 3_000_000_000
STALE_NS_MAX = 3600 * 1_000_000_000
"""For how long a stale publisher is remembered."""
SILENCE_NS_MIN = 1_000_000_000
"""A connection is never judged by a shorter silence, whatever intervals its publishers promise."""

_INTERVAL_SECONDS_MIN, _INTERVAL_SECONDS_MAX = 0.01, 3600.0


class Heartbeat(Struct):
    """A publisher's heartbeat; if `interval` is 0 seconds, the publisher has ended."""

    incarnation: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
    interval: Annotated[float, Meta(ge=0, le=_INTERVAL_SECONDS_MAX)]
    sequences: Annotated[dict[str, Annotated[int, Meta(ge=0, le=SEQUENCE_MAX)]], Meta(max_length=TOPICS_MAX)] = {}
    name: Annotated[str, Meta(max_length=64)] = ""
    replay: Annotated[str, Meta(max_length=256)] | None = None
    replay_key: Annotated[str, Meta(max_length=40)] | None = None
    proxy: bool = False
    """Whether this is a proxy, which `replay`s for all publishers behind it."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """What sends the messages of all publishers at one endpoint."""

    incarnation: int
    replay: str
    replay_key: str | None
    until_ns: int
    """When it counts as silent."""


@dataclass(slots=True, eq=False)
class Publisher:
    incarnation: int
    name: str = ""
    interval_ns: int = 0
    replay: str | None = None
    """The endpoint that answers replay requests."""
    replay_key: str | None = None
    """The public CURVE key of that endpoint."""
    first_ns: int = 0
    last_ns: int = 0
    """When its first and its last heartbeat came."""
    link: int = 0
    """The endpoint of the bus at which its last heartbeat arrived."""
    stale: bool = False
    returned_ns: int = 0
    """When it last went on without a heartbeat, after it had been found silent; 0 if it has not."""
    retry_ns: int = 0
    """No request is sent before this time, because one was not answered."""


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """A request for a topic's messages from `first` to `last`, to the publisher at `endpoint`.

    `key` is the endpoint's public CURVE key, if it has one."""

    number: int
    incarnation: int
    endpoint: str
    key: str | None
    topic: str
    first: int
    last: int
    forwarded: bool = False
    """Whether it goes to a proxy, which passes it on to the publisher of this incarnation."""


@dataclass(frozen=True, slots=True)
class Change:
    publisher: Publisher
    state: Literal["connected", "stale", "live", "disconnected"]


_decode = msgspec.json.Decoder(Heartbeat).decode


def parse(payload: bytes) -> Heartbeat:
    """Decode a heartbeat. Raises ValueError: it is not valid; the text says why."""
    try:
        heartbeat = _decode(payload)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if 0 < heartbeat.interval < _INTERVAL_SECONDS_MIN:
        raise ValueError(f"interval: {heartbeat.interval} is below {_INTERVAL_SECONDS_MIN} s; 0 is a farewell")
    for topic in heartbeat.sequences:
        if not is_topic(topic):
            raise ValueError(f"sequences: {topic[:TOPIC_BYTES_MAX]!r} is not a valid topic")
    return heartbeat


class Publishers:
    """All publishers that send heartbeats, and the changes of their states."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, Publisher] = OrderedDict()
        self._changes: list[Change] = []
        self._awaited: dict[int, int] = {}
        """When publishers were heard whose messages say that they send heartbeats, and of which none came yet."""
        self._forgotten: set[int] = set()
        """Publishers that made room for others, and whose silence would go unnoticed."""
        self.heartbeats = 0
        """Heartbeats received."""
        self.link = 0
        """The endpoint of the bus whose messages are received now."""
        self.bound: set[int] = set()
        """The endpoints to which anybody may connect: none of their peers speaks for the others."""
        self.proxies: dict[int, Proxy] = {}
        """Those that are alive, by endpoint of the bus."""
        self._behind: dict[int, Publisher] = {}
        """Publishers behind a proxy that has just been heard for the first time."""
        self._expired = False
        """Whether the last publisher was forgotten because it was stale."""

    def get(self, incarnation: int) -> Publisher | None:
        return self._known.get(incarnation)

    def has_ended(self, incarnation: int) -> bool:
        """Return whether a publisher may have ended: it sends no heartbeats, or its first is overdue, or it is silent,
        at least since there is another one with its name."""
        publisher = self._known.get(incarnation)
        if publisher is None:
            return incarnation not in self._awaited
        if publisher.stale:
            return True
        name, last_ns = publisher.name, publisher.last_ns
        return bool(name) and any(one.name == name and one.first_ns > last_ns for one in self._known.values())

    def await_first(self, incarnation: int, now_ns: int) -> None:
        """Note a publisher whose message says that it sends heartbeats: until the first is due, it has not ended."""
        if incarnation in self._known or incarnation in self._awaited:
            return
        self._awaited[incarnation] = now_ns
        if len(self._awaited) > PUBLISHERS_MAX:
            oldest = next(iter(self._awaited))
            del self._awaited[oldest]
            self._forgotten.add(oldest)

    def note_return(self, incarnation: int, now_ns: int) -> None:
        """Note a message of a publisher: if it is silent and sends no heartbeat, it will be silent again."""
        publisher = self._known.get(incarnation)
        if publisher is not None and publisher.stale:
            publisher.returned_ns = now_ns

    @property
    def known(self) -> list[Publisher]:
        """All publishers, in the order of their last heartbeats."""
        return list(self._known.values())

    @property
    def state(self) -> Literal["unknown", "live", "stale"]:
        """``stale`` if all publishers are, ``unknown`` if there are none, else ``live``."""
        if not self._known:
            return "stale" if self._expired else "unknown"
        return "stale" if all(one.stale for one in self._known.values()) else "live"

    def take_changes(self) -> list[Change]:
        changes, self._changes = self._changes, []
        return changes

    def on_heartbeat(self, heartbeat: Heartbeat, *, now_ns: int) -> Publisher:
        self._expired = False
        incarnation = int(heartbeat.incarnation, 16)
        if heartbeat.proxy:
            self._on_proxy(incarnation, heartbeat, now_ns)
            return Publisher(incarnation)
        publisher = self._known.get(incarnation)
        if publisher is None and not heartbeat.interval:
            return Publisher(incarnation)  # a further part of the last heartbeat
        self._awaited.pop(incarnation, None)
        if publisher is None:
            publisher = self._known[incarnation] = Publisher(incarnation, first_ns=now_ns)
            self._changes.append(Change(publisher, "connected"))
            if len(self._known) > PUBLISHERS_MAX:
                _, longest_silent = self._known.popitem(last=False)
                self._changes.append(Change(longest_silent, "disconnected"))
                self._forgotten.add(longest_silent.incarnation)
        elif publisher.stale:
            publisher.stale = False
            self._changes.append(Change(publisher, "live"))
        self._known.move_to_end(incarnation)
        publisher.returned_ns = 0
        publisher.name = heartbeat.name
        publisher.interval_ns = round(heartbeat.interval * 1e9)
        publisher.link = self.link
        publisher.replay, publisher.replay_key = heartbeat.replay, heartbeat.replay_key
        publisher.last_ns = now_ns
        if not publisher.interval_ns:
            del self._known[incarnation]
            self._changes.append(Change(publisher, "disconnected"))
        return publisher

    def _on_proxy(self, incarnation: int, heartbeat: Heartbeat, now_ns: int) -> None:
        if not heartbeat.interval or not heartbeat.replay or self.link in self.bound:
            self.proxies.pop(self.link, None)
            return
        before = self.proxies.get(self.link)
        if before is None or before.incarnation != incarnation:
            self._behind = {one.incarnation: one for one in self._known.values() if one.link == self.link}
            for publisher in self._behind.values():
                publisher.retry_ns = 0
        until_ns = now_ns + round(MISSED_HEARTBEATS_MAX * heartbeat.interval * 1e9)
        self.proxies[self.link] = Proxy(incarnation, heartbeat.replay, heartbeat.replay_key, until_ns)

    def take_behind(self) -> dict[int, Publisher]:
        """Return the publishers behind a proxy that has just been heard for the first time, by incarnation; once."""
        behind, self._behind = self._behind, {}
        return behind

    def replay_of(self, publisher: Publisher) -> tuple[str, str | None, bool]:
        """Return where a publisher that offers replay is asked, with which key, and whether a proxy passes that on."""
        proxy = self.proxies.get(publisher.link)
        if proxy is not None:
            return proxy.replay, proxy.replay_key, True
        assert publisher.replay is not None
        return publisher.replay, publisher.replay_key, False

    def silence_ns(self, link: int) -> int:
        """Return how long an endpoint may be silent before its connection is dead; 0 = no limit.

        Each publisher there may be silent for its own intervals, so the longest of them decides."""
        intervals = [publisher.interval_ns for publisher in self._known.values() if publisher.link == link]
        return max(MISSED_HEARTBEATS_MAX * max(intervals), SILENCE_NS_MIN) if intervals else 0

    def find_stale(self, *, now_ns: int) -> set[int]:
        """Find the publishers that are silent for too long, or were forgotten; return the incarnations of new ones."""
        found = self._forgotten - self._known.keys()
        self._forgotten = set()
        for incarnation in [
            one for one, since_ns in self._awaited.items() if now_ns > since_ns + FIRST_HEARTBEAT_TIMEOUT_NS
        ]:
            del self._awaited[incarnation]
            found.add(incarnation)
        for publisher in self._known.values():
            due_ns = publisher.last_ns + MISSED_HEARTBEATS_MAX * publisher.interval_ns
            if not publisher.stale and now_ns > due_ns:
                publisher.stale = True
                found.add(publisher.incarnation)
                self._changes.append(Change(publisher, "stale"))
            elif 0 < publisher.returned_ns < now_ns - MISSED_HEARTBEATS_MAX * publisher.interval_ns:
                publisher.returned_ns = 0
                found.add(publisher.incarnation)
        self._forget_stale(now_ns)
        self.proxies = {link: proxy for link, proxy in self.proxies.items() if now_ns <= proxy.until_ns}
        return found

    def _forget_stale(self, now_ns: int) -> None:
        living = {publisher.name for publisher in self._known.values() if publisher.name and not publisher.stale}
        for publisher in [one for one in self._known.values() if one.stale]:
            if publisher.name in living or now_ns > publisher.last_ns + STALE_NS_MAX:
                del self._known[publisher.incarnation]
                self._changes.append(Change(publisher, "disconnected"))
                self._expired = not self._known
