"""One channel's recent events: numbered, encoded once, bounded by count, bytes and age.

A log is a list of entries, events and gaps, in the order of their places. It never waits for a
reader: `append` evicts the oldest entries, and a reader whose place is evicted gets a gap.

Invariants: each entry begins (`before`) where the one before it ends (`at`); all entries behind
``floor`` are held; the newest entry is never evicted. The first event of each epoch has the epoch's
id in its frame, and so has every gap. The newest event of each key outlives its eviction."""

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from operator import attrgetter

import msgspec
from msgspec import Struct

from gateway.core.log.epochs import OFFSET_MAX, ORIGIN, OWN, Cursor, Epochs, EpochTable, Transition
from gateway.core.protocol.events import Event, MissingRange
from gateway.core.protocol.frames import text_frame, text_payload
from gateway.core.protocol.messages import Gap, GapReason, Position


_READ_MAX = 4096
_decode = msgspec.json.Decoder().decode
_decode_gap = msgspec.json.Decoder(Gap).decode
_place, _received = attrgetter("at"), attrgetter("received_ns")


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


class Entry(Struct, frozen=True, gc=False, array_like=True):
    """An event or a gap in its log, between the places `before` and `at`; clients get its `frame`."""

    channel: str
    before: Cursor
    at: Cursor
    frame: bytes
    received_ns: int
    sent_ns: int = 0
    is_event: bool = True
    key: str = ""
    begins: bool = False
    """Whether it is the first event of an epoch, and so has the epoch's id."""

    @property
    def json(self) -> bytes:
        return text_payload(self.frame)


class Usage:
    """How many bytes several logs hold together."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class LogState(Struct, frozen=True, array_like=True):
    """A whole log, for a replica in another process."""

    name: str
    table: EpochTable
    newest: Cursor
    floor: Cursor
    entries: list[Entry]
    current: list[Entry]


class ChannelLog:
    """The entries of one channel.

    ``newest`` is the place behind the newest entry, ``floor`` that behind the last evicted one."""

    def __init__(self, name: str, *, epoch: str, retention: Retention, usage: Usage | None = None) -> None:
        self.name = name
        self.usage = usage or Usage()
        self.retention = retention
        self.epochs = Epochs(epoch)
        self.bytes = 0
        self.floor = ORIGIN
        self.forgotten = 0
        """How many keys' current values were dropped because of `keys_max`."""
        self._ended = ORIGIN
        self._epoch_begins = True
        # A list with a moving head: a read from the middle of a deque takes time in its length.
        self._entries: list[Entry | None] = []
        self._head = 0
        self._current: OrderedDict[str, Entry] = OrderedDict()
        self._prefix = b'{"type":"event","channel":"%b","offset":' % name.encode()

    def __len__(self) -> int:
        return len(self._entries) - self._head

    @property
    def newest(self) -> Cursor:
        return self.epochs.newest

    @property
    def position(self) -> Position:
        return self.epochs.position(self.epochs.newest)

    @property
    def start(self) -> Cursor:
        oldest = self._entries[self._head] if len(self) else None
        return self.newest if oldest is None else oldest.before

    # -- replicas ------------------------------------------------------------------------------

    @property
    def state(self) -> LogState:
        held, current = self.held(ORIGIN), list(self._current.values())
        return LogState(self.name, self.epochs.table, self.newest, self.floor, held, current)

    @property
    def empty_state(self) -> LogState:
        """The same log as if all that it holds had been evicted."""
        return LogState(self.name, self.epochs.table, self.newest, self.newest, [], [])

    def load_state(self, state: LogState) -> None:
        """Hold the same entries as another log with the same retention."""
        size = sum(len(entry.frame) for entry in state.entries)
        current = OrderedDict((entry.key, entry) for entry in state.current)
        self.epochs.load_table(state.table)
        self.epochs.newest = state.newest
        self.floor = state.floor
        self._entries, self._head = list(state.entries), 0
        self.usage.bytes += size - self.bytes
        self.bytes = size
        self._current = current

    def replicate(self, entry: Entry) -> None:
        """Hold the next entry of the log that this one is a replica of."""
        self._hold(entry)
        self.epochs.newest = entry.at

    # -- append --------------------------------------------------------------------------------

    def append(self, event: Event) -> list[Entry]:
        """Number and encode an event; evict what exceeds the retention.

        Returns the new entries: gaps for what is missing before the event, then the event."""
        epochs = self.epochs
        before = newest = epochs.newest
        source = epochs.source
        entries: list[Entry] = []
        # Most events belong to the current epoch and nothing is missing: decided here, for speed.
        if event.missing or (
            source != OWN and (event.incarnation != source or not newest.offset < event.sequence <= OFFSET_MAX)
        ):
            entries = self._advance(event.incarnation, event.sequence, event.missing, event.received_ns)
            newest, source = epochs.newest, epochs.source
            before = entries[-1].at if entries else before
        offset = newest.offset + 1 if source == OWN else event.sequence
        epochs.newest = at = Cursor(newest.epoch_number, offset)
        begins = self._epoch_begins
        if begins:
            self._epoch_begins = False
            epoch = b'"epoch":"%b",' % epochs.current.id.encode()
            frame = text_frame(b"%b%d,%b%b}" % (self._prefix, offset, epoch, event.fields))
        else:
            frame = text_frame(b"%b%d,%b}" % (self._prefix, offset, event.fields))
        key = self._key(event) if self.retention.key else ""
        entry = Entry(self.name, before, at, frame, event.received_ns, event.sent_ns, True, key, begins)
        self._hold(entry)
        entries.append(entry)
        return entries

    def append_gaps(self, incarnation: int, missing: tuple[MissingRange, ...], *, now_ns: int) -> list[Entry]:
        """Append gaps for messages that are missing behind the newest event; return the gaps."""
        if self.epochs.source != OWN:
            missing = tuple(one for one in missing if one.reason != "epoch")
        return self._advance(incarnation, missing[-1].last, missing, now_ns) if missing else []

    def finish(self, incarnation: int, last: int) -> None:
        """Note a publisher's last number: if the log ends with it, no gap follows at a restart."""
        epochs = self.epochs
        if incarnation == epochs.source and last == epochs.newest.offset:
            self._ended = epochs.newest

    def _advance(
        self, incarnation: int | None, sequence: int, missing: tuple[MissingRange, ...], now_ns: int
    ) -> list[Entry]:
        """Begin a new epoch if necessary, and append gaps for what is missing; return the gaps."""
        entries: list[Entry] = []
        before, source = self.newest, self.epochs.source
        if source != OWN:  # the gap before a new epoch says it
            missing = tuple(one for one in missing if one.reason != "epoch")
        transition = self.epochs.advance(incarnation, missing[0].first if missing else sequence, sequence)
        if transition is not Transition.SAME:
            self._epoch_begins = True
        # A publisher that counts again from the start has restarted, also if its incarnation is the same.
        again = transition is Transition.SHARED and incarnation == source and sequence <= before.offset
        if (transition is Transition.RESTARTED or again) and before != self._ended:
            entries.append(self._append_gap(self.gap("epoch", self.newest), before, now_ns))
        for first, last, reason in missing:
            before = entries[-1].at if entries else before
            count = None if reason == "epoch" else last - first + 1
            newest = self.newest
            if self.epochs.source == OWN:
                # Where the gateway numbers, a gap takes one offset, whatever its count.
                first = last = newest.offset + 1
            self.epochs.newest = at = Cursor(newest.epoch_number, last)
            gap = self.gap(reason, at, first=first, count=count)
            entries.append(self._append_gap(gap, before, now_ns))
        return entries

    def _append_gap(self, gap: Gap, before: Cursor, now_ns: int) -> Entry:
        entry = Entry(self.name, before, self.newest, encode_gap(gap), now_ns, is_event=False)
        self._hold(entry)
        return entry

    def _hold(self, entry: Entry) -> None:
        entries = self._entries
        entries.append(entry)
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
        if len(entries) - self._head > retention.events_max or self.bytes > retention.bytes_max or retention.age_ns_max:
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
            entries[self._head] = None
            self._head += 1
            count -= 1
            self.bytes -= len(oldest.frame)
            self.usage.bytes -= len(oldest.frame)
            self.floor = oldest.at
        if self._head > 64 and self._head * 2 > len(entries):
            del entries[: self._head]
            self._head = 0

    # -- read ----------------------------------------------------------------------------------

    def read(self, after: Cursor, *, bytes_max: int) -> list[Entry]:
        """Return the oldest entries held behind a place: about `bytes_max`, at least one.

        For the evicted ones see `missing`."""
        at = self._index(after)
        batch: list[Entry] = []
        size = 0
        for entry in self._entries[at : at + _READ_MAX]:
            assert entry is not None
            batch.append(entry if batch else _behind(after, entry))
            size += len(entry.frame)
            if size >= bytes_max:
                break
        return batch

    def held(self, after: Cursor, until: Cursor | None = None) -> list[Entry]:
        """Return all entries held behind a place, up to another or to the newest."""
        end = None if until is None or until == self.newest else self._index(until)
        entries = [entry for entry in self._entries[self._index(after) : end] if entry is not None]
        return [_behind(after, entries[0]), *entries[1:]] if entries else []

    def lag(self, after: Cursor) -> int:
        """Return how many entries there are behind a place, with the evicted ones."""
        held = len(self._entries) - self._index(after)
        gap = self.missing(after)
        if gap is None or gap.to is None:
            return held
        return held + gap.to - (gap.from_ or 1) + 1

    def count_since(self, received_ns: int) -> int:
        """Return how many of the held entries were received at that time or later."""
        at = bisect_left(self._entries, received_ns, lo=self._head, key=_received)
        return len(self._entries) - at

    def before_last(self, events: int) -> Cursor:
        """Return the place before the newest `events` events, or before the oldest one held."""
        place, at = self.newest, len(self._entries)
        while events > 0 and at > self._head:
            at -= 1
            entry = self._entries[at]
            assert entry is not None
            events -= entry.is_event
            place = entry.before
        return place

    def current(self, after: Cursor) -> list[Entry]:
        """Return the newest event of each key, if it is behind a place, in order."""
        found: list[Entry] = []
        for entry in reversed(self._current.values()):
            if entry.at <= after:
                break
            found.append(entry)
        found.reverse()
        return found

    def missing(self, after: Cursor) -> Gap | None:
        """Return the gap for what was evicted behind a place; None if all is held."""
        until = self.floor
        if after >= until:
            until = Cursor(after.epoch_number, self.epochs.base(after))
            if after >= until:
                return None
        if after.epoch_number != until.epoch_number:
            return self.gap("evicted", until)
        first, count = after.offset + 1, until.offset - after.offset
        return self.gap("evicted", until, first=first, count=count)

    def gap(self, reason: GapReason, until: Cursor, *, first: int | None = None, count: int | None = None) -> Gap:
        """Return a gap that ends at a place; `first` is None if it begins in an earlier epoch."""
        epoch, last = msgspec.structs.astuple(self.epochs.position(until))
        return Gap(channel=self.name, epoch=epoch, from_=first, to=last, count=count, reason=reason)

    def _index(self, after: Cursor) -> int:
        return bisect_right(self._entries, after, lo=self._head, key=_place)


def _behind(after: Cursor, entry: Entry) -> Entry:
    """Return an entry; if it is a gap that begins before a place, only what is missing behind that."""
    if entry.is_event or after.epoch_number != entry.at.epoch_number or after <= entry.before:
        return entry
    gap = _decode_gap(entry.json)
    if gap.from_ is None or gap.from_ > after.offset:
        return entry
    gap.from_, gap.count = after.offset + 1, entry.at.offset - after.offset
    return msgspec.structs.replace(entry, before=after, frame=encode_gap(gap))


def filtered_gap(log: ChannelLog, entry: Entry) -> Entry:
    """Return a gap with the epoch of an entry, for readers whose filter does not match it."""
    frame = encode_gap(log.gap("filtered", entry.at, first=entry.at.offset, count=1))
    return Entry(log.name, entry.before, entry.at, frame, entry.received_ns, is_event=False)


def encode_gap(gap: Gap) -> bytes:
    return text_frame(msgspec.json.encode(gap))
