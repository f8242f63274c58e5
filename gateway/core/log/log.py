"""One channel's recent events: numbered, encoded once, bounded by count, bytes and age."""

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from msgspec import Struct

from gateway.core.log.epochs import ORIGIN, OWN, Cursor, Epochs, EpochTable, Transition
from gateway.core.protocol.events import Event, MissingRange
from gateway.core.protocol.frames import text_frame, text_payload
from gateway.core.protocol.messages import Gap, GapReason, Position


_READ_MAX = 4096
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Retention:
    """How much a log holds; `age_ns_max` of 0 sets no limit. The newest event always stays.

    `key` is the path of the member by which events replace each other, such as ``("data", "host")``:
    the newest event of each of the `keys_max` keys that changed last stays, too.
    """

    events_max: int = 1000
    bytes_max: int = 16 * 1024 * 1024
    age_ns_max: int = 0
    key: tuple[str, ...] = ()
    keys_max: int = 1000


class Entry(Struct, frozen=True, gc=False, array_like=True):
    """An event in its log, or a gap: `frame` is what clients get.

    Its places are `before` it and, behind it, `at`.
    """

    channel: str
    before: Cursor
    at: Cursor
    frame: bytes
    received_ns: int
    sent_ns: int = 0
    is_event: bool = True
    key: str = ""
    begins: bool = False
    """Whether it is the first event of an epoch, which it names."""

    @property
    def json(self) -> bytes:
        """The event or gap as it is sent, without framing."""
        return text_payload(self.frame)


class LogState(Struct, frozen=True, array_like=True):
    """All that readers can see of a log, for a replica in another process."""

    name: str
    table: EpochTable
    newest: Cursor
    floor: Cursor
    entries: list[Entry]
    current: list[Entry]


class ChannelLog:
    """Entries of one channel in the order of their places; the oldest make room for the newest.

    ``newest`` is the place behind the last entry, ``floor`` that behind the last one evicted.
    """

    __slots__ = (
        "_current",
        "_ended",
        "_entries",
        "_epoch_begins",
        "_head",
        "_prefix",
        "bytes",
        "epochs",
        "floor",
        "forgotten",
        "name",
        "retention",
    )

    def __init__(self, name: str, *, epoch: str, retention: Retention) -> None:
        self.name = name
        self.retention = retention
        self.epochs = Epochs(epoch)
        self.bytes = 0
        self.floor = ORIGIN
        self.forgotten = 0
        """Keys whose current value was dropped for that of others."""
        self._ended = ORIGIN
        self._epoch_begins = True
        # A list with a moving head: a deque would make a read from the middle cost its length.
        self._entries: list[Entry | None] = []
        self._head = 0
        self._current: OrderedDict[str, Entry] = OrderedDict()
        self._prefix = b'{"type":"event","channel":"%b","offset":' % name.encode()

    def __len__(self) -> int:
        return len(self._entries) - self._head

    @property
    def newest(self) -> Cursor:
        """The place of a reader that has everything."""
        return self.epochs.newest

    @property
    def position(self) -> Position:
        """The same as clients know it."""
        return self.epochs.position(self.epochs.newest)

    @property
    def start(self) -> Cursor:
        """The place before the oldest entry held."""
        if not len(self):
            return self.newest
        oldest = self._entries[self._head]
        assert oldest is not None
        return oldest.before

    # -- replicas ------------------------------------------------------------------------------

    @property
    def state(self) -> LogState:
        """All that a replica needs."""
        held, current = self.held(ORIGIN), list(self._current.values())
        return LogState(self.name, self.epochs.table, self.newest, self.floor, held, current)

    def replace(self, state: LogState) -> None:
        """Hold what another log of the same retention holds."""
        self.epochs.replace(state.table)
        self.epochs.newest = state.newest
        self.floor = state.floor
        self._entries, self._head = list(state.entries), 0
        self.bytes = sum(len(entry.frame) for entry in state.entries)
        self._current = OrderedDict((entry.key, entry) for entry in state.current)

    def hold(self, entry: Entry) -> None:
        """Hold an entry that was numbered elsewhere, and evict what exceeds the retention."""
        self.epochs.newest = entry.at
        self._hold(entry)

    # -- append --------------------------------------------------------------------------------

    def append(self, event: Event) -> list[Entry]:
        """Number and encode an event; evict what exceeds the retention.

        Return its entry, behind those of the gaps that it shows.
        """
        epochs = self.epochs
        before = newest = epochs.newest
        source = epochs.source
        entries: list[Entry] = []
        # Most events go on where the last one was: that is decided here, for speed.
        if event.missing or (
            source != OWN and (event.incarnation != source or event.sequence <= newest.offset)
        ):
            entries = self._advance(
                event.incarnation, event.sequence, event.missing, event.received_ns
            )
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
        entry = Entry(
            self.name, before, at, frame, event.received_ns, event.sent_ns, True, key, begins
        )
        self._hold(entry)
        entries.append(entry)
        return entries

    def skip(
        self, incarnation: int, missing: Iterable[MissingRange], *, now_ns: int
    ) -> list[Entry]:
        """Append gaps for losses that no event has shown yet; return them."""
        missing = tuple(missing)
        if not missing:
            return []
        return self._advance(incarnation, missing[-1].last + 1, missing, now_ns)

    def finish(self, incarnation: int, last: int) -> None:
        """Note that a publisher ended with this number: if it is here, nothing of it is missing."""
        epochs = self.epochs
        if incarnation == epochs.source and last == epochs.newest.offset:
            self._ended = epochs.newest

    def _advance(
        self, incarnation: int | None, sequence: int, missing: tuple[MissingRange, ...], now_ns: int
    ) -> list[Entry]:
        """Go over to another epoch if need be, and append gaps for what is missing."""
        entries: list[Entry] = []
        before = self.newest
        advance = self.epochs.advance(incarnation, missing[0].first if missing else sequence)
        if advance is not Transition.SAME:
            self._epoch_begins = True
        if advance is Transition.RESTARTED and before != self._ended:
            entries.append(self._gap("epoch", before, last=self.newest.offset, now_ns=now_ns))
        for first, last, reason in missing:
            before = entries[-1].at if entries else before
            count = last - first + 1
            newest = self.newest
            if self.epochs.source == OWN:
                # A loss of what the gateway numbers takes one offset, however much was lost.
                first = last = newest.offset + 1
            self.epochs.newest = Cursor(newest.epoch_number, last)
            entries.append(self._gap(reason, before, first, last, count, now_ns=now_ns))
        return entries

    def _gap(
        self,
        reason: GapReason,
        before: Cursor,
        first: int | None = None,
        last: int | None = None,
        count: int | None = None,
        *,
        now_ns: int,
    ) -> Entry:
        epoch = self.epochs.current.id
        frame = gap_frame(self.name, epoch, reason, first=first, last=last, count=count)
        entry = Entry(self.name, before, self.newest, frame, now_ns, is_event=False)
        self._hold(entry)
        return entry

    def _hold(self, entry: Entry) -> None:
        entries = self._entries
        entries.append(entry)
        self.bytes += len(entry.frame)
        retention = self.retention
        if entry.is_event:
            self._current[entry.key] = entry
            if retention.key:
                self._current.move_to_end(entry.key)
                if len(self._current) > retention.keys_max:
                    self._current.popitem(last=False)
                    self.forgotten += 1
        if (
            len(entries) - self._head > retention.events_max
            or self.bytes > retention.bytes_max
            or retention.age_ns_max
        ):
            self.evict(now_ns=entry.received_ns)

    def _key(self, event: Event) -> str:
        """Return an event's key as JSON; empty if it has none."""
        try:
            value = _decode(b"{%b}" % event.fields)
        except (
            msgspec.DecodeError
        ):  # ingest lets no such event pass; it must not cost others theirs
            return ""
        for name in self.retention.key:
            if not isinstance(value, dict) or name not in value:
                return ""
            value = value[name]
        return msgspec.json.encode(value).decode()

    def evict(self, *, now_ns: int) -> None:
        """Drop what the retention no longer covers at `now_ns`, but never the newest entry."""
        retention, entries = self.retention, self._entries
        events_max, bytes_max = retention.events_max, retention.bytes_max
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
            self.floor = oldest.at
        if self._head > 64 and self._head * 2 > len(entries):
            del entries[: self._head]
            self._head = 0

    # -- read ----------------------------------------------------------------------------------

    def read(self, after: Cursor, *, bytes_max: int) -> list[Entry]:
        """Return the oldest entries held behind a place: about `bytes_max`, at least one.

        Ask `missing` what is no longer held.
        """
        at = self._index(after)
        batch: list[Entry] = []
        size = 0
        for entry in self._entries[at : at + _READ_MAX]:
            assert entry is not None
            batch.append(entry)
            size += len(entry.frame)
            if size >= bytes_max:
                break
        return batch

    def held(self, after: Cursor, until: Cursor | None = None) -> list[Entry]:
        """Return all entries held behind a place, up to another or to the newest."""
        end = None if until is None or until == self.newest else self._index(until)
        return [entry for entry in self._entries[self._index(after) : end] if entry is not None]

    def lag(self, after: Cursor) -> int:
        """Return how many entries there are behind a place, those that are missing included."""
        held = len(self._entries) - self._index(after)
        gap = self.missing(after)
        if gap is None or gap.to is None:
            return held
        return held + gap.to - (gap.from_ or 1) + 1

    def count_since(self, received_ns: int) -> int:
        """Return how many entries are held that were received at that time or later."""
        at = bisect_left(self._entries, received_ns, lo=self._head, key=_received)
        return len(self._entries) - at

    def back(self, events: int) -> Cursor:
        """Return the place before the newest so many events that are held."""
        place, at = self.newest, len(self._entries)
        while events > 0 and at > self._head:
            at -= 1
            entry = self._entries[at]
            assert entry is not None
            events -= entry.is_event
            place = entry.before
        return place

    def current(self, after: Cursor) -> list[Entry]:
        """Return the newest event behind a place of each key, in order; they outlive the retention."""
        found: list[Entry] = []
        for entry in reversed(self._current.values()):
            if entry.at <= after:
                break
            found.append(entry)
        found.reverse()
        return found

    def missing(self, after: Cursor) -> Gap | None:
        """Return the gap for what is no longer held behind a place, or None.

        Its `from_` is null where it begins in an earlier epoch.
        """
        floor, position = self.floor, self.epochs.position
        if after < floor:
            first = after.offset + 1 if after.epoch_number == floor.epoch_number else None
            epoch, last = position(floor).epoch, floor.offset
        else:
            first, last = after.offset + 1, self.epochs.base(after)
            if first > last:
                return None
            epoch = position(after).epoch
        count = None if first is None else last - first + 1
        return Gap(
            channel=self.name, epoch=epoch, from_=first, to=last, count=count, reason="evicted"
        )

    def _index(self, after: Cursor) -> int:
        return bisect_right(self._entries, after, lo=self._head, key=_place)


def _place(entry: Entry | None) -> Cursor:
    assert entry is not None
    return entry.at


def _received(entry: Entry | None) -> int:
    assert entry is not None
    return entry.received_ns


def epoch_gap(log: ChannelLog, entry: Entry, reason: GapReason) -> Entry:
    """Return the gap that stands for an event that is left out, and names its epoch instead."""
    position = log.epochs.position(entry.at)
    epoch, offset = position.epoch, position.offset
    first, count = (offset, 1) if reason == "filtered" else (None, None)
    frame = gap_frame(log.name, epoch, reason, first=first, last=offset, count=count)
    return Entry(log.name, entry.before, entry.at, frame, entry.received_ns, is_event=False)


def gap_frame(
    channel: str,
    epoch: str,
    reason: GapReason,
    *,
    first: int | None = None,
    last: int | None = None,
    count: int | None = None,
) -> bytes:
    """Return the frame that tells a reader of a channel which events it will not get."""
    return encode_gap(
        Gap(channel=channel, epoch=epoch, from_=first, to=last, count=count, reason=reason)
    )


def encode_gap(gap: Gap) -> bytes:
    """Return a gap's frame."""
    return text_frame(msgspec.json.encode(gap))
