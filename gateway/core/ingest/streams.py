"""What publishers' own numbering shows: loss, duplicates, late messages, restarts.

Each publisher numbers its messages per topic (see `envelope`), so a hole in the numbers is a loss
between it and this gateway, and its range is known. Over one ZeroMQ connection messages keep their
order; a message that comes behind its successors came another way, or twice.
"""

import itertools
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from gateway.core.protocol.envelope import Envelope
from gateway.core.protocol.events import MissingRange


LOST_RANGES_MAX = 64
"""Lost ranges remembered per stream, to tell late messages from duplicates; the oldest are forgotten."""
UNREPORTED_MAX = 64
"""Ranges that may wait to be reported with a stream's next event; beyond it, one stands for several."""


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
    """One topic of one publisher's incarnation, and what became of its messages."""

    incarnation: int
    topic: str
    newest: int
    """Up to here every message was released, or is in a missing range."""
    first: int = 0
    last_ns: int = 0
    lost: int = 0
    duplicates: int = 0
    late: int = 0
    lost_ranges: list[tuple[int, int]] = field(default_factory=list)
    unreported: list[MissingRange] = field(default_factory=list)
    repair: Repair | None = None
    unwatched: bool = False
    """Whether its topic is not subscribed to now."""
    final: int | None = None
    """The last number, once the publisher has said farewell."""

    def miss(self, missing: MissingRange) -> None:
        """Note that messages will not come, for the next event to report."""
        unreported = self.unreported
        self.newest = max(self.newest, missing.last)
        if unreported and (
            unreported[-1].reason == missing.reason or len(unreported) >= UNREPORTED_MAX
        ):
            missing = MissingRange(unreported.pop().first, missing.last, missing.reason)
        unreported.append(missing)

    def take_unreported(self) -> tuple[MissingRange, ...]:
        """Return the ranges that were not reported yet."""
        unreported, self.unreported = tuple(self.unreported), []
        return unreported


class Streams:
    """All streams; beyond `streams_max` those silent for longest are forgotten."""

    def __init__(self, *, streams_max: int) -> None:
        self.lost = 0
        """Messages that were published and never came, the late ones included."""
        self.duplicates = 0
        """Messages that came again, and were dropped."""
        self.late = 0
        """Messages that came after their loss was reported, and were dropped."""
        self.begun = 0
        """Streams that began: a publisher's start or restart, per topic."""
        self.forgetful = False
        """Whether streams were forgotten: one that seems new may have been known."""
        self._streams_max = streams_max
        self._streams: OrderedDict[tuple[int, str], Stream] = OrderedDict()
        self._topics: dict[str, dict[Stream, None]] = {}

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._streams.values())

    def __len__(self) -> int:
        return len(self._streams)

    def get(self, incarnation: int, topic: str) -> Stream | None:
        """Return a stream that is known; it will be the last to be forgotten."""
        key = (incarnation, topic)
        stream = self._streams.get(key)
        if stream is not None:
            self._streams.move_to_end(key)
        return stream

    def is_known(self, topic: str) -> bool:
        """Return whether a topic has streams."""
        return topic in self._topics

    def before(self, stream: Stream) -> Iterator[Stream]:
        """Return the streams that began before one on the same topic."""
        return itertools.takewhile(
            lambda other: other is not stream, self._topics.get(stream.topic, ())
        )

    def begin(self, incarnation: int, topic: str, *, newest: int) -> Stream:
        """Add a stream; its messages up to `newest` are not expected."""
        stream = Stream(incarnation, topic, newest)
        self._streams[incarnation, topic] = stream
        self._topics.setdefault(topic, {})[stream] = None
        self.begun += 1
        if len(self._streams) > self._streams_max:
            self._forget()
        return stream

    def lose(self, stream: Stream, first: int, last: int) -> None:
        """Count messages as lost."""
        stream.miss(MissingRange(first, last, "bus_loss"))
        stream.lost_ranges.append((first, last))
        del stream.lost_ranges[:-LOST_RANGES_MAX]
        stream.lost += last - first + 1
        self.lost += last - first + 1

    def repeat(self, stream: Stream, sequence: int) -> None:
        """Count a message that is to be dropped: it was released before, or counted as lost."""
        for at, (first, last) in enumerate(stream.lost_ranges):
            if first <= sequence <= last:
                # It splits the range that was lost.
                parts = [(first, sequence - 1), (sequence + 1, last)]
                stream.lost_ranges[at : at + 1] = [part for part in parts if part[0] <= part[1]]
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
