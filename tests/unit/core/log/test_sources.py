"""Who numbers a channel's events, and when a source begins and ends: no offset ever stands for two events."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from gateway.core.log.log import ChannelLog
from gateway.core.log.sources import OFFSET_MAX, SOURCES_MAX
from gateway.core.protocol.envelope import Envelope
from gateway.core.protocol.events import Event, MissingRange
from gateway.core.protocol.messages import Position
from tests.support.core import make_hub
from tests.support.sources import EPOCH_A, EPOCH_B, EPOCH_C, A, B, C, add, make_log


def names(log: ChannelLog) -> list[bool]:
    """Return for each event that is held whether it names its source."""
    return ["epoch" in json.loads(entry.json) for entry in log.held(log.start) if entry.is_event]


def test_a_publishers_numbers_become_the_offsets() -> None:
    log = make_log()

    assert add(log, A, 5, 6, 9) == [(EPOCH_A, 5, True), (EPOCH_A, 6, True), (EPOCH_A, 9, True)]
    assert log.start.at == 0, "before everything that this gateway has received"


def test_events_without_numbers_are_numbered_by_the_gateway() -> None:
    assert add(make_log(), None, 0, 0) == [("own", 1, True), ("own", 2, True)]


def test_two_publishers_keep_their_own_numbers() -> None:
    log = make_log()
    add(log, A, 1)
    add(log, B, 1)

    assert add(log, A, 2) == [(EPOCH_A, 2, True)]
    assert add(log, None, 0) == [("own", 1, True)]
    assert add(log, B, 2) == [(EPOCH_B, 2, True)]
    assert log.position == Position(EPOCH_B, 2, {EPOCH_A: 2, "own": 1})


def test_only_the_first_event_of_a_single_source_names_it() -> None:
    log = make_log()
    add(log, A, 1, 2, 3)

    assert names(log) == [True, False, False]
    assert log.position == Position(EPOCH_A, 3)
    assert log.position.others is UNSET


def test_every_event_names_its_source_while_several_are_live() -> None:
    log = make_log()
    add(log, A, 1, 2)
    add(log, B, 1, 2)
    add(log, A, 3)
    log.finish(A, 3)
    add(log, B, 3, 4)

    assert names(log) == [True, False, True, True, True, True, False], "and again only the first, once A has ended"


def test_a_restart_is_a_new_source_behind_a_gap() -> None:
    log = make_log(living=False)
    add(log, A, 1, 2)

    assert add(log, B, 1, 2) == [(EPOCH_B, 0, False), (EPOCH_B, 1, True), (EPOCH_B, 2, True)]
    assert log.position == Position(EPOCH_B, 2), "the one that ended is not named"


def test_no_gap_precedes_a_restart_if_the_last_message_arrived() -> None:
    log = make_log(living=False)
    add(log, A, 1, 2)
    log.finish(A, 2)

    assert add(log, B, 1) == [(EPOCH_B, 1, True)]


def test_a_gap_precedes_a_restart_if_the_last_message_is_missing() -> None:
    log = make_log(living=False)
    add(log, A, 1, 2)
    log.finish(A, 3)

    assert add(log, B, 1)[0] == (EPOCH_B, 0, False)


def test_the_end_of_one_of_several_sources_is_a_gap_of_its_own() -> None:
    log = make_log()
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


def test_the_end_of_an_only_source_is_a_gap_when_another_one_goes_on() -> None:
    log = make_log()
    add(log, A, 1)
    add(log, B, 1)
    log.end(B, now_ns=0)
    log.end(A, now_ns=0)
    log.has_ended = lambda _incarnation: True

    assert add(log, B, 2) == [(EPOCH_A, 1, False), (EPOCH_B, 2, True)]


def test_an_only_source_that_was_silent_for_a_while_has_not_ended_when_another_one_goes_on() -> None:
    log = make_log()
    add(log, A, 1)
    add(log, B, 1)
    log.end(B, now_ns=0)
    log.end(A, now_ns=0)

    assert add(log, B, 2) == [(EPOCH_B, 2, True)]


def test_the_gateway_numbers_if_javascript_cannot_represent_a_number() -> None:
    assert add(make_log(), A, OFFSET_MAX + 1) == [("own", 1, True)]


def test_the_gateway_numbers_a_publisher_that_uses_its_numbers_twice() -> None:
    log = make_log()
    add(log, A, 1, 2)

    assert add(log, A, 1, 2, 3) == [(EPOCH_A, 2, False), ("own", 1, True), ("own", 2, True), ("own", 3, True)]


def test_a_loss_belongs_to_the_source_that_lost_it() -> None:
    log = make_log()
    add(log, B, 1)
    hole = MissingRange(1, 4, "bus_loss")
    gap = log.append(Event("robots", b'"data":1', 0, 0, A, 5, (hole,)))[0]

    assert {"epoch": EPOCH_A, "from": 1, "to": 4, "count": 4}.items() <= json.loads(gap.json).items()


def test_more_sources_than_are_remembered_evict_the_oldest_entries() -> None:
    log = make_log()
    for number in range(2 * SOURCES_MAX):
        add(log, 0x100 + number, 1)

    assert len(log) <= SOURCES_MAX
    assert len(log.position.offsets) == SOURCES_MAX


def test_an_event_of_several_sources_takes_at_most_30_bytes_more() -> None:
    one, many = make_log(), make_log()
    add(one, A, 1, 2)
    add(many, B, 1)
    add(many, A, 1, 2)
    (*_, alone), (*_, mixed) = one.held(one.start), many.held(many.start)

    assert 0 < len(mixed.frame) - len(alone.frame) <= 30


@given(
    st.lists(st.tuples(st.sampled_from([None, A, B, C]), st.integers(1, 3), st.booleans()), max_size=40),
    st.integers(1, 10),
    st.booleans(),
)
def test_ordinals_ascend_and_positions_are_never_reused(
    steps: list[tuple[int | None, int, bool]], events_max: int, living: bool
) -> None:
    log = make_log(events_max=events_max, living=living)
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


def test_two_gateways_on_one_bus_give_the_same_positions() -> None:
    """They have other ids of their own sources, start at different times, and one has a loss."""
    one, other = make_hub(epoch="one"), make_hub(epoch="other")
    for sequence in range(1, 20):
        frames = [b"robots", b"1", Envelope(7, sequence, 0).pack()]
        one.tick([frames], now_ns=0)
        if sequence % 5:
            other.tick([frames], now_ns=0)

    assert one.logs.by_name["robots"].position == other.logs.by_name["robots"].position
