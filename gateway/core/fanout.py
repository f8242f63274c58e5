"""Who sees what, and when: cohorts of live readers, and cursors of those that lag.

All live readers with the same `View` form a cohort: a tick's frames are joined once for them, and
each gets one write. A reader whose socket does not drain leaves its cohort and becomes a set of
cursors; it reads on from the logs as its socket allows, and returns at the head. So there is no
queue per reader, and what is held for a lagging one does not grow.

Everything here happens within one call; between calls, all live readers have been handed all that
the logs hold.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.core.channels import EVERYONE, PERSONAL, is_wildcard, matches
from gateway.core.log import ChannelLog, Entry, Retention, gap_frame
from gateway.core.numbering import ORIGIN, Cursor


View = frozenset[str]
"""All that decides which bytes a reader gets: the patterns that it follows."""

Cursors = Mapping[str, Cursor]
"""The place reached, by channel."""


class Flow(Protocol):
    """Tells whether a socket's write buffer is above its mark."""

    @property
    def writing_paused(self) -> bool: ...


@dataclass(slots=True)
class Tally:
    """What was delivered since the last look, in bulk for the metrics."""

    events: int = 0
    writes: int = 0
    bytes: int = 0
    evicted: int = 0
    lagged: int = 0


class Reader:
    """One consumer of events.

    `cursors` is None while the reader is live; while it lags it holds the place reached in each
    channel. A channel missing there has opened since, so it is owed from its beginning.
    """

    __slots__ = ("cursors", "flow", "on_lag", "personal", "served", "view", "write")

    def __init__(
        self,
        *,
        write: Callable[[bytes], object],
        flow: Flow,
        on_lag: Callable[[], object],
        personal: ChannelLog | None = None,
    ) -> None:
        self.write = write
        self.flow = flow
        self.on_lag = on_lag
        self.personal = personal
        self.view: View = frozenset()
        self.cursors: dict[str, Cursor] | None = {}
        self.served: str | None = None
        """The channel that the last part of what was owed came from."""


class Cohort:
    """The live readers of one view, and what it selects."""

    __slots__ = ("_matched", "members", "view", "wildcards")

    def __init__(self, view: View) -> None:
        self.view = view
        self.members: dict[Reader, None] = {}
        self.wildcards = any(map(is_wildcard, view))
        # Names are looked up in the view itself: only what patterns match needs to be remembered.
        self._matched: dict[str, bool] = {}

    def wants(self, channel: str) -> bool:
        """Tell whether the view selects a channel."""
        if channel in self.view or channel == EVERYONE:
            return True
        if not self.wildcards:
            return False
        matched = self._matched.get(channel)
        if matched is None:
            matched = self._matched[channel] = selects(self.view, channel)
        return matched


def selects(view: Iterable[str], channel: str) -> bool:
    """Tell whether one of the patterns selects a channel; everyone follows ``$everyone``."""
    return channel == EVERYONE or any(matches(pattern, channel) for pattern in view)


class Fanout:
    """Hands each tick's entries to all readers; knows who lags and what they are owed."""

    def __init__(self, logs: Mapping[str, ChannelLog], *, epoch: str) -> None:
        self.epoch = epoch
        """The epoch that channels open with."""
        self.tally = Tally()
        self.lagging: set[Reader] = set()
        self.waiting: set[Reader] = set()
        """Readers that are ahead of a log: they came from a gateway that had heard more."""
        self._logs = logs
        self._cohorts: dict[View, Cohort] = {}

    @property
    def cohorts(self) -> Iterable[Cohort]:
        """The cohorts that have members."""
        return self._cohorts.values()

    def take_tally(self) -> Tally:
        """Return what was delivered since the last call."""
        taken, self.tally = self.tally, Tally()
        return taken

    def deliver(self, entries: list[Entry]) -> None:
        """Write a tick's new entries, already in their logs, to every live reader."""
        by_channel: dict[str, list[Entry]] = {}
        for entry in entries:
            by_channel.setdefault(entry.channel, []).append(entry)
        joined: dict[tuple[str, ...], tuple[bytes, int]] = {}
        for cohort in list(self._cohorts.values()):
            key = tuple([name for name in by_channel if cohort.wants(name)])
            if not key:
                continue
            part = joined.get(key)
            if part is None:
                part = joined[key] = _join(entries, by_channel, key)
            self._write(cohort, *part, first=by_channel)
        for reader in list(self.waiting):
            self._go_on(reader)

    def _write(
        self, cohort: Cohort, data: bytes, count: int, *, first: Mapping[str, list[Entry]]
    ) -> None:
        behind = []
        for reader in cohort.members:
            if reader.flow.writing_paused:
                behind.append(reader)
                continue
            try:
                reader.write(data)
            except Exception:  # one socket's fault must not cost the others their tick: it lags
                behind.append(reader)
        written = len(cohort.members) - len(behind)
        tally = self.tally
        tally.events += count * written
        tally.bytes += len(data) * written
        tally.writes += written
        for reader in behind:
            self._lag(reader, before=first)

    def deliver_personal(self, reader: Reader, entry: Entry) -> None:
        """Write an entry of a reader's own log."""
        if reader.cursors is not None:
            return
        if reader.flow.writing_paused:
            self._lag(reader, before={PERSONAL: [entry]})
        else:
            reader.write(entry.frame)
            self.tally.events += 1
            self.tally.writes += 1
            self.tally.bytes += len(entry.frame)

    def _lag(self, reader: Reader, *, before: Mapping[str, list[Entry]]) -> None:
        """Turn a live reader into cursors that stand before the given, unwritten entries."""
        cursors = self.heads(reader)
        for name, entries in before.items():
            if name in cursors:
                cursors[name] = entries[0].before
        self._leave_cohort(reader)
        reader.cursors = cursors
        self.lagging.add(reader)
        self.tally.lagged += 1
        reader.on_lag()

    def follow(self, reader: Reader, view: View, starts: Cursors) -> None:
        """Change what a reader follows; `starts` says where newly selected channels begin.

        What it followed before goes on where it stands. Write any reply first: what is owed
        already follows at once.
        """
        cursors = self.heads(reader) if reader.cursors is None else dict(reader.cursors)
        cursors.update(starts)
        self._leave_cohort(reader)
        reader.view = view
        wanted = {log.name for log in self.logs_of(reader)}
        reader.cursors = {name: place for name, place in cursors.items() if name in wanted}
        self._go_on(reader)

    def _go_on(self, reader: Reader) -> None:
        self.waiting.discard(reader)
        if not self.catch_up(reader) and reader not in self.lagging:
            self.lagging.add(reader)
            reader.on_lag()

    def remove(self, reader: Reader) -> None:
        """Forget a reader."""
        self._leave_cohort(reader)
        self.lagging.discard(reader)
        self.waiting.discard(reader)
        if reader.cursors is None:
            reader.cursors = self.heads(reader)

    def catch_up(self, reader: Reader, *, bytes_max: int = 65536) -> bool:
        """Write what a lagging reader is owed, while its socket takes it.

        Returns True once it has all there is; if False, call again when its socket has drained.
        """
        while not reader.flow.writing_paused:
            data, count = self.read(reader, bytes_max=bytes_max)
            if not data:
                self.lagging.discard(reader)
                if self._is_ahead(reader):
                    self.waiting.add(reader)
                else:
                    self._join_cohort(reader)
                return True
            reader.write(data)
            self.tally.events += count
            self.tally.writes += 1
            self.tally.bytes += len(data)
        return False

    def read(self, reader: Reader, *, bytes_max: int) -> tuple[bytes, int]:
        """Take the next part of what a lagging reader is owed, and how many events are in it.

        About `bytes_max` bytes, shared fairly between the channels that are behind. Where a log
        has moved on, a `Gap` comes first.
        """
        cursors = reader.cursors
        assert cursors is not None
        logs = sorted(self.logs_of(reader), key=lambda log: log.name)
        behind = [log for log in logs if cursors.get(log.name, ORIGIN) < log.newest]
        served = reader.served
        if served is not None:  # go on behind the channel that came last
            behind.sort(key=lambda log: log.name <= served)
        parts: list[bytes] = []
        count = size = 0
        for log in behind:
            if size >= bytes_max:
                break
            after = cursors.get(log.name, ORIGIN)
            missing = log.missing(after)
            if missing is not None:
                parts.append(self._evicted(log, *missing))
            entries = log.read(after, bytes_max=bytes_max // len(behind))
            parts += [entry.frame for entry in entries]
            size += sum([len(entry.frame) for entry in entries])
            reader.served = log.name
            count += sum([entry.is_event for entry in entries])
            cursors[log.name] = entries[-1].at
        return b"".join(parts), count

    def _evicted(self, log: ChannelLog, first: int | None, last: int) -> bytes:
        """Say what a log no longer holds of what a reader is owed."""
        count = None if first is None else last - first + 1
        self.tally.evicted += count or 1
        epoch = log.numbering.position(log.start).epoch
        return gap_frame(log.name, epoch, "evicted", first=first, last=last, count=count)

    def heads(self, reader: Reader) -> dict[str, Cursor]:
        """Return the newest place of every log that a reader follows."""
        return {log.name: log.newest for log in self.logs_of(reader)}

    def places(self, reader: Reader) -> dict[str, Cursor]:
        """Return where a reader stands: behind what was written to it, by channel."""
        if reader.cursors is None:
            return self.heads(reader)
        return {log.name: reader.cursors.get(log.name, ORIGIN) for log in self.logs_of(reader)}

    def lag(self, reader: Reader) -> int:
        """Return how many events a reader is behind, over all that it follows."""
        if reader.cursors is None:
            return 0
        seen = self.places(reader)
        return sum(log.lag(seen[log.name]) for log in self.logs_of(reader))

    def log(self, name: str) -> ChannelLog | None:
        """Return a channel's log, if the channel is open."""
        return self._logs.get(name)

    def selected(self, patterns: Collection[str]) -> list[ChannelLog]:
        """Return the open logs that patterns select."""
        logs = self._logs
        if any(is_wildcard(pattern) for pattern in patterns):
            return [log for name, log in logs.items() if any(matches(p, name) for p in patterns)]
        return [logs[name] for name in patterns if name in logs]

    def expected(self, patterns: Collection[str]) -> list[ChannelLog]:
        """Return the open logs that patterns select, and an empty one for each name not open yet.

        So a channel that is yet to open has a position too: before its first event.
        """
        unopened = [
            ChannelLog(name, epoch=self.epoch, retention=Retention())
            for name in patterns
            if name not in self._logs and not is_wildcard(name)
        ]
        return self.selected(patterns) + unopened

    def logs_of(self, reader: Reader) -> list[ChannelLog]:
        """Return the open logs that a reader follows, its personal one among them."""
        found = [self._logs[EVERYONE], *self.selected(reader.view)]
        if reader.personal is not None:
            found.append(reader.personal)
        return found

    def _join_cohort(self, reader: Reader) -> None:
        cohort = self._cohorts.get(reader.view)
        if cohort is None:
            cohort = self._cohorts[reader.view] = Cohort(reader.view)
        cohort.members[reader] = None
        reader.view = cohort.view  # one object for all, not one each
        reader.cursors = None

    def _is_ahead(self, reader: Reader) -> bool:
        cursors = reader.cursors or {}
        return any(cursors.get(log.name, ORIGIN) > log.newest for log in self.logs_of(reader))

    def _leave_cohort(self, reader: Reader) -> None:
        if reader.cursors is not None:
            return
        cohort = self._cohorts[reader.view]
        del cohort.members[reader]
        if not cohort.members:
            del self._cohorts[reader.view]


def _join(
    entries: list[Entry], by_channel: Mapping[str, list[Entry]], key: tuple[str, ...]
) -> tuple[bytes, int]:
    if len(key) < len(by_channel):
        wanted = frozenset(key)
        entries = [entry for entry in entries if entry.channel in wanted]
    return b"".join([e.frame for e in entries]), sum([e.is_event for e in entries])
