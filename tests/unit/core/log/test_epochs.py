"""Positions: the publisher's own where a channel has one, and never the same one for two events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.log.epochs import EPOCHS_MAX, OFFSET_MAX, ORIGIN, OWN, Cursor
from gateway.core.log.log import ChannelLog, Retention
from gateway.core.protocol.events import Event, MissingRange
from gateway.core.protocol.messages import Position
from tests.support.core import make_hub


A, B = 0xA, 0xB
EPOCH_A, EPOCH_B = f"{A:016x}", f"{B:016x}"


def make(*, events_max: int = 1000) -> ChannelLog:
    return ChannelLog("robots", epoch="own", retention=Retention(events_max=events_max))


def add(
    log: ChannelLog,
    incarnation: int | None,
    *sequences: int,
    missing: tuple[MissingRange, ...] = (),
) -> list[tuple[str, int, bool]]:
    """Append events; the epoch and offset of each new entry, and whether it is an event."""
    told = []
    for sequence in sequences:
        event = Event("robots", b'"data":1', 0, 0, incarnation, sequence, missing)
        for entry in log.append(event):
            position = log.epochs.position(entry.at)
            told.append((position.epoch, position.offset, entry.is_event))
    return told


def test_a_publishers_numbers_are_taken_over() -> None:
    log = make()

    assert add(log, A, 5, 6, 9) == [(EPOCH_A, 5, True), (EPOCH_A, 6, True), (EPOCH_A, 9, True)]
    assert log.start == ORIGIN, "before everything that this gateway has heard"


def test_events_without_numbers_are_numbered_by_the_gateway() -> None:
    assert add(make(), None, 0, 0) == [("own", 1, True), ("own", 2, True)]


def test_a_restart_is_a_new_epoch_behind_a_gap() -> None:
    log = make()
    add(log, A, 1, 2)

    assert add(log, B, 1, 2) == [(EPOCH_B, 0, False), (EPOCH_B, 1, True), (EPOCH_B, 2, True)]


def test_after_a_complete_farewell_there_is_no_gap() -> None:
    log = make()
    add(log, A, 1, 2)
    log.finish(A, 2)

    assert add(log, B, 1) == [(EPOCH_B, 1, True)]


def test_a_farewell_that_is_not_complete_is_none() -> None:
    log = make()
    add(log, A, 1, 2)
    log.finish(A, 3)

    assert add(log, B, 1)[0] == (EPOCH_B, 0, False)


def test_of_two_publishers_at_once_the_gateway_makes_one_order_for_good() -> None:
    log = make()
    add(log, A, 1)
    add(log, B, 1)

    assert add(log, A, 2) == [("own", 1, True)]
    assert add(log, B, 2) == [("own", 2, True)]


def test_an_event_of_the_gateways_own_takes_the_numbering_over() -> None:
    log = make()
    add(log, A, 1, 2)

    assert add(log, None, 0) == [("own", 1, True)]
    assert add(log, A, 3) == [("own", 2, True)]


def test_a_number_that_javascript_cannot_hold_is_not_taken_over() -> None:
    assert add(make(), A, OFFSET_MAX + 1) == [("own", 1, True)]


def test_a_hole_is_an_entry_and_in_an_own_epoch_takes_one_offset() -> None:
    hole = MissingRange(3, 7, "bus_loss")
    derived, own = make(), make()
    add(derived, A, 1, 2)
    add(own, None, 0)

    assert add(derived, A, 8, missing=(hole,)) == [(EPOCH_A, 7, False), (EPOCH_A, 8, True)]
    assert add(own, A, 8, missing=(hole,)) == [("own", 2, False), ("own", 3, True)]


def test_positions_of_every_life_lead_back_to_their_place() -> None:
    log = make()
    places = [log.newest]
    for incarnation, sequence in ((A, 4), (A, 5), (B, 1), (B, 2)):
        add(log, incarnation, sequence)
        places.append(log.newest)

    for place in places:
        position = log.epochs.position(place)
        assert log.epochs.cursor(position, ahead_max=0) == place


def test_once_the_gateway_numbers_a_publishers_position_says_too_little() -> None:
    log = make()
    add(log, A, 4)
    position = log.position
    add(log, None, 0)

    assert log.epochs.cursor(position, ahead_max=0) is None
    assert log.epochs.cursor(log.position, ahead_max=0) == log.newest


def test_a_position_of_no_life_is_refused() -> None:
    log = make()
    add(log, A, 4, 5)
    find = log.epochs.cursor

    assert find(Position("feed", 4), ahead_max=100) is None
    assert find(Position("own", 1), ahead_max=100) is None, "it never numbered anything here"
    assert find(Position(EPOCH_A, 6), ahead_max=0) is None


def test_a_position_from_a_gateway_that_heard_more_is_waited_for() -> None:
    log = make()
    add(log, A, 4, 5)
    ahead = log.epochs.cursor(Position(EPOCH_A, 8), ahead_max=10)
    assert ahead is not None
    add(log, A, 6, 7, 8, 9)

    assert [entry.at.offset for entry in log.read(ahead, bytes_max=1 << 20)] == [9]
    assert log.epochs.cursor(Position(EPOCH_A, 20), ahead_max=10) is None


def test_the_tail_of_a_life_that_only_another_gateway_heard_is_behind() -> None:
    log = make()
    add(log, A, 1, 2)
    add(log, B, 1)
    place = log.epochs.cursor(Position(EPOCH_A, 7), ahead_max=0)
    assert place is not None

    assert [entry.at.offset for entry in log.read(place, bytes_max=1 << 20)] == [0, 1]


def missing(log: ChannelLog, after: Cursor) -> tuple[str, int | None, int | None]:
    gap = log.missing(after)
    assert gap is not None
    return gap.epoch, gap.from_, gap.to


def test_what_is_missing_is_named_by_offset_within_an_epoch_and_openly_across_epochs() -> None:
    log = make(events_max=2)
    add(log, A, *range(1, 6))
    seen = log.newest
    assert missing(log, ORIGIN) == (EPOCH_A, None, 3)
    add(log, B, *range(1, 6))

    assert missing(log, seen) == (EPOCH_B, None, 3)
    assert missing(log, log.epochs.cursor(Position(EPOCH_B, 1), ahead_max=0) or ORIGIN) == (
        EPOCH_B,
        2,
        3,
    )


def test_before_what_a_gateway_ever_heard_there_is_a_gap() -> None:
    log = make()
    add(log, A, 100, 101)
    place = log.epochs.cursor(Position(EPOCH_A, 50), ahead_max=0)
    assert place is not None

    assert missing(log, place) == (EPOCH_A, 51, 99)


def test_lives_are_bounded_and_a_position_of_a_forgotten_one_is_refused() -> None:
    log = make()
    for incarnation in range(1, 3 * EPOCHS_MAX):
        add(log, incarnation, 1)

    assert len(log.epochs._epochs) == EPOCHS_MAX
    assert log.epochs.cursor(Position(f"{1:016x}", 1), ahead_max=0) is None
    assert log.epochs.position(ORIGIN).epoch == "_"


@given(
    st.lists(
        st.tuples(st.sampled_from([None, A, B, 0xC]), st.integers(1, 3), st.booleans()), max_size=40
    ),
    st.integers(1, 10),
)
def test_whoever_publishes_places_only_grow_and_positions_are_never_reused(
    steps: list[tuple[int | None, int, bool]], events_max: int
) -> None:
    log = make(events_max=events_max)
    next_sequence: dict[int, int] = {}
    seen: set[tuple[str, int]] = set()
    last = ORIGIN
    for incarnation, skip, lossy in steps:
        sequence = 0
        missing: tuple[MissingRange, ...] = ()
        if incarnation is not None:
            first = next_sequence.get(incarnation, 1)
            sequence = first + (skip if lossy else 0)
            missing = (MissingRange(first, sequence - 1, "bus_loss"),) if lossy else ()
            next_sequence[incarnation] = sequence + 1
        for entry in log.append(Event("robots", b'"data":1', 0, 0, incarnation, sequence, missing)):
            position = log.epochs.position(entry.at)
            assert entry.before < entry.at
            assert last <= entry.before
            assert (position.epoch, position.offset) not in seen
            found = log.epochs.cursor(position, ahead_max=0)
            assert found in {entry.at, None}
            assert found is not None or log.epochs.source == OWN
            seen.add((position.epoch, position.offset))
            last = entry.at


def test_two_gateways_on_one_bus_hand_out_the_same_positions() -> None:
    """With epochs of their own, at different times, and one of them with a loss."""
    from gateway.core.protocol.envelope import Envelope

    one, other = make_hub(epoch="one"), make_hub(epoch="other")
    for sequence in range(1, 20):
        frames = [b"robots", b"1", Envelope(7, sequence, 0).pack()]
        one.tick([frames], now_ns=0)
        if sequence % 5:
            other.tick([frames], now_ns=0)

    assert one.logs.by_name["robots"].position == other.logs.by_name["robots"].position
