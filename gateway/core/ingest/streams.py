"""What publishers' own numbering tells: loss, duplicates, latecomers, restarts.

Each publisher numbers its messages per topic (see `envelope`), so a hole in the numbers is a loss
between it and this gateway, named exactly. Over one ZeroMQ connection messages keep their order;
what comes behind its successors came another way, or twice.
"""

import itertools
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from gateway.core.protocol.envelope import Envelope
from gateway.core.protocol.events import MissingRange


LOST_RANGES_MAX = 64
"""Holes remembered per stream, to tell a latecomer from a duplicate; the oldest are forgotten."""
UNREPORTED_MAX = 64
"""Holes that may wait to be told with a stream's next event; beyond it, one stands for several."""


Message = tuple[Envelope, bytes]
"""An envelope and its payload."""


class RepairState(Enum):
    """How far a repair is; `gateway.core.ingest.recovery` explains the transitions."""

    GREETING = auto()
    QUEUED = auto()
    REQUESTED = auto()
    DONE = auto()


@dataclass(slots=True)
class Repair:
    """What a stream waits for: its messages from `first` to `last`, before those that are held."""

    first: int
    last: int
    is_lost: bool
    """Whether those that do not come are lost; else they are older than this gateway."""
    state: RepairState
    until_ns: int = 0
    """When a first heartbeat or a reply is overdue."""
    request: int = 0
    """The number of the request that is under way."""
    replayed: deque[Message] = field(default_factory=deque)
    held: deque[Message] = field(default_factory=deque)


@dataclass(slots=True, eq=False)
class Stream:
    """One topic of one publisher's life, and what became of its messages."""

    incarnation: int
    topic: str
    newest: int
    """Up to here everything was let through, or is a hole."""
    first: int = 0
    last_ns: int = 0
    lost: int = 0
    duplicates: int = 0
    late: int = 0
    missing: list[tuple[int, int]] = field(default_factory=list)
    unreported: list[MissingRange] = field(default_factory=list)
    repair: Repair | None = None
    unwatched: bool = False
    """Whether its topic is not fetched now."""
    final: int | None = None
    """The last number, once the publisher has said farewell."""

    def miss(self, hole: MissingRange) -> None:
        """Note that messages will not come, for the next event to tell."""
        unreported = self.unreported
        self.newest = max(self.newest, hole.last)
        if unreported and (
            unreported[-1].reason == hole.reason or len(unreported) >= UNREPORTED_MAX
        ):
            hole = MissingRange(unreported.pop().first, hole.last, hole.reason)
        unreported.append(hole)

    def take_unreported(self) -> tuple[MissingRange, ...]:
        """Return the holes that nobody was told of."""
        told, self.unreported = tuple(self.unreported), []
        return told


class Streams:
    """All streams heard lately; at most `streams_max`, the longest silent are forgotten."""

    def __init__(self, *, streams_max: int) -> None:
        self.lost = 0
        """Messages that were published and never came, the late ones included."""
        self.duplicates = 0
        """Messages that came again, and went no further."""
        self.late = 0
        """Messages that came after their loss had been named, and went no further."""
        self.begun = 0
        """Streams heard for the first time: a publisher's start or restart, per topic."""
        self.forgetful = False
        """Whether streams were forgotten: one that seems new may be one of them."""
        self._streams_max = streams_max
        self._streams: OrderedDict[tuple[int, str], Stream] = OrderedDict()
        self._topics: dict[str, dict[Stream, None]] = {}

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._streams.values())

    def __len__(self) -> int:
        return len(self._streams)

    def get(self, incarnation: int, topic: str) -> Stream | None:
        """Return a stream that is known; it is the last to be forgotten now."""
        key = (incarnation, topic)
        stream = self._streams.get(key)
        if stream is not None:
            self._streams.move_to_end(key)
        return stream

    def is_known(self, topic: str) -> bool:
        """Tell whether any publisher was heard on a topic."""
        return topic in self._topics

    def before(self, stream: Stream) -> Iterator[Stream]:
        """Return the streams that began before one on the same topic."""
        return itertools.takewhile(
            lambda other: other is not stream, self._topics.get(stream.topic, ())
        )

    def begin(self, incarnation: int, topic: str, *, newest: int) -> Stream:
        """Take in a stream that was not known; what it had up to `newest` is not asked for."""
        stream = Stream(incarnation, topic, newest)
        self._streams[incarnation, topic] = stream
        self._topics.setdefault(topic, {})[stream] = None
        self.begun += 1
        if len(self._streams) > self._streams_max:
            self._forget()
        return stream

    def lose(self, stream: Stream, first: int, last: int) -> None:
        """Give messages up."""
        stream.miss(MissingRange(first, last, "bus_loss"))
        stream.missing.append((first, last))
        del stream.missing[:-LOST_RANGES_MAX]
        stream.lost += last - first + 1
        self.lost += last - first + 1

    def repeat(self, stream: Stream, sequence: int) -> None:
        """Note a message that must go no further: it was let through before, or given up."""
        for at, (first, last) in enumerate(stream.missing):
            if first <= sequence <= last:
                # It fills a part of a hole: what is left of it are up to two smaller ones.
                parts = [(first, sequence - 1), (sequence + 1, last)]
                stream.missing[at : at + 1] = [part for part in parts if part[0] <= part[1]]
                stream.late += 1
                self.late += 1
                return
        stream.duplicates += 1
        self.duplicates += 1

    def _forget(self) -> None:
        _, stream = self._streams.popitem(last=False)
        of_topic = self._topics[stream.topic]
        del of_topic[stream]
        if not of_topic:
            del self._topics[stream.topic]
        self.forgetful = True
