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


_FORGET_ATTEMPTS = 64

Message = tuple[Envelope, bytes]
"""An envelope and its payload."""


class NoRoom(Exception):
    """No stream can be forgotten to make room for another one."""


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
    sent_ns: int = 0
    """The newest time of sending."""
    transit_ns: int | None = None
    """From sending by the publisher's clock to receipt, of the message that came last."""
    tick: int = 0
    """The last tick in which it released a message."""
    has_awaited: bool = False
    """Whether it has waited for its publisher's first heartbeat."""
    again: int = 0
    """The last number that came again with a newer time of sending."""
    end_ns: int = -1
    """When it was last reported that the end of the stream may be missing."""

    def add_missing(self, missing: MissingRange) -> None:
        """Add a range behind `newest` to those that the next event reports."""
        unreported = self.unreported
        self.newest = max(self.newest, missing.last)
        if unreported and (unreported[-1].reason == missing.reason or len(unreported) >= UNREPORTED_MAX):
            missing = MissingRange(unreported.pop().first, missing.last, missing.reason)
        unreported.append(missing)

    def add_unknown_end(self, now_ns: int) -> bool:
        """Add that further messages may be missing; return False if none has come since this was last added."""
        if self.final is not None or self.last_ns <= self.end_ns:
            return False
        self.end_ns = now_ns
        self.unreported.append(MissingRange(self.newest, self.newest, "epoch"))
        return True

    def has_restarted(self, sequence: int) -> bool:
        """Return whether the publisher counts from the start again, with the same incarnation.

        To be asked about a number up to `newest` that was sent later than everything before. If it was
        released already, this is no duplicate. If it is not 1, a second one in a row has to prove it."""
        if self.is_lost(sequence):
            return False
        before, self.again = self.again, sequence
        return sequence in {1, before + 1}

    def is_lost(self, sequence: int) -> bool:
        return any(first <= sequence <= last for first, last in self.lost_ranges)

    def take_unreported(self) -> tuple[MissingRange, ...]:
        unreported, self.unreported = tuple(self.unreported), []
        return unreported


class Streams:
    """All streams, at most `streams_max`."""

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

    def of_topic(self, topic: str) -> Iterator[Stream]:
        return iter(self._topics.get(topic, ()))

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
        return stream

    def oldest(self) -> Iterator[Stream]:
        """Yield the least recently used streams, some of them, if there is no room for another one."""
        if len(self._streams) >= self._streams_max:
            self.has_forgotten = True
            yield from list(itertools.islice(self._streams.values(), _FORGET_ATTEMPTS))

    def forget(self, stream: Stream) -> None:
        del self._streams[stream.incarnation, stream.topic]
        self.forget_replaced(stream)

    def forget_replaced(self, stream: Stream) -> None:
        """Forget a stream if it is not the current one of its incarnation and topic."""
        of_topic = self._topics.get(stream.topic, {})
        if self._streams.get((stream.incarnation, stream.topic)) is not stream:
            of_topic.pop(stream, None)
            if not of_topic:
                self._topics.pop(stream.topic, None)

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
