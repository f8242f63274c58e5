"""What a view gets from one channel's log: all events, or the newest of each key.

Readers that lag and views whose rate holds events back both stand at a place in the log, with
everything behind it unwritten. So both read from here, with the same rules for filters, keys, gaps
and epochs.

While one source is live, an event has its source's id only if the entry before it is of another source. If a filter or
a rate drops that event, a gap has the id instead; if what stands between is passed over, the event gets the id here. So
a reader knows the source of each event that it gets."""

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from operator import attrgetter

from gateway.core.fanout.budget import affordable
from gateway.core.fanout.failed_filters import Failed
from gateway.core.fanout.filters import Filter
from gateway.core.fanout.selection import Matches
from gateway.core.fanout.views import ChannelView
from gateway.core.log.gaps import encode_gap, filtered_gap, is_end
from gateway.core.log.log import ChannelLog
from gateway.core.log.sources import Cursor, Entry
from gateway.core.protocol.messages import Gap


_at = attrgetter("at")


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
    part.evicted = sum([gap.count or 1 for gap in missing if gap.reason == "evicted"])
    entries = log.read(after, bytes_max=bytes_max)
    if view.filters:
        entries, part.steps = affordable(entries, view.filters)
        part.unpaid = part.steps
    part.reached = log.advance(after, entries[-1].at) if entries else log.advance(after, log.at)
    if view.filters:
        matches = Matches(entries)
        entries = [
            entry if passes else filtered_gap(entry)
            for entry, passes in zip(entries, matches.any_of(view.filters), strict=True)
            if passes or entry.begins
        ]
        part.failed = matches.failed
    if after.plain and not missing:
        frames = [entry.frame for entry in entries]
    else:
        frames = _with_sources(log, after, missing, entries, [], part.reached)
    part.frames = view.encode(frames)
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
    if until.at < log.floor:
        until = log.start  # nothing between is held
    current = [entry for entry in log.current(after) if entry.at <= until.at]
    held, judged, steps = log.held(after, until), True, 0
    if view.filters:
        current, held, judged, steps = _affordable(current, held, view.filters)
    matches = Matches([*current, *held])
    passes = matches.any_of(view.filters)
    passing = list(compress(held, passes[len(current) :]))
    chosen = _newest((*compress(current, passes), *passing))
    if current_only:
        unfiltered = _newest((*current, *held))
        chosen = {key: entry for key, entry in chosen.items() if entry.at == unfiltered[key].at}
    entries = sorted((*chosen.values(), *[e for e in passing if not e.is_event]), key=_at)
    reached = entries[-1].at if _cut(entries, bytes_max) else until.at
    part = Part(log.advance(after, reached) if reached >= log.floor else log.advance_among_evicted(after, entries))
    left: Counter[str] = Counter()
    for one in passing:
        left[one.source] += one.is_event and one.at <= reached
    for one in entries:
        left[one.source] -= one.is_event and one.at > log.floor
    part.conflated = left.total()
    part.events = sum([entry.is_event for entry in entries])
    part.failed = matches.failed
    part.steps = part.unpaid = steps
    gone = log.missing(after, until=reached)
    missing = {gap.epoch for gap in gone if gap.reason == "evicted"}
    gaps: list[Gap] = []
    if part.conflated or missing or not judged:
        gaps = _conflated(log, after, part.reached, left, missing, judged)
    changed = [one for one in gone if one.reason == "epoch"]
    part.frames = view.encode(_with_sources(log, after, changed, entries, gaps, part.reached))
    return part


def _affordable(
    current: list[Entry], held: list[Entry], filters: tuple[Filter, ...]
) -> tuple[list[Entry], list[Entry], bool, int]:
    """Return what filters may judge at once of current values and of entries held; whether that is all; its steps.

    It is the newest of both, and the gaps among the entries held."""
    (values, steps), (newest, more) = (affordable(reversed(one), filters) for one in (current, held))
    gaps = [entry for entry in held[: len(held) - len(newest)] if not entry.is_event]
    judged = len(values) == len(current) and len(newest) == len(held)
    return values[::-1], gaps + newest[::-1], judged, steps + more


def _cut(entries: list[Entry], bytes_max: int) -> bool:
    """Cut entries to about `bytes_max`; return whether they have as many."""
    size = 0
    for number, entry in enumerate(entries, 1):
        size += len(entry.frame)
        if size >= bytes_max:
            del entries[number:]
            return True
    return False


def _newest(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Return the last event of each key."""
    return {entry.key: entry for entry in entries if entry.is_event}


def _conflated(
    log: ChannelLog, after: Cursor, reached: Cursor, left: Mapping[str, int], missing: Container[str], judged: bool
) -> list[Gap]:
    """Return a gap for each source of which events are left out; the source of the newest entry comes last."""
    have, gaps = log.have(after), []
    to = log.offsets_at(reached.at) if reached.at >= log.floor else reached.position.offsets
    for source in sorted(to, key=lambda id_: id_ == reached.position.epoch):
        offset = have(source)
        count = left.get(source, 0) if judged and source not in missing else None
        if count != 0 and (to[source] > offset or source in left):
            gaps.append(log.gap("conflated", source, to[source], first=offset + 1, count=count))
    return gaps


def _with_sources(
    log: ChannelLog,
    after: Cursor,
    missing: Sequence[Gap],
    entries: Sequence[Entry],
    gaps: Sequence[Gap],
    reached: Cursor,
) -> list[bytes]:
    """Return frames for one who reads on from there: they name the source that what comes behind them relies on."""
    frames, known = _named(log, after, missing, entries)
    frames += [encode_gap(gap) for gap in gaps]
    known = gaps[-1].epoch if gaps else known
    newest = log.relied_on(reached)
    if newest not in {"", known}:
        # The next events are numbered in it.
        offset = reached.position.offsets.get(newest, 0)
        frames.append(encode_gap(log.gap("filtered", newest, offset)))
    return frames


def with_sources(log: ChannelLog, after: Cursor, missing: Sequence[Gap], entries: Sequence[Entry]) -> list[bytes]:
    """Return frames in which each event has its source's id, unless what comes before it says it."""
    return _named(log, after, missing, entries)[0]


def _named(log: ChannelLog, after: Cursor, missing: Sequence[Gap], entries: Sequence[Entry]) -> tuple[list[bytes], str]:
    """Return the frames of `with_sources`, and the source that they name last: none if they say that it ended, as
    readers forget it then."""
    known = _known(log, after)
    if missing:
        known = "" if missing[-1].to is None else missing[-1].epoch
    frames = [encode_gap(gap) for gap in missing]
    for entry in entries:
        if is_end(entry):
            frames += map(encode_gap, log.ends(entry))
            known = ""
            continue
        frames.append(entry.frame if entry.source == known else log.with_source(entry))
        known = entry.source
    return frames, known


def _known(log: ChannelLog, after: Cursor) -> str:
    """Return the source that one at a place takes an event without an id to be of; empty if that is not sure."""
    source = log.relied_on(after)
    return source if source == after.position.epoch else ""
