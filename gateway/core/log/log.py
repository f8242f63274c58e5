"""One channel's recent events: numbered, encoded once, bounded by count, bytes and age.

A log is a list of entries, events and gaps, in the order of their arrival. It never waits for a
reader: `append` evicts the oldest entries, and a reader whose place is evicted gets a gap for each source.

Which source numbers an event:

    the event comes from                                     source
    a publisher, with a number higher than all before        the publisher's incarnation
    anything else                                            the gateway

A publisher whose number is not higher has restarted with the same incarnation: from then on the gateway numbers its
events. A new publisher ends each other one that `has_ended`. If it is the only live one then, a gap of its own says
that the end of the earlier ones is not known; else each ends with a gap, unless it said that it stops.

Invariants: ordinals ascend by one; the offsets of a source ascend; a position never stands for two events; all
entries behind the ordinal ``floor`` are held; the newest entry is never evicted. An event has its source's id if the entry before
it is of another source, or if several sources are live; so has every gap. The newest event of each key outlives
its eviction."""

from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

import msgspec
from msgspec import Struct

from gateway.core.log.sources import (
    OFFSET_MAX,
    QUIET_NS,
    SOURCES_MAX,
    Cursor,
    Entry,
    Source,
    SourceState,
    make_position,
)
from gateway.core.protocol.events import Event, MissingRange
from gateway.core.protocol.frames import text_frame
from gateway.core.protocol.messages import Gap, GapReason, Position


_READ_MAX = 4096
_decode = msgspec.json.Decoder().decode
_decode_gap = msgspec.json.Decoder(Gap).decode
_at, _received = attrgetter("at"), attrgetter("received_ns")


@dataclass(frozen=True, slots=True)
class Retention:
    """How much a log holds; `age_ns_max` of 0 sets no limit.

    `key` is the path of the member by which events replace each other, such as ``("data", "host")``:
    the log also keeps the newest event of each key, for the `keys_max` keys that changed last."""

    events_max: int = 1000
    bytes_max: int = 16 * 1024 * 1024
    age_ns_max: int = 0
    key: tuple[str, ...] = ()
    keys_max: int = 1000


class Usage:
    """How many bytes several logs hold together."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


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


class Resumed(Struct, frozen=True):
    """Where a client's position leads to, and the sources that it names and that are not known here."""

    cursor: Cursor
    lost: list[str]
    is_new: bool = False
    """Whether none of its sources is known: then it starts with the oldest entry."""


class ChannelLog:
    """The entries of one channel.

    `at` is the ordinal of the newest entry, `floor` that of the last evicted one. `has_ended` is called with an
    incarnation when another one begins, and returns whether it may have ended."""

    def __init__(self, name: str, *, epoch: str, retention: Retention, usage: Usage | None = None) -> None:
        self.name = name
        self.usage = usage or Usage()
        self.retention = retention
        self.has_ended: Callable[[int], bool] = lambda _incarnation: True
        self.bytes = 0
        self.at = 0
        self.floor = 0
        self.forgotten = 0
        """How many keys' current values were dropped because of `keys_max`."""
        self.has_forgotten = False
        """Whether a source was forgotten: then one that seems new may not be."""
        self._own = Source(epoch)
        self._sources: dict[str, Source] = {}
        self._source = self._own
        """That of the newest entry."""
        self._floor_source = self._own
        self._live = 0
        """How many of the sources have not ended."""
        self._begins = True
        """Whether the next event has to have its source's id."""
        self._newest: Cursor | None = None
        self._ends: deque[Entry] = deque(maxlen=SOURCES_MAX)
        """The evicted gaps that say that the end of a source is not known: no offset shows that they are missing."""
        # A list with a moving head: a read from the middle of a deque takes time in its length.
        self._entries: list[Entry | None] = []
        self._head = 0
        self._current: OrderedDict[str, Entry] = OrderedDict()
        self._prefix = b'{"type":"event","channel":"%b","offset":' % name.encode()

    def __len__(self) -> int:
        return len(self._entries) - self._head

    @property
    def newest(self) -> Cursor:
        found = self._newest
        if found is None:
            found = self._newest = self.cursor_at(self.at)
        return found

    @property
    def position(self) -> Position:
        return self.newest.position

    @property
    def start(self) -> Cursor:
        """The place before the oldest entry held."""
        return self.cursor_at(self.floor)

    @property
    def is_mixed(self) -> bool:
        """Whether several sources are live: then every event has its source's id."""
        return self._live > 1

    @property
    def is_numbered(self) -> bool:
        """Whether any publisher has numbered events here."""
        return any(one.incarnation is not None for one in self._sources.values())

    def reached(self, incarnation: int) -> int | None:
        """Return how far a publisher's messages have come; 0 if there are none, None if that is not known."""
        source = self._sources.get(f"{incarnation:016x}")
        if source is None:
            return None if self.has_forgotten else 0
        return None if source.retired else source.newest

    # -- replicas ------------------------------------------------------------------------------

    @property
    def state(self) -> LogState:
        entries = [entry for entry in self._entries[self._head :] if entry is not None]
        return self._state(self.floor, self._floor_source.id, entries, list(self._current.values()))

    @property
    def empty_state(self) -> LogState:
        """The same log as if all that it holds had been evicted."""
        return self._state(self.at, self._source.id, [], [])

    def _state(self, floor: int, floor_source: str, entries: list[Entry], current: list[Entry]) -> LogState:
        sources = [one.state for one in self._sources.values()]
        if not entries:
            sources = [msgspec.structs.replace(one, floor=one.newest) for one in sources]
        ends = [one for one in self._entries[self._head :] if one is not None and _is_end(one)] if not entries else []
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
            size += len(entry.frame)
        by_id = {own.id: own, **sources}
        newest_source, floor_source = by_id[state.newest_source], by_id[state.floor_source]
        current = OrderedDict((entry.key, entry) for entry in state.current)
        self._own, self._sources = own, sources
        self._source, self._floor_source = newest_source, floor_source
        self._live = sum(one.ended is None for one in sources.values())
        self._begins = state.begins
        self._ends = deque(state.ends, SOURCES_MAX)
        self.at, self.floor, self._newest = state.at, state.floor, None
        self._entries, self._head = list(state.entries), 0
        self.usage.bytes += size - self.bytes
        self.bytes = size
        self._current = current

    def replicate(self, entry: Entry) -> None:
        """Hold the next entry of the log that this one is a replica of. Raises ValueError: it is not the next."""
        if entry.at != self.at + 1:
            raise ValueError(f"{self.name}: entry {entry.at} does not follow {self.at}")
        source = self._sources.get(entry.source)
        if source is None:
            source = self._open_replica(entry)
        if source.ended is not None:
            self._go_on(source)
        if entry.is_event and not entry.mixed and self._live > 1:
            self._end_others(source)
        self._begins = entry.mixed or not entry.is_event
        is_end = _is_end(entry)
        if is_end and source.began == self.at:
            self._end_others(source)
        msgspec.structs.force_setattr(entry, "source", source.id)  # one object for all
        self._hold(entry, source)
        if is_end and source.began < entry.at - 1:
            self._end(source)

    def _open_replica(self, entry: Entry) -> Source:
        if entry.source == self._own.id:
            return self._add_source(self._own, entry.before)
        return self._add_source(Source(entry.source, int(entry.source, 16)), entry.before)

    # -- sources -------------------------------------------------------------------------------

    def _add_source(self, source: Source, base: int) -> Source:
        if len(self._sources) >= SOURCES_MAX:
            self._forget_source()
        source.base = source.newest = source.floor = base
        source.began = self.at
        source.ended = None
        self._sources[source.id] = source
        self._live += 1
        return source

    def _forget_source(self) -> None:
        """Forget the oldest source without entries; if there is none, evict until there is one."""
        while True:
            for source in self._sources.values():
                if not source.is_held and source is not self._own:
                    del self._sources[source.id]
                    self._live -= source.ended is None
                    self.has_forgotten = True
                    return
            self._drop_oldest()

    def _end_others(self, source: Source) -> None:
        for one in self._sources.values():
            if one not in (source, self._own) and one.ended is None:
                self._end(one)

    def _go_on(self, source: Source) -> None:
        source.go_on(self.at)
        self._live += 1

    def _end(self, source: Source) -> None:
        source.ended = self.at
        self._live -= 1
        self._begins = True
        self._newest = None

    def _arrive(self, event: Event) -> tuple[Source, list[Entry]]:
        """Return the source that numbers an event, and new gaps for what is missing before it."""
        missing, now_ns = event.missing, event.received_ns
        entries: list[Entry] = []
        source = self._own
        if event.incarnation is not None:
            id_ = f"{event.incarnation:016x}"
            known = self._sources.get(id_)
            if known is not None and not known.retired:  # it goes on: its numbers say what is missing
                missing = tuple(one for one in missing if one.reason != "epoch")
            first = missing[0].first if missing and missing[0].reason != "epoch" else event.sequence
            if known is not None and not known.retired and first <= known.newest:
                known.retired = True
                entries += self._report_end(known, now_ns)
            elif event.sequence <= OFFSET_MAX and (known is None or not known.retired):
                source = known or self._begin(event.incarnation, id_, first - 1, entries, now_ns)
        if source is self._own and self._own.id not in self._sources:
            self._add_source(source, source.newest)
        elif source.ended is not None:
            self._go_on(source)
        entries += [self._append_missing(source, one, now_ns) for one in missing]
        return source, entries

    def _begin(self, incarnation: int, id_: str, base: int, entries: list[Entry], now_ns: int) -> Source:
        """Begin a source; append gaps for earlier ones that have ended meanwhile."""
        live = [one for one in self._sources.values() if one.ended is None]
        ended = [one for one in live if one.incarnation is not None and self.has_ended(one.incarnation)]
        alone = len(ended) == len(live)
        for one in ended:
            if alone:
                self._end(one)
            else:
                entries += self._report_end(one, now_ns)
        source = self._add_source(Source(id_, incarnation), base)
        if ended and alone:
            entries.append(self._append_gap(source, base, None, None, "epoch", now_ns))
        return source

    def _report_end(self, source: Source, now_ns: int, count: int | None = None) -> list[Entry]:
        """Append a gap for what may be missing at the end of a source, unless it has ended."""
        if source.ended is not None:
            return []
        entry = self._append_gap(source, source.newest, None, count, "epoch", now_ns)
        self._end(source)
        return [entry]

    # -- append --------------------------------------------------------------------------------

    def append(self, event: Event) -> list[Entry]:
        """Number and encode an event; evict what exceeds the retention.

        Returns the new entries: gaps for what is missing before the event, then the event."""
        source = self._source
        entries: list[Entry] = []
        # Most events belong to the source of the one before and nothing is missing: decided here, for speed.
        if (
            event.missing
            or event.incarnation != source.incarnation
            or source.ended is not None
            or source.retired
            or not self.at
            or (event.incarnation is not None and not source.newest < event.sequence <= OFFSET_MAX)
        ):
            source, entries = self._arrive(event)
        before = source.newest
        offset = before + 1 if source.incarnation is None else event.sequence
        mixed = self._live > 1
        begins = not mixed and (self._begins or source is not self._source)
        if mixed or begins:
            epoch = b'"epoch":"%b",' % source.id.encode()
            frame = text_frame(b"%b%d,%b%b}" % (self._prefix, offset, epoch, event.fields))
        else:
            frame = text_frame(b"%b%d,%b}" % (self._prefix, offset, event.fields))
        self._begins = mixed
        key = self._key(event) if self.retention.key else ""
        at, received_ns = self.at + 1, event.received_ns
        entry = Entry(
            self.name, at, source.id, before, offset, frame, received_ns, event.sent_ns, True, key, begins, mixed
        )
        self._hold(entry, source)
        entries.append(entry)
        return entries

    def append_gaps(self, incarnation: int, missing: tuple[MissingRange, ...], *, now_ns: int) -> list[Entry]:
        """Append gaps for messages that are missing behind a publisher's newest event; return the gaps."""
        id_ = f"{incarnation:016x}"
        known = self._sources.get(id_)
        entries: list[Entry] = []
        for one in missing:
            if one.reason != "epoch":
                source = known or self._begin(incarnation, id_, one.first - 1, entries, now_ns)
                known = source
                if source.retired or one.last > OFFSET_MAX or one.first <= source.newest:
                    source = self._own if self._own.id in self._sources else self._add_source(self._own, 0)
                if source.ended is not None:
                    self._go_on(source)
                entries.append(self._append_missing(source, one, now_ns))
            elif known is not None and known.retired:
                entries.append(self._append_missing(self._own, one, now_ns))
            elif known is not None and known.ended is None and self._live > 1:
                entries += self._report_end(known, now_ns)
        return entries

    def end(self, incarnation: int, *, now_ns: int) -> list[Entry]:
        """Append a gap for the end of a publisher, if other sources are live; else that of the next one says it."""
        source = self._sources.get(f"{incarnation:016x}")
        return self._report_end(source, now_ns) if source is not None and self._live > 1 else []

    def finish(self, incarnation: int, last: int, *, now_ns: int = 0) -> list[Entry]:
        """Note a publisher's last number: if the log has come to it, nothing is missing. Return a gap that says so,
        where other sources are live."""
        source = self._sources.get(f"{incarnation:016x}")
        if source is None or source.newest != last or source.ended is not None:
            return []
        if self._live > 1:
            return self._report_end(source, now_ns, count=0)
        self._end(source)
        return []

    def _append_missing(self, source: Source, missing: MissingRange, now_ns: int) -> Entry:
        first, last, reason = missing
        count = None if reason == "epoch" else last - first + 1
        if source.incarnation is None:
            # Where the gateway numbers, a gap takes one offset, whatever its count.
            first = last = source.newest + 1
        return self._append_gap(source, last, None if reason == "epoch" else first, count, reason, now_ns)

    def _append_gap(
        self, source: Source, last: int, first: int | None, count: int | None, reason: GapReason, now_ns: int
    ) -> Entry:
        ends = last == source.newest and source.began < self.at
        frame = encode_gap(self.gap(reason, source.id, None if ends else last, first=first, count=count))
        entry = Entry(self.name, self.at + 1, source.id, source.newest, last, frame, now_ns, is_event=False)
        self._begins = True
        self._hold(entry, source)
        return entry

    def _hold(self, entry: Entry, source: Source) -> None:
        entries = self._entries
        entries.append(entry)
        source.entries.append(entry)
        source.newest = entry.offset
        self.at, self._source, self._newest = entry.at, source, None
        size = len(entry.frame)
        self.bytes += size
        self.usage.bytes += size
        retention = self.retention
        if entry.is_event:
            self._current[entry.key] = entry
            if retention.key:
                self._current.move_to_end(entry.key)
                if len(self._current) > retention.keys_max:
                    self._current.popitem(last=False)
                    self.forgotten += 1
        if entry.at - self.floor > retention.events_max or self.bytes > retention.bytes_max or retention.age_ns_max:
            self.evict(now_ns=entry.received_ns)

    def _key(self, event: Event) -> str:
        try:
            value = _decode(b"{%b}" % event.fields)
        except msgspec.DecodeError:  # ingest rejects such events; one must not affect other events
            return ""
        for name in self.retention.key:
            if not isinstance(value, dict) or name not in value:
                return ""
            value = value[name]
        return msgspec.json.encode(value).decode()

    @property
    def newest_ns(self) -> int:
        """When the newest entry was received; 0 if there is none."""
        newest = self._entries[-1] if self._entries else None
        return 0 if newest is None else newest.received_ns

    def evict(self, *, now_ns: int, bytes_max: int | None = None) -> None:
        """Drop the entries that exceed the retention at `now_ns`, or `bytes_max`, but never the newest."""
        retention, entries = self.retention, self._entries
        events_max = retention.events_max
        bytes_max = retention.bytes_max if bytes_max is None else min(bytes_max, retention.bytes_max)
        born_min = now_ns - retention.age_ns_max if retention.age_ns_max else -1
        count = len(entries) - self._head
        while count > 1:
            oldest = entries[self._head]
            assert oldest is not None
            if count <= events_max and self.bytes <= bytes_max and oldest.received_ns >= born_min:
                break
            self._drop_oldest()
            count -= 1
        if self._head > 64 and self._head * 2 > len(entries):
            del entries[: self._head]
            self._head = 0

    def _drop_oldest(self) -> None:
        oldest = self._entries[self._head]
        assert oldest is not None
        self._entries[self._head] = None
        self._head += 1
        size = len(oldest.frame)
        self.bytes -= size
        self.usage.bytes -= size
        self.floor = oldest.at
        if _is_end(oldest):
            self._ends.append(oldest)
        source = self._floor_source = self._sources[oldest.source]
        source.drop_oldest()
        if source is self._own and not source.is_held and source.ended is None and self._live > 1:
            self._end(source)  # else every event would have its source's id for ever

    # -- places --------------------------------------------------------------------------------

    def cursor_at(self, at: int) -> Cursor:
        """Return the place behind an ordinal, that of an entry held or of the last evicted one."""
        first = self._source_at(at)
        if len(self._sources) <= 1:
            return Cursor(at, Position(first.id, first.offset_at(at)))
        offsets = {
            one.id: one.offset_at(at)
            for one in self._sources.values()
            if one.began < at and (one.ended is None or one.ended > at)
        }
        offsets.setdefault(first.id, first.offset_at(at))
        return Cursor(at, make_position(offsets, first.id))

    def cursor_before(self, entries: Sequence[Entry]) -> Cursor:
        """Return the place before the newest entries, from one of them on; they may be evicted."""
        first = entries[0]
        if first.at > self.floor:
            return self.cursor_at(first.at - 1)
        before: dict[str, int] = {}
        for entry in entries:
            before.setdefault(entry.source, entry.before)
        offsets = {**self.start.position.offsets, **before}
        for id_ in [one for one in offsets if one in self._sources and self._sources[one].began >= first.at - 1]:
            if id_ != self._own.id:
                del offsets[id_]
        if not offsets:
            return Cursor(first.at - 1, self.cursor_at(0).position)
        return Cursor(
            first.at - 1, make_position(offsets, first.source if first.source in offsets else next(iter(offsets)))
        )

    def _source_at(self, at: int) -> Source:
        if not at:
            return self._own
        if at == self.at:
            return self._source
        if at <= self.floor:
            return self._floor_source
        entry = self._entries[self._head + at - self.floor - 1]
        assert entry is not None
        return self._sources[entry.source]

    def relied_on(self, after: Cursor) -> str:
        """Return the source whose id events behind a place may lack: that of the event there, if it is held and no
        other source was live. Else it is empty."""
        if after.at <= self.floor:
            return ""
        entry = self._entries[self._head + after.at - self.floor - 1]
        assert entry is not None
        return entry.source if entry.is_event and not entry.mixed else ""

    def offsets_at(self, at: int) -> dict[str, int]:
        """Return how far each source had come at an ordinal, also those that had ended."""
        return {one.id: one.offset_at(at) for one in self._sources.values() if one.began < at}

    def advance(self, after: Cursor, at: int) -> Cursor:
        """Return the place behind an ordinal for one who was at an earlier place; nothing behind it is evicted."""
        found = self.cursor_at(at)
        if after.plain:
            return found
        offsets, ahead = found.position.offsets, False
        for id_, offset in after.position.offsets.items():
            source = self._sources.get(id_)
            if source is not None and offset > source.offset_at(at) and not self._has_reported_end(source, at):
                offsets[id_], ahead = offset, True
        return Cursor(at, make_position(offsets, found.position.epoch), False) if ahead else found

    def _has_reported_end(self, source: Source, at: int) -> bool:
        """Return whether a source has ended at an ordinal with a gap of its own: then nobody's position names it."""
        if source.ended is None or source.ended > at:
            return False
        return _is_end(source.entries[-1]) if source.is_held else any(one.source == source.id for one in self._ends)

    def advance_among_evicted(self, after: Cursor, entries: Sequence[Entry]) -> Cursor:
        """Return the place of one who was at an earlier place and has got current values that are evicted."""
        have, at = self.have(after), entries[-1].at
        offsets = {id_: have(id_) for id_, one in self._sources.items() if one.began < at}
        for entry in entries:
            offsets[entry.source] = max(entry.offset, offsets.get(entry.source, 0))
        return Cursor(at, make_position(offsets, entries[-1].source), False)

    def resume(self, position: Position, *, ahead_max: int) -> Resumed:
        """Return where a client's position leads to.

        A position from another gateway may be ahead of this one by at most `ahead_max` in each publisher's numbers.
        A source that it does not name is new to the client, unless it was over before."""
        offsets, lost = {}, []
        for id_, offset in position.offsets.items():
            source = self._own if id_ == self._own.id else self._sources.get(id_)
            ahead = ahead_max if source is not None and source.incarnation is not None else 0
            if source is not None and (source.ended is not None or offset <= source.newest + ahead):
                offsets[id_] = offset
            else:
                lost.append(id_)
        if not offsets:
            return Resumed(self.start, lost, is_new=True)
        if position.others is not msgspec.UNSET:
            lost = [id_ for id_ in lost if position.offsets[id_]]
        covered = [self._sources[id_].last_within(at) for id_, at in offsets.items() if id_ in self._sources]
        newest = max((one for one in covered if one is not None), key=_at, default=None)
        at, over = self.at, set()
        for source in self._sources.values():
            if source.id not in offsets and newest is not None and self._is_over(source, newest):
                offsets[source.id] = source.newest
                over.add(source.id)
                continue
            offset = offsets.setdefault(source.id, 0)
            first = source.first_behind(offset)
            if first is not None:
                at = min(at, first.at - 1)
            if offset < source.floor:
                at = min(at, self.floor)
        ends = [
            one
            for one in self._ends
            if one.source not in over and not self._covers(one, offsets.get(one.source, one.offset + 1))
        ]
        at = min([at, *(one.at - 1 for one in ends)])
        plain = self.cursor_at(at)
        found = plain.position.offsets
        kept = {
            id_: n
            for id_, n in offsets.items()
            if id_ in found or (id_ in self._sources and self._sources[id_].offset_at(at) != n)
        }
        kept = kept or found
        if at >= self.floor and kept == found:
            return Resumed(plain, lost)
        first_id = plain.position.epoch if plain.position.epoch in kept else position.epoch
        first_id = first_id if first_id in kept else next(iter(kept))
        return Resumed(Cursor(at, make_position(kept, first_id), False), lost)

    def _is_over(self, source: Source, newest: Entry) -> bool:
        """Return whether a source that a client does not name was over before the newest entry that the client has."""
        if source.ended is not None and source.ended <= newest.at:
            return True
        last = source.entries[-1] if source.is_held else None
        return last is None or last.received_ns < newest.received_ns - QUIET_NS

    def position_of(self, cursor: Cursor) -> Position:
        """Return a place's position, as clients get it."""
        return cursor.position if cursor.position.epoch else self.cursor_at(0).position

    def have(self, after: Cursor) -> Callable[[str], int]:
        """Return how far a place is in a source."""
        offsets = after.position.offsets

        def offset(id_: str) -> int:
            found = offsets.get(id_)
            if found is None:
                found = self._sources[id_].unnamed_at(after.at)
            return found

        return offset

    # -- read ----------------------------------------------------------------------------------

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

    def _covers(self, entry: Entry, offset: int) -> bool:
        source = self._sources.get(entry.source)
        return source is None or source.covers(entry, offset)

    def _uncovered(self, after: Cursor, entries: Iterable[Entry | None]) -> Iterable[Entry]:
        """Yield what a place does not cover; of a gap that it is within, only what is missing behind it."""
        if after.plain:
            yield from entries  # type: ignore[misc]
            return
        have = self.have(after)
        for entry in entries:
            assert entry is not None
            offset = have(entry.source)
            if not self._covers(entry, offset):
                yield entry if entry.is_event or offset <= entry.before else _behind(offset, entry)

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
        oldest = next(iter(self._current.values()), None)
        if oldest is None:
            return self.newest
        if oldest.at > self.floor:
            return self.cursor_at(oldest.at - 1)
        offsets = self.start.position.offsets
        for entry in reversed(self._current.values()):
            if entry.source in offsets:
                offsets[entry.source] = min(offsets[entry.source], entry.before)
        first = oldest.source if oldest.source in offsets else next(iter(offsets))
        return Cursor(oldest.at - 1, make_position(offsets, first))

    def current(self, after: Cursor) -> list[Entry]:
        """Return the newest event of each key, if it is behind a place, in order."""
        found: list[Entry] = []
        for entry in reversed(self._current.values()):
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
        ends = [one for one in self._ends if one.at > after.at and (until is None or one.at <= until)]
        if not after.plain:
            ends = [one for one in ends if one.source in self._sources and not self._covers(one, have(one.source))]
        return [*map(_gap_of, ends), *gaps]

    def gap(
        self, reason: GapReason, source: str, last: int | None, *, first: int | None = None, count: int | None = None
    ) -> Gap:
        """Return a gap in a source; `first` is None if it is not known where it begins, `last` if the source ended."""
        return Gap(channel=self.name, epoch=source, from_=first, to=last, count=count, reason=reason)

    def with_source(self, entry: Entry) -> bytes:
        """Return the frame of an event, with its source's id."""
        if not entry.is_event or entry.begins or entry.mixed:
            return entry.frame
        start = b"%b%d," % (self._prefix, entry.offset)
        return text_frame(b'%b"epoch":"%b",%b' % (start, entry.source.encode(), entry.json[len(start) :]))

    def _index(self, after: Cursor) -> int:
        return self._head + max(after.at - self.floor, 0)


def _behind(offset: int, entry: Entry) -> Entry:
    """Return a gap without what an offset covers."""
    gap = _decode_gap(entry.json)
    if gap.from_ is None or gap.from_ > offset:
        return entry
    gap.from_, gap.count = offset + 1, entry.offset - offset
    return msgspec.structs.replace(entry, before=offset, frame=encode_gap(gap))


def _is_end(entry: Entry) -> bool:
    """Return whether an entry is a gap for the end of a source, which takes no offset."""
    return not entry.is_event and entry.before == entry.offset


def _gap_of(entry: Entry) -> Gap:
    return _decode_gap(entry.json)


def filtered_gap(log: ChannelLog, entry: Entry) -> Entry:
    """Return a gap with the source of an entry, for readers whose filter does not match it."""
    gap = log.gap("filtered", entry.source, entry.offset, first=entry.offset, count=1)
    return msgspec.structs.replace(entry, frame=encode_gap(gap), is_event=False)


def encode_gap(gap: Gap) -> bytes:
    return text_frame(msgspec.json.encode(gap))
