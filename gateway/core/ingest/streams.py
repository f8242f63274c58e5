"""What publishers' numbers show: loss, duplicates, late messages, restarts.

Each publisher numbers its messages per topic (see `envelope`), so a hole in the numbers is a loss
between publisher and gateway of a known range. One ZeroMQ connection keeps messages in order; a
message that arrives after a later one came over another connection, or a second time."""

import itertools
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from gateway.core.protocol.envelope import Envelope
from gateway.core.protocol.events import MissingRange


LOST_RANGES_MAX = 64
"""Lost ranges remembered per stream, to distinguish late messages from duplicates."""
UNREPORTED_MAX = 64
"""Ranges not reported yet per stream; if there are more, the newest are merged into one."""


Message = tuple[Envelope, bytes]
"""An envelope and its payload."""


class RepairState(Enum):
    """`gateway.core.ingest.recovery` explains the states and their transitions."""

    AWAITING_HEARTBEAT = auto()
    QUEUED = auto()
    REQUESTED = auto()
    DONE = auto()


@dataclass(slots=True)
class Repair:
    """The messages from `first` to `last` that a stream waits for, and those that it holds meanwhile."""

    first: int
    last: int
    is_lost: bool
    """Whether the missing messages count as lost; else they are older than this gateway's start."""
    state: RepairState
    until_ns: int = 0
    """When to stop waiting for the first heartbeat, or for the reply."""
    request: int = 0
    """The number of the request under way."""
    replayed: deque[Message] = field(default_factory=deque)
    held: deque[Message] = field(default_factory=deque)


@dataclass(slots=True, eq=False)
class Stream:
    """One topic of one publisher's incarnation."""

    incarnation: int
    topic: str
    newest: int
    """Every message up to this number was released, is in a missing range, or was never expected."""
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
    """The last number, once the publisher has ended."""

    def add_missing(self, missing: MissingRange) -> None:
        """Add a range behind `newest` to those that the next event reports."""
        unreported = self.unreported
        self.newest = max(self.newest, missing.last)
        if unreported and (unreported[-1].reason == missing.reason or len(unreported) >= UNREPORTED_MAX):
            missing = MissingRange(unreported.pop().first, missing.last, missing.reason)
        unreported.append(missing)

    def take_unreported(self) -> tuple[MissingRange, ...]:
        unreported, self.unreported = tuple(self.unreported), []
        return unreported


class Streams:
    """All streams; if there are more than `streams_max`, the least recently used is forgotten."""

    def __init__(self, *, streams_max: int) -> None:
        self.lost = 0
        """Messages that were reported as lost, with those that came late."""
        self.duplicates = 0
        """Messages that came again, and were dropped."""
        self.late = 0
        """Messages that came after their loss was reported, and were dropped."""
        self.started = 0
        """Starts and restarts of publishers, counted per topic."""
        self.has_forgotten = False
        """Whether any stream was forgotten: then a stream that seems new may not be."""
        self._streams_max = streams_max
        self._streams: OrderedDict[tuple[int, str], Stream] = OrderedDict()
        self._topics: dict[str, dict[Stream, None]] = {}

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._streams.values())

    def __len__(self) -> int:
        return len(self._streams)

    def get(self, incarnation: int, topic: str) -> Stream | None:
        """Return a stream and mark it as used; None if it is not known."""
        key = (incarnation, topic)
        stream = self._streams.get(key)
        if stream is not None:
            self._streams.move_to_end(key)
        return stream

    def has_topic(self, topic: str) -> bool:
        return topic in self._topics

    def before(self, stream: Stream) -> Iterator[Stream]:
        """Return the streams of the same topic that started before one."""
        return itertools.takewhile(lambda other: other is not stream, self._topics.get(stream.topic, ()))

    def start_stream(self, incarnation: int, topic: str, *, newest: int) -> Stream:
        """Add a stream whose messages up to `newest` are not expected."""
        stream = Stream(incarnation, topic, newest)
        self._streams[incarnation, topic] = stream
        self._topics.setdefault(topic, {})[stream] = None
        self.started += 1
        if len(self._streams) > self._streams_max:
            self._forget()
        return stream

    def add_lost(self, stream: Stream, first: int, last: int) -> None:
        """Count messages as lost, and report them."""
        stream.add_missing(MissingRange(first, last, "bus_loss"))
        stream.lost_ranges.append((first, last))
        del stream.lost_ranges[:-LOST_RANGES_MAX]
        stream.lost += last - first + 1
        self.lost += last - first + 1

    def count_repeated(self, stream: Stream, sequence: int) -> None:
        """Count a message that is dropped, as late if it was reported as lost, else as duplicate."""
        for at, (first, last) in enumerate(stream.lost_ranges):
            if first <= sequence <= last:
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
        self.has_forgotten = True
