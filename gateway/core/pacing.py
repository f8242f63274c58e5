"""Newest wins: what a view with a rate gets, and when.

Between two flushes of a channel each event takes the place of the one before it with the same key.
What was left out is counted, and told with a gap behind those that came through: who has the gap has
everything up to its end.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from gateway.core.log import ChannelLog, Entry, gap_frame, notice
from gateway.core.numbering import Cursor


class Gathered(NamedTuple):
    """What comes of some of a channel's entries if of each key only the newest event is wanted."""

    before: Cursor
    newest: dict[str, Entry]
    gaps: list[Entry]
    left_out: int


def gather(log: ChannelLog, entries: Sequence[Entry]) -> Gathered:
    """Keep the newest event of each key, and every gap; there is at least one entry."""
    events = [entry for entry in entries if entry.is_event]
    newest = {entry.key: entry for entry in events}
    gaps = [entry for entry in entries if not entry.is_event]
    for entry in [one for one in events if one.begins and newest[one.key] is not one]:
        gaps += _instead(log, entry)
    return Gathered(entries[0].before, newest, gaps, len(events) - len(newest))


def _instead(log: ChannelLog, replaced: Entry) -> list[Entry]:
    """Return what is told in place of an event that is left out: the epoch, if it names one."""
    return [notice(log, replaced, "conflated")] if replaced.begins else []


class Pace:
    """One channel's events on their way to the readers of one view."""

    __slots__ = ("_chosen", "_gaps", "_left_out", "_log", "_period_ns", "before", "due_ns")

    def __init__(self, log: ChannelLog, rate: float) -> None:
        self._log = log
        self._period_ns = round(1e9 / rate)
        self._chosen: dict[str, Entry] = {}
        self._gaps: list[Entry] = []
        self._left_out = 0
        self.before: Cursor | None = None
        """The place before what waits; None if nothing does."""
        self.due_ns = 0
        """When the next flush may be."""

    def offer(self, gathered: Gathered) -> None:
        """Take in events and gaps."""
        if self.before is None:
            self.before = gathered.before
        self._gaps += gathered.gaps
        self._left_out += gathered.left_out
        chosen = self._chosen
        for key, entry in gathered.newest.items():
            if key in chosen:
                self._left_out += 1
                self._gaps += _instead(self._log, chosen[key])
            chosen[key] = entry

    def is_due(self, now_ns: int) -> bool:
        """Tell whether what waits may go out; a clock that was set back holds nothing up."""
        return self.before is not None and not now_ns < self.due_ns <= now_ns + self._period_ns

    def flush(self, *, now_ns: int) -> tuple[list[bytes], int, int]:
        """Return the frames of what waits, how many events they hold, and how many were left out."""
        assert self.before is not None
        entries = in_order((*self._gaps, *self._chosen.values()))
        frames = [entry.frame for entry in entries]
        frames += conflated(self._log, self.before, entries[-1].at, self._left_out)
        events, left_out = len(self._chosen), self._left_out
        self._chosen, self._gaps, self._left_out, self.before = {}, [], 0, None
        self.due_ns = now_ns + self._period_ns
        return frames, events, left_out


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """Sort entries by their places."""
    return sorted(entries, key=lambda entry: entry.at)


def with_epochs(log: ChannelLog, life: int, entries: Iterable[Entry]) -> Iterator[bytes]:
    """Return the frames of some of a log's entries, in order, for a reader that is in a life.

    Where the event that names an epoch was left out, a gap does.
    """
    for entry in entries:
        if entry.is_event and not entry.begins and entry.at.life != life:
            position = log.numbering.position(entry.at)
            yield gap_frame(log.name, position.epoch, "conflated", last=position.offset - 1)
        life = entry.at.life
        yield entry.frame


def conflated(log: ChannelLog, after: Cursor, last: Cursor, left_out: int | None) -> list[bytes]:
    """Return what tells that newer events stand for others behind a place; nothing for none."""
    if left_out == 0:
        return []
    first = after.offset + 1 if after.life == last.life else None
    position = log.numbering.position(last)
    return [
        gap_frame(
            log.name, position.epoch, "conflated", first=first, last=position.offset, count=left_out
        )
    ]
