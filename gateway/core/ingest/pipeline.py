"""From bus messages to entries in the logs, in one synchronous call for each batch.

Each call validates the messages, puts each publisher's messages in order, appends the events, and
appends gaps for losses that no event may report soon. Nothing can run between numbering an event and
appending it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain

from gateway.core.ingest.ingest import Ingest
from gateway.core.ingest.publishers import Change
from gateway.core.ingest.rejections import Rejection
from gateway.core.ingest.streams import NoRoom
from gateway.core.log.logs import Logs
from gateway.core.protocol.events import BusStatus, Connection, Event, own_event
from gateway.core.protocol.messages import BusState
from gateway.core.sources.errors import Unreadable
from gateway.core.sources.source import Source


@dataclass(slots=True)
class Tick:
    events: list[Event] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    messages: int = 0
    """How many have come, with those that are no events."""
    bytes: int = 0
    appended: int = 0
    """How many of the events are in the logs already."""

    def add_outcome(self, outcome: Event | Rejection) -> None:
        if isinstance(outcome, Event):
            self.events.append(outcome)
        else:
            self.rejections.append(outcome)


class Pipeline:
    def __init__(self, *, ingest: Ingest, logs: Logs) -> None:
        self.ingest = ingest
        self.logs = logs
        self.divert: Callable[[Sequence[Event]], list[Event]] | None = None
        """Takes a batch's events before they are appended, and returns those that are to be appended here."""
        logs.has_ended = ingest.recovery.publishers.has_ended
        logs.on_return = ingest.recovery.publishers.note_return
        self._received = False

    @property
    def bus_state(self) -> BusState:
        """``waiting`` until the first message, ``stale`` while all publishers are, else ``live``."""
        state = self.ingest.recovery.publishers.state
        if state != "unknown":
            return state
        return "live" if self._received else "waiting"

    def receive(self, batch: Iterable[Sequence[bytes]], *, now_ns: int, link: int = 0) -> Tick:
        tick, taken = Tick(), list[Sequence[bytes]]()
        self.ingest.recovery.publishers.link = link
        accept, events = self.ingest.accept, tick.events
        for frames in batch:
            taken.append(frames)
            try:
                outcome = accept(frames, now_ns=now_ns)
            except NoRoom:
                outcome = self._accept_again(frames, tick, now_ns)
            if outcome.__class__ is Event:
                events.append(outcome)
            elif outcome is None:
                self._release(tick, now_ns)
            else:
                tick.add_outcome(outcome)
        self._finish(tick, taken, now_ns)
        return tick

    def receive_from(self, source: Source, batch: Iterable[Sequence[bytes]], *, now_ns: int, link: int = 0) -> Tick:
        """Take a batch of messages that a source has to read first."""
        tick, taken = Tick(), list[Sequence[bytes]]()
        self.ingest.recovery.publishers.link = link
        self._take(source.heartbeat(), tick, now_ns)
        for frames in batch:
            taken.append(frames)
            try:
                self._take(source.read(frames), tick, now_ns)
            except Unreadable as error:
                self._take(error.messages, tick, now_ns)
                tick.rejections.append(self.ingest.refuse(error, frames, now_ns=now_ns))
        self._finish(tick, taken, now_ns)
        return tick

    def _finish(self, tick: Tick, taken: Sequence[Sequence[bytes]], now_ns: int) -> None:
        tick.messages, tick.bytes = len(taken), sum(map(len, chain.from_iterable(taken)))
        self._received = True
        self._append(tick, now_ns)

    def _take(self, messages: Sequence[Sequence[bytes]], tick: Tick, now_ns: int) -> None:
        """Take messages that a source has made."""
        for message in messages:
            try:
                outcome = self.ingest.accept(message, now_ns=now_ns, by_source=True)
            except NoRoom:
                outcome = self._accept_again(message, tick, now_ns, by_source=True)
            if outcome is None:
                self._release(tick, now_ns)
            else:
                tick.add_outcome(outcome)

    def receive_replies(self, replies: Iterable[Sequence[bytes]], *, now_ns: int) -> Tick:
        """Take publishers' replies to replay requests."""
        tick = Tick()
        for reply in replies:
            self.ingest.receive_reply(reply, now_ns=now_ns)
            tick.bytes += sum(map(len, reply))
        self._append(tick, now_ns)
        return tick

    def expire(self, *, now_ns: int) -> Tick:
        """Evict the entries that are too old, and give up repairs that take too long."""
        self.logs.evict(now_ns=now_ns)
        self.ingest.recovery.expire(now_ns=now_ns)
        tick = Tick()
        self._append(tick, now_ns)
        return tick

    def _accept_again(
        self, frames: Sequence[bytes], tick: Tick, now_ns: int, *, by_source: bool = False
    ) -> Event | Rejection | None:
        """Append what there is: a stream can be forgotten once its messages are in the log."""
        self._append(tick, now_ns)
        return self.ingest.accept(frames, now_ns=now_ns, by_source=by_source, again=True)

    def _release(self, tick: Tick, now_ns: int) -> None:
        for outcome in self.ingest.released(now_ns=now_ns):
            tick.add_outcome(outcome)

    def _append(self, tick: Tick, now_ns: int) -> None:
        """Append a tick's events, then gaps for what they do not report, until nothing is left."""
        recovery = self.ingest.recovery
        while True:
            self._release(tick, now_ns)
            events = tick.events[tick.appended :]
            self.logs.append(events if self.divert is None else self.divert(events))
            tick.appended = len(tick.events)
            unreported = recovery.take_unreported()
            if not unreported:
                break
            for stream in unreported:
                missing = stream.take_unreported()
                self.logs.append_gaps(stream.topic, stream.incarnation, missing, now_ns=now_ns)
                self.logs.note_source(stream.topic, stream.incarnation, stream.newest)
                if stream.final is not None:
                    self.logs.finish(stream.topic, stream.incarnation, stream.final, now_ns=now_ns)
        recovery.tick += 1
        while recovery.silent:
            self.logs.end(recovery.silent.pop(), now_ns=now_ns)
        for change in recovery.publishers.take_changes():
            self._publish_change(change, now_ns)

    def _publish_change(self, change: Change, now_ns: int) -> None:
        """Publish a publisher's new state on ``connections``; on ``status`` if it is stale or live."""
        publisher, state = change.publisher, change.state
        incarnation = f"{publisher.incarnation:016x}"
        data = Connection(client_id=incarnation, name=publisher.name or None)
        events = [own_event("connections", f"publisher.{state}", data, now_ns=now_ns)]
        if state in {"stale", "live"}:
            status = BusStatus(state, publisher.name or incarnation)
            events.append(own_event("status", f"status.{state}", status, now_ns=now_ns))
        self.logs.append(events)
