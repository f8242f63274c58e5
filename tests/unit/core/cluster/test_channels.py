"""Channels whose events the engine numbers, as several gateways take them: the same in all logs, and each once."""

from __future__ import annotations

from itertools import pairwise, takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.cluster.numbered import ChannelEvent, NumberedEvent, channel_event
from gateway.core.log.gaps import gap_of
from gateway.core.log.sources import Entry
from gateway.core.protocol.events import Event
from tests.support.engine import Engine, Gateway, position
from tests.support.sizes import full


CHANNELS = ["a", "b", "c"]


def appended(engine: Engine, channel: str) -> ChannelEvent:
    one = engine.append(channel)
    assert one is not None
    return one


def reasons_before(entries: list[Entry], source: str) -> set[str]:
    """What gaps say between the first event of a source and the one before."""
    first = next(at for at, one in enumerate(entries) if one.is_event and one.source == source)
    gaps = takewhile(lambda one: not one.is_event, reversed(entries[:first]))
    return {gap_of(one).reason for one in gaps}


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
    new = appended(engine, "a")
    for one in (first, second):
        one.catch_up()

    assert [3, 2] == [len(one.events("a")) for one in (first, second)]
    for one in (first, second):
        gap, event = one.entries("a")[-2:]
        assert ("epoch", False) == (gap_of(gap).reason, gap.is_event)
        assert position(new) == (event.source, event.offset)
        assert {event.source: 1} == one.logs.by_name["a"].position.offsets


def test_another_epoch_ends_a_source_at_once_on_a_channel_that_others_publish_on() -> None:
    """The engine may never number this channel again."""
    engine = Engine(kept_max=10)
    gateway = Gateway(engine)
    gateway.catch_up()
    source, _ = position(appended(engine, "a"))
    gateway.read()
    gateway.logs.append([Event("a", b'"data":"bus"', 0, incarnation=7, sequence=1)])
    engine.lose(1)
    gateway.catch_up()

    gap = gap_of(gateway.entries("a")[-1])
    assert (source, None, "epoch") == (gap.epoch, gap.to, gap.reason)
    assert not gateway.logs.by_name["a"].is_mixed


def test_a_source_that_was_lost_whole_is_reported_by_a_gateway_that_had_nothing_of_it() -> None:
    """Its clients were subscribed when it was acknowledged: nothing but the epoch shows that."""
    engine = Engine(kept_max=10)
    gateway = Gateway(engine)
    gateway.catch_up()
    engine.append("$everyone")
    engine.append("a")
    engine.lose(2)
    for channel in ("$everyone", "a"):
        engine.append(channel)
        engine.append(channel)
    gateway.catch_up()

    for channel in ("$everyone", "a"):
        gap, first, second = gateway.entries(channel)
        assert (None, 0, None, "epoch") == (gap_of(gap).from_, gap_of(gap).to, gap_of(gap).count, gap_of(gap).reason)
        assert [1, 2] == [first.offset, second.offset]
        assert {gap_of(gap).epoch} == {first.source, second.source}


def test_an_engine_that_was_down_when_a_gateway_started_may_have_had_an_earlier_epoch() -> None:
    """Other gateways may have used it, and this one had clients already."""
    engine = Engine(kept_max=10)
    gateway = Gateway(engine)
    gateway.channels.begin(engine.epoch, now_ns=0, was_down=True)
    engine.append("a")
    gateway.catch_up()

    assert [False, True] == [one.is_event for one in gateway.entries("a")]
    assert {"epoch"} == reasons_before(gateway.entries("a"), gateway.entries("a")[-1].source)


def test_a_channel_begins_without_a_gap_in_the_first_epoch_that_a_gateway_knows() -> None:
    """Also if the engine keeps events of earlier ones: whoever subscribes here comes after these."""
    engine = Engine(kept_max=10)
    engine.append("a")
    engine.lose(0)
    gateway = Gateway(engine)
    gateway.catch_up()
    engine.append("b")
    gateway.read()

    for channel in ("a", "b"):
        assert [True] == [one.is_event for one in gateway.entries(channel)]


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
    own = appended(engine, "a")
    gateway.channels.take_own(own, now_ns=0)
    assert [position(own)] == list(gateway.events("a"))
    engine.append("a")
    third = appended(engine, "a")
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


def test_events_that_the_engine_has_kept_of_a_channel_that_cannot_open_are_counted() -> None:
    engine = Engine(live_max=1, kept_max=10)
    for channel in ("a", "metrics"):
        engine.append(channel)
    gateway = Gateway(engine, channels_max=6)  # the standard ones
    gateway.catch_up()

    assert 1 == gateway.channels.counts["refused"]
    assert "a" not in gateway.logs.by_name


def test_an_event_of_a_channel_that_cannot_open_counts_once() -> None:
    """It comes by the stream of all channels and by its channel's own: again after some were dropped, and after a restart
    of the engine."""
    engine = Engine(live_max=3, kept_max=10)
    for _ in range(2):
        engine.append("a")
    gateway = Gateway(engine, channels_max=6)  # the standard ones
    gateway.catch_up()
    assert 2 == gateway.channels.counts["refused"]
    for _ in range(5):
        engine.append("a")
    gateway.catch_up()
    assert 7 == gateway.channels.counts["refused"]
    engine.lose(0)
    engine.append("a")
    gateway.catch_up()

    assert 8 == gateway.channels.counts["refused"]


def test_a_channel_that_is_closed_while_its_stream_is_asked_for_stays_closed() -> None:
    engine = Engine(live_max=1, kept_max=10)
    gateway = Gateway(engine)
    engine.append("a")
    gateway.catch_up()
    for _ in range(3):
        engine.append("a")
    gateway.read()
    gateway.ask()
    assert ["a"] == gateway.channels.behind
    gateway.logs.close("a")
    gateway.answered()

    assert [] == gateway.channels.behind
    assert "a" not in gateway.logs.by_name


def test_an_event_that_comes_after_the_last_answer_was_given_is_asked_for() -> None:
    engine = Engine(kept_max=10)
    engine.append("a")
    gateway = Gateway(engine)
    gateway.up()
    gateway.ask()
    gateway.answered()
    gateway.ask()  # there are no more
    engine.append("a")
    gateway.read()
    gateway.answered()
    assert ["a"] == gateway.channels.behind
    gateway.catch_up()

    assert [1, 2] == [one.offset for one in gateway.entries("a")]


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


@settings(max_examples=full(300, 100))
@given(steps)
def test_all_logs_have_the_same_events_each_once_or_gaps(found: list[tuple[str, object, int]]) -> None:
    """However often the engine loses writes, drops entries, and answers late; whenever a gateway reads."""
    engine = Engine()
    gateways = [Gateway(engine) for _ in range(3)]
    sent: dict[str, list[ChannelEvent]] = {channel: [] for channel in CHANNELS}
    for what, which, count in found:
        if what == "append":
            sent[str(which)] += [appended(engine, str(which)) for _ in range(count)]
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
            if kept and one.knew_another_epoch:
                assert "epoch" in reasons_before(one.entries(channel), position(kept[-1])[0])
            if kept:
                assert kept[-1].numbered.offset == one.logs.by_name[channel].position.offsets[position(kept[-1])[0]]
