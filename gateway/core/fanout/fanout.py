"""Which entries each reader gets, and when: cohorts of live readers, and cursors of the others.

All live readers with the same view form a cohort. New entries are pending until the next write, which
joins their frames once per distinct selection and writes them once per cohort. A reader whose socket
is full leaves its cohort and becomes a set of cursors into the logs. It reads from the logs as its
socket drains, and joins its cohort again at the head. So no reader has a queue, and the memory for a
lagging reader does not grow.

A view with a rate holds events back: its cohort then stands at a place in the log, and when the events
are due they are read from the log, as for a lagging reader (`catch_up`).

A reader is in one of these states (`ReaderState`):

    DETACHED  it has not subscribed yet, or was removed
    LIVE      it is a member of its view's cohort
    LAGGING   its socket was full before everything was written; `catch_up` is to be called when the
              socket has drained; or its filters would have taken too long, then `flush` reads on
    WAITING   everything that can be written to it now was written, but it cannot join its cohort:
              entries are pending, the cohort holds something back, or the reader is ahead of a log,
              because its client comes from a gateway that had received more

    from      to              when
    any       LAGGING         `subscribe` or `flush_reader`, and the socket fills
    any       WAITING, LIVE   the same, and everything is written
    LIVE      LAGGING         a write finds the socket full, or fails, or the view's filters take too long
    LAGGING   WAITING, LIVE   `catch_up` has written everything
    WAITING   LAGGING, LIVE   decided again after each `write`, after a `flush` of all that its
                              cohort holds back, and with each personal message
    any       DETACHED        `remove`, or an error in reading its events

Invariants: everything that the logs hold for a live reader was written to it, except what is pending
and what its cohort holds back. `lagging` and `waiting` are the readers in these states."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from gateway.core.fanout.budget import VIEW_STEPS_MAX, Budget
from gateway.core.fanout.catch_up import Part, read_all, read_newest
from gateway.core.fanout.cohorts import Cohort, CohortWriter, Cursors, Reader, ReaderState, SequentialWriter, Tally
from gateway.core.fanout.failed_filters import FailedFilters
from gateway.core.fanout.selection import Selection
from gateway.core.fanout.views import UNFILTERED, ChannelView, SeenChannels, Subscription, View, channel_view, selected
from gateway.core.log.log import ChannelLog
from gateway.core.log.retention import Retention
from gateway.core.log.sources import ORIGIN, Cursor, Entry
from gateway.core.protocol.channels import EVERYONE, PERSONAL, is_wildcard


Parts = dict[tuple[str, ChannelView, int], Part]
"""What one write or flush read from the logs, by channel, view without its rate, and place; cohorts share it."""


class Fanout:
    """Writes entries to readers.

    `make_writer` makes a cohort's writer. `on_pending` is called when entries are pending: `write`
    then or later. `on_held_back` is called when entries are held back, or filters have not judged all: `flush`
    at `due_ns`.
    If reading the events of one view or one reader fails, its readers are removed, the others get their
    events, and `on_failure` is called with the error."""

    def __init__(self, logs: Mapping[str, ChannelLog], *, epoch: str) -> None:
        self.epoch = epoch
        """The epoch of a channel before its first event."""
        self.tally = Tally()
        self.lagging: set[Reader] = set()
        self.waiting: set[Reader] = set()
        self.pending: list[Entry] = []
        """Entries that are in their logs, but not written to live readers yet."""
        self.make_writer: Callable[[], CohortWriter] = SequentialWriter
        self.on_pending: Callable[[], object] = self.write
        self.on_held_back: Callable[[], object] = lambda: None
        self.on_failure: Callable[[Exception], object] = lambda error: None
        self._logs = logs
        self._cohorts: dict[View, Cohort] = {}
        self._holding: set[Cohort] = set()
        self._leaving: set[Reader] = set()
        """Live readers whose sockets are full: they leave their cohorts before the next write."""
        self._budget = Budget()
        self.failed_filters = FailedFilters()
        self._shared: dict[tuple[str, ChannelView, int, int], Part] | None = None
        """What `flush` has read, for all readers at the same place."""

    @property
    def cohorts(self) -> Collection[Cohort]:
        return self._cohorts.values()

    @property
    def outside_cohorts(self) -> Iterator[Reader]:
        """The readers that have subscribed and are not live."""
        yield from self.lagging
        yield from self.waiting

    @property
    def due_ns(self) -> int | None:
        """When to call `flush` next; None if nothing is held back."""
        due = [self._budget.due_ns, *(cohort.due_ns for cohort in self._holding)]
        return min([at for at in due if at is not None], default=None)

    def take_tally(self) -> Tally:
        """Return the figures since the last call."""
        taken, self.tally = self.tally, Tally()
        return taken

    # -- live ----------------------------------------------------------------------------------

    def deliver(self, entries: list[Entry]) -> None:
        """Add new entries, which must be in their logs, to what is pending."""
        self.pending += entries
        self.on_pending()

    def write(self, *, now_ns: int = 0) -> None:
        """Write what is pending to all live readers.

        `now_ns` is the time for rates; it defaults to when the newest entry was received."""
        entries, self.pending = self.pending, []
        if not entries:
            return
        now_ns = max(now_ns, entries[-1].received_ns)
        selection = Selection(entries, self._logs)
        self._budget.begin_turn()
        parts: Parts = {}
        for cohort in list(self._cohorts.values()):
            try:
                seen = cohort.seen(selection.channels)
                if seen and cohort.has_filters and not self._budget.spend(selection.steps(seen)):
                    late = dict(cohort.members)
                    self._lag(late, before=selection.starts())
                    self._budget.waiting |= late
                elif seen and cohort.has_rates:
                    at_once = self._hold_back(cohort, seen, selection)
                    if at_once:
                        self._write(cohort, *selection.joined(at_once), before=selection.starts)
                    if self._budget.left > 0:
                        self._flush(cohort, parts, now_ns=now_ns)
                elif seen:
                    self._write(cohort, *selection.joined(seen), before=selection.starts)
            except Exception as error:  # one failing view must not cost the others their events
                self._fail(cohort.members, error)
        for channel, failed in selection.failed():
            self.tally.filter_errors += self.failed_filters.add(channel, failed)
        for reader in list(self.waiting):
            self._read_on(reader)
        if self._holding or self._budget.waiting:
            self.on_held_back()

    def _hold_back(self, cohort: Cohort, seen: SeenChannels, selection: Selection) -> SeenChannels:
        """Hold back the channels that the view sees with a rate; return the others."""
        for channel, view in seen:
            if view.rate is not None:
                cohort.hold_back(self._logs[channel], view, selection.start(channel))
                self._holding.add(cohort)
        return tuple([one for one in seen if one[1].rate is None])

    def flush(self, *, now_ns: int) -> None:
        """Write what is held back and due, and read on for readers whose filters took too long."""
        self._budget.begin_turn()
        parts: Parts = {}
        for cohort in list(self._holding):
            if self._budget.left <= 0:
                break  # the others have their turn next
            try:
                self._flush(cohort, parts, now_ns=now_ns)
            except Exception as error:
                self._fail(cohort.members, error)
        self._shared = {}
        for reader in self._budget.take_waiting(now_ns):
            if not reader.full:
                self._read_on(reader)
        self._shared = None

    def _flush(self, cohort: Cohort, parts: Parts, *, now_ns: int) -> None:
        """Write to a cohort what it holds back and is due, as far as it is not pending."""
        due = cohort.due(now_ns)
        if not due:
            return
        before, unwritten = cohort.held_back, self.unwritten
        frames: list[bytes] = []
        events = conflated = 0
        for held in due:
            log, after = held.log, before[held.log.name]
            key = log.name, held.view._replace(rate=None), after.at
            part = parts.get(key)
            if part is None:
                until = unwritten.get(log.name, log.newest)
                part = parts[key] = read_newest(log, after, held.view, until=until)
                self.tally.filter_errors += self.failed_filters.add(log.name, part.failed)
                self._budget.left -= part.steps
            held.before = None
            if part.frames:
                held.due_ns = now_ns + held.period_ns
            frames += part.frames
            events += part.events
            conflated += part.conflated
        written = self._write(cohort, b"".join(frames), events, before=lambda: before)
        self.tally.conflated += conflated * written
        if not cohort.held_back:
            self._holding.discard(cohort)
            for reader in [one for one in self.waiting if one.view == cohort.view]:
                self._read_on(reader)

    def _write(self, cohort: Cohort, data: bytes, count: int, *, before: Callable[[], Cursors]) -> int:
        """Write bytes to all members; return to how many. Those that are full or fail now lag."""
        if not data:
            return 0
        if self._leaving:
            self._lag([one for one in self._leaving if one in cohort.members], before=before())
        failed = cohort.writer.write_all(data)
        if failed:
            writers = set(failed)
            self._lag([one for one in cohort.members if one.writer in writers], before=before())
        written, tally = len(cohort.members), self.tally  # counted without a call, which would be one for each view
        tally.events, tally.bytes = tally.events + count * written, tally.bytes + len(data) * written
        tally.writes += written
        return written

    def deliver_personal(self, reader: Reader, entry: Entry) -> None:
        """Write a new entry of a reader's personal log."""
        match reader.state:
            case ReaderState.WAITING:
                self._read_on(reader)
            case ReaderState.LIVE if reader.full and reader.personal is not None:
                self._lag([reader], before={PERSONAL: reader.personal.cursor_at(entry.at - 1)})
            case ReaderState.LIVE:
                try:
                    reader.writer.write(entry.frame)
                    self.tally.add(1, len(entry.frame))
                except Exception as error:  # its socket is lost, which must not end the batch of the others
                    self._fail([reader], error)

    def _lag(self, readers: Iterable[Reader], *, before: Cursors) -> None:
        """Remove live readers from their cohorts; their cursors stand before what was not written."""
        for reader in readers:
            cursors = self.heads(reader)
            for name, place in before.items():
                if name in cursors:
                    cursors[name] = min(place, cursors[name], key=lambda one: one.at)
            self._leave_cohort(reader)
            reader.cursors = cursors
            self._set_state(reader, ReaderState.LAGGING)
            self.tally.lagged += 1
            reader.on_lag()

    # -- subscribe and catch up ----------------------------------------------------------------

    def subscribe(
        self,
        reader: Reader,
        view: View,
        starts: Cursors,
        *,
        latest_only: Collection[str] = (),
        history: Collection[str] = (),
    ) -> None:
        """Change a reader's view; write a reply before, as events are written at once.

        `starts` has the places where channels begin, also of all that it did not select before; it keeps its others. Of
        the channels in `latest_only` it first gets the current values, of those in `history` all events, whatever their rate."""
        if self._stays_live(reader, view, starts):
            self._leave_cohort(reader)
            reader.view = view
            self._join_cohort(reader)
            return
        cursors = {**(self.heads(reader) if reader.is_live else reader.cursors), **starts}
        self._leave_cohort(reader)
        reader.view = view
        reader.cursors = {log.name: cursors[log.name] for log in self.logs_of(reader) if log.name in cursors}
        for limits, chosen in ((reader.latest_only, latest_only), (reader.history, history)):
            kept = {name: limit for name, limit in limits.items() if name in reader.cursors and name not in starts}
            limits.clear()
            limits.update(kept | {name: self._logs[name].newest for name in chosen if name in self._logs})
        self._read_on(reader)

    def _stays_live(self, reader: Reader, view: View, starts: Cursors) -> bool:
        """Return whether a reader has all that its new view may see, and is not full: nothing is done for each channel then."""
        if not reader.is_live or reader.full or self.pending or self._held_back(reader.view) or self._held_back(view):
            return False
        return False not in [self._logs[name].newest is at for name, at in starts.items() if name in self._logs]

    def _fail(self, readers: Iterable[Reader], error: Exception) -> None:
        """Remove readers that cannot get their events; their clients may resume."""
        for reader in list(readers):
            self.tally.failed += 1
            for act in (self.remove, lambda one: one.on_failure()):
                try:
                    act(reader)
                except Exception as another:  # or the others would not be told either
                    self.on_failure(another)
        self.on_failure(error)

    def _read_on(self, reader: Reader) -> None:
        """Write everything that the logs hold for a reader; it lags if its socket fills."""
        if not self.catch_up(reader) and reader.state is not ReaderState.LAGGING:
            self._set_state(reader, ReaderState.LAGGING)
            reader.on_lag()

    def read_again(self, channel: str, after: Cursor) -> None:
        """Let live readers read a channel from its log, behind a place: not all there was delivered."""
        late = [one for cohort in self._cohorts.values() if cohort.seen([channel]) for one in cohort.members]
        self._lag(late, before={channel: after})
        for reader in late:
            self._read_on(reader)

    def flush_reader(self, reader: Reader) -> None:
        """Write what is pending to one reader, before the others get it; not if it lags."""
        if self.pending and reader.state is not ReaderState.LAGGING:
            self.subscribe(reader, reader.view, {})

    def remove(self, reader: Reader) -> None:
        """Remove a reader."""
        self._leave_cohort(reader)
        self._set_state(reader, ReaderState.DETACHED)

    def on_full(self, reader: Reader) -> None:
        reader.full = True
        if reader.is_live:
            self._leaving.add(reader)

    def on_drained(self, reader: Reader) -> None:
        """Note that a reader's socket has drained; call `catch_up` next if the reader lags."""
        reader.full = False
        self._leaving.discard(reader)

    def catch_up(self, reader: Reader, *, bytes_max: int | None = None) -> bool:
        """Write what the logs hold for a reader, until its socket is full; about `bytes_max` at once, or its `part_bytes`.

        Returns whether everything was written; if not, call again when the socket has drained."""
        try:
            return self._catch_up(reader, bytes_max or reader.part_bytes)
        except Exception as error:  # one failing reader must not affect the others that wait
            self._fail([reader], error)
            return True

    def _catch_up(self, reader: Reader, bytes_max: int) -> bool:
        has_filters, logs = any(one.filter is not None for one in reader.view), self.logs_of(reader)
        self._budget.spent = 0
        while not reader.full:
            if has_filters and self._budget.is_spent:
                self._budget.waiting[reader] = None
                self.on_held_back()
                return False
            data, count, more = self.read(reader, logs, bytes_max=bytes_max)
            if not more:
                if self.pending or self._held_back(reader.view) or self._is_ahead(reader, logs):
                    self._set_state(reader, ReaderState.WAITING)
                else:
                    self._join_cohort(reader)
                return True
            if data:
                reader.writer.write(data)
                self.tally.add(count, len(data))
                if reader.on_part is not None:
                    reader.on_part()
                if len(data) >= bytes_max:
                    reader.on_turn_end()
        return False

    def read(self, reader: Reader, logs: Iterable[ChannelLog], *, bytes_max: int) -> tuple[bytes, int, bool]:
        """Advance a reader's cursors in its logs; return the frames up to there, the count of events, and if there was more.

        About `bytes_max` bytes, shared fairly between the channels with something to read, except what the
        reader's cohort holds back. The bytes may be empty because of filters."""
        cursors = reader.cursors
        held_back = self._held_back(reader.view)
        behind = [log for log in logs if cursors.get(log.name, ORIGIN).at < log.at and log.name not in held_back]
        served = reader.served or ""  # round robin: begin with the channel after the one read last
        behind.sort(key=lambda log: (log.name <= served, log.name))
        frames: list[bytes] = []
        count = size = 0
        for log in behind:
            if size >= bytes_max or self._budget.spent >= VIEW_STEPS_MAX:
                break
            part = self._part(reader, log, cursors.get(log.name, ORIGIN), bytes_max // len(behind))
            reader.served = log.name
            cursors[log.name] = part.reached
            frames += part.frames
            size += sum(map(len, part.frames))
            count += part.events
            self._budget.spent += part.steps
            self._budget.left, part.unpaid = self._budget.left - part.unpaid, 0
            self.tally.evicted += part.evicted
            self.tally.conflated += part.conflated
            self.tally.filter_errors += self.failed_filters.add(log.name, part.failed)
        return b"".join(frames), count, bool(behind)

    def _part(self, reader: Reader, log: ChannelLog, after: Cursor, bytes_max: int) -> Part:
        view = (log is not reader.personal and channel_view(reader.view, log.name)) or UNFILTERED
        limit = reader.latest_only.get(log.name, ORIGIN)
        if after.at < limit.at:
            return read_newest(log, after, view, until=limit, bytes_max=bytes_max, current_only=True)
        reader.latest_only.pop(log.name, None)
        if after.at >= reader.history.get(log.name, ORIGIN).at:
            reader.history.pop(log.name, None)
        if view.rate is not None and log.name not in reader.history:
            part = read_newest(log, after, view, until=log.newest, bytes_max=bytes_max)
        elif view.filters and self._shared is not None and after.plain:
            key = log.name, view, after.at, bytes_max
            if key in self._shared:
                return self._shared[key]
            part = self._shared[key] = read_all(log, after, view, bytes_max=bytes_max)
        else:
            part = read_all(log, after, view, bytes_max=bytes_max)
        return part

    # -- where readers are ---------------------------------------------------------------------

    def heads(self, reader: Reader) -> dict[str, Cursor]:
        """Return a live reader's places, by channel."""
        unwritten = self.unwritten
        heads = {log.name: unwritten.get(log.name, log.newest) for log in self.logs_of(reader)}
        return heads | self._held_back(reader.view)

    @property
    def unwritten(self) -> dict[str, Cursor]:
        """The places of live readers in channels of which something is pending."""
        pending: dict[str, list[Entry]] = {}
        for entry in self.pending:
            pending.setdefault(entry.channel, []).append(entry)
        return {name: self._logs[name].cursor_before(entries) for name, entries in pending.items()}

    def is_at_head(self, reader: Reader) -> bool:
        """Return whether a reader is live and its cohort cannot hold anything back."""
        return reader.is_live and self._cohorts[reader.view].is_plain

    def _held_back(self, view: View) -> dict[str, Cursor]:
        cohort = self._cohorts.get(view)
        return {} if cohort is None or cohort.is_plain else cohort.held_back

    def cursors_of(self, reader: Reader) -> dict[str, Cursor]:
        """Return the places behind what was written to a reader, by channel."""
        if reader.is_live:
            return self.heads(reader)
        return {log.name: reader.cursors.get(log.name, ORIGIN) for log in self.logs_of(reader)}

    def lag(self, reader: Reader) -> int:
        """Return how many entries a reader is behind, over all channels."""
        if reader.is_live:
            return 0
        cursors = self.cursors_of(reader)
        return sum(log.lag(cursors[log.name]) for log in self.logs_of(reader))

    @property
    def everyone(self) -> ChannelLog:
        return self._logs[EVERYONE]

    @property
    def channels(self) -> Collection[str]:
        """The names of the open channels."""
        return self._logs.keys()

    def expected(self, view: Collection[Subscription], named: Collection[str] = ()) -> list[ChannelLog]:
        """Return the open logs that a view selects, and an empty log for each channel not open yet.

        So a channel that is not open yet has a position, too: before its first event. `named` are
        further channels, which count if the view selects them."""
        names = [one.pattern for one in view if not is_wildcard(one.pattern)]
        names += [name for name in named if any(one.selects(name) for one in view)]
        unopened = [name for name in dict.fromkeys(names) if name not in self._logs]
        opened = [self._logs[name] for name in selected(view, self._logs)]
        return opened + [ChannelLog(one, epoch=self.epoch, retention=Retention()) for one in unopened]

    def logs_of(self, reader: Reader) -> list[ChannelLog]:
        personal = [] if reader.personal is None else [reader.personal]
        return [self.everyone, *[self._logs[name] for name in selected(reader.view, self._logs)], *personal]

    # -- transitions ---------------------------------------------------------------------------

    def _set_state(self, reader: Reader, state: ReaderState) -> None:
        self.lagging.discard(reader)
        self.waiting.discard(reader)
        reader.state = state
        if state is ReaderState.LAGGING:
            self.lagging.add(reader)
            return
        self._budget.waiting.pop(reader, None)
        if state is ReaderState.WAITING:
            self.waiting.add(reader)

    def _join_cohort(self, reader: Reader) -> None:
        cohort = self._cohorts.get(reader.view)
        if cohort is None:
            cohort = self._cohorts[reader.view] = Cohort(reader.view, self.make_writer())
        cohort.add_member(reader)
        reader.view = cohort.view  # one object for all members, to save memory
        reader.forget_places()
        self._set_state(reader, ReaderState.LIVE)

    def _is_ahead(self, reader: Reader, logs: Iterable[ChannelLog]) -> bool:
        cursors = reader.cursors
        return False in [cursors.get(log.name, ORIGIN).plain for log in logs]

    def _leave_cohort(self, reader: Reader) -> None:
        if not reader.is_live:
            return
        reader.state = ReaderState.DETACHED
        cohort = self._cohorts[reader.view]
        self._leaving.discard(reader)
        cohort.remove_member(reader)
        if not cohort.members:
            del self._cohorts[reader.view]
            self._holding.discard(cohort)
