"""Who publishes, and whether they are still there: what heartbeats tell.

A publisher's heartbeat comes on its own connection, in order with its events, and names the newest
number of each topic: so the loss of a topic's last messages shows, too. A publisher that is silent
for `MISSED_HEARTBEATS_MAX` of its intervals is stale.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.core.ingest.streams import Stream


TOPIC = b"$heartbeat"
MISSED_HEARTBEATS_MAX = 3
PUBLISHERS_MAX = 1000
"""Publishers remembered; those silent for longest are forgotten."""

_INTERVAL_SECONDS_MAX = 3600.0


class Heartbeat(Struct):
    """A publisher's sign of life; an `interval` of 0 seconds is its farewell."""

    incarnation: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
    interval: Annotated[float, Meta(ge=0, le=_INTERVAL_SECONDS_MAX)]
    sequences: dict[str, Annotated[int, Meta(ge=0)]] = {}
    name: Annotated[str, Meta(max_length=64)] = ""
    replay: Annotated[str, Meta(max_length=256)] | None = None
    replay_key: Annotated[str, Meta(max_length=40)] | None = None


@dataclass(slots=True, eq=False)
class Publisher:
    """One life of a publisher."""

    incarnation: int
    name: str = ""
    interval_ns: int = 0
    replay: str | None = None
    """Where it can be asked for what was missed."""
    replay_key: str | None = None
    """Its public CURVE key there."""
    last_ns: int = 0
    stale: bool = False
    ask_again_ns: int = 0
    """It did not answer; it is not asked before this."""
    requests_open: int = 0
    """Requests under way."""
    waiting: deque[Stream] = field(default_factory=deque)
    """Streams that have something to ask for when one of those is answered."""


@dataclass(frozen=True, slots=True)
class Change:
    """A publisher that was heard for the first time, fell silent, came back, or said farewell."""

    publisher: Publisher
    state: str
    """``connected``, ``stale``, ``live`` or ``gone``."""


_decode = msgspec.json.Decoder(Heartbeat).decode


def parse(payload: bytes) -> Heartbeat:
    """Read a heartbeat.

    Raises:
        ValueError: It is not one; the text says why.
    """
    try:
        return _decode(payload)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error


class Publishers:
    """All publishers that send heartbeats, and what became of them since the last look."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, Publisher] = OrderedDict()
        self._changes: list[Change] = []
        self.heartbeats_received = 0
        """Heartbeats heard."""
        self.interval_ns = 0
        """The interval that the last one named."""

    def __len__(self) -> int:
        return len(self._known)

    def get(self, incarnation: int) -> Publisher | None:
        """Return a publisher that was heard."""
        return self._known.get(incarnation)

    @property
    def known(self) -> list[Publisher]:
        """All of them, the longest silent first."""
        return list(self._known.values())

    @property
    def state(self) -> Literal["unknown", "live", "stale"]:
        """``live`` if any is, ``stale`` if all are silent that should not be, else ``unknown``."""
        if not self._known:
            return "unknown"
        return "stale" if all(one.stale for one in self._known.values()) else "live"

    def take_changes(self) -> list[Change]:
        """Return what became of publishers since the last call."""
        changes, self._changes = self._changes, []
        return changes

    def on_heartbeat(self, beat: Heartbeat, *, now_ns: int) -> Publisher:
        """Take in a heartbeat."""
        self.heartbeats_received += 1
        self.interval_ns = round(beat.interval * 1e9)
        incarnation = int(beat.incarnation, 16)
        publisher = self._known.get(incarnation)
        if publisher is None and not beat.interval:
            return Publisher(incarnation)  # its farewell has several parts
        if publisher is None:
            publisher = self._known[incarnation] = Publisher(incarnation)
            self._changes.append(Change(publisher, "connected"))
            if len(self._known) > PUBLISHERS_MAX:
                self._known.popitem(last=False)
        elif publisher.stale:
            publisher.stale = False
            self._changes.append(Change(publisher, "live"))
        self._known.move_to_end(incarnation)
        publisher.name = beat.name
        publisher.interval_ns = round(beat.interval * 1e9)
        publisher.replay, publisher.replay_key = beat.replay, beat.replay_key
        publisher.last_ns = now_ns
        if not publisher.interval_ns:
            del self._known[incarnation]
            self._changes.append(Change(publisher, "gone"))
        return publisher

    def expire(self, *, now_ns: int) -> None:
        """Find those that have fallen silent."""
        for publisher in self._known.values():
            due_ns = publisher.last_ns + MISSED_HEARTBEATS_MAX * publisher.interval_ns
            if not publisher.stale and now_ns > due_ns:
                publisher.stale = True
                self._changes.append(Change(publisher, "stale"))
