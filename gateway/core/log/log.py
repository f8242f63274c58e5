"""One channel's log as readers have it, and its copy in another process."""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from itertools import chain
from operator import attrgetter

import msgspec
from msgspec import Struct

from gateway.core.log.gaps import behind, gap_of, is_end
from gateway.core.log.places import LogPlaces
from gateway.core.log.sources import SOURCES_MAX, Cursor, Entry, Forgotten, Source, SourceState, make_position
from gateway.core.protocol.frames import text_frame
from gateway.core.protocol.messages import Gap


_READ_MAX = 4096
_received = attrgetter("received_ns")


class LogState(Struct, frozen=True, array_like=True):
    """A whole log, for a replica in another process."""

    name: str
    sources: list[SourceState]
    own: SourceState
    at: int
    floor: int
    floor_source: str
    newest_source: str
    begins: bool
    entries: list[Entry]
    current: list[Entry]
    ends: list[Entry]
    forgotten: Forgotten | None
    values_dropped: int


class ChannelLog(LogPlaces):
    """The log of one channel: what is read from it."""

    def read(self, after: Cursor, *, bytes_max: int) -> list[Entry]:
        """Return the oldest entries held behind a place: about `bytes_max`, at least one.

        For the evicted ones see `missing`."""
        at = self._index(after)
        batch: list[Entry] = []
        size = 0
        for entry in self._uncovered(after, self._entries[at : at + _READ_MAX]):
            batch.append(entry)
            size += len(entry.frame)
            if size >= bytes_max:
                break
        if not batch and len(self._entries) > at + _READ_MAX:  # all of these are covered
            rest = self._uncovered(after, self._entries[at + _READ_MAX :])
            batch = list(rest)[:_READ_MAX]
        return batch

    def _uncovered(self, after: Cursor, entries: Iterable[Entry | None]) -> Iterable[Entry]:
        """Yield what a place does not cover; of a gap that it is within, only what is missing behind it.

        A gap that begins a source comes, up to the place, also if only the ends that it reports are not covered."""
        if after.plain:
            yield from entries  # type: ignore[misc]
            return
        have = self.have(after)
        for entry in entries:
            assert entry is not None
            offset = have(entry.source)
            if not self._covers(entry, offset):
                yield entry if entry.is_event or offset <= entry.before else behind(offset, entry)
            elif not entry.is_event and self._ended_before(entry):
                yield msgspec.structs.replace(entry, before=offset, offset=offset)

    def held(self, after: Cursor, until: Cursor | None = None) -> list[Entry]:
        """Return all entries held behind a place, up to another or to the newest."""
        end = None if until is None or until.at == self.at else self._index(until)
        return list(self._uncovered(after, self._entries[self._index(after) : end]))

    def lag(self, after: Cursor) -> int:
        """Return how many entries there are behind a place, with the evicted ones."""
        held = len(self._entries) - self._index(after)
        return held + sum(gap.count or 0 for gap in self.missing(after))

    def count_since(self, received_ns: int) -> int:
        """Return how many of the held entries were received at that time or later."""
        at = bisect_left(self._entries, received_ns, lo=self._head, key=_received)
        return len(self._entries) - at

    def before_last(self, events: int) -> Cursor:
        """Return the place before the newest `events` events, or before the oldest one held."""
        at = len(self._entries)
        while events > 0 and at > self._head:
            at -= 1
            entry = self._entries[at]
            assert entry is not None
            events -= entry.is_event
        return self.cursor_at(self.floor + at - self._head)

    def before_current(self) -> Cursor:
        """Return a place before the newest events of all keys; they may be evicted."""
        oldest = next(iter(self._current), None)
        if oldest is None:
            return self.newest
        if oldest.at > self.floor:
            return self.cursor_at(oldest.at - 1)
        offsets = self.start.position.offsets
        for entry in reversed(self._current):
            if entry.source in offsets:
                offsets[entry.source] = min(offsets[entry.source], entry.before)
        first = oldest.source if oldest.source in offsets else next(iter(offsets))
        return Cursor(oldest.at - 1, make_position(offsets, first))

    def current(self, after: Cursor) -> list[Entry]:
        """Return the newest event of each key, if it is behind a place, in order."""
        found: list[Entry] = []
        for entry in reversed(self._current):
            if entry.at <= after.at:
                break
            found.append(entry)
        found.reverse()
        return [one for one in self._uncovered(after, found) if one.source in self._sources]

    def missing(self, after: Cursor, *, until: int | None = None) -> list[Gap]:
        """Return a gap for each source of which something behind a place is not held, and those for ends of sources,
        up to an ordinal."""
        if after.plain and after.at >= self.floor:
            return []
        have, gaps = self.have(after), []
        for source in self._sources.values():
            offset = have(source.id)
            if offset < source.floor:
                first, count = offset + 1, source.floor - offset
                gaps.append(self.gap("evicted", source.id, source.floor, first=first, count=count))
        if self.forgotten is not None and after.at < self.forgotten.floor:
            gaps.insert(0, self.gap("epoch", self.forgotten.id, None))
        ends = [one for one in self._ends if one.at > after.at and (until is None or one.at <= until)]
        if not after.plain:
            ends = list(self._uncovered(after, [one for one in ends if one.source in self._sources]))
        return [*chain.from_iterable(map(self.ends, ends)), *gaps]

    def ends(self, gap: Entry) -> list[Gap]:
        """Return what a gap for ends says to one for whom it was read: if that has what it begins, only the others' ends."""
        begun = self._sources.get(gap.source)
        ended = self._ended_before(gap) if begun is not None and gap.offset > begun.base else []
        return [self.gap("epoch", one.id, None) for one in ended] or [gap_of(gap)]

    def with_source(self, entry: Entry) -> bytes:
        """Return the frame of an event, with its source's id."""
        if not entry.is_event or entry.begins or entry.mixed:
            return entry.frame
        start = b"%b%d," % (self._prefix, entry.offset)
        return text_frame(b'%b"epoch":"%b",%b' % (start, entry.source.encode(), entry.json[len(start) :]))

    def _index(self, after: Cursor) -> int:
        return self._head + max(after.at - self.floor, 0)

    # -- replicas ------------------------------------------------------------------------------

    @property
    def state(self) -> LogState:
        entries = [entry for entry in self._entries[self._head :] if entry is not None]
        return self._state(self.floor, self._floor_source.id, entries, list(self._current))

    @property
    def empty_state(self) -> LogState:
        """The same log as if all that it holds had been evicted."""
        return self._state(self.at, self._source.id, [], [])

    def _state(self, floor: int, floor_source: str, entries: list[Entry], current: list[Entry]) -> LogState:
        sources = [one.state for one in self._sources.values()]
        if not entries:
            sources = [msgspec.structs.replace(one, floor=one.newest) for one in sources]
        ends = [one for one in self._entries[self._head :] if one is not None and is_end(one)] if not entries else []
        return LogState(
            self.name,
            sources,
            self._own.state,
            self.at,
            floor,
            floor_source,
            self._source.id,
            self._begins,
            entries,
            current,
            [*self._ends, *ends],
            self.forgotten,
            self.values_dropped,
        )

    def load_state(self, state: LogState) -> None:
        """Hold the same entries as another log with the same retention."""
        sources = {one.id: Source(*msgspec.structs.astuple(one)) for one in state.sources}
        own = sources.get(state.own.id) or Source(*msgspec.structs.astuple(state.own))
        size = 0
        for entry in state.entries:
            newest = sources[entry.source].newest
            sources[entry.source].hold(entry)
            sources[entry.source].newest = newest
            size += entry.size
        by_id = {own.id: own, **sources}
        newest_source, floor_source = by_id[state.newest_source], by_id[state.floor_source]
        self._own, self._sources = own, sources
        self._source, self._floor_source = newest_source, floor_source
        self._live = sum(one.ended is None for one in sources.values())
        self._begins = state.begins
        self._ends = deque(state.ends, SOURCES_MAX)
        self.forgotten = state.forgotten
        self.at, self.floor, self._newest = state.at, state.floor, None
        self._entries, self._head = list(state.entries), 0
        self.usage.bytes += size - self._history_bytes
        self._history_bytes = size
        self._current.load(state.current, floor=self.floor, dropped=state.values_dropped)

    def replicate(self, entry: Entry) -> None:
        """Hold the next entry of the log that this one is a replica of. Raises ValueError: it is not the next."""
        if entry.at != self.at + 1:
            raise ValueError(f"{self.name}: entry {entry.at} does not follow {self.at}")
        source = self._sources.get(entry.source)
        if source is None:
            source = self._open_replica(entry)
        if source.ended is not None:
            self._go_on(source, entry.received_ns)
        if entry.is_event and not entry.mixed and self._live > 1:
            self._end_others(source)
        self._begins = entry.mixed or not entry.is_event
        ends = is_end(entry)
        if ends and source.began == self.at:
            self._end_others(source)
        msgspec.structs.force_setattr(entry, "source", source.id)  # one object for all
        self._hold(entry, source)
        if ends and source.began < entry.at - 1:
            self._end(source)

    def _open_replica(self, entry: Entry) -> Source:
        if entry.source == self._own.id:
            return self._add_source(self._own, entry.before)
        return self._add_source(Source(entry.source, int(entry.source, 16)), entry.before)
