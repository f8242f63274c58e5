"""What of a tick's entries passes which conditions: worked out once for all who see the same.

Each event is decoded once, judged once by each condition, and joined once for each distinct set of
channels and conditions, however many views and readers there are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

import msgspec

from gateway.core.fanout.filters import Filter
from gateway.core.fanout.views import SeenChannel
from gateway.core.log.epochs import Cursor
from gateway.core.log.log import ChannelLog, Entry, gap_frame, notice


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


def with_epochs(log: ChannelLog, epoch_number: int, entries: Iterable[Entry]) -> Iterator[bytes]:
    """Return the frames of some of a log's entries, in order, for a reader that is in a life.

    Where the event that names an epoch was left out, a gap does.
    """
    for entry in entries:
        if entry.is_event and not entry.begins and entry.at.epoch_number != epoch_number:
            position = log.epochs.position(entry.at)
            yield gap_frame(log.name, position.epoch, "conflated", last=position.offset - 1)
        epoch_number = entry.at.epoch_number
        yield entry.frame


def conflated(log: ChannelLog, after: Cursor, last: Cursor, left_out: int | None) -> list[bytes]:
    """Return what tells that newer events stand for others behind a place; nothing for none."""
    if left_out == 0:
        return []
    first = after.offset + 1 if after.epoch_number == last.epoch_number else None
    position = log.epochs.position(last)
    return [
        gap_frame(
            log.name, position.epoch, "conflated", first=first, last=position.offset, count=left_out
        )
    ]


Filters = tuple[Filter, ...]
Placed = tuple[int, Entry]
"""An entry and its place in the tick; so entries of several channels sort as they came."""

_decode = msgspec.json.Decoder(dict[str, object]).decode
_number = itemgetter(0)


class Matches:
    """What conditions say of some entries; of each condition, on all of them at once."""

    __slots__ = ("_entries", "_events", "_said", "errors")

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.errors = 0
        """How often a condition could not decide on an event."""
        self._entries = entries
        self._events: list[dict[str, object] | None] | None = None
        self._said: dict[Filter, list[bool]] = {}

    def of(self, filters: Filters) -> list[bool]:
        """Tell of each entry whether it meets one of the conditions; a gap does, and with none all do."""
        if not filters:
            return [True] * len(self._entries)
        said = [self._judge(one) for one in filters]
        return said[0] if len(said) == 1 else [any(each) for each in zip(*said, strict=True)]

    def _judge(self, condition: Filter) -> list[bool]:
        said = self._said.get(condition)
        if said is None:
            if self._events is None:
                self._events = [_decode(e.json) if e.is_event else None for e in self._entries]
            matches, before = condition.matches, condition.errors
            said = [event is None or matches(event) for event in self._events]
            self._said[condition] = said
            self.errors += condition.errors - before
        return said


class Selection:
    """The entries of one tick."""

    def __init__(self, entries: Sequence[Entry], logs: Mapping[str, ChannelLog]) -> None:
        self.channels: dict[str, list[Placed]] = {}
        self._logs = logs
        self._verdicts: dict[str, Matches] = {}
        self._passing: dict[tuple[str, Filters], list[Placed]] = {}
        self._gathered: dict[tuple[str, Filters], Gathered | None] = {}
        self._joined: dict[tuple[SeenChannel, ...], tuple[bytes, int]] = {}
        self._events_only = all(e.is_event and not e.begins for e in entries)
        channels = self.channels
        for placed in enumerate(entries):
            channel = placed[1].channel
            if channel in channels:
                channels[channel].append(placed)
            else:
                channels[channel] = [placed]

    @property
    def errors(self) -> int:
        """How often a condition could not decide on an event."""
        return sum([verdicts.errors for verdicts in self._verdicts.values()])

    def starts(self) -> dict[str, Cursor]:
        """Return the place before the first entry, by channel."""
        return {channel: placed[0][1].before for channel, placed in self.channels.items()}

    def joined(self, seen_channels: tuple[SeenChannel, ...]) -> tuple[bytes, int]:
        """Return the frames of what is seen of some channels, in order, and how many events they hold."""
        joined = self._joined.get(seen_channels)
        if joined is None:
            parts = [self._pass(channel, seen.filters) for channel, seen in seen_channels]
            placed = parts[0] if len(parts) == 1 else sorted(chain(*parts), key=_number)
            frames = b"".join([entry.frame for _, entry in placed])
            count = len(placed)
            if not self._events_only:  # gaps do not count, nor notices in place of events
                count = sum([entry.is_event for _, entry in placed])
            joined = self._joined[seen_channels] = frames, count
        return joined

    def gathered(self, channel: str, filters: Filters) -> Gathered | None:
        """Return the newest event of each key that is seen of a channel; None for nothing."""
        key = channel, filters
        if key not in self._gathered:
            entries = [entry for _, entry in self._pass(channel, filters)]
            self._gathered[key] = gather(self._logs[channel], entries) if entries else None
        return self._gathered[key]

    def _pass(self, channel: str, filters: Filters) -> list[Placed]:
        placed = self.channels[channel]
        if not filters:
            return placed
        passing = self._passing.get((channel, filters))
        if passing is None:
            verdicts = self._verdicts.get(channel)
            if verdicts is None:
                verdicts = self._verdicts[channel] = Matches([entry for _, entry in placed])
            passing = self._passing[channel, filters] = []
            for one, passes in zip(placed, verdicts.of(filters), strict=True):
                if passes:
                    passing.append(one)
                elif one[1].begins:
                    passing.append((one[0], notice(self._logs[channel], one[1], "filtered")))
        return passing
