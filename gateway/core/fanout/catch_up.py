"""What a view gets of one channel from its log: all events, or the newest of each key.

A place in the log stands for all that was not written yet, whether the reader lags or the rate of
its view holds events back. So both are served from here, by the same rules for filters, keys, gaps
and epochs.

The first event of an epoch names it. Where a view leaves that event out, a gap names the epoch
instead, so no event reaches a reader that does not know its epoch. A place at `ORIGIN` belongs to a
reader that was not told any epoch of the channel.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import compress

from gateway.core.fanout.selection import Matches
from gateway.core.fanout.views import ChannelView
from gateway.core.log.epochs import ORIGIN, Cursor
from gateway.core.log.log import ChannelLog, Entry, encode_gap, epoch_gap, gap_frame


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


def everything(log: ChannelLog, after: Cursor, view: ChannelView, *, bytes_max: int) -> Part:
    """Return the next entries behind a place, about `bytes_max` of them; a gap first if some are gone."""
    part = Part(after)
    missing = log.missing(after)
    if missing is not None:
        part.frames.append(encode_gap(missing))
        part.evicted = missing.count or 1
    entries = log.read(after, bytes_max=bytes_max)
    part.reached = entries[-1].at if entries else log.newest
    if not view.filters:
        part.add(entries)
        return part
    matches = Matches(entries)
    for entry, passes in zip(entries, matches.any_of(view.filters), strict=True):
        if passes:
            part.add([entry])
        elif entry.begins:
            part.frames.append(epoch_gap(log, entry, "filtered").frame)
    part.filter_errors = matches.errors
    return part


def newest(
    log: ChannelLog, after: Cursor, view: ChannelView, *, until: Cursor, bytes_max: int = 2**63
) -> Part:
    """Return the newest event of each key behind a place, up to another; a gap stands for the others.

    About `bytes_max` bytes. The gap's count is null where the log no longer holds all of them.
    """
    current = [entry for entry in log.current(after) if entry.at <= until]
    held = log.held(after, until)
    matches = Matches([*current, *held])
    passes = matches.any_of(view.filters)
    chosen = {entry.key: entry for entry in compress(current, passes)}
    passing = list(compress(held, passes[len(current) :]))
    chosen.update({entry.key: entry for entry in passing if entry.is_event})
    entries = sorted((*chosen.values(), *[e for e in passing if not e.is_event]), key=_place)
    size = 0
    for at, entry in enumerate(entries, 1):
        size += len(entry.frame)
        if size >= bytes_max:
            del entries[at:]
    part = Part(entries[-1].at if entries and size >= bytes_max else until)
    part.conflated = sum(e.is_event and e.at <= part.reached for e in passing)
    part.conflated -= sum(e.is_event and e.at > log.floor for e in entries)
    part.events = sum([entry.is_event for entry in entries])
    part.filter_errors = matches.errors
    part.frames += _with_epochs(log, after, entries, part.reached)
    count = None if log.missing(after) is not None else part.conflated
    if count != 0:
        part.frames.append(_conflated(log, after, part.reached, count))
    return part


def _place(entry: Entry) -> Cursor:
    return entry.at


def _with_epochs(
    log: ChannelLog, after: Cursor, entries: Collection[Entry], reached: Cursor
) -> Iterator[bytes]:
    """Return the entries' frames, with a gap wherever an epoch begins that no entry names."""
    known = None if after == ORIGIN else after.epoch_number
    for entry in entries:
        if entry.is_event and not entry.begins and entry.at.epoch_number != known:
            position = log.epochs.position(entry.at)
            yield gap_frame(log.name, position.epoch, "conflated", last=position.offset - 1)
        known = entry.at.epoch_number
        yield entry.frame
    if known != reached.epoch_number:
        # The view wants nothing of the present epoch so far, but what follows is numbered in it.
        position = log.epochs.position(reached)
        yield gap_frame(log.name, position.epoch, "filtered", last=position.offset)


def _conflated(log: ChannelLog, after: Cursor, last: Cursor, count: int | None) -> bytes:
    """Return the gap for the events between two places that newer ones replace."""
    first = after.offset + 1 if after.epoch_number == last.epoch_number else None
    position = log.epochs.position(last)
    return gap_frame(
        log.name, position.epoch, "conflated", first=first, last=position.offset, count=count
    )
