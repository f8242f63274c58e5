"""Channels whose events the engine numbers, as several gateways take them: the same in all logs, and each once."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.cluster.channels import EngineChannels
from gateway.core.cluster.numbered import ChannelEvent, NumberedEvent, channel_event
from gateway.core.log.gaps import gap_of
from gateway.core.log.logs import Logs
from gateway.core.log.retention import Retention
from gateway.core.log.sources import Entry
from gateway.core.protocol.events import Event


CHANNELS = ["a", "b", "c"]
FETCHED = 2
"""Entries of one answer."""


@dataclass
class Engine:
    """What the script `append` does, with small limits; it may lose its last writes."""

    live_max: int = 4
    kept_max: int = 3
    epoch: int = 1
    sources: int = 100
    places: int = 0
    live: list[ChannelEvent] = field(default_factory=list)
    dropped: int = 0
    """How many entries of `live` were dropped."""
    kept: dict[str, list[ChannelEvent]] = field(default_factory=dict)

    def append(self, channel: str) -> ChannelEvent:
        kept = self.kept.setdefault(channel, [])
        self.places += 1
        if kept and kept[-1].engine == self.epoch:
            source, offset = kept[-1].numbered.epoch, kept[-1].numbered.offset + 1
        else:
            self.sources += 1
            source, offset = self.sources, 1
        one = ChannelEvent(channel, self.epoch, NumberedEvent(source, offset, b'"data":%d' % self.places), self.places)
        self.live.append(one)
        kept.append(one)
        if len(self.live) > self.live_max:
            del self.live[0]
            self.dropped += 1
        del kept[: -self.kept_max]
        return one

    def lose(self, count: int) -> None:
        """Restart without the last writes."""
        lost = self.live[len(self.live) - count :]
        del self.live[len(self.live) - count :]
        for kept in self.kept.values():
            kept[:] = [one for one in kept if one not in lost]
        self.places = self.places - len(lost)
        self.epoch += 1

    def after(self, channel: str, one: ChannelEvent | None) -> list[ChannelEvent]:
        kept = self.kept.get(channel, [])
        if one in kept:
            kept = kept[kept.index(one) + 1 :]
        elif one is not None:
            newer = [each for each in kept if (each.engine, each.place) > (one.engine, one.place)]
            kept = newer
        return kept[:FETCHED]


class Gateway:
    def __init__(self, engine: Engine, *, channels_max: int = 20, events_max: int = 1000) -> None:
        retention = Retention(events_max=events_max)
        self.logs = Logs(epoch="own", channels_max=channels_max, retention=retention)
        self.channels = EngineChannels(self.logs)
        self._engine = engine
        self._next = 0
        self._last: dict[str, ChannelEvent | None] = {}
        self._asked: dict[str, list[ChannelEvent]] = {}
        self.now_ns = 0

    def up(self) -> None:
        """Be connected; with another epoch, read the stream of all channels again."""
        if self.channels.engine != self._engine.epoch:
            self._next = 0
            self._asked.clear()
            self._last.clear()
        self.channels.begin(self._engine.epoch, now_ns=self.now_ns)

    def read(self, count: int = 1000) -> None:
        at = max(self._next - self._engine.dropped, 0)
        found = self._engine.live[at : at + count]
        self._next = self._engine.dropped + at + len(found)
        self.channels.take(found, now_ns=self.now_ns)

    def ask(self) -> None:
        if not self.channels.listed:
            self.channels.list(self._engine.kept, self._engine.places)
        for channel in self.channels.behind:
            self.channels.ask(channel)
            self._asked[channel] = self._engine.after(channel, self._last.get(channel))

    def answered(self) -> None:
        asked, self._asked = self._asked, {}
        for channel, found in asked.items():
            if found:
                self._last[channel] = found[-1]
            if not self.channels.take_kept(channel, found, now_ns=self.now_ns):
                self._last.pop(channel, None)

    def catch_up(self) -> None:
        self.up()
        for _ in range(100):
            self.read()
            self.ask()
            self.answered()
            if self.channels.listed and not self.channels.behind:
                return
        raise AssertionError(f"still behind: {self.channels.behind}")

    def entries(self, channel: str) -> list[Entry]:
        log = self.logs.by_name.get(channel)
        return [] if log is None else log.held(log.cursor_at(0))

    def events(self, channel: str) -> dict[tuple[str, int], bytes]:
        """The events of a channel by position; each is there once."""
        found = [one for one in self.entries(channel) if one.is_event]
        by_position = {(one.source, one.offset): one.json.rpartition(b'"data":')[2] for one in found}
        assert len(by_position) == len(found)
        return by_position


def position(one: ChannelEvent) -> tuple[str, int]:
    return f"{one.numbered.epoch:016x}", one.numbered.offset


def test_events_have_the_same_numbers_at_a_gateway_that_starts_late() -> None:
    engine = Engine(live_max=2, kept_max=10)
    early, late = Gateway(engine), Gateway(engine)
    early.catch_up()
    for _ in range(5):
        engine.append("a")
        early.read()
    late.catch_up()

    assert early.events("a") == late.events("a")
    assert [1, 2, 3, 4, 5] == [one.offset for one in late.entries("a")]
    assert early.logs.by_name["a"].position == late.logs.by_name["a"].position


def test_what_the_engine_does_not_keep_any_more_is_a_gap() -> None:
    """Exactly that, and the rest follows."""
    engine = Engine(live_max=1, kept_max=2)
    gateway = Gateway(engine)
    gateway.catch_up()
    engine.append("a")
    gateway.read()
    for _ in range(5):
        engine.append("a")
    gateway.catch_up()
    gap, *events = gateway.entries("a")[1:]

    assert (2, 4, 3, "bus_loss") == (gap_of(gap).from_, gap_of(gap).to, gap_of(gap).count, gap_of(gap).reason)
    assert [5, 6] == [one.offset for one in events]
    assert 3 == gateway.channels.counts["missing"]


def test_a_last_event_that_was_dropped_from_the_stream_of_all_channels_is_noticed() -> None:
    """Although its channel has none after it: others have."""
    engine = Engine(live_max=2, kept_max=10)
    gateway = Gateway(engine)
    gateway.catch_up()
    engine.append("a")
    gateway.read()
    engine.append("a")
    for _ in range(3):
        engine.append("b")
    gateway.catch_up()

    assert [1, 2] == [one.offset for one in gateway.entries("a")]


def test_another_epoch_ends_the_sources_on_all_gateways() -> None:
    """One gateway has an event that the engine lost; clients of both get to know that the end of the source is not known."""
    engine = Engine(kept_max=10)
    first, second = Gateway(engine), Gateway(engine)
    for one in (first, second):
        one.catch_up()
    engine.append("a")
    for one in (first, second):
        one.read()
    engine.append("a")
    first.read()
    engine.lose(1)
    new = engine.append("a")
    for one in (first, second):
        one.catch_up()

    assert [3, 2] == [len(one.events("a")) for one in (first, second)]
    for one in (first, second):
        gap, event = one.entries("a")[-2:]
        assert ("epoch", False) == (gap_of(gap).reason, gap.is_event)
        assert position(new) == (event.source, event.offset)
        assert {event.source: 1} == one.logs.by_name["a"].position.offsets


def test_a_source_of_the_engine_does_not_end_while_others_come_and_go() -> None:
    """A publisher that sends no heartbeats is one that may have ended."""
    engine = Engine(kept_max=10)
    gateway = Gateway(engine)
    gateway.catch_up()
    engine.append("a")
    gateway.read()
    gateway.logs.append([Event("a", b'"data":"bus"', 0, incarnation=7, sequence=1)])
    engine.append("a")
    gateway.read()

    assert [True] * 3 == [one.is_event for one in gateway.entries("a")]


def test_an_event_of_this_gateway_is_there_as_soon_as_it_is_confirmed() -> None:
    engine = Engine()
    gateway = Gateway(engine)
    gateway.catch_up()
    own = engine.append("a")
    gateway.channels.take_own(own, now_ns=0)
    assert [position(own)] == list(gateway.events("a"))
    engine.append("a")
    third = engine.append("a")
    gateway.channels.take_own(third, now_ns=0)
    assert [1] == [one.offset for one in gateway.entries("a")], "the second is to come first"
    gateway.read()

    assert [1, 2, 3] == [one.offset for one in gateway.entries("a")]


def test_events_of_channels_that_cannot_open_are_counted() -> None:
    engine = Engine(kept_max=10)
    gateway = Gateway(engine, channels_max=6)  # the standard ones
    gateway.catch_up()
    for channel in ("a", "metrics", "b"):
        engine.append(channel)
    gateway.catch_up()

    assert [1] == [one.offset for one in gateway.entries("metrics")]
    assert 2 == gateway.channels.counts["refused"]
    assert "a" not in gateway.logs.by_name


def test_an_entry_of_another_kind_is_refused() -> None:
    fields = {"number": b"1", "channel": b"a", "engine": b"1", "epoch": b"2", "offset": b"3", "event": b""}
    assert ChannelEvent("a", 1, NumberedEvent(2, 3, b""), 1) == channel_event(fields)
    assert 0 == channel_event(fields, "a").place
    for name in fields:
        with pytest.raises(KeyError):
            channel_event({key: value for key, value in fields.items() if key != name})


steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.sampled_from(CHANNELS), st.integers(1, 4)),
        st.tuples(st.sampled_from(["read", "ask", "answered", "up"]), st.integers(0, 2), st.integers(1, 3)),
        st.tuples(st.just("lose"), st.integers(0, 2), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(steps)
def test_all_logs_have_the_same_events_each_once_or_gaps(found: list[tuple[str, object, int]]) -> None:
    """However often the engine loses writes, drops entries, and answers late; whenever a gateway reads."""
    engine = Engine()
    gateways = [Gateway(engine) for _ in range(3)]
    sent: dict[str, list[ChannelEvent]] = {channel: [] for channel in CHANNELS}
    for what, which, count in found:
        if what == "append":
            sent[str(which)] += [engine.append(str(which)) for _ in range(count)]
        elif what == "lose":
            assert isinstance(which, int)
            engine.lose(min(which, len(engine.live)))
        else:
            assert isinstance(which, int)
            one = gateways[which]
            one.now_ns += 1
            if what == "read" and one.channels.engine == engine.epoch:
                one.read(count)
            elif what == "answered" and one.channels.engine != engine.epoch:
                one.up()  # no answer comes from an engine that is gone
            elif what != "read":
                getattr(one, what)() if what != "ask" or one.channels.engine == engine.epoch else one.up()
    for one in gateways:
        one.catch_up()
    for channel in CHANNELS:
        contents = {position(each): each.numbered.fields.rpartition(b":")[2] + b"}" for each in sent[channel]}
        kept = [each for each in engine.kept.get(channel, []) if each.engine == engine.epoch]
        for one in gateways:
            events = one.events(channel)
            assert events.items() <= contents.items()
            assert {position(each) for each in kept} <= events.keys()
            for source in {each.source for each in one.entries(channel)}:
                entries = [each for each in one.entries(channel) if each.source == source]
                assert all(before.offset == after.before for before, after in pairwise(entries))
                assert all(each.offset - each.before <= 1 for each in entries if each.is_event)
            if kept:
                assert kept[-1].numbered.offset == one.logs.by_name[channel].position.offsets[position(kept[-1])[0]]
