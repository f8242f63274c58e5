"""What of a tick's entries passes which conditions: worked out once for all who see the same.

Each event is decoded once, judged once by each condition, and joined once for each distinct set of
channels and conditions, however many views and readers there are.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from operator import itemgetter

import msgspec

from gateway.core.filters import Filter
from gateway.core.log import ChannelLog, Entry, notice
from gateway.core.numbering import Cursor
from gateway.core.pacing import Gathered, gather
from gateway.core.views import Sight


Filters = tuple[Filter, ...]
Placed = tuple[int, Entry]
"""An entry and its place in the tick; so entries of several channels sort as they came."""

_decode = msgspec.json.Decoder(dict[str, object]).decode
_number = itemgetter(0)


class Verdicts:
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


class Sieve:
    """The entries of one tick."""

    def __init__(self, entries: Sequence[Entry], logs: Mapping[str, ChannelLog]) -> None:
        self.channels: dict[str, list[Placed]] = {}
        self._logs = logs
        self._verdicts: dict[str, Verdicts] = {}
        self._passing: dict[tuple[str, Filters], list[Placed]] = {}
        self._gathered: dict[tuple[str, Filters], Gathered | None] = {}
        self._joined: dict[tuple[Sight, ...], tuple[bytes, int]] = {}
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

    def joined(self, sights: tuple[Sight, ...]) -> tuple[bytes, int]:
        """Return the frames of what is seen of some channels, in order, and how many events they hold."""
        joined = self._joined.get(sights)
        if joined is None:
            parts = [self._pass(channel, seen.filters) for channel, seen in sights]
            placed = parts[0] if len(parts) == 1 else sorted(chain(*parts), key=_number)
            frames = b"".join([entry.frame for _, entry in placed])
            count = len(placed)
            if not self._events_only:  # gaps do not count, nor notices in place of events
                count = sum([entry.is_event for _, entry in placed])
            joined = self._joined[sights] = frames, count
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
                verdicts = self._verdicts[channel] = Verdicts([entry for _, entry in placed])
            passing = self._passing[channel, filters] = []
            for one, passes in zip(placed, verdicts.of(filters), strict=True):
                if passes:
                    passing.append(one)
                elif one[1].begins:
                    passing.append((one[0], notice(self._logs[channel], one[1], "filtered")))
        return passing
