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

from collections import deque
from collections.abc import Callable

import msgspec

from gateway.core.log.current import CurrentValues
from gateway.core.log.gaps import encode_gap, gap_of, is_end
from gateway.core.log.retention import Retention, Usage
from gateway.core.log.sources import ENTRY_BYTES, OFFSET_MAX, QUIET_NS, SOURCES_MAX, Cursor, Entry, Forgotten, Source
from gateway.core.protocol.events import Event, MissingRange
from gateway.core.protocol.frames import text_frame
from gateway.core.protocol.messages import Gap, GapReason


_decode = msgspec.json.Decoder().decode


class LogEntries:
    """The entries of one channel, and its sources.

    `at` is the ordinal of the newest entry, `floor` that of the last evicted one. `has_ended` is called with an
    incarnation when another one begins, and returns whether it may have ended. `on_return` is called with the incarnation
    of one that begins, or goes on after it had ended."""

    def __init__(self, name: str, *, epoch: str, retention: Retention, usage: Usage | None = None) -> None:
        self.name = name
        self.usage = usage or Usage()
        self.retention = retention
        self.has_ended: Callable[[int], bool] = lambda _incarnation: True
        self.on_return: Callable[[int, int], object] = lambda _incarnation, _now_ns: None
        self.at = 0
        self.floor = 0
        self.forgotten: Forgotten | None = None
        """The sources that were forgotten: one that seems new may not be, and what was evicted of them is nowhere."""
        self._own = Source(epoch)
        self._sources: dict[str, Source] = {}
        self._source = self._own
        """That of the newest entry."""
        self._floor_source = self._own
        self._live = 0
        """How many of the sources have not ended."""
        self._begins = True
        """Whether the next event has to have its source's id."""
        self._doubtful: Source | None = None
        """The only live source, if it may have ended, and nothing says so yet."""
        self._newest: Cursor | None = None
        self._ends: deque[Entry] = deque(maxlen=SOURCES_MAX)
        """The evicted gaps that say that the end of a source is not known: no offset shows that they are missing."""
        # A list with a moving head: a read from the middle of a deque takes time in its length.
        self._entries: list[Entry | None] = []
        self._head = 0
        self._history_bytes = 0
        self._current = CurrentValues(self.usage)
        self._prefix = b'{"type":"event","channel":"%b","offset":' % name.encode()

    def __len__(self) -> int:
        return len(self._entries) - self._head

    @property
    def bytes(self) -> int:
        """Those of the history, and of current values beyond it."""
        return self._history_bytes + self._current.bytes

    @property
    def values_dropped(self) -> int:
        """How many current values gave way to others."""
        return self._current.dropped

    @property
    def is_mixed(self) -> bool:
        """Whether several sources are live: then every event has its source's id."""
        return self._live > 1

    @property
    def is_numbered(self) -> bool:
        """Whether any publisher has numbered events here."""
        return any(one.incarnation is not None for one in self._sources.values())

    @property
    def own_source(self) -> str:
        """The id of the source of events that the gateway numbers."""
        return self._own.id

    def reached(self, incarnation: int) -> int | None:
        """Return how far a publisher's messages have come; 0 if there are none, None if that is not known."""
        source = self._sources.get(f"{incarnation:016x}")
        if source is None:
            return 0 if self.forgotten is None else None
        return None if source.retired else source.newest

    def gap(
        self, reason: GapReason, source: str, last: int | None, *, first: int | None = None, count: int | None = None
    ) -> Gap:
        """Return a gap in a source; `first` is None if it is not known where it begins, `last` if the source ended."""
        return Gap(channel=self.name, epoch=source, from_=first, to=last, count=count, reason=reason)

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
        """Forget the oldest source without entries, rather one that has ended; if there is none, evict until there is one."""
        while True:
            idle = [one for one in self._sources.values() if not one.is_held and one is not self._own]
            if idle:
                break
            self._drop_oldest()
        source = min(idle, key=lambda one: one.ended is None)
        del self._sources[source.id]
        self._live -= source.ended is None
        if source is self._floor_source:
            self._floor_source = next((one for one in self._sources.values() if one.began < self.floor), self._own)
        at, ended_ns = self.at, self.newest_ns
        if source.ended is not None:
            at, ended_ns = source.ended, self._end_reported_ns(source)
        before = self.forgotten or Forgotten("", 0, 0, -QUIET_NS)
        self.forgotten = Forgotten(source.id, self.floor, max(at, before.at), max(ended_ns, before.ended_ns))

    def _end_reported_ns(self, source: Source) -> int:
        """Return when it was last reported that the end of a source is not known; long ago if never."""
        held = source.entries[-1:] if source.is_held else []
        ends = [one for one in (*held, *self._ends) if one.source == source.id and is_end(one)]
        return max((one.received_ns for one in ends if gap_of(one).count is None), default=-QUIET_NS)

    def _end_others(self, source: Source) -> None:
        for one in self._sources.values():
            if one not in (source, self._own) and one.ended is None:
                self._end(one)

    def _go_on(self, source: Source, now_ns: int) -> None:
        source.go_on(self.at)
        self._live += 1
        if source.incarnation is not None:
            self.on_return(source.incarnation, now_ns)

    def _end(self, source: Source) -> None:
        source.ended = self.at
        self._live -= 1
        self._begins = True
        self._newest = None

    def _source_for(self, event: Event) -> tuple[Source, list[Entry]]:
        """Return the source that numbers an event, and new gaps for what is missing before it."""
        missing, now_ns = event.missing, event.received_ns
        entries: list[Entry] = []
        source = self._own
        if event.incarnation is not None:
            id_ = f"{event.incarnation:016x}"
            known = self._sources.get(id_)
            if known is not None and not known.retired:  # it goes on: its numbers say what is missing
                missing = tuple(one for one in missing if one.reason != "epoch")
            first = next((one.first for one in missing if one.reason != "epoch"), event.sequence)
            if known is not None and not known.retired and first <= known.newest:
                known.retired = True
                entries += self._report_end(known, now_ns)
            elif event.sequence <= OFFSET_MAX and (known is None or not known.retired):
                source = known or self._begin(event.incarnation, id_, first - 1, entries, now_ns)
                if known is None and source.began < self.at:  # it begins with a gap that says so already
                    missing = tuple(one for one in missing if one.reason != "epoch")
        if source is self._own and self._own.id not in self._sources:
            self._add_source(source, source.newest)
        elif source.ended is not None:
            entries += self._report_doubtful(source, now_ns)
            self._go_on(source, now_ns)
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
        self.on_return(incarnation, now_ns)  # it may have been silent before its first event here
        if ended and alone:
            entries.append(self._append_gap(source, base, None, None, "epoch", now_ns))
        return source

    def _report_doubtful(self, source: Source, now_ns: int) -> list[Entry]:
        """Append a gap for the one that may have ended as the only one, before another source goes on."""
        one, self._doubtful = self._doubtful, None
        if one is None or one is source or self._sources.get(one.id) is not one:  # forgotten, and back perhaps
            return []
        if not self.has_ended(one.incarnation or 0):
            return []
        return self._report_end(one, now_ns)

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
            source, entries = self._source_for(event)
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
            self.name, at, source.id, before, offset, frame, received_ns, event.late, True, key, begins, mixed
        )
        self._hold(entry, source)
        entries.append(entry)
        return entries

    def append_lost(self, event: Event) -> list[Entry]:
        """Append gaps for what is missing before an event, and for the event itself, which is lost; return them."""
        source, entries = self._source_for(event)
        lost = MissingRange(event.sequence, event.sequence, "bus_loss")
        entries.append(self._append_missing(source, lost, event.received_ns))
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
                    entries += self._report_doubtful(source, now_ns)
                    self._go_on(source, now_ns)
                entries.append(self._append_missing(source, one, now_ns))
            elif known is not None and known.retired:
                entries.append(self._append_missing(self._own, one, now_ns))
            elif known is not None and known.ended is None and self._live > 1:
                entries += self._report_end(known, now_ns)
        return entries

    def note_source(self, incarnation: int, newest: int) -> bool:
        """Begin a source of which nothing is held up to a number; return False if it is known, or there is no room."""
        id_ = f"{incarnation:016x}"
        if id_ in self._sources or len(self._sources) >= SOURCES_MAX or not 0 < newest <= OFFSET_MAX:
            return False
        self._add_source(Source(id_, incarnation), newest).began -= 1  # the newest entry is behind it
        self._newest = None
        return True

    def end(self, incarnation: int, *, now_ns: int) -> list[Entry]:
        """Append a gap for the end of a publisher, if other sources are live; else the next one that begins or goes on
        says it."""
        source = self._sources.get(f"{incarnation:016x}")
        if source is None or self._live > 1:
            return self._report_end(source, now_ns) if source is not None else []
        self._doubtful = source
        return []

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
        size = len(entry.frame) + ENTRY_BYTES
        self._history_bytes += size
        self.usage.bytes += size
        retention = self.retention
        if entry.is_event:
            if retention.key or self._current.bytes:
                self._current.put(entry, floor=self.floor, retention=retention)
            else:  # without a call: this runs for each event
                self._current.entries[entry.key] = entry
        held, too_large = entry.at - self.floor, self._history_bytes > retention.bytes_max
        if held > retention.events_max or too_large or retention.age_ns_max:
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
        """Drop the entries that exceed the retention at `now_ns`, but never the newest.

        With `bytes_max`, hold no more than that, current values included."""
        retention, entries = self.retention, self._entries
        events_max, whole_max = retention.events_max, bytes_max
        bytes_max = retention.bytes_max if bytes_max is None else min(bytes_max, retention.bytes_max)
        born_min = now_ns - retention.age_ns_max if retention.age_ns_max else -1
        count = len(entries) - self._head
        while count > 1:
            oldest = entries[self._head]
            assert oldest is not None
            if count <= events_max and self._history_bytes <= bytes_max and oldest.received_ns >= born_min:
                break
            self._drop_oldest()
            count -= 1
        left = bytes_max if whole_max is None else max(whole_max - self._history_bytes, 0)
        self._current.limit(left, floor=self.floor)
        if self._head > 64 and self._head * 2 > len(entries):
            del entries[: self._head]
            self._head = 0

    def _drop_oldest(self) -> None:
        oldest = self._entries[self._head]
        assert oldest is not None
        self._entries[self._head] = None
        self._head += 1
        size = len(oldest.frame) + ENTRY_BYTES
        self._history_bytes -= size
        self.usage.bytes -= size
        self.floor = oldest.at
        self._current.evicted(oldest)
        if is_end(oldest):
            self._ends.append(oldest)
        source = self._floor_source = self._sources[oldest.source]
        source.drop_oldest()
        if source is self._own and not source.is_held and source.ended is None and self._live > 1:
            self._end(source)  # else every event would have its source's id for ever
