"""The current values of a channel: the newest event of each key, however long ago it came."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator

from gateway.core.log.retention import Retention, Usage
from gateway.core.log.sources import Entry


class CurrentValues:
    """The newest event of each key, the least recently changed first; without a key, the newest event.

    `bytes` are those of events that the history does not hold any more; `dropped` counts the values that gave way
    to others, and that readers miss until their keys change again."""

    __slots__ = ("_usage", "bytes", "dropped", "entries")

    def __init__(self, usage: Usage) -> None:
        self.bytes = 0
        self.dropped = 0
        self._usage = usage
        self.entries: OrderedDict[str, Entry] = OrderedDict()

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    def __reversed__(self) -> Iterator[Entry]:
        return reversed(self.entries.values())

    def put(self, entry: Entry, *, floor: int, retention: Retention) -> None:
        """Replace the value of an event's key; what is at or before `floor` is not in the history any more."""
        entries = self.entries
        replaced = entries.get(entry.key)
        if replaced is not None and replaced.at <= floor:
            self._add(-replaced.size)
        entries[entry.key] = entry
        if retention.key:
            entries.move_to_end(entry.key)
            while len(entries) > retention.keys_max:
                self._drop_oldest(floor)

    def evicted(self, entry: Entry) -> None:
        """Note that the history drops an entry, which may be a current value."""
        value = self.entries.get(entry.key)
        if value is not None and value.at == entry.at:  # in a replica not the same object
            self._add(entry.size)

    def limit(self, bytes_max: int, *, floor: int) -> None:
        """Drop the oldest values until those beyond the history have at most so many bytes, but never the newest."""
        while self.bytes > bytes_max and len(self.entries) > 1:
            self._drop_oldest(floor)

    def load(self, entries: Iterable[Entry], *, floor: int, dropped: int) -> None:
        self._add(-self.bytes)
        self.entries = OrderedDict((entry.key, entry) for entry in entries)
        self._add(sum(entry.size for entry in self if entry.at <= floor))
        self.dropped = dropped

    def _drop_oldest(self, floor: int) -> None:
        _, entry = self.entries.popitem(last=False)
        if entry.at <= floor:
            self._add(-entry.size)
        self.dropped += 1
        self._usage.values_dropped += 1

    def _add(self, size: int) -> None:
        self.bytes += size
        self._usage.bytes += size
