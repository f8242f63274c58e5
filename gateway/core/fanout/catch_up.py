"""What a reader that is behind gets of one channel next: from the log, as its view sees it."""

from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import compress

from gateway.core.fanout.selection import Matches, conflated, in_order, with_epochs
from gateway.core.fanout.views import ChannelView
from gateway.core.log.epochs import Cursor
from gateway.core.log.log import ChannelLog, Entry, gap_frame, notice


@dataclass(slots=True)
class Part:
    """Frames to be written, how far they reach, and what they stand for."""

    reached: Cursor
    frames: list[bytes] = field(default_factory=list)
    events: int = 0
    evicted: int = 0
    conflated: int = 0
    filter_errors: int = 0

    def add(self, entries: Collection[Entry]) -> None:
        """Add entries in order."""
        self.frames += [entry.frame for entry in entries]
        self.events += sum([entry.is_event for entry in entries])


def everything(log: ChannelLog, after: Cursor, seen: ChannelView, *, bytes_max: int) -> Part:
    """Take the next events behind a place, about `bytes_max` of them; a gap first if some are gone."""
    part = Part(after)
    missing = log.missing(after)
    if missing is not None:
        epoch, first, last = missing
        part.frames.append(
            gap_frame(log.name, epoch, "evicted", first=first, last=last, count=missing.amount)
        )
        part.evicted = missing.amount or 1
    entries = log.read(after, bytes_max=bytes_max)
    part.reached = entries[-1].at if entries else log.newest
    if not seen.filters:
        part.add(entries)
        return part
    verdicts = Matches(entries)
    for entry, passes in zip(entries, verdicts.of(seen.filters), strict=True):
        if passes:
            part.add([entry])
        elif entry.begins:
            part.frames.append(notice(log, entry, "filtered").frame)
    part.filter_errors = verdicts.errors
    return part


def newest(
    log: ChannelLog,
    after: Cursor,
    seen: ChannelView,
    *,
    bytes_max: int,
    until: Cursor | None = None,
) -> Part:
    """Take the newest event of each key behind a place; a gap stands for what they replace.

    Up to the place `until`, or all there is.
    """
    until = until or log.newest
    current = [entry for entry in log.current(after) if entry.at <= until]
    held = [entry for entry in log.held(after) if entry.at <= until]
    verdicts = Matches([*current, *held])
    passes = verdicts.of(seen.filters)
    chosen = {entry.key: entry for entry in compress(current, passes)}
    passing = list(compress(held, passes[len(current) :]))
    chosen.update({entry.key: entry for entry in passing if entry.is_event})
    entries = in_order((*chosen.values(), *[e for e in passing if not e.is_event]))
    size = 0
    for at, entry in enumerate(entries, 1):
        size += len(entry.frame)
        if size >= bytes_max:
            del entries[at:]
    reached = entries[-1].at if entries and size >= bytes_max else until
    part = Part(reached)
    part.conflated = sum(e.is_event and e.at <= reached for e in passing)
    part.conflated -= sum(e.is_event and e.at > log.floor for e in entries)
    known = None if log.missing(after) is not None else part.conflated
    part.frames += with_epochs(log, after.epoch_number, entries)
    if reached.epoch_number != (entries[-1].at.epoch_number if entries else after.epoch_number):
        # Nothing of the present epoch was wanted, but what follows is numbered in it.
        epoch = log.epochs.position(reached).epoch
        part.frames.append(gap_frame(log.name, epoch, "filtered", last=reached.offset))
    part.events = sum(entry.is_event for entry in entries)
    part.frames += conflated(log, after, reached, known)
    part.filter_errors = verdicts.errors
    return part
