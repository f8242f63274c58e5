"""Publishers' numbers: every hole is named once, nothing goes through twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.envelope import Envelope
from gateway.core.sequences import HOLES_MAX, JOIN_NS, Sequences


def note(
    sequences: Sequences, sequence: int, *, topic: str = "a", incarnation: int = 1
) -> int | None:
    return sequences.note(Envelope(incarnation, sequence, 0), topic, now_ns=0)


def test_numbers_in_order_lose_nothing() -> None:
    sequences = Sequences(streams_max=10, started_ns=-JOIN_NS)

    assert [note(sequences, n) for n in (1, 2, 3)] == [0, 0, 0]
    assert (sequences.lost, sequences.duplicates, sequences.late) == (0, 0, 0)


def test_a_hole_is_counted_at_the_message_that_shows_it() -> None:
    sequences = Sequences(streams_max=10, started_ns=-JOIN_NS)

    assert [note(sequences, n) for n in (1, 4, 5, 9)] == [0, 2, 0, 3]
    assert sequences.lost == 5


def test_what_may_be_older_than_the_gateway_has_lost_nothing_that_is_known() -> None:
    sequences = Sequences(streams_max=10, started_ns=0)

    assert note(sequences, 44) == 0
    assert note(sequences, 3, incarnation=2) == 2, "a restart of what was heard is no older"


def test_what_was_forgotten_and_comes_back_has_lost_nothing_that_is_known() -> None:
    sequences = Sequences(streams_max=10, started_ns=-JOIN_NS)
    for sequence in range(1, 501):
        note(sequences, sequence)
    for incarnation in range(100, 110):
        note(sequences, 1, topic="flood", incarnation=incarnation)

    assert note(sequences, 501) == 0
    assert sequences.lost == 0


def test_a_stream_heard_late_has_lost_its_beginning() -> None:
    assert note(Sequences(streams_max=10, started_ns=-JOIN_NS), 44) == 43


def test_a_restart_is_another_stream_and_begins_anew() -> None:
    sequences = Sequences(streams_max=10, started_ns=-JOIN_NS)
    note(sequences, 100, incarnation=1)

    assert note(sequences, 1, incarnation=2) == 0
    assert sequences.incarnations == 2


def test_topics_are_numbered_apart() -> None:
    sequences = Sequences(streams_max=10, started_ns=-JOIN_NS)

    assert [note(sequences, 1, topic=topic) for topic in "abc"] == [0, 0, 0]


def test_what_was_delivered_or_named_as_lost_goes_no_further() -> None:
    sequences = Sequences(streams_max=10, started_ns=-JOIN_NS)
    for sequence in (1, 5):
        note(sequences, sequence)

    assert [note(sequences, n) for n in (5, 1, 3, 3)] == [None] * 4
    assert (sequences.late, sequences.duplicates) == (1, 3)


@given(st.lists(st.integers(1, 60), max_size=120))
def test_every_number_up_to_the_newest_is_either_delivered_or_named_exactly_once(
    arrivals: list[int],
) -> None:
    """The accounting rule, whatever comes in whatever order."""
    sequences = Sequences(streams_max=10, started_ns=-JOIN_NS)
    delivered: list[int] = []
    named: list[int] = []
    for sequence in arrivals:
        missing = note(sequences, sequence)
        if missing is not None:
            named += range(sequence - missing, sequence)
            delivered.append(sequence)

    assert sorted(delivered + named) == list(range(1, max(arrivals, default=0) + 1))
    assert delivered == sorted(delivered)
    assert sequences.lost == len(named)
    assert len(delivered) + sequences.duplicates + sequences.late == len(arrivals)


def test_the_tables_are_bounded() -> None:
    sequences = Sequences(streams_max=10, started_ns=-JOIN_NS)
    for incarnation in range(100):
        note(sequences, 1, incarnation=incarnation)
    for sequence in range(1, 1000, 2):
        note(sequences, sequence, incarnation=99)

    assert len(sequences.streams) == 10
    assert len(sequences.streams[-1].holes) == HOLES_MAX
    assert sequences.streams[-1].lost == 499
