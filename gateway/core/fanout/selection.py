"""Which entries of a batch each view gets.

Each event is decoded once and evaluated once by each filter, and frames are joined once for each
distinct set of channels and filters, however many views and readers there are."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter

import msgspec

from gateway.core.fanout import budget
from gateway.core.fanout.budget import Filters
from gateway.core.fanout.failed_filters import Failed
from gateway.core.fanout.filters import Filter
from gateway.core.fanout.views import SeenChannels
from gateway.core.log.gaps import filtered_gap
from gateway.core.log.log import ChannelLog
from gateway.core.log.sources import Cursor, Entry
from gateway.core.protocol.binary import MARK, with_bytes


NumberedEntry = tuple[int, Entry]
"""An entry and its index in the batch, by which entries of several channels are put in order."""

_decoder = msgspec.json.Decoder(dict[str, object])
_number = itemgetter(0)


class Matches:
    """Which of some entries each filter matches; evaluated when first asked for."""

    __slots__ = ("_entries", "_evaluated", "_events", "failed")

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.failed: dict[Filter, int] = {}
        self._entries = entries
        self._events: list[dict[str, object] | None] | None = None
        self._evaluated: dict[Filter, list[bool]] = {}

    def any_of(self, filters: Filters) -> list[bool]:
        """Return for each entry whether any of the filters matches it.

        Gaps match every filter; without filters every entry matches."""
        if not filters:
            return [True] * len(self._entries)
        found = [self._evaluate(one) for one in filters]
        return found[0] if len(found) == 1 else [any(each) for each in zip(*found, strict=True)]

    def _evaluate(self, filter_: Filter) -> list[bool]:
        found = self._evaluated.get(filter_)
        if found is None:
            if self._events is None:
                self._events = [_members(e) if e.is_event else None for e in self._entries]
            matches, before = filter_.matches, filter_.errors
            found = [event is None or matches(event) for event in self._events]
            self._evaluated[filter_] = found
            if filter_.errors > before:
                self.failed[filter_] = filter_.errors - before
        return found


def _members(entry: Entry) -> dict[str, object]:
    """Return an event's members; {} if it cannot be decoded, so that evaluating a filter fails."""
    try:
        return _decoder.decode(entry.json)
    except msgspec.DecodeError:  # ingest rejects such events; one must not affect other events
        return {}


class Selection:
    """The entries of one batch by channel, and the frames that each view gets of them."""

    def __init__(self, entries: Sequence[Entry], logs: Mapping[str, ChannelLog]) -> None:
        self.channels: dict[str, list[NumberedEntry]] = {}
        self._logs = logs
        self._matches: dict[str, Matches] = {}
        self._sizes: dict[str, int] = {}
        self._passing: dict[tuple[str, Filters], list[NumberedEntry]] = {}
        self._binary: dict[int, bytes] = {}
        self._joined: dict[SeenChannels, tuple[bytes, int]] = {}
        self._events_only = all(e.is_event and not e.begins for e in entries)
        channels = self.channels
        for numbered in enumerate(entries):
            channel = numbered[1].channel
            if channel in channels:
                channels[channel].append(numbered)
            else:
                channels[channel] = [numbered]

    def failed(self) -> Iterator[tuple[str, Failed]]:
        """Yield the filters that failed, by channel."""
        for channel, matches in self._matches.items():
            if matches.failed:
                yield channel, matches.failed

    def starts(self) -> dict[str, Cursor]:
        """Return the place before the first entry, by channel."""
        return {channel: self.start(channel) for channel in self.channels}

    def start(self, channel: str) -> Cursor:
        return self._logs[channel].cursor_before([entry for _, entry in self.channels[channel]])

    def steps(self, seen: SeenChannels) -> int:
        """Return the most steps that the filters of views without a rate take; none for what is judged already."""
        total = 0
        for channel, view in seen:
            filters = view.filters
            if filters and view.rate is None and (channel, filters) not in self._passing:
                numbered = self.channels[channel]
                size = self._sizes.get(channel)
                if size is None:
                    size = self._sizes[channel] = sum([len(entry.frame) for _, entry in numbered])
                total += budget.steps(filters, len(numbered), size)
        return total

    def joined(self, seen: SeenChannels) -> tuple[bytes, int]:
        """Return the frames of what passes the views of some channels, in order, and the event count."""
        joined = self._joined.get(seen)
        if joined is None:
            parts = [self._passed(channel, view.filters) for channel, view in seen]
            numbered = parts[0] if len(parts) == 1 else sorted(chain(*parts), key=_number)
            frames = b"".join([entry.frame for _, entry in numbered])
            if MARK in frames and any(view.binary for _, view in seen):
                binary = {channel for channel, view in seen if view.binary}
                frames = b"".join([self._frame(one, entry, binary) for one, entry in numbered])
            count = len(numbered)
            if not self._events_only:  # gaps do not count
                count = sum([entry.is_event for _, entry in numbered])
            joined = self._joined[seen] = frames, count
        return joined

    def _frame(self, number: int, entry: Entry, binary: set[str]) -> bytes:
        """Return an entry's frame; with bytes, it is encoded once for all views that ask for them."""
        if entry.channel not in binary:
            return entry.frame
        frame = self._binary.get(number)
        if frame is None:
            frame = self._binary[number] = with_bytes(entry.frame)
        return frame

    def _passed(self, channel: str, filters: Filters) -> list[NumberedEntry]:
        numbered = self.channels[channel]
        if not filters:
            return numbered
        passing = self._passing.get((channel, filters))
        if passing is None:
            matches = self._matches.get(channel)
            if matches is None:
                matches = self._matches[channel] = Matches([entry for _, entry in numbered])
            passing = self._passing[channel, filters] = [
                one if passes else (one[0], filtered_gap(one[1]))
                for one, passes in zip(numbered, matches.any_of(filters), strict=True)
                if passes or one[1].begins
            ]
        return passing
