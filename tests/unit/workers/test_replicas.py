"""A replica that joins at any moment holds what the log holds, and says the same of every place."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.log.log import ChannelLog
from gateway.core.log.logs import Logs
from gateway.core.log.retention import Retention
from gateway.core.log.sources import Entry
from gateway.core.protocol.events import Event, MissingRange
from gateway.core.protocol.messages import Position
from gateway.workers import messages


CHANNELS = ("a", "b", "metrics")
RETENTIONS = {"a": Retention(events_max=5), "b": Retention(events_max=50, age_ns_max=7, key=("data", "k"), keys_max=2)}

_decode = messages.to_worker.decode


def logs() -> Logs:
    return Logs(epoch="e1", channels_max=10, retention=Retention(4), retentions=RETENTIONS)


class Pair:
    """The logs of a parent, and a replica that gets what is appended to them."""

    def __init__(self) -> None:
        self.original, self.replica = logs(), logs()
        self.original.on_append.append(self._tell)
        self.original.on_source.append(self._send)
        self.told: list[Entry] = []
        self.replica.on_append.append(self.told.extend)
        self.now = self.joined = 0
        self.sequences: dict[tuple[str, int], int] = {}

    def join(self) -> None:
        self.joined = 1
        for name in self.original.by_name:
            self._send(name)

    def _send(self, name: str) -> None:
        message = _decode(messages.encode(messages.Log(self.original.by_name[name].state)))
        assert isinstance(message, messages.Log)
        if self.joined:
            self.replica.load_state(message.state)

    def _tell(self, entries: list[Entry]) -> None:
        message = _decode(messages.encode(messages.Entries(entries)))
        assert isinstance(message, messages.Entries)
        if self.joined:
            self.replica.replicate(message.entries)

    def publish(self, channel: str, incarnation: int | None, lost: int) -> None:
        self.now += 1
        self.original.admit(channel)
        fields = b'"data":{"k":%d}' % (self.now % 3)
        if incarnation is None:
            event = Event(channel, fields, self.now)
        else:
            before = self.sequences.get((channel, incarnation), 0)
            number = before + lost + 1
            self.sequences[channel, incarnation] = number
            missing = (MissingRange(before + 1, number - 1, "bus_loss"),) if lost else ()
            event = Event(channel, fields, self.now, 0, incarnation, number, missing)
        self.original.append([event])

    def note_source(self, channel: str, incarnation: int) -> None:
        self.original.admit(channel)
        self.sequences.setdefault((channel, incarnation), 3)
        self.original.note_source(channel, incarnation, 3)

    def end(self, incarnation: int) -> None:
        self.original.end(incarnation, now_ns=self.now)

    def evict(self) -> None:
        self.now += 5
        self.original.evict(now_ns=self.now)
        if self.joined:
            self.replica.evict(now_ns=self.now)


def seen(log: ChannelLog) -> object:
    """All that readers can ask of a log."""
    found = [log.resume(position, ahead_max=3) for position in positions(log)]
    places = [one.cursor for one in found]
    return (
        log.newest,
        log.floor,
        log.start,
        log.bytes,
        len(log),
        [log.missing(place) for place in places],
        found,
        [[entry.frame for entry in log.held(place)] for place in places],
        [entry.frame for entry in log.current(log.start)],
        log.before_last(3),
    )


def positions(log: ChannelLog) -> list[Position]:
    names = [*sorted({"e1", *log.position.offsets}), "nobody's"]
    return [
        *(Position(name, offset) for name in names for offset in range(12)),
        *(Position(name, offset, {names[0]: 12 - offset}) for name in names[1:] for offset in range(12)),
    ]


Step = str | int | tuple[str, int] | tuple[str, int | None, int]

publications = st.tuples(
    st.sampled_from(CHANNELS), st.sampled_from([None, 1, 1, 1, 2, 3]), st.sampled_from([0, 0, 0, 2])
)
steps = st.lists(st.one_of(publications, st.sampled_from(["join", "evict", ("a", 3), ("b", 3), 1, 3])), max_size=40)


@given(before=steps, after=steps)
def test_a_replica_is_what_it_is_a_replica_of(before: list[Step], after: list[Step]) -> None:
    """Whatever the publishers do, before and after it joins: the same entries, places and gaps."""
    pair = Pair()
    for step in [*before, "join", *after]:
        match step:
            case "join":
                pair.join()
            case "evict":
                pair.evict()
            case int(incarnation):
                pair.end(incarnation)
            case (channel, incarnation):
                pair.note_source(channel, incarnation)
            case (channel, incarnation, lost):
                pair.publish(channel, incarnation, lost)

    assert pair.original.by_name.keys() == pair.replica.by_name.keys()
    for name, log in pair.original.by_name.items():
        assert seen(log) == seen(pair.replica.by_name[name])


def test_a_replica_counts_the_current_values_that_it_was_given() -> None:
    pair = Pair()
    pair.publish("b", None, 0)
    pair.join()
    pair.evict()
    pair.now += 1  # the next event has another key
    pair.publish("b", None, 0)
    pair.evict()

    assert pair.replica.by_name["b"].bytes == pair.original.by_name["b"].bytes


def test_followers_of_a_replica_hear_what_is_appended() -> None:
    """They see one path, as with the engine itself."""
    pair = Pair()
    pair.publish("a", 1, 0)
    pair.join()
    pair.publish("a", 1, 2)

    assert ["a", "a"] == [entry.channel for entry in pair.told]
    assert [(False, 3), (True, 4)] == [(one.is_event, one.offset) for one in pair.told]
