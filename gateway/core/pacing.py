"""Newest wins: what a view with a rate gets, and when.

Between two flushes of a channel each event takes the place of the one before it with the same key.
What was left out is counted, and told with a gap behind those that came through: who has the gap has
everything up to its end.
"""

from collections.abc import Iterable, Iterator

from gateway.core.log import ChannelLog, Entry, gap_frame, notice
from gateway.core.numbering import Cursor


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

    def offer(self, entry: Entry) -> None:
        """Take in an event or a gap."""
        if self.before is None:
            self.before = entry.before
        if not entry.is_event:
            self._gaps.append(entry)
            return
        replaced = self._chosen.pop(entry.key, None)
        if replaced is not None:
            self._left_out += 1
            if replaced.begins:
                self._gaps.append(notice(self._log, replaced, "conflated"))
        self._chosen[entry.key] = entry

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
