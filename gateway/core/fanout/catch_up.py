"""What a view gets from one channel's log: all events, or the newest of each key.

Readers that lag and views whose rate holds events back both stand at a place in the log, with
everything behind it unwritten. So both read from here, with the same rules for filters, keys, gaps
and epochs.

The first event of an epoch has the epoch's id. If a filter or a rate drops that event, a gap has the
id instead, so a reader knows the epoch of each event that it gets. The place `ORIGIN` belongs to a
reader that knows no epoch of the channel yet."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import compress
from operator import attrgetter

from gateway.core.fanout.budget import affordable
from gateway.core.fanout.failed_filters import Failed
from gateway.core.fanout.selection import Matches
from gateway.core.fanout.views import ChannelView
from gateway.core.log.epochs import ORIGIN, Cursor
from gateway.core.log.log import ChannelLog, Entry, encode_gap, filtered_gap


_place = attrgetter("at")


@dataclass(slots=True)
class Tally:
    """What was delivered, for the metrics."""

    events: int = 0
    writes: int = 0
    bytes: int = 0
    evicted: int = 0
    lagged: int = 0
    conflated: int = 0
    filter_errors: int = 0
    failed: int = 0


@dataclass(slots=True)
class Part:
    """Frames to be written, the place that they reach, and figures for the metrics."""

    reached: Cursor
    frames: list[bytes] = field(default_factory=list)
    events: int = 0
    evicted: int = 0
    conflated: int = 0
    failed: Failed = field(default_factory=dict)
    steps: int = 0
    """What the filters took at most; see `gateway.core.fanout.budget`."""
    unpaid: int = 0
    """As many of these as no reader was charged for."""


def read_all(log: ChannelLog, after: Cursor, view: ChannelView, *, bytes_max: int) -> Part:
    """Return the next entries behind a place, about `bytes_max`, as many as the filters may judge at once.

    If some are evicted, first a gap."""
    part = Part(after)
    missing = log.missing(after)
    if missing is not None:
        part.frames.append(encode_gap(missing))
        part.evicted = missing.count or 1
    entries = log.read(after, bytes_max=bytes_max)
    if view.filters:
        entries, part.steps = affordable(entries, view.filters)
        part.unpaid = part.steps
    part.reached = entries[-1].at if entries else log.newest
    if view.filters:
        matches = Matches(entries)
        entries = [
            entry if passes else filtered_gap(log, entry)
            for entry, passes in zip(entries, matches.any_of(view.filters), strict=True)
            if passes or entry.begins
        ]
        part.failed = matches.failed
    part.frames = view.encode(part.frames + [entry.frame for entry in entries])
    part.events = sum([entry.is_event for entry in entries])
    return part


def read_newest(
    log: ChannelLog,
    after: Cursor,
    view: ChannelView,
    *,
    until: Cursor,
    bytes_max: int = 2**63,
    current_only: bool = False,
) -> Part:
    """Return the newest event of each key that passes between two places, about `bytes_max`; then a gap.

    With `current_only`, if a filter refuses the newest event of a key, no older one takes its place.
    The gap is for the conflated events. Its count is None if the log no longer holds all of them, or if they
    are more than the filters may judge at once: then only the newest are."""
    current = [entry for entry in log.current(after) if entry.at <= until]
    held, judged, steps = log.held(after, until), True, 0
    if view.filters:
        (values, steps), (newest, more) = (affordable(reversed(one), view.filters) for one in (current, held))
        judged = len(values) == len(current) and len(newest) == len(held)
        held = [e for e in held[: len(held) - len(newest)] if not e.is_event] + newest[::-1]
        current, steps = values[::-1], steps + more
    matches = Matches([*current, *held])
    passes = matches.any_of(view.filters)
    passing = list(compress(held, passes[len(current) :]))
    chosen = _newest((*compress(current, passes), *passing))
    if current_only:
        unfiltered = _newest((*current, *held))
        chosen = {key: entry for key, entry in chosen.items() if entry.at == unfiltered[key].at}
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
    part.failed = matches.failed
    part.steps = part.unpaid = steps
    part.frames += _with_epochs(log, after, entries, part.reached)
    count = None if log.missing(after) is not None or not judged else part.conflated
    if count != 0:
        part.frames.append(_conflated(log, after, part.reached, count))
    part.frames = view.encode(part.frames)
    return part


def _newest(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Return the last event of each key."""
    return {entry.key: entry for entry in entries if entry.is_event}


def _with_epochs(log: ChannelLog, after: Cursor, entries: Collection[Entry], reached: Cursor) -> Iterator[bytes]:
    """Yield the entries' frames, and a gap before an event if no entry has its epoch's id."""
    known = None if after == ORIGIN else after.epoch_number
    for entry in entries:
        if entry.is_event and not entry.begins and entry.at.epoch_number != known:
            until = Cursor(entry.at.epoch_number, entry.at.offset - 1)
            yield encode_gap(log.gap("conflated", until))
        known = entry.at.epoch_number
        yield entry.frame
    if known != reached.epoch_number:
        # The view got no entry of the current epoch, but later events are numbered in it.
        yield encode_gap(log.gap("filtered", reached))


def _conflated(log: ChannelLog, after: Cursor, last: Cursor, count: int | None) -> bytes:
    first = after.offset + 1 if after.epoch_number == last.epoch_number else None
    return encode_gap(log.gap("conflated", last, first=first, count=count))
