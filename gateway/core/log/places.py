"""Places in a channel's log: from a client's position to an ordinal, and back."""

from collections.abc import Callable, Container, Mapping, Sequence
from operator import attrgetter

import msgspec
from msgspec import Struct

from gateway.core.log.entries import LogEntries
from gateway.core.log.gaps import is_end
from gateway.core.log.sources import QUIET_NS, Cursor, Entry, Forgotten, Source, make_position
from gateway.core.protocol.messages import Position


_at = attrgetter("at")


def _is_just_before(ended_ns: int, entry: Entry) -> bool:
    """Return whether an end was reported less than a minute before an entry, or after it."""
    return ended_ns > entry.received_ns - QUIET_NS


class Resumed(Struct, frozen=True):
    """Where a client's position leads to, and the sources of which it is not known what the client lacks.

    These are sources that it names and that are not known here, and such as it does not name and that have just ended.
    One that was forgotten stands for all of these."""

    cursor: Cursor
    lost: list[str]
    is_new: bool = False
    """Whether none of its sources is known: then it starts with the oldest entry."""


class LogPlaces(LogEntries):
    """The entries of one channel, and the places between them."""

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
        if at <= 0:
            return next((one for one in self._sources.values() if one.began < at), self._own)
        if at == self.at:
            return self._source
        if at <= self.floor:
            return self._floor_source
        entry = self._entries[self._head + at - self.floor - 1]
        assert entry is not None
        return self._sources[entry.source]

    def relied_on(self, after: Cursor) -> str:
        """Return the source whose id the next event behind a place lacks, or may lack; else ""."""
        if after.at < self.floor:
            return ""
        if after.at == self.at:
            return "" if self._begins else self._source.id
        entry = self._entries[self._head + after.at - self.floor]
        assert entry is not None
        return entry.source if entry.is_event and not (entry.begins or entry.mixed) else ""

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
        return is_end(source.entries[-1]) if source.is_held else any(one.source == source.id for one in self._ends)

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
        offsets = {id_: n for id_, n in position.offsets.items() if self._may_be_at(id_, n, ahead_max)}
        lost = [id_ for id_ in position.offsets if id_ not in offsets]
        if not offsets:
            return Resumed(self.start, lost, is_new=True)
        if position.others is not msgspec.UNSET:
            lost = [id_ for id_ in lost if position.offsets[id_]]
        newest = self._newest_within(offsets)
        over = self._add_unnamed(offsets, newest)
        at = self._covered_up_to(offsets, over)
        lost += [id_ for id_ in self._lost_unnamed(over, at, newest) if id_ not in lost]
        plain = self.cursor_at(at)
        found = plain.position.offsets
        kept = {
            id_: n
            for id_, n in offsets.items()
            if id_ in found or (id_ in self._sources and self._sources[id_].offset_at(at) != n)
        }
        if not kept and self._own.id not in self._sources:
            # Before everything: named by the client's sources, which all gateways know, not by this gateway.
            known = {id_: n for id_, n in position.offsets.items() if id_ in self._sources}
            first_id = position.epoch if position.epoch in known else next(iter(known), "")
            if first_id:
                return Resumed(Cursor(at, make_position(known, first_id)), lost)
        kept = kept or found
        if at >= self.floor and kept == found:
            return Resumed(plain, lost)
        first_id = plain.position.epoch if plain.position.epoch in kept else position.epoch
        first_id = first_id if first_id in kept else next(iter(kept))
        return Resumed(Cursor(at, make_position(kept, first_id), False), lost)

    def _may_be_at(self, id_: str, offset: int, ahead_max: int) -> bool:
        """Return whether a source is known and may have come as far as a client says."""
        source = self._own if id_ == self._own.id else self._sources.get(id_)
        if source is None:
            return False
        ahead = 0 if source.incarnation is None else ahead_max
        return source.ended is not None or offset <= source.newest + ahead

    def _newest_within(self, offsets: dict[str, int]) -> Entry | None:
        """Return the newest entry that a client with these offsets has, of those that came when they were published."""
        covered = [self._sources[id_].last_in_time_within(at) for id_, at in offsets.items() if id_ in self._sources]
        return max((one for one in covered if one is not None), key=_at, default=None)

    def _add_unnamed(self, offsets: dict[str, int], newest: Entry | None) -> dict[str, Source]:
        """Add the sources that a client's offsets do not name; return those that are over for it, which it need not read."""
        unnamed = [one for one in self._sources.values() if one.id not in offsets]
        over = {one.id: one for one in unnamed if newest is not None and self._is_over(one, newest)}
        offsets |= {one.id: one.newest if one.id in over else 0 for one in unnamed}
        return over

    def _covered_up_to(self, offsets: dict[str, int], over: Container[str]) -> int:
        """Return the ordinal up to which a client's offsets cover all entries, but for sources that are over for it."""
        at = self.at
        for source in self._sources.values():
            if source.id in over:
                continue
            first = source.first_behind(offsets[source.id])
            if first is not None:
                at = min(at, first.at - 1)
            if offsets[source.id] < source.floor:
                at = min(at, self.floor, self.at - 1)  # before the newest, or there was nothing to write
        return min([at, *(end.at - 1 for end in self._ends_beyond(offsets, over))])

    def _ends_beyond(self, offsets: dict[str, int], over: Container[str]) -> list[Entry]:
        """Return the gaps for ends of sources that a client with these offsets may not know of."""
        ended = {
            one.ended
            for one in self._sources.values()
            if one.ended is not None and one.id not in over and offsets[one.id] <= one.newest
        }
        firsts = [one.entries[one.head] for one in self._sources.values() if one.is_held] if ended else []
        return [
            one
            for one in (*self._ends, *filter(is_end, firsts))
            if (one.source not in over and not self._covers(one, offsets.get(one.source, one.offset + 1)))
            or (one.at - 1 in ended and self._ended_before(one))
        ]

    def _lost_unnamed(self, over: Mapping[str, Source], at: int, newest: Entry | None) -> list[str]:
        """Return the sources that a client does not name, and of which it is not known what it lacks when it reads on behind
        an ordinal: those that have just ended, and one that is forgotten."""
        lost = [id_ for id_, one in over.items() if newest is not None and self._has_just_ended(one, newest)]
        if self.forgotten is not None and at >= self.forgotten.floor and not self._were_over(self.forgotten, newest):
            lost.append(self.forgotten.id)
        return lost

    def _is_over(self, source: Source, newest: Entry) -> bool:
        """Return whether a source that a client does not name was over before the newest entry that the client has.

        Silence alone says it only of this gateway: another one may not have heard a publisher that sends seldom."""
        if source.ended is not None and source.ended <= newest.at:
            return True
        if source.incarnation is not None:
            return False
        last = source.entries[-1] if source.is_held else None
        return last is None or last.received_ns < newest.received_ns - QUIET_NS

    def _has_just_ended(self, source: Source, newest: Entry) -> bool:
        """Return whether it was reported shortly before an entry that the end of a source is not known.

        A client that has the entry from another gateway may not have met the source there. If it has forgotten the source
        because of that report, it gets it again."""
        return _is_just_before(self._end_reported_ns(source), newest)

    def _were_over(self, forgotten: Forgotten, newest: Entry | None) -> bool:
        """Return whether all sources that were forgotten were over before the newest entry that a client has."""
        return newest is not None and forgotten.at <= newest.at and not _is_just_before(forgotten.ended_ns, newest)

    def _ended_before(self, gap: Entry) -> list[Source]:
        """Return the sources of which a gap says that they have ended, as it begins the next one.

        One who has something of that one from another gateway may not know of these ends."""
        begun = self._sources.get(gap.source)
        if begun is None or not is_end(gap) or gap.at != begun.began + 1:
            return []
        return [one for one in self._sources.values() if one.ended == begun.began and one.incarnation is not None]

    def _covers(self, entry: Entry, offset: int) -> bool:
        source = self._sources.get(entry.source)
        return source is None or source.covers(entry, offset)

    def position_of(self, cursor: Cursor) -> Position:
        """Return a place's position, as clients get it."""
        if cursor.position.epoch:
            return cursor.position
        first = self._source_at(0)
        return Position(first.id, first.unnamed_at(0))  # where it began, also if what followed is evicted

    def have(self, after: Cursor) -> Callable[[str], int]:
        """Return how far a place is in a source."""
        offsets = after.position.offsets

        def offset(id_: str) -> int:
            found = offsets.get(id_)
            if found is None:
                found = self._sources[id_].unnamed_at(after.at)
            return found

        return offset
