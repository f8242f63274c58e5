"""Where a channel's events come from, and places in a channel.

A source is a publisher (one incarnation of it), whose numbers are the offsets, or the gateway itself, which
numbers what comes without usable numbers. So all gateways on the bus, and a restarted one, give the same
positions, however many publishers a channel has.

A `Cursor` is a place in a log: an ordinal, in the order of arrival, and the position that clients get for it."""

from bisect import bisect_right
from dataclasses import dataclass, field
from operator import attrgetter

from msgspec import UNSET, Struct

from gateway.core.protocol.frames import text_payload
from gateway.core.protocol.messages import Position


SOURCES_MAX = 64
"""Sources remembered per channel; see `Forgotten`."""
ENTRY_BYTES = 250
"""About what an entry takes beside its frame: its objects, and its places in lists."""
OFFSET_MAX = 2**53 - 1
"""JavaScript cannot represent all integers above it."""
RETURNS_MAX = 16
"""Returns remembered per source."""
QUIET_NS = 60_000_000_000
"""A gateway that numbered nothing for so long before a client's position, which does not name it, is over for it."""

_at, _offset = attrgetter("at"), attrgetter("offset")


class Entry(Struct, frozen=True, gc=False, array_like=True):
    """An event or a gap in its log, the `at`-th; clients get its `frame`.

    Its source had come to the offset `before`, and has come to `offset` with it."""

    channel: str
    at: int
    source: str
    before: int
    offset: int
    frame: bytes
    received_ns: int
    late: bool = False
    """Whether it was replayed, or held until earlier ones were: then it is older than its place says."""
    is_event: bool = True
    key: str = ""
    begins: bool = False
    """Whether it has its source's id, and events behind it rely on that."""
    mixed: bool = False
    """Whether it has its source's id, as every event while several sources are live."""

    @property
    def json(self) -> bytes:
        return text_payload(self.frame)

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return len(self.frame) + ENTRY_BYTES


_DROPPED = Entry("", 0, "", 0, 0, b"", 0)
"""Stands in a list for an entry that is not held any more, whose memory is free."""


class Cursor(Struct, frozen=True, array_like=True):
    """A place in a log: behind the entry with the ordinal `at`.

    If it is not `plain`, its position is not exactly what the log has up to there: it may cover further entries, or
    lack some that are not held."""

    at: int
    position: Position
    plain: bool = True


ORIGIN = Cursor(0, Position("", 0))
"""Before everything; the position of a reader that knows no source yet."""


@dataclass(slots=True, eq=False)
class Source:
    """A source of a channel, and its entries that are held, in order.

    Its first entry here follows the offset `base` and the ordinal `began`. Up to the offset `floor` nothing is held.
    It has `ended` with an ordinal, unless it is live. If it is `retired`, it has used its numbers twice, and the
    gateway numbers its events."""

    id: str
    incarnation: int | None = None
    """None for the gateway itself."""
    base: int = 0
    began: int = 0
    newest: int = 0
    floor: int = 0
    ended: int | None = None
    retired: bool = False
    returns: list[tuple[int, int]] = field(default_factory=list)
    """The ordinals and offsets at which it went on after it had ended; places between do not name it."""
    entries: list[Entry] = field(default_factory=list)
    head: int = 0
    """The index of the first entry held; a list with a moving head, see `ChannelLog`."""

    @property
    def state(self) -> "SourceState":
        facts = self.base, self.began, self.newest, self.floor, self.ended, self.retired, list(self.returns)
        return SourceState(self.id, self.incarnation, *facts)

    def hold(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.newest = entry.offset

    def drop_oldest(self) -> None:
        self.floor = self.entries[self.head].offset
        self.entries[self.head] = _DROPPED
        self.head += 1
        if self.head > 64 and self.head * 2 > len(self.entries):
            del self.entries[: self.head]
            self.head = 0

    @property
    def is_held(self) -> bool:
        return self.head < len(self.entries)

    def offset_at(self, at: int) -> int:
        """Return how far it had come at an ordinal."""
        entries = self.entries
        if not self.is_held or entries[-1].at <= at:
            return self.newest
        return entries[bisect_right(entries, at, lo=self.head, key=_at)].before

    def unnamed_at(self, at: int) -> int:
        """Return how far one is in it whose place behind an ordinal does not name it."""
        if self.began >= at:
            return self.base
        return next((offset for returned, offset in self.returns if returned >= at), self.offset_at(at))

    def go_on(self, at: int) -> None:
        """Note that it goes on behind an ordinal, after it had ended."""
        self.ended = None
        self.returns.append((at, self.newest))
        del self.returns[:-RETURNS_MAX]

    def covers(self, entry: Entry, offset: int) -> bool:
        """Return whether one who has come to an offset has an entry.

        A gap for the end takes no offset: who has come to it exactly, or further than this gateway, may not know of
        the end, unless the source has gone on."""
        if entry.before < entry.offset:
            return entry.offset <= offset
        return entry.offset < min(offset, self.newest)

    def first_behind(self, offset: int) -> Entry | None:
        """Return the first entry held that an offset does not cover."""
        at = bisect_right(self.entries, offset, lo=self.head, key=_offset)
        while at > self.head and not self.covers(self.entries[at - 1], offset):
            at -= 1  # the gap for its end
        return self.entries[at] if at < len(self.entries) else None

    def last_within(self, offset: int) -> Entry | None:
        """Return the last event held that is not beyond an offset, or the gap before the first, exactly there.

        A loss here does not say when a client of another gateway was there."""
        at = bisect_right(self.entries, offset, lo=self.head, key=_offset)
        while at > self.head:
            entry = self.entries[at - 1]
            if entry.is_event or (entry.at == self.began + 1 and entry.before == offset):
                break
            at -= 1
        return self.entries[at - 1] if at > self.head else None

    def last_in_time_within(self, offset: int) -> Entry | None:
        """Return the last entry of `last_within` that came when it was published: what is before it is older."""
        last = self.last_within(offset)
        while last is not None and last.late:
            last = self.last_within(last.before)
        if last is None or last.is_event:
            return last
        behind = self.entries[self.head + 1 : self.head + 2]  # a gap before the first event is as old as that
        return None if behind and behind[0].late else last


class SourceState(Struct, frozen=True, array_like=True):
    """A source without its entries, for a replica in another process."""

    id: str
    incarnation: int | None
    base: int
    began: int
    newest: int
    floor: int
    ended: int | None
    retired: bool
    returns: list[tuple[int, int]]


class Forgotten(Struct, frozen=True, array_like=True):
    """What a log still knows of the sources that it has forgotten: the id of the last one, and figures for all.

    Up to the ordinal `floor` they had events. They are over since the ordinal `at`, and the end of none is reported after
    `ended_ns`; if one was live, it counts as ended with the newest entry of that time."""

    id: str
    floor: int
    at: int
    ended_ns: int


def make_position(offsets: dict[str, int], first: str) -> Position:
    """Return the position with these offsets by source; `first` is the source to be named first."""
    if len(offsets) == 1:
        return Position(first, offsets[first])
    return Position(first, offsets[first], {id_: at for id_, at in offsets.items() if id_ != first} or UNSET)
