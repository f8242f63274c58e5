"""Positions: from the publisher if there is only one; none ever stands for two events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.log.sources import EPOCHS_MAX, OFFSET_MAX, ORIGIN, OWN, Cursor
from gateway.core.log.log import ChannelLog, Retention
from gateway.core.protocol.events import Event, MissingRange
from gateway.core.protocol.messages import Position
from tests.support.core import make_hub


A, B = 0xA, 0xB
EPOCH_A, EPOCH_B = f"{A:016x}", f"{B:016x}"


def make(*, events_max: int = 1000) -> ChannelLog:
    return ChannelLog("robots", epoch="own", retention=Retention(events_max=events_max))


def add(
    log: ChannelLog, incarnation: int | None, *sequences: int, missing: tuple[MissingRange, ...] = ()
) -> list[tuple[str, int, bool]]:
    """Append events; return each new entry's epoch and offset, and whether it is an event."""
    added = []
    for sequence in sequences:
        event = Event("robots", b'"data":1', 0, 0, incarnation, sequence, missing)
        for entry in log.append(event):
            position = log.epochs.position(entry.at)
            added.append((position.epoch, position.offset, entry.is_event))
    return added


def test_a_publishers_numbers_become_the_offsets() -> None:
    log = make()

    assert add(log, A, 5, 6, 9) == [(EPOCH_A, 5, True), (EPOCH_A, 6, True), (EPOCH_A, 9, True)]
    assert log.start == ORIGIN, "before everything that this gateway has received"


def test_events_without_numbers_are_numbered_by_the_gateway() -> None:
    assert add(make(), None, 0, 0) == [("own", 1, True), ("own", 2, True)]


def test_a_restart_is_a_new_epoch_behind_a_gap() -> None:
    log = make()
    add(log, A, 1, 2)

    assert add(log, B, 1, 2) == [(EPOCH_B, 0, False), (EPOCH_B, 1, True), (EPOCH_B, 2, True)]


def test_no_gap_precedes_a_restart_if_the_last_message_arrived() -> None:
    log = make()
    add(log, A, 1, 2)
    log.finish(A, 2)

    assert add(log, B, 1) == [(EPOCH_B, 1, True)]


def test_a_gap_precedes_a_restart_if_the_last_message_is_missing() -> None:
    log = make()
    add(log, A, 1, 2)
    log.finish(A, 3)

    assert add(log, B, 1)[0] == (EPOCH_B, 0, False)


def test_the_gateway_numbers_the_events_of_two_publishers() -> None:
    log = make()
    add(log, A, 1)
    add(log, B, 1)

    assert add(log, A, 2) == [("own", 1, True)]
    assert add(log, B, 2) == [("own", 2, True)]


def test_after_an_event_without_a_number_the_gateway_numbers() -> None:
    log = make()
    add(log, A, 1, 2)

    assert add(log, None, 0) == [("own", 1, True)]
    assert add(log, A, 3) == [("own", 2, True)]


def test_the_gateway_numbers_if_javascript_cannot_represent_a_number() -> None:
    assert add(make(), A, OFFSET_MAX + 1) == [("own", 1, True)]


def test_a_gap_is_an_entry_and_takes_one_offset_where_the_gateway_numbers() -> None:
    hole = MissingRange(3, 7, "bus_loss")
    derived, own = make(), make()
    add(derived, A, 1, 2)
    add(own, None, 0)

    assert add(derived, A, 8, missing=(hole,)) == [(EPOCH_A, 7, False), (EPOCH_A, 8, True)]
    assert add(own, A, 8, missing=(hole,)) == [("own", 2, False), ("own", 3, True)]


def test_positions_of_all_epochs_lead_back_to_their_places() -> None:
    log = make()
    places = [log.newest]
    for incarnation, sequence in ((A, 4), (A, 5), (B, 1), (B, 2)):
        add(log, incarnation, sequence)
        places.append(log.newest)

    for place in places:
        position = log.epochs.position(place)
        assert log.epochs.cursor(position, ahead_max=0) == place


def test_a_publishers_position_is_refused_once_the_gateway_numbers() -> None:
    log = make()
    add(log, A, 4)
    position = log.position
    add(log, None, 0)

    assert log.epochs.cursor(position, ahead_max=0) is None
    assert log.epochs.cursor(log.position, ahead_max=0) == log.newest


def test_a_position_of_an_unknown_epoch_is_refused() -> None:
    log = make()
    add(log, A, 4, 5)
    find = log.epochs.cursor

    assert find(Position("feed", 4), ahead_max=100) is None
    assert find(Position("own", 1), ahead_max=100) is None, "it never numbered anything here"
    assert find(Position(EPOCH_A, 6), ahead_max=0) is None


def test_a_position_ahead_of_this_gateway_gets_what_follows_it() -> None:
    log = make()
    add(log, A, 4, 5)
    ahead = log.epochs.cursor(Position(EPOCH_A, 8), ahead_max=10)
    assert ahead is not None
    add(log, A, 6, 7, 8, 9)

    assert [entry.at.offset for entry in log.read(ahead, bytes_max=1 << 20)] == [9]
    assert log.epochs.cursor(Position(EPOCH_A, 20), ahead_max=10) is None


def test_a_position_beyond_the_end_of_an_epoch_is_before_the_next_one() -> None:
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


def test_a_gap_has_a_first_offset_only_within_one_epoch() -> None:
    log = make(events_max=2)
    add(log, A, *range(1, 6))
    seen = log.newest
    assert missing(log, ORIGIN) == (EPOCH_A, None, 3)
    add(log, B, *range(1, 6))

    assert missing(log, seen) == (EPOCH_B, None, 3)
    assert missing(log, log.epochs.cursor(Position(EPOCH_B, 1), ahead_max=0) or ORIGIN) == (EPOCH_B, 2, 3)


def test_everything_before_a_gateways_first_event_is_a_gap() -> None:
    log = make()
    add(log, A, 100, 101)
    place = log.epochs.cursor(Position(EPOCH_A, 50), ahead_max=0)
    assert place is not None

    assert missing(log, place) == (EPOCH_A, 51, 99)


def test_epochs_are_limited_and_positions_of_forgotten_ones_are_refused() -> None:
    log = make()
    for incarnation in range(1, 3 * EPOCHS_MAX):
        add(log, incarnation, 1)

    assert len(log.epochs._epochs) == EPOCHS_MAX
    assert log.epochs.cursor(Position(f"{1:016x}", 1), ahead_max=0) is None
    assert log.epochs.position(ORIGIN).epoch == "_"


@given(
    st.lists(st.tuples(st.sampled_from([None, A, B, 0xC]), st.integers(1, 3), st.booleans()), max_size=40),
    st.integers(1, 10),
)
def test_places_ascend_and_positions_are_never_reused(
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


def test_two_gateways_on_one_bus_give_the_same_positions() -> None:
    """They have other ids of their own epochs, start at different times, and one has a loss."""
    from gateway.core.protocol.envelope import Envelope

    one, other = make_hub(epoch="one"), make_hub(epoch="other")
    for sequence in range(1, 20):
        frames = [b"robots", b"1", Envelope(7, sequence, 0).pack()]
        one.tick([frames], now_ns=0)
        if sequence % 5:
            other.tick([frames], now_ns=0)

    assert one.logs.by_name["robots"].position == other.logs.by_name["robots"].position
