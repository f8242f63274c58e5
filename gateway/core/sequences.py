"""What publishers' own numbering tells: loss, duplicates, latecomers, restarts.

Each publisher numbers its messages per topic (see `envelope`), so a hole in the numbers is a loss
between it and this gateway, named exactly. Over one ZeroMQ connection messages keep their order;
what comes behind its successors came another way, or twice.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass

from gateway.core.envelope import Envelope


JOIN_NS = 10_000_000_000
"""How long after its own start a gateway takes publishers for older than itself."""
HOLES_MAX = 64
"""Holes remembered per stream, to tell a latecomer from a duplicate; the oldest are forgotten."""


@dataclass(slots=True)
class Stream:
    """One topic of one publisher's life, and what became of its messages."""

    incarnation: int
    topic: str
    first: int
    newest: int
    holes: list[tuple[int, int]]
    last_ns: int
    lost: int = 0
    duplicates: int = 0
    late: int = 0


class Sequences:
    """All streams heard lately; at most `streams_max`, the longest silent are forgotten.

    `started_ns` is when the gateway began to listen.
    """

    def __init__(self, *, streams_max: int, started_ns: int) -> None:
        self._started_ns = started_ns
        self._forgotten = False
        self._topics: Counter[str] = Counter()
        self.lost = 0
        """Messages that were published and never came, the late ones included."""
        self.duplicates = 0
        """Messages that came again, and went no further."""
        self.late = 0
        """Messages that came after their loss had been named, and went no further."""
        self.incarnations = 0
        """Streams heard for the first time: a publisher's start or restart, per topic."""
        self._streams_max = streams_max
        self._streams: OrderedDict[tuple[int, str], Stream] = OrderedDict()

    @property
    def streams(self) -> list[Stream]:
        """The streams known, the longest silent first."""
        return list(self._streams.values())

    def note(self, envelope: Envelope, topic: str, *, now_ns: int) -> int | None:
        """Take in a message's number.

        Returns how many messages were lost right before it, or None if it must go no further,
        because it was delivered before or its loss was. A stream that is heard for the first time
        has lost what it published before, unless it may be older than this gateway, or one that
        was forgotten: then nothing is known of what came before.
        """
        key = (envelope.incarnation, topic)
        stream = self._streams.get(key)
        sequence = envelope.sequence
        if stream is None:
            return self._begin(key, sequence, now_ns)
        self._streams.move_to_end(key)
        stream.last_ns = now_ns
        missing = sequence - stream.newest - 1
        if missing < 0:
            self._again(stream, sequence)
            return None
        if missing:
            self._lose(stream, stream.newest + 1, sequence - 1)
        stream.newest = sequence
        return missing

    def _begin(self, key: tuple[int, str], sequence: int, now_ns: int) -> int:
        incarnation, topic = key
        stream = Stream(incarnation, topic, sequence, sequence, [], now_ns)
        restarted = self._topics[topic] > 0
        joined = not restarted and now_ns < self._started_ns + JOIN_NS
        self._streams[key] = stream
        self._topics[topic] += 1
        self.incarnations += 1
        if sequence == 1 or joined or self._forgotten:
            missing = 0
        else:
            missing = sequence - 1
            self._lose(stream, 1, missing)
        if len(self._streams) > self._streams_max:
            self._forget()
        return missing

    def _forget(self) -> None:
        _, stream = self._streams.popitem(last=False)
        self._topics[stream.topic] -= 1
        if not self._topics[stream.topic]:
            del self._topics[stream.topic]
        self._forgotten = True

    def _lose(self, stream: Stream, first: int, last: int) -> None:
        stream.holes.append((first, last))
        del stream.holes[:-HOLES_MAX]
        stream.lost += last - first + 1
        self.lost += last - first + 1

    def _again(self, stream: Stream, sequence: int) -> None:
        for at, (first, last) in enumerate(stream.holes):
            if first <= sequence <= last:
                # It fills a part of a hole: what is left of it are up to two smaller ones.
                parts = [(first, sequence - 1), (sequence + 1, last)]
                stream.holes[at : at + 1] = [part for part in parts if part[0] <= part[1]]
                stream.late += 1
                self.late += 1
                return
        stream.duplicates += 1
        self.duplicates += 1
