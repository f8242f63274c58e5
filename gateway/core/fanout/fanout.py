"""Who sees what, and when: cohorts of live readers, and cursors of those that lag.

All live readers with the same `View` form a cohort: a tick's frames are joined once for them, and
each gets one write. A reader whose socket does not drain leaves its cohort and becomes a set of
cursors; it reads on from the logs as its socket allows, and returns at the head. So there is no
queue per reader, and what is held for a lagging one does not grow.

Between calls all live readers have been handed all that the logs hold, less what is `pending` and
what the rate of their view holds back. Who reads from the logs meanwhile has what is pending already
and joins its cohort behind it.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from gateway.core.fanout.catch_up import Part, everything, newest
from gateway.core.fanout.cohorts import (
    Cohort,
    CohortWriter,
    Cursors,
    Reader,
    SequentialWriter,
    Tally,
)
from gateway.core.fanout.selection import Selection
from gateway.core.fanout.views import UNFILTERED, SeenChannel, Subscription, View, channel_view
from gateway.core.log.epochs import ORIGIN, Cursor
from gateway.core.log.log import ChannelLog, Entry, Retention, gap_frame
from gateway.core.protocol.channels import EVERYONE, PERSONAL, is_wildcard


class Fanout:
    """Hands new entries to all readers; knows who lags and what they are owed.

    `ways` makes what writes to a cohort. `ready` is called when there is something to `write`, which
    may be done at once or later, and `wake` when something begins to wait for its time: see `due_ns`
    and `flush`.
    """

    def __init__(self, logs: Mapping[str, ChannelLog], *, epoch: str) -> None:
        self.epoch = epoch
        """The epoch that channels open with."""
        self.tally = Tally()
        self.lagging: set[Reader] = set()
        self.waiting: set[Reader] = set()
        """Readers that have all there is and are not live yet: they are ahead of a log, as they came
        from a gateway that had heard more, or their cohort is to get something that they have."""
        self.pending: list[Entry] = []
        """Entries in their logs that no live reader was handed yet."""
        self.ways: Callable[[], CohortWriter] = SequentialWriter
        self.ready: Callable[[], object] = self.write
        self.wake: Callable[[], object] = lambda: None
        self._logs = logs
        self._cohorts: dict[View, Cohort] = {}
        self._paced: set[Cohort] = set()
        self._leaving: set[Reader] = set()
        """Live readers that are full: they leave their cohorts before the next write."""

    @property
    def cohorts(self) -> Iterable[Cohort]:
        """The cohorts that have members."""
        return self._cohorts.values()

    @property
    def detached(self) -> Iterator[Reader]:
        """The readers that are in no cohort."""
        yield from self.lagging
        yield from self.waiting

    @property
    def due_ns(self) -> int | None:
        """When `flush` is to be called next; None if nothing waits."""
        return min((cohort.due_ns for cohort in self._paced), default=None)

    def take_tally(self) -> Tally:
        """Return what was delivered since the last call."""
        taken, self.tally = self.tally, Tally()
        return taken

    # -- live ----------------------------------------------------------------------------------

    def deliver(self, entries: list[Entry]) -> None:
        """Take new entries, already in their logs, for every live reader."""
        self.pending += entries
        self.ready()

    def write(self, *, now_ns: int = 0) -> None:
        """Write what is pending to every live reader; `now_ns` if it was received before now."""
        entries, self.pending = self.pending, []
        if not entries:
            return
        now_ns = max(now_ns, entries[-1].received_ns)
        selection = Selection(entries, self._logs)
        for cohort in list(self._cohorts.values()):
            seen_channels = cohort.sees(selection.channels)
            if seen_channels and cohort.paced:
                self._write_paced(cohort, seen_channels, selection, now_ns=now_ns)
            elif seen_channels:
                self._write(cohort, *selection.joined(seen_channels), before=selection.starts)
        self.tally.filter_errors += selection.errors
        for reader in list(self.waiting):
            self._go_on(reader)
        if self._paced:
            self.wake()

    def _write_paced(
        self,
        cohort: Cohort,
        seen_channels: tuple[SeenChannel, ...],
        selection: Selection,
        *,
        now_ns: int,
    ) -> None:
        """Write what a view with rates lets through at once, and hold back the rest."""
        at_once = tuple([sight for sight in seen_channels if sight[1].rate is None])
        if at_once:
            self._write(cohort, *selection.joined(at_once), before=selection.starts)
        for channel, seen in seen_channels:
            if seen.rate is None:
                continue
            gathered = selection.gathered(channel, seen.filters)
            if gathered is not None:
                cohort.hold_back(self._logs[channel], seen.rate, gathered)
        self._flush(cohort, now_ns=now_ns)
        if cohort.held_back:
            self._paced.add(cohort)

    def flush(self, *, now_ns: int) -> None:
        """Write what was held back and is due."""
        for cohort in list(self._paced):
            self._flush(cohort, now_ns=now_ns)

    def _flush(self, cohort: Cohort, *, now_ns: int) -> None:
        if not cohort.is_due(now_ns):
            return
        places = cohort.places
        parts, events, left_out = cohort.flush(now_ns=now_ns)
        written = self._write(cohort, b"".join(parts), events, before=lambda: places)
        self.tally.conflated += left_out * written
        if not cohort.held_back:
            self._paced.discard(cohort)
            for reader in [one for one in self.waiting if one.view == cohort.view]:
                self._go_on(reader)

    def _write(
        self, cohort: Cohort, data: bytes, count: int, *, before: Callable[[], Cursors]
    ) -> int:
        """Hand the same bytes to all members; returns how many took them, the others lag."""
        if not data:
            return 0
        if self._leaving:
            self._lag([one for one in self._leaving if one in cohort.members], before=before())
        failed = cohort.ways.write(data)
        if failed:
            ways = set(failed)
            self._lag([one for one in cohort.members if one.way in ways], before=before())
        written = len(cohort.members)
        tally = self.tally
        tally.events += count * written
        tally.bytes += len(data) * written
        tally.writes += written
        return written

    def deliver_personal(self, reader: Reader, entry: Entry) -> None:
        """Write an entry of a reader's own log."""
        if reader in self.waiting:
            self._go_on(reader)
        elif reader.cursors is not None:
            return
        elif reader.full:
            self._lag([reader], before={PERSONAL: entry.before})
        else:
            reader.way.write(entry.frame)
            self.tally.events += 1
            self.tally.writes += 1
            self.tally.bytes += len(entry.frame)

    def _lag(self, readers: Iterable[Reader], *, before: Cursors) -> None:
        """Turn live readers into cursors that stand before what was not written."""
        for reader in readers:
            cursors = self.heads(reader)
            for name, place in before.items():
                if name in cursors:
                    cursors[name] = min(place, cursors[name])
            self._leave_cohort(reader)
            reader.cursors = cursors
            self.lagging.add(reader)
            self.tally.lagged += 1
            reader.on_lag()

    # -- behind --------------------------------------------------------------------------------

    def follow(
        self, reader: Reader, view: View, starts: Cursors, *, latest_only: Collection[str] = ()
    ) -> None:
        """Change what a reader follows; `starts` says where newly selected channels begin.

        What it followed before goes on where it stands. Of the channels in `latest_only` it gets the
        current values before it goes on. Write any reply first: what is owed already follows at
        once.
        """
        cursors = self.heads(reader) if reader.cursors is None else dict(reader.cursors)
        cursors.update(starts)
        self._leave_cohort(reader)
        reader.view = view
        wanted = {log.name for log in self.logs_of(reader)}
        reader.cursors = {name: place for name, place in cursors.items() if name in wanted}
        limits = {name: limit for name, limit in reader.latest_only.items() if name not in starts}
        limits |= {name: self._logs[name].newest for name in latest_only if name in self._logs}
        reader.latest_only = {name: limit for name, limit in limits.items() if name in wanted}
        self._go_on(reader)

    def _go_on(self, reader: Reader) -> None:
        self.waiting.discard(reader)
        if not self.catch_up(reader) and reader not in self.lagging:
            self.lagging.add(reader)
            reader.on_lag()

    def flush_reader(self, reader: Reader) -> None:
        """Write what is pending to one reader ahead of the others; not if it lags."""
        if self.pending and reader not in self.lagging:
            self.follow(reader, reader.view, {})

    def remove(self, reader: Reader) -> None:
        """Forget a reader."""
        if reader.cursors is None:
            reader.cursors = self.heads(reader)
            self._leave(reader)
        self.lagging.discard(reader)
        self.waiting.discard(reader)

    def fill(self, reader: Reader) -> None:
        """Take note that a reader's socket takes no more."""
        reader.full = True
        if reader.cursors is None:
            self._leaving.add(reader)

    def drain(self, reader: Reader) -> None:
        """Take note that it takes data again; see `catch_up` if it lags."""
        reader.full = False
        self._leaving.discard(reader)

    def catch_up(self, reader: Reader, *, bytes_max: int = 65536) -> bool:
        """Write what a lagging reader is owed, while its socket takes it.

        Returns True once it has all there is; if False, call again when its socket has drained.
        """
        while not reader.full:
            data, count = self.read(reader, bytes_max=bytes_max)
            if not data:
                self.lagging.discard(reader)
                if self.pending or self._held_back(reader) or self._is_ahead(reader):
                    self.waiting.add(reader)
                else:
                    self._join_cohort(reader)
                return True
            reader.way.write(data)
            self.tally.events += count
            self.tally.writes += 1
            self.tally.bytes += len(data)
        return False

    def read(self, reader: Reader, *, bytes_max: int) -> tuple[bytes, int]:
        """Take the next part of what a lagging reader is owed, and how many events are in it.

        About `bytes_max` bytes, shared fairly between the channels that are behind. Empty if it
        has all there is, less what its cohort holds back.
        """
        while True:
            frames, count, more = self._read_some(reader, bytes_max=bytes_max)
            if frames or not more:
                return b"".join(frames), count

    def _read_some(self, reader: Reader, *, bytes_max: int) -> tuple[list[bytes], int, bool]:
        """The same, but nothing of it may be for this reader; then there may be more."""
        cursors = reader.cursors
        assert cursors is not None
        held_back = self._held_back(reader)
        logs = sorted(self.logs_of(reader), key=lambda log: log.name)
        behind = [log for log in logs if cursors.get(log.name, ORIGIN) < log.newest]
        behind = [log for log in behind if log.name not in held_back]
        served = reader.served
        if served is not None:  # go on behind the channel that came last
            behind.sort(key=lambda log: log.name <= served)
        frames: list[bytes] = []
        count = size = 0
        for log in behind:
            if size >= bytes_max:
                break
            part = self._part(reader, log, cursors.get(log.name, ORIGIN), bytes_max // len(behind))
            reader.served = log.name
            cursors[log.name] = part.reached
            frames += part.frames
            size += sum(map(len, part.frames))
            count += part.events
            self.tally.evicted += part.evicted
            self.tally.conflated += part.conflated
            self.tally.filter_errors += part.filter_errors
        return frames, count, bool(behind)

    def _part(self, reader: Reader, log: ChannelLog, after: Cursor, bytes_max: int) -> Part:
        seen = (
            UNFILTERED
            if log is reader.personal
            else channel_view(reader.view, log.name) or UNFILTERED
        )
        limit = reader.latest_only.get(log.name, ORIGIN)
        if after < limit:
            return newest(log, after, seen, until=limit, bytes_max=bytes_max)
        reader.latest_only.pop(log.name, None)
        take = everything if seen.rate is None else newest
        if not log.epochs.is_beyond_end(after):
            return take(log, after, seen, bytes_max=bytes_max)
        part = take(log, log.start, seen, bytes_max=bytes_max)
        start = log.epochs.position(log.start)
        part.frames.insert(0, gap_frame(log.name, start.epoch, "epoch", last=start.offset))
        return part

    # -- where readers are ---------------------------------------------------------------------

    def heads(self, reader: Reader) -> dict[str, Cursor]:
        """Return where a live reader stands in every log that it follows."""
        logs, unwritten = self.logs_of(reader), self.unwritten
        heads = {log.name: unwritten.get(log.name, log.newest) for log in logs}
        return heads | self._held_back(reader)

    @property
    def unwritten(self) -> dict[str, Cursor]:
        """Where live readers stand in channels of which something is pending."""
        return {entry.channel: entry.before for entry in reversed(self.pending)}

    def is_at_head(self, reader: Reader) -> bool:
        """Tell whether a reader stands where all live readers do, in all that it follows."""
        return reader.cursors is None and self._cohorts[reader.view].plain

    def _held_back(self, reader: Reader) -> dict[str, Cursor]:
        """Return where the cohort of a reader's view stands in channels that its rates hold back."""
        cohort = self._cohorts.get(reader.view)
        return {} if cohort is None or cohort.plain else cohort.places

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

    def selected(self, view: Collection[Subscription]) -> list[ChannelLog]:
        """Return the open logs that a view selects."""
        logs = self._logs
        if any(is_wildcard(one.pattern) for one in view):
            return [log for name, log in logs.items() if any(one.selects(name) for one in view)]
        return [logs[one.pattern] for one in view if one.pattern in logs]

    def expected(
        self, view: Collection[Subscription], named: Collection[str] = ()
    ) -> list[ChannelLog]:
        """Return the open logs that a view selects, and an empty one for each name not open yet.

        So a channel that is yet to open has a position too: before its first event. `named` are
        channels that are expected if the view selects them.
        """
        names = [one.pattern for one in view if not is_wildcard(one.pattern)]
        names += [name for name in named if any(one.selects(name) for one in view)]
        unopened = [
            ChannelLog(name, epoch=self.epoch, retention=Retention())
            for name in dict.fromkeys(names)
            if name not in self._logs
        ]
        return self.selected(view) + unopened

    def logs_of(self, reader: Reader) -> list[ChannelLog]:
        """Return the open logs that a reader follows, its personal one among them."""
        found = [self._logs[EVERYONE], *self.selected(reader.view)]
        if reader.personal is not None:
            found.append(reader.personal)
        return found

    def _join_cohort(self, reader: Reader) -> None:
        cohort = self._cohorts.get(reader.view)
        if cohort is None:
            cohort = self._cohorts[reader.view] = Cohort(reader.view, self.ways())
        cohort.add(reader)
        reader.view = cohort.view  # one object for all, not one each
        reader.cursors = None

    def _is_ahead(self, reader: Reader) -> bool:
        cursors = reader.cursors or {}
        return any(cursors.get(log.name, ORIGIN) > log.newest for log in self.logs_of(reader))

    def _leave_cohort(self, reader: Reader) -> None:
        if reader.cursors is None:
            self._leave(reader)

    def _leave(self, reader: Reader) -> None:
        cohort = self._cohorts[reader.view]
        self._leaving.discard(reader)
        cohort.remove(reader)
        if not cohort.members:
            del self._cohorts[reader.view]
            self._paced.discard(cohort)
