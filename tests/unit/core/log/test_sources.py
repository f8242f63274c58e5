"""Positions by source: a publisher's own numbers, the gateway's for the rest; none ever stands for two events."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from gateway.core.fanout.catch_up import read_all, read_newest
from gateway.core.fanout.filters import parse
from gateway.core.fanout.views import UNFILTERED, ChannelView
from gateway.core.log.log import ChannelLog
from gateway.core.log.retention import Retention
from gateway.core.log.sources import OFFSET_MAX, SOURCES_MAX, Cursor
from gateway.core.protocol.envelope import Envelope
from gateway.core.protocol.events import Event, MissingRange
from gateway.core.protocol.frames import text_payloads
from gateway.core.protocol.messages import Position
from gateway.core.protocol.positions import position_text, read_position
from tests.support.core import SECOND, Core, Peer, make_hub


A, B, C = 0xA, 0xB, 0xC
EPOCH_A, EPOCH_B, EPOCH_C = f"{A:016x}", f"{B:016x}", f"{C:016x}"


def make(*, events_max: int = 1000, living: bool = True) -> ChannelLog:
    """Return a log; its publishers are known to be `living`, or may have ended when another one begins."""
    log = ChannelLog("robots", epoch="own", retention=Retention(events_max=events_max))
    log.has_ended = lambda _incarnation: not living
    return log


def add(
    log: ChannelLog, incarnation: int | None, *sequences: int, missing: tuple[MissingRange, ...] = (), now_ns: int = 0
) -> list[tuple[str, int, bool]]:
    """Append events; return each new entry's source and offset, and whether it is an event."""
    added: list[tuple[str, int, bool]] = []
    for sequence in sequences:
        entries = log.append(Event("robots", b'"data":1', now_ns, 0, incarnation, sequence, missing))
        added += [(entry.source, entry.offset, entry.is_event) for entry in entries]
    return added


def behind(log: ChannelLog, position: Position) -> list[tuple[str, int]]:
    """Return the source and offset of each event that a client with a position gets."""
    after = log.resume(position, ahead_max=100).cursor
    return [(entry.source, entry.offset) for entry in log.held(after) if entry.is_event]


def names(log: ChannelLog) -> list[bool]:
    """Return for each event that is held whether it names its source."""
    return ["epoch" in json.loads(entry.json) for entry in log.held(log.start) if entry.is_event]


def test_a_publishers_numbers_become_the_offsets() -> None:
    log = make()

    assert add(log, A, 5, 6, 9) == [(EPOCH_A, 5, True), (EPOCH_A, 6, True), (EPOCH_A, 9, True)]
    assert log.start.at == 0, "before everything that this gateway has received"


def test_events_without_numbers_are_numbered_by_the_gateway() -> None:
    assert add(make(), None, 0, 0) == [("own", 1, True), ("own", 2, True)]


def test_two_publishers_keep_their_own_numbers() -> None:
    log = make()
    add(log, A, 1)
    add(log, B, 1)

    assert add(log, A, 2) == [(EPOCH_A, 2, True)]
    assert add(log, None, 0) == [("own", 1, True)]
    assert add(log, B, 2) == [(EPOCH_B, 2, True)]
    assert log.position == Position(EPOCH_B, 2, {EPOCH_A: 2, "own": 1})


def test_only_the_first_event_of_a_single_source_names_it() -> None:
    log = make()
    add(log, A, 1, 2, 3)

    assert names(log) == [True, False, False]
    assert log.position == Position(EPOCH_A, 3)
    assert log.position.others is UNSET


def test_every_event_names_its_source_while_several_are_live() -> None:
    log = make()
    add(log, A, 1, 2)
    add(log, B, 1, 2)
    add(log, A, 3)
    log.finish(A, 3)
    add(log, B, 3, 4)

    assert names(log) == [True, False, True, True, True, True, False], "and again only the first, once A has ended"


def test_a_restart_is_a_new_source_behind_a_gap() -> None:
    log = make(living=False)
    add(log, A, 1, 2)

    assert add(log, B, 1, 2) == [(EPOCH_B, 0, False), (EPOCH_B, 1, True), (EPOCH_B, 2, True)]
    assert log.position == Position(EPOCH_B, 2), "the one that ended is not named"


def test_no_gap_precedes_a_restart_if_the_last_message_arrived() -> None:
    log = make(living=False)
    add(log, A, 1, 2)
    log.finish(A, 2)

    assert add(log, B, 1) == [(EPOCH_B, 1, True)]


def test_a_gap_precedes_a_restart_if_the_last_message_is_missing() -> None:
    log = make(living=False)
    add(log, A, 1, 2)
    log.finish(A, 3)

    assert add(log, B, 1)[0] == (EPOCH_B, 0, False)


def test_the_end_of_one_of_several_sources_is_a_gap_of_its_own() -> None:
    log = make()
    add(log, A, 1)
    add(log, B, 1)
    [clean] = log.finish(A, 1)
    add(log, C, 1)
    [unknown] = log.end(B, now_ns=0)
    expected = {"from": None, "to": None, "reason": "epoch"}

    for entry, source, count in ((clean, EPOCH_A, 0), (unknown, EPOCH_B, None)):
        gap = json.loads(entry.json)
        assert {**expected, "epoch": source, "count": count}.items() <= gap.items()
    assert log.position == Position(EPOCH_C, 1, {EPOCH_B: 1}) or log.position.offsets == {EPOCH_C: 1, EPOCH_B: 1}


def test_the_gateway_numbers_if_javascript_cannot_represent_a_number() -> None:
    assert add(make(), A, OFFSET_MAX + 1) == [("own", 1, True)]


def test_the_gateway_numbers_a_publisher_that_uses_its_numbers_twice() -> None:
    log = make()
    add(log, A, 1, 2)

    assert add(log, A, 1, 2, 3) == [(EPOCH_A, 2, False), ("own", 1, True), ("own", 2, True), ("own", 3, True)]


def test_a_loss_belongs_to_the_source_that_lost_it() -> None:
    log = make()
    add(log, B, 1)
    hole = MissingRange(1, 4, "bus_loss")
    gap = log.append(Event("robots", b'"data":1', 0, 0, A, 5, (hole,)))[0]

    assert {"epoch": EPOCH_A, "from": 1, "to": 4, "count": 4}.items() <= json.loads(gap.json).items()


# -- the hard cases of docs/protocol.md ------------------------------------------------------------


def test_two_gateways_that_see_publishers_in_different_orders_resume_each_others_clients() -> None:
    one, other = make(), make()
    for log, order in ((one, "ABABAABB"), (other, "BBABAAAB")):
        counts = {"A": 0, "B": 0}
        for letter in order:
            counts[letter] += 1
            add(log, {"A": A, "B": B}[letter], counts[letter])
    for at in range(1, one.at):
        position = one.cursor_at(at).position
        seen = position.offsets
        expected = [(e.source, e.offset) for e in other.held(other.start) if e.offset > seen.get(e.source, 0)]
        assert behind(other, position) == expected


def test_a_source_heard_by_another_gateway_only_is_reported_alone() -> None:
    log = make()
    add(log, A, 1, 2, 3)
    found = log.resume(Position(EPOCH_A, 2, {EPOCH_B: 7}), ahead_max=0)

    assert found.lost == [EPOCH_B]
    assert [(e.source, e.offset) for e in log.held(found.cursor)] == [(EPOCH_A, 3)]


def test_a_source_that_a_position_does_not_name_comes_from_its_beginning() -> None:
    log = make()
    add(log, A, 1, 2)
    add(log, B, 1, 2)
    add(log, A, 3)

    assert behind(log, Position(EPOCH_A, 3)) == [(EPOCH_B, 1), (EPOCH_B, 2)]


def test_the_place_before_everything_is_named_by_a_source_that_all_gateways_know() -> None:
    log = make()
    add(log, A, 1)
    add(log, B, 1)

    resumed = log.resume(Position(EPOCH_B, 0), ahead_max=100)
    assert (Position(EPOCH_B, 0), []) == (resumed.cursor.position, resumed.lost)
    assert behind(log, resumed.cursor.position) == [(EPOCH_A, 1), (EPOCH_B, 1)]


def test_a_source_that_was_over_before_does_not_come_again() -> None:
    log = make(living=False)
    add(log, A, 1, 2)
    add(log, B, 1, 2)

    assert behind(log, Position(EPOCH_B, 1)) == [(EPOCH_B, 2)]


def test_a_publisher_that_sends_seldom_comes_whole_to_a_client_of_a_gateway_that_did_not_hear_it() -> None:
    log = make()
    add(log, B, 1, 2)
    add(log, A, 1, 2, 3, now_ns=3600 * SECOND)

    assert behind(log, Position(EPOCH_A, 2)) == [(EPOCH_B, 1), (EPOCH_B, 2), (EPOCH_A, 3)]


def test_what_is_not_held_any_more_of_such_a_publisher_is_a_gap() -> None:
    log = make(events_max=2)
    add(log, B, 1, 2)
    add(log, A, 1, 2, 3, now_ns=3600 * SECOND)
    after = log.resume(Position(EPOCH_A, 2), ahead_max=100).cursor

    assert [(gap.epoch, gap.from_, gap.to) for gap in log.missing(after)] == [(EPOCH_B, 1, 2)]


def test_events_that_were_replayed_do_not_say_that_what_came_before_them_was_over() -> None:
    """A gateway that starts may receive B's newest event first, and only then A's older ones, by replay."""
    log = make(living=False)
    add(log, B, 8)
    for sequence in (1, 2, 3):
        log.append(Event("robots", b'"data":1', 0, 0, A, sequence, late=True))
    found = log.resume(Position(EPOCH_A, 17), ahead_max=100)

    assert [(gap.epoch, gap.from_, gap.to) for gap in log.missing(found.cursor)] == [(EPOCH_B, 1, 7)]
    assert behind(log, Position(EPOCH_A, 17)) == [(EPOCH_B, 8)]


def test_a_repaired_event_does_not_bring_again_what_was_over_before_others() -> None:
    log = make(living=False)
    add(log, B, 1)
    add(log, A, 1)
    log.append(Event("robots", b'"data":1', 0, 0, A, 2, late=True))

    assert behind(log, Position(EPOCH_A, 2)) == []


def test_the_end_of_an_only_source_is_a_gap_when_another_one_goes_on() -> None:
    log = make()
    add(log, A, 1)
    add(log, B, 1)
    log.end(B, now_ns=0)
    log.end(A, now_ns=0)
    log.has_ended = lambda _incarnation: True

    assert add(log, B, 2) == [(EPOCH_A, 1, False), (EPOCH_B, 2, True)]


def test_an_only_source_that_was_silent_for_a_while_has_not_ended_when_another_one_goes_on() -> None:
    log = make()
    add(log, A, 1)
    add(log, B, 1)
    log.end(B, now_ns=0)
    log.end(A, now_ns=0)

    assert add(log, B, 2) == [(EPOCH_B, 2, True)]


def test_what_this_gateway_numbered_long_ago_does_not_come_late() -> None:
    log = make()
    add(log, None, 0)
    add(log, A, 1, 2, now_ns=3600 * SECOND)

    assert behind(log, Position(EPOCH_A, 1)) == [(EPOCH_A, 2)]


def test_to_one_who_names_a_source_that_ended_only_its_end_comes_again() -> None:
    log = make()
    add(log, A, 1, 2)
    add(log, B, 1)
    log.end(A, now_ns=0)
    after = log.resume(Position(EPOCH_B, 1, {EPOCH_A: 2}), ahead_max=100).cursor

    assert [(one.source, one.is_event) for one in log.held(after)] == [(EPOCH_A, False)]


@pytest.mark.parametrize(
    "position",
    [Position(EPOCH_A, 2), Position(EPOCH_A, 2, {EPOCH_B: 8}), Position(EPOCH_A, 2, {EPOCH_B: 8, EPOCH_C: 1})],
    ids=["none", "one", "both"],
)
def test_the_ends_that_the_gap_before_the_next_source_reports_come_to_one_who_has_that_from_elsewhere(
    position: Position,
) -> None:
    """Else what B and C lost at their ends would be missing without a gap."""
    log = make()
    add(log, B, 8, 9)
    add(log, C, 1)
    log.has_ended = lambda _incarnation: True
    for sequence in (1, 2, 3):
        log.append(Event("robots", b'"data":1', 0, 0, A, sequence, late=True))
    after, messages = log.resume(position, ahead_max=100).cursor, []
    while after.at < log.at:
        part = read_all(log, after, UNFILTERED, bytes_max=1)
        messages += [json.loads(payload) for payload in text_payloads(b"".join(part.frames))]
        after = part.reached

    ends = [(EPOCH_B, None, "epoch"), (EPOCH_C, None, "epoch")]
    assert [*ends, (EPOCH_A, 3, None)] == [
        (one["epoch"], one.get("to", one.get("offset")), one.get("reason")) for one in messages[-3:]
    ]
    assert len([one for one in messages if one.get("reason") == "epoch"]) == 2


def test_the_ends_that_an_evicted_gap_before_the_next_source_reports_come_only_to_one_who_names_their_sources() -> None:
    log = make(events_max=1, living=False)
    add(log, B, 1, 2)
    for sequence in (1, 2, 3):
        add(log, A, sequence)

    names_both = log.resume(Position(EPOCH_A, 3, {EPOCH_B: 2}), ahead_max=100).cursor
    assert [(EPOCH_B, None, "epoch")] == [(gap.epoch, gap.to, gap.reason) for gap in log.missing(names_both)]
    assert [] == log.missing(log.resume(Position(EPOCH_A, 3), ahead_max=100).cursor)
    assert [] == log.missing(log.newest)


@pytest.mark.parametrize(("seconds", "lost"), [(10, [EPOCH_A]), (100, [])])
def test_a_source_that_ended_a_short_time_before_a_position_that_does_not_name_it_is_in_doubt(
    seconds: int, lost: list[str]
) -> None:
    """Its client may have had all that is behind it from another gateway, which had not heard that publisher yet."""
    log = make()
    add(log, B, 1)
    add(log, A, 1, 2)
    log.end(A, now_ns=100 * SECOND)
    add(log, B, 2, now_ns=(100 + seconds) * SECOND)
    found = log.resume(Position(EPOCH_B, 2), ahead_max=100)
    add(log, A, 3)

    assert lost == found.lost
    assert [(EPOCH_A, 3)] == [(one.source, one.offset) for one in log.read(found.cursor, bytes_max=1000)]
    assert [] == log.resume(Position(EPOCH_B, 1), ahead_max=100).lost, "it comes whole"


def test_what_was_evicted_of_sources_that_are_forgotten_is_reported_to_one_who_lags() -> None:
    """Once, for all of them, as what is not known of the last one. It is not reported to one who has had it."""
    log = make()
    add(log, A, 1)
    lags = log.newest
    for number in range(2 * SOURCES_MAX):
        add(log, 0x100 + number, 1)
    keeps_up = log.newest
    add(log, B, 1)
    gaps = [(one.epoch, one.from_, one.to, one.reason) for one in log.missing(lags)]

    assert [(f"{0x100 + SOURCES_MAX:016x}", None, None, "epoch")] == gaps
    assert [] == log.missing(keeps_up)


def test_a_source_that_said_that_it_stops_is_not_in_doubt() -> None:
    log = make()
    add(log, B, 1)
    add(log, A, 1, 2)
    log.finish(A, 2)
    add(log, B, 2)

    assert [] == log.resume(Position(EPOCH_B, 2), ahead_max=100).lost


def test_a_source_that_was_forgotten_returns_with_its_numbers() -> None:
    log = make(events_max=10)
    add(log, A, 1, 2)
    for number in range(2 * SOURCES_MAX):
        add(log, 0x100 + number, 1)

    assert log.reached(A) is None, "not known"
    assert len(log.position.offsets) <= SOURCES_MAX
    assert log.resume(Position(EPOCH_A, 2), ahead_max=0).lost == [EPOCH_A]
    assert add(log, A, 3) == [(EPOCH_A, 3, True)]
    assert EPOCH_A not in log.resume(Position(EPOCH_A, 3), ahead_max=0).lost


def test_more_sources_than_are_remembered_evict_the_oldest_entries() -> None:
    log = make()
    for number in range(2 * SOURCES_MAX):
        add(log, 0x100 + number, 1)

    assert len(log) <= SOURCES_MAX
    assert len(log.position.offsets) == SOURCES_MAX


def test_a_position_ahead_of_this_gateway_gets_what_follows_it() -> None:
    log = make()
    add(log, A, 4, 5)
    add(log, B, 1)
    ahead = log.resume(Position(EPOCH_A, 8, {EPOCH_B: 1}), ahead_max=10).cursor
    for number in (6, 7, 8, 9):
        add(log, A, number)
        add(log, B, number)

    found = [(entry.source, entry.offset) for entry in log.read(ahead, bytes_max=1 << 20)]
    assert found == [(EPOCH_B, 6), (EPOCH_B, 7), (EPOCH_B, 8), (EPOCH_A, 9), (EPOCH_B, 9)]
    assert log.resume(Position(EPOCH_A, 20), ahead_max=10).lost == [EPOCH_A]


def test_what_was_evicted_is_a_gap_in_each_source() -> None:
    log = make(events_max=2)
    for number in range(1, 6):
        add(log, A, number)
        add(log, B, number)
    after = log.resume(Position(EPOCH_A, 2, {EPOCH_B: 3}), ahead_max=0).cursor

    gaps = [(gap.epoch, gap.from_, gap.to, gap.count) for gap in log.missing(after)]
    assert gaps == [(EPOCH_A, 3, 4, 2), (EPOCH_B, 4, 4, 1)]


def test_everything_before_a_gateways_first_event_is_a_gap() -> None:
    log = make()
    add(log, A, 100, 101)
    after = log.resume(Position(EPOCH_A, 50), ahead_max=0).cursor

    assert [(gap.epoch, gap.from_, gap.to) for gap in log.missing(after)] == [(EPOCH_A, 51, 99)]


def test_a_client_with_a_filter_over_many_sources_needs_no_gaps_to_know_them() -> None:
    hub = make_hub()
    peer = subscribed(hub, filter="data == 3")
    for number in range(1, 4):
        for incarnation in (A, B, C):
            publish(hub, incarnation, number)

    found = [one for one in peer.take() if one["type"] == "event"]
    assert [(one["epoch"], one["offset"]) for one in found] == [(EPOCH_A, 3), (EPOCH_B, 3), (EPOCH_C, 3)]


def test_the_next_event_behind_a_gap_for_a_source_that_is_not_known_is_not_taken_to_be_of_that_source() -> None:
    """Also if it has no epoch: then the gap before it names its source."""
    hub = make_hub()
    publish(hub, A, 1)
    peer = subscribed(hub, since={"robots": {"epoch": EPOCH_A, "offset": 1, "others": {EPOCH_B: 5}}})
    publish(hub, A, 2)
    *_, lost, named, event = peer.take()

    assert (EPOCH_B, None, "epoch") == (lost["epoch"], lost["to"], lost["reason"])
    assert (EPOCH_A, 1, "filtered") == (named["epoch"], named["to"], named["reason"])
    assert 2 == event["offset"]
    assert event.get("epoch", EPOCH_A) == EPOCH_A


def test_the_newest_events_start_behind_a_position_of_all_sources() -> None:
    hub = make_hub()
    for number in range(1, 4):
        for incarnation in (A, B):
            publish(hub, incarnation, number)
    peer = subscribed(hub, last=3)
    found = peer.take()
    [reply] = [one for one in found if one["type"] == "subscribed"]
    position = reply["positions"]["robots"]

    assert {position["epoch"]: position["offset"], **position["others"]} == {EPOCH_A: 2, EPOCH_B: 1}
    assert [one["offset"] for one in found if one["type"] == "event"] == [2, 3, 3]


def test_positions_of_twenty_sources_are_text_and_back() -> None:
    position = Position(EPOCH_A, 7, {f"{n:016x}": n for n in range(100, 119)})

    assert read_position(position_text(position)) == position
    assert len(position_text(position)) < 450
    assert read_position("e1-2:0") == Position("e1-2", 0)


def subscribed(hub: Core, **options: Any) -> Peer:
    peer = Peer(hub, "peer")
    peer.connect()
    peer.send(type="subscribe", channels=["robots"], **options)
    return peer


def publish(hub: Core, incarnation: int, number: int) -> None:
    hub.tick([[b"robots", b"%d" % number, Envelope(incarnation, number, number).pack()]], now_ns=0)


@given(
    st.lists(st.tuples(st.sampled_from([None, A, B, C]), st.integers(1, 3), st.booleans()), max_size=40),
    st.integers(1, 10),
    st.booleans(),
)
def test_ordinals_ascend_and_positions_are_never_reused(
    steps: list[tuple[int | None, int, bool]], events_max: int, living: bool
) -> None:
    log = make(events_max=events_max, living=living)
    next_sequence: dict[int, int] = {}
    seen: set[tuple[str, int]] = set()
    last = 0
    for incarnation, skip, lossy in steps:
        sequence = 0
        missing: tuple[MissingRange, ...] = ()
        if incarnation is not None:
            first = next_sequence.get(incarnation, 1)
            sequence = first + (skip if lossy else 0)
            missing = (MissingRange(first, sequence - 1, "bus_loss"),) if lossy else ()
            next_sequence[incarnation] = sequence + 1
        for entry in log.append(Event("robots", b'"data":1', 0, 0, incarnation, sequence, missing)):
            assert entry.at == last + 1
            last = entry.at
            if entry.before < entry.offset:
                assert (entry.source, entry.offset) not in seen
                seen.add((entry.source, entry.offset))
        assert log.resume(log.position, ahead_max=0).cursor.at == log.at


@given(st.lists(st.sampled_from([None, A, B, C]), min_size=1, max_size=40), st.lists(st.integers(0, 40), max_size=5))
def test_from_any_place_the_rest_follows_exactly(order: list[int | None], places: list[int]) -> None:
    log = make()
    counts: dict[int | None, int] = {}
    for incarnation in order:
        counts[incarnation] = counts.get(incarnation, 0) + 1
        add(log, incarnation, counts[incarnation])
    every = [(entry.source, entry.offset) for entry in log.held(log.start)]
    for place in places:
        at = min(place, log.at)
        cursor = log.cursor_at(at)
        assert [(e.source, e.offset) for e in log.held(cursor)] == every[at:]
        if at:
            assert behind(log, cursor.position) == every[at:]
            assert log.resume(cursor.position, ahead_max=0).cursor == Cursor(at, cursor.position)


def test_two_gateways_on_one_bus_give_the_same_positions() -> None:
    """They have other ids of their own sources, start at different times, and one has a loss."""
    one, other = make_hub(epoch="one"), make_hub(epoch="other")
    for sequence in range(1, 20):
        frames = [b"robots", b"1", Envelope(7, sequence, 0).pack()]
        one.tick([frames], now_ns=0)
        if sequence % 5:
            other.tick([frames], now_ns=0)

    assert one.logs.by_name["robots"].position == other.logs.by_name["robots"].position


def test_a_source_that_ended_comes_whole_to_a_client_who_has_nothing_of_what_followed_it() -> None:
    log = make(living=False)
    add(log, A, 1, 2)
    add(log, B, 5, missing=(MissingRange(1, 4, "bus_loss"),))

    assert behind(log, Position(EPOCH_B, 3)) == [(EPOCH_A, 1), (EPOCH_A, 2), (EPOCH_B, 5)]


def test_an_event_names_its_source_behind_a_gap_that_says_that_it_has_ended() -> None:
    """Its client has forgotten the source with that gap."""
    log = make(events_max=1)
    start = log.newest
    for source in (A, B, C):
        add(log, source, 1)
    for source in (B, A):
        log.end(source, now_ns=0)
    log.finish(C, 1)
    add(log, A, 2, 3)
    part = read_newest(log, start, UNFILTERED, until=log.newest)
    *ends, event = map(json.loads, list(text_payloads(b"".join(part.frames)))[:3])

    assert [(EPOCH_B, None), (EPOCH_A, None)] == [(one["epoch"], one["to"]) for one in ends]
    assert (EPOCH_A, 3) == (event.get("epoch"), event["offset"])


def test_what_is_evicted_while_a_client_awaits_the_newest_events_is_reported_in_each_source() -> None:
    log = make(events_max=4)
    start = log.newest
    add(log, A, 1)
    asked = log.newest
    add(log, B, 1, 2, 3)
    add(log, A, 2, 3, 4, 5)

    part = read_newest(log, start, UNFILTERED, until=asked)
    gaps = [json.loads(one) for one in text_payloads(b"".join(part.frames)) if b'"gap"' in one]

    assert {one["epoch"]: one["to"] for one in gaps if one["from"]} == {EPOCH_A: 1, EPOCH_B: 3}
    assert [entry.offset for entry in log.read(part.reached, bytes_max=1000)] == [2, 3, 4, 5]


def test_current_values_that_are_evicted_are_read_in_parts_without_a_hole() -> None:
    log = ChannelLog("robots", epoch="own", retention=Retention(events_max=1, key=("data",)))
    log.has_ended = lambda _incarnation: False
    start = log.newest
    for number in range(1, 4):
        for incarnation in (A, B):
            event = Event("robots", b'"data":"%d-%d"' % (incarnation, number), 0, 0, incarnation, number, ())
            log.append(event)

    got, place = [], start
    while place.at < log.at:
        part = read_newest(log, place, UNFILTERED, until=log.newest, bytes_max=1)
        messages = [json.loads(one) for one in text_payloads(b"".join(part.frames))]
        got += [(one["epoch"], one["offset"]) for one in messages if one["type"] == "event"]
        place = part.reached
        assert place.position.offsets.get(EPOCH_B, 0) == max((at for epoch, at in got if epoch == EPOCH_B), default=0)

    assert got == [(epoch, number) for number in range(1, 4) for epoch in (EPOCH_A, EPOCH_B)]
    assert place == log.newest


def test_a_loss_that_a_client_knows_does_not_end_an_earlier_source_for_it() -> None:
    log = make(living=False)
    add(log, A, 1, 2)
    log.append_gaps(B, (MissingRange(1, 2, "bus_loss"),), now_ns=0)

    assert behind(log, Position(EPOCH_B, 2)) == [(EPOCH_A, 1), (EPOCH_A, 2)]


def test_a_client_that_is_further_than_a_source_came_here_gets_the_gap_for_its_end() -> None:
    log = make()
    add(log, A, 1, 2)
    add(log, B, 1)
    log.end(A, now_ns=0)
    after = log.resume(Position(EPOCH_A, 3, {EPOCH_B: 1}), ahead_max=100).cursor
    gaps = [json.loads(entry.json) for entry in log.held(after) if not entry.is_event]

    assert [(gap["epoch"], gap["to"]) for gap in gaps] == [(EPOCH_A, None)]
    add(log, B, 2)
    assert log.advance(after, log.at).position == Position(EPOCH_B, 2), "the one that ended is not named any more"


def test_an_event_behind_the_end_of_another_source_has_its_sources_id_also_if_the_one_that_had_it_is_left_out() -> None:
    log = make()
    add(log, B, 1)
    add(log, A, 1)
    log.end(A, now_ns=0)
    place = Cursor(log.at, Position(EPOCH_B, 1))
    add(log, B, 2, 3)

    part = read_newest(log, place, UNFILTERED, until=log.newest)
    message = json.loads(next(text_payloads(part.frames[0])))

    assert (message["epoch"], message["offset"]) == (EPOCH_B, 3)


ODD = ChannelView((parse("data.n in [1, 3, 5]"),))


def add_numbered(log: ChannelLog, incarnation: int, *sequences: int) -> None:
    for sequence in sequences:
        log.append(Event("robots", b'"data":{"p":%d,"n":%d}' % (incarnation, sequence), 0, 0, incarnation, sequence))


def read_odd(log: ChannelLog, place: Cursor) -> list[bytes]:
    """Return what a client with the filter `ODD` reads behind a place, in small parts."""
    frames: list[bytes] = []
    while place.at < log.at:
        part = read_all(log, place, ODD, bytes_max=1)
        place, frames = part.reached, frames + part.frames
    return frames


def taken(frames: list[bytes], epoch: str) -> list[tuple[str, int]]:
    """Return the source and offset of each event, as a client takes them who is in `epoch`.

    Each event says itself which source it is of."""
    found: list[tuple[str, int]] = []
    for payload in text_payloads(b"".join(frames)):
        message = json.loads(payload)
        epoch = message.get("epoch", epoch)
        if message["type"] == "event":
            found.append((epoch, message["offset"]))
            assert found[-1] == (f"{message['data']['p']:016x}", message["data"]["n"])
    return found


def test_a_filter_that_leaves_out_the_event_with_a_sources_id_names_the_source_also_if_another_one_goes_on_later() -> (
    None
):
    log = make()
    add_numbered(log, B, 1)
    add_numbered(log, A, 1)
    log.end(A, now_ns=0)
    place = log.newest
    add_numbered(log, B, 2)
    until = log.newest
    add_numbered(log, B, 3)
    add_numbered(log, A, 2, 3)

    part = read_newest(log, place, ODD, until=until)
    frames = [*part.frames, *read_odd(log, part.reached)]

    assert taken(frames, place.position.epoch) == [(EPOCH_B, 3), (EPOCH_A, 3)]


def test_a_client_that_has_the_event_with_a_sources_id_learns_the_source_also_if_another_one_begins_later() -> None:
    log = make(living=False)
    add_numbered(log, A, 1)
    add_numbered(log, B, 1, 2, 3)
    log.has_ended = lambda _incarnation: False
    add_numbered(log, C, 1)
    place = log.resume(Position(EPOCH_A, 0, {EPOCH_B: 1}), ahead_max=0).cursor

    assert taken(read_odd(log, place), EPOCH_A) == [(EPOCH_A, 1), (EPOCH_B, 3), (EPOCH_C, 1)]


def test_an_event_behind_the_gap_for_its_sources_end_has_the_sources_id_also_if_those_between_are_conflated() -> None:
    log = make()
    add(log, B, 1)
    add(log, A, 1)
    place = log.newest
    log.end(A, now_ns=0)
    log.finish(B, 1)
    add(log, A, 2, 3, 4)

    part = read_newest(log, place, UNFILTERED, until=log.newest)
    end, event, _ = [json.loads(payload) for payload in text_payloads(b"".join(part.frames))]
    assert (EPOCH_A, None) == (end["epoch"], end["to"])
    assert (EPOCH_A, 4) == (event["epoch"], event["offset"])


def test_no_gap_names_a_source_that_has_just_ended() -> None:
    log = make()
    add(log, B, 1)
    add(log, A, 1)
    log.end(A, now_ns=0)

    part = read_newest(log, log.cursor_at(0), UNFILTERED, until=log.newest)

    assert b"filtered" not in b"".join(part.frames)


def test_a_loss_and_an_end_that_a_client_knows_do_not_hide_what_was_evicted() -> None:
    log = make(events_max=2)
    add(log, A, 1, 2)
    log.append_gaps(B, (MissingRange(1, 2, "bus_loss"),), now_ns=0)
    log.finish(B, 2)
    after = log.resume(Position(EPOCH_B, 2), ahead_max=100).cursor

    assert (EPOCH_A, 2) in [(gap.epoch, gap.to) for gap in log.missing(after)]


def test_what_a_client_has_of_a_source_that_seemed_to_have_ended_does_not_come_again() -> None:
    log = make(living=False)
    add(log, A, 1)
    add(log, B, 1)
    after = log.advance(log.resume(Position(EPOCH_A, 3, {EPOCH_B: 1}), ahead_max=100).cursor, log.at)
    add(log, A, 2, 3, 4)

    assert [(entry.source, entry.offset) for entry in log.read(after, bytes_max=1000)] == [(EPOCH_A, 4)]


def test_an_event_of_several_sources_takes_at_most_30_bytes_more() -> None:
    one, many = make(), make()
    add(one, A, 1, 2)
    add(many, B, 1)
    add(many, A, 1, 2)
    (*_, alone), (*_, mixed) = one.held(one.start), many.held(many.start)

    assert 0 < len(mixed.frame) - len(alone.frame) <= 30


def test_a_late_replica_of_several_sources_gives_the_same_places() -> None:
    log, replica = make(events_max=6), make(events_max=6)
    add(log, A, 1, 2)
    add(log, B, 1)
    replica.load_state(log.state)
    late = log.at
    add(log, A, 3)
    add(log, C, 1, 2)
    log.end(A, now_ns=0)
    add(log, B, 2, 3)
    for entry in log.held(log.cursor_at(late)):
        replica.replicate(entry)

    positions = [Position(EPOCH_A, 2, {EPOCH_B: 1}), Position(EPOCH_B, 2), log.position]
    assert replica.position == log.position
    assert [replica.resume(one, ahead_max=9) for one in positions] == [
        log.resume(one, ahead_max=9) for one in positions
    ]
    assert [behind(replica, one) for one in positions] == [behind(log, one) for one in positions]


def test_the_current_values_of_several_sources_name_theirs() -> None:
    log = ChannelLog("robots", epoch="own", retention=Retention(key=("data",)))
    log.has_ended = lambda _incarnation: False
    for number, (incarnation, key) in enumerate([(A, 1), (B, 2), (A, 2), (B, 1)]):
        log.append(Event("robots", b'"data":%d' % key, 0, 0, incarnation, number // 2 + 1))

    part = read_newest(log, log.before_current(), UNFILTERED, until=log.newest)
    messages = [json.loads(payload) for payload in text_payloads(b"".join(part.frames))]
    events = [(one["epoch"], one["offset"], one["data"]) for one in messages if one["type"] == "event"]
    assert events == [(EPOCH_A, 2, 2), (EPOCH_B, 2, 1)]
    assert part.reached.position.offsets == {EPOCH_A: 2, EPOCH_B: 2}
