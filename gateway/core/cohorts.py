"""Live readers with the same view, and what their view lets through."""

from collections.abc import Collection, Mapping, Sequence
from typing import Generic, TypeVar

import msgspec

from gateway.core.channels import EVERYONE, is_wildcard
from gateway.core.filters import Filter
from gateway.core.log import ChannelLog, Entry, notice
from gateway.core.numbering import Cursor
from gateway.core.pacing import Pace
from gateway.core.views import Lens, View, is_plain, lens, names


Member = TypeVar("Member")

_decode = msgspec.json.Decoder(dict[str, object]).decode


class Verdicts:
    """What conditions say of a tick's events: each event is decoded once, and judged once by each."""

    __slots__ = ("_decoded", "_passed", "errors")

    def __init__(self) -> None:
        self.errors = 0
        """How often a condition could not decide on an event."""
        self._decoded: dict[int, dict[str, object]] = {}
        self._passed: dict[tuple[Filter, int], bool] = {}

    def passes(self, filters: Sequence[Filter], entry: Entry) -> bool:
        """Tell whether an event meets one of the conditions; with none it does."""
        return not filters or any(self._judge(one, entry) for one in filters)

    def _judge(self, condition: Filter, entry: Entry) -> bool:
        number = id(entry)
        passed = self._passed.get((condition, number))
        if passed is None:
            event = self._decoded.get(number)
            if event is None:
                event = self._decoded[number] = _decode(entry.json)
            errors = condition.errors
            passed = self._passed[condition, number] = condition.matches(event)
            self.errors += condition.errors - errors
        return passed


class Cohort(Generic[Member]):
    """The live readers of one view, what it selects, and what its rates hold back."""

    __slots__ = ("_lenses", "_names", "_paces", "members", "plain", "view", "wildcards")

    def __init__(self, view: View) -> None:
        self.view = view
        self.members: dict[Member, None] = {}
        self.plain = is_plain(view)
        self.wildcards = any(map(is_wildcard, names(view)))
        self._names = frozenset(names(view))
        # Names that are no pattern's are not remembered: there may be many, and none is wanted.
        self._lenses: dict[str, Lens | None] = {}
        self._paces: dict[str, Pace] = {}

    def lens(self, channel: str) -> Lens | None:
        """Return how the view sees a channel, None if not at all."""
        if not (self.wildcards or channel in self._names or channel == EVERYONE):
            return None
        if channel not in self._lenses:
            self._lenses[channel] = lens(self.view, channel)
        return self._lenses[channel]

    def wants(self, channel: str) -> bool:
        """Tell whether the view selects a channel."""
        return self.lens(channel) is not None

    @property
    def held_back(self) -> bool:
        """Whether something waits for its time."""
        return any(pace.before is not None for pace in self._paces.values())

    @property
    def due_ns(self) -> int:
        """When the first of what waits is due."""
        return min([p.due_ns for p in self._paces.values() if p.before is not None], default=0)

    @property
    def places(self) -> dict[str, Cursor]:
        """Where the members stand in channels of which something waits."""
        return {name: p.before for name, p in self._paces.items() if p.before is not None}

    def sift(
        self, entries: Sequence[Entry], logs: Mapping[str, ChannelLog], verdicts: Verdicts
    ) -> tuple[list[bytes], int]:
        """Return the frames that pass at once, and how many events they hold; keep back the rest."""
        parts: list[bytes] = []
        events = 0
        for entry in entries:
            seen = self.lens(entry.channel)
            if seen is None:
                continue
            passes = not entry.is_event or verdicts.passes(seen.filters, entry)
            if not passes:
                if not entry.begins:
                    continue
                entry = notice(logs[entry.channel], entry, "filtered")
            if seen.rate is None:
                parts.append(entry.frame)
                events += entry.is_event
                continue
            pace = self._paces.get(entry.channel)
            if pace is None:
                pace = self._paces[entry.channel] = Pace(logs[entry.channel], seen.rate)
            pace.offer(entry)
        return parts, events

    def flush(self, *, now_ns: int) -> tuple[list[bytes], int, int]:
        """Return the frames that are due, the events in them, and how many were left out."""
        parts: list[bytes] = []
        events = replaced = 0
        for pace in self._paces.values():
            if pace.is_due(now_ns):
                frames, count, without = pace.flush(now_ns=now_ns)
                parts += frames
                events += count
                replaced += without
        return parts, events, replaced


def join(
    entries: Sequence[Entry], channels: Collection[str], wanted: Collection[str]
) -> tuple[bytes, int]:
    """Return the frames of a tick's entries in the `wanted` of its channels, and how many events."""
    if len(wanted) < len(channels):
        chosen = frozenset(wanted)
        entries = [entry for entry in entries if entry.channel in chosen]
    return b"".join([e.frame for e in entries]), sum([e.is_event for e in entries])
