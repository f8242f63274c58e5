"""Where a client's position leads to in a channel of several sources: it gets what it lacks, and nothing again."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.fanout.catch_up import read_all
from gateway.core.fanout.views import UNFILTERED
from gateway.core.log.log import ChannelLog
from gateway.core.log.sources import Cursor
from gateway.core.protocol.events import Event, MissingRange
from gateway.core.protocol.frames import text_payloads
from gateway.core.protocol.messages import Position
from gateway.core.protocol.positions import position_text, read_position
from tests.support.core import SECOND
from tests.support.sources import EPOCH_A, EPOCH_B, EPOCH_C, A, B, C, add, make_log


def behind(log: ChannelLog, position: Position) -> list[tuple[str, int]]:
    """Return the source and offset of each event that a client with a position gets."""
    after = log.resume(position, ahead_max=100).cursor
    return [(entry.source, entry.offset) for entry in log.held(after) if entry.is_event]


def test_two_gateways_that_see_publishers_in_different_orders_resume_each_others_clients() -> None:
    one, other = make_log(), make_log()
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
    log = make_log()
    add(log, A, 1, 2, 3)
    found = log.resume(Position(EPOCH_A, 2, {EPOCH_B: 7}), ahead_max=0)

    assert found.lost == [EPOCH_B]
    assert [(e.source, e.offset) for e in log.held(found.cursor)] == [(EPOCH_A, 3)]


def test_a_source_that_a_position_does_not_name_comes_from_its_beginning() -> None:
    log = make_log()
    add(log, A, 1, 2)
    add(log, B, 1, 2)
    add(log, A, 3)

    assert behind(log, Position(EPOCH_A, 3)) == [(EPOCH_B, 1), (EPOCH_B, 2)]


def test_the_place_before_everything_is_named_by_a_source_that_all_gateways_know() -> None:
    log = make_log()
    add(log, A, 1)
    add(log, B, 1)

    resumed = log.resume(Position(EPOCH_B, 0), ahead_max=100)
    assert (Position(EPOCH_B, 0), []) == (resumed.cursor.position, resumed.lost)
    assert behind(log, resumed.cursor.position) == [(EPOCH_A, 1), (EPOCH_B, 1)]


def test_a_source_that_was_over_before_does_not_come_again() -> None:
    log = make_log(living=False)
    add(log, A, 1, 2)
    add(log, B, 1, 2)

    assert behind(log, Position(EPOCH_B, 1)) == [(EPOCH_B, 2)]


def test_a_publisher_that_sends_seldom_comes_whole_to_a_client_of_a_gateway_that_did_not_hear_it() -> None:
    log = make_log()
    add(log, B, 1, 2)
    add(log, A, 1, 2, 3, now_ns=3600 * SECOND)

    assert behind(log, Position(EPOCH_A, 2)) == [(EPOCH_B, 1), (EPOCH_B, 2), (EPOCH_A, 3)]


def test_what_is_not_held_any_more_of_such_a_publisher_is_a_gap() -> None:
    log = make_log(events_max=2)
    add(log, B, 1, 2)
    add(log, A, 1, 2, 3, now_ns=3600 * SECOND)
    after = log.resume(Position(EPOCH_A, 2), ahead_max=100).cursor

    assert [(gap.epoch, gap.from_, gap.to) for gap in log.missing(after)] == [(EPOCH_B, 1, 2)]


def test_events_that_were_replayed_do_not_say_that_what_came_before_them_was_over() -> None:
    """A gateway that starts may receive B's newest event first, and only then A's older ones, by replay."""
    log = make_log(living=False)
    add(log, B, 8)
    for sequence in (1, 2, 3):
        log.append(Event("robots", b'"data":1', 0, 0, A, sequence, late=True))
    found = log.resume(Position(EPOCH_A, 17), ahead_max=100)

    assert [(gap.epoch, gap.from_, gap.to) for gap in log.missing(found.cursor)] == [(EPOCH_B, 1, 7)]
    assert behind(log, Position(EPOCH_A, 17)) == [(EPOCH_B, 8)]


def test_a_repaired_event_does_not_bring_again_what_was_over_before_others() -> None:
    log = make_log(living=False)
    add(log, B, 1)
    add(log, A, 1)
    log.append(Event("robots", b'"data":1', 0, 0, A, 2, late=True))

    assert behind(log, Position(EPOCH_A, 2)) == []


def test_what_this_gateway_numbered_long_ago_does_not_come_late() -> None:
    log = make_log()
    add(log, None, 0)
    add(log, A, 1, 2, now_ns=3600 * SECOND)

    assert behind(log, Position(EPOCH_A, 1)) == [(EPOCH_A, 2)]


def test_to_one_who_names_a_source_that_ended_only_its_end_comes_again() -> None:
    log = make_log()
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
    log = make_log()
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
    log = make_log(events_max=1, living=False)
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
    log = make_log()
    add(log, B, 1)
    add(log, A, 1, 2)
    log.end(A, now_ns=100 * SECOND)
    add(log, B, 2, now_ns=(100 + seconds) * SECOND)
    found = log.resume(Position(EPOCH_B, 2), ahead_max=100)
    add(log, A, 3)

    assert lost == found.lost
    assert [(EPOCH_A, 3)] == [(one.source, one.offset) for one in log.read(found.cursor, bytes_max=1000)]
    assert [] == log.resume(Position(EPOCH_B, 1), ahead_max=100).lost, "it comes whole"


def test_a_source_that_said_that_it_stops_is_not_in_doubt() -> None:
    log = make_log()
    add(log, B, 1)
    add(log, A, 1, 2)
    log.finish(A, 2)
    add(log, B, 2)

    assert [] == log.resume(Position(EPOCH_B, 2), ahead_max=100).lost


def test_a_position_ahead_of_this_gateway_gets_what_follows_it() -> None:
    log = make_log()
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
    log = make_log(events_max=2)
    for number in range(1, 6):
        add(log, A, number)
        add(log, B, number)
    after = log.resume(Position(EPOCH_A, 2, {EPOCH_B: 3}), ahead_max=0).cursor

    gaps = [(gap.epoch, gap.from_, gap.to, gap.count) for gap in log.missing(after)]
    assert gaps == [(EPOCH_A, 3, 4, 2), (EPOCH_B, 4, 4, 1)]


def test_everything_before_a_gateways_first_event_is_a_gap() -> None:
    log = make_log()
    add(log, A, 100, 101)
    after = log.resume(Position(EPOCH_A, 50), ahead_max=0).cursor

    assert [(gap.epoch, gap.from_, gap.to) for gap in log.missing(after)] == [(EPOCH_A, 51, 99)]


def test_positions_of_twenty_sources_are_text_and_back() -> None:
    position = Position(EPOCH_A, 7, {f"{n:016x}": n for n in range(100, 119)})

    assert read_position(position_text(position)) == position
    assert len(position_text(position)) < 450
    assert read_position("e1-2:0") == Position("e1-2", 0)


@given(st.lists(st.sampled_from([None, A, B, C]), min_size=1, max_size=40), st.lists(st.integers(0, 40), max_size=5))
def test_from_any_place_the_rest_follows_exactly(order: list[int | None], places: list[int]) -> None:
    log = make_log()
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


def test_a_source_that_ended_comes_whole_to_a_client_who_has_nothing_of_what_followed_it() -> None:
    log = make_log(living=False)
    add(log, A, 1, 2)
    add(log, B, 5, missing=(MissingRange(1, 4, "bus_loss"),))

    assert behind(log, Position(EPOCH_B, 3)) == [(EPOCH_A, 1), (EPOCH_A, 2), (EPOCH_B, 5)]


def test_a_loss_that_a_client_knows_does_not_end_an_earlier_source_for_it() -> None:
    log = make_log(living=False)
    add(log, A, 1, 2)
    log.append_gaps(B, (MissingRange(1, 2, "bus_loss"),), now_ns=0)

    assert behind(log, Position(EPOCH_B, 2)) == [(EPOCH_A, 1), (EPOCH_A, 2)]


def test_a_client_that_is_further_than_a_source_came_here_gets_the_gap_for_its_end() -> None:
    log = make_log()
    add(log, A, 1, 2)
    add(log, B, 1)
    log.end(A, now_ns=0)
    after = log.resume(Position(EPOCH_A, 3, {EPOCH_B: 1}), ahead_max=100).cursor
    gaps = [json.loads(entry.json) for entry in log.held(after) if not entry.is_event]

    assert [(gap["epoch"], gap["to"]) for gap in gaps] == [(EPOCH_A, None)]
    add(log, B, 2)
    assert log.advance(after, log.at).position == Position(EPOCH_B, 2), "the one that ended is not named any more"


def test_a_loss_and_an_end_that_a_client_knows_do_not_hide_what_was_evicted() -> None:
    log = make_log(events_max=2)
    add(log, A, 1, 2)
    log.append_gaps(B, (MissingRange(1, 2, "bus_loss"),), now_ns=0)
    log.finish(B, 2)
    after = log.resume(Position(EPOCH_B, 2), ahead_max=100).cursor

    assert (EPOCH_A, 2) in [(gap.epoch, gap.to) for gap in log.missing(after)]


def test_what_a_client_has_of_a_source_that_seemed_to_have_ended_does_not_come_again() -> None:
    log = make_log(living=False)
    add(log, A, 1)
    add(log, B, 1)
    after = log.advance(log.resume(Position(EPOCH_A, 3, {EPOCH_B: 1}), ahead_max=100).cursor, log.at)
    add(log, A, 2, 3, 4)

    assert [(entry.source, entry.offset) for entry in log.read(after, bytes_max=1000)] == [(EPOCH_A, 4)]


def test_a_late_replica_of_several_sources_gives_the_same_places() -> None:
    log, replica = make_log(events_max=6), make_log(events_max=6)
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
