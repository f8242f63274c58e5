"""Which replay requests may be sent: few at once to each publisher, and to few publishers at once. Others wait."""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator

from gateway.core.ingest.streams import Stream


REQUESTS_OPEN_MAX = 8
"""Requests under way to one publisher."""
PUBLISHERS_ASKED_MAX = 64
"""Publishers to which requests are under way: each may take a socket."""


class ReplayTurns:
    """The requests that are under way, and the streams whose requests wait, by publisher."""

    def __init__(self) -> None:
        self._open: Counter[int] = Counter()
        self._queued: dict[int, OrderedDict[Stream, None]] = {}

    def begin(self, stream: Stream) -> bool:
        """Count a stream's request as under way; if it may not be sent yet, queue the stream and return False."""
        publisher = stream.incarnation
        if not self._may_ask(publisher):
            self._queued.setdefault(publisher, OrderedDict())[stream] = None
            return False
        self._open[publisher] += 1
        return True

    def finish(self, stream: Stream) -> Iterator[Stream]:
        """Count a request as ended; yield the streams whose requests may follow, those of its publisher first.

        The caller begins each of their requests, or does without it."""
        self._open -= Counter([stream.incarnation])
        yield from self._next_of(stream.incarnation)
        while len(self._open) < PUBLISHERS_ASKED_MAX:
            waiting = next((one for one in self._queued if one not in self._open), None)
            if waiting is None:
                return
            yield from self._next_of(waiting)

    def drop_queued(self, publisher: int) -> Iterable[Stream]:
        """Forget and return the streams that wait for a publisher."""
        return self._queued.pop(publisher, ())

    def _may_ask(self, publisher: int) -> bool:
        count = self._open.get(publisher, 0)
        return count < REQUESTS_OPEN_MAX if count else len(self._open) < PUBLISHERS_ASKED_MAX

    def _next_of(self, publisher: int) -> Iterator[Stream]:
        queued = self._queued.get(publisher)
        while queued and self._may_ask(publisher):
            yield queued.popitem(last=False)[0]
        if not queued:
            self._queued.pop(publisher, None)
