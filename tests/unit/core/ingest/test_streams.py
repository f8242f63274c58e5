"""Publishers' numbers: every hole is named once, nothing goes through twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ingest.recovery import STARTUP_NS, Recovery
from gateway.core.ingest.streams import LOST_RANGES_MAX, UNREPORTED_MAX, Streams
from gateway.core.protocol.envelope import Envelope


def make(*, started_ns: int = -STARTUP_NS) -> Recovery:
    return Recovery(
        streams=Streams(streams_max=10), started_ns=started_ns, history=lambda _topic: 100
    )


def note(
    recovery: Recovery, sequence: int, *, topic: str = "a", incarnation: int = 1
) -> int | None:
    """Take a message; how many were lost right before it, or None if it goes no further."""
    stream = recovery.receive(Envelope(incarnation, sequence, 0), topic, b"", now_ns=0)
    if stream is None:
        return None
    return sum(hole.last - hole.first + 1 for hole in stream.take_unreported())


def test_numbers_in_order_lose_nothing() -> None:
    recovery = make()

    assert [note(recovery, n) for n in (1, 2, 3)] == [0, 0, 0]
    assert recovery.streams.lost == recovery.streams.duplicates == recovery.streams.late == 0


def test_a_hole_is_counted_at_the_message_that_shows_it() -> None:
    recovery = make()

    assert [note(recovery, n) for n in (1, 4, 5, 9)] == [0, 2, 0, 3]
    assert recovery.streams.lost == 5


def test_what_may_be_older_than_the_gateway_has_lost_nothing_that_is_known() -> None:
    recovery = make(started_ns=0)

    assert note(recovery, 44) == 0
    assert note(recovery, 3, incarnation=2) == 2, "a restart of what was heard is no older"


def test_what_was_forgotten_and_comes_back_has_lost_nothing_that_is_known() -> None:
    recovery = make()
    for sequence in range(1, 501):
        note(recovery, sequence)
    for incarnation in range(100, 110):
        note(recovery, 1, topic="flood", incarnation=incarnation)

    assert note(recovery, 501) == 0
    assert recovery.streams.lost == 0


def test_a_stream_heard_late_has_lost_its_beginning() -> None:
    assert note(make(), 44) == 43


def test_a_restart_is_another_stream_and_begins_anew() -> None:
    recovery = make()
    note(recovery, 100, incarnation=1)

    assert note(recovery, 1, incarnation=2) == 0
    assert recovery.streams.started == 2


def test_topics_are_numbered_apart() -> None:
    recovery = make()

    assert [note(recovery, 1, topic=topic) for topic in "abc"] == [0, 0, 0]


def test_what_was_delivered_or_named_as_lost_goes_no_further() -> None:
    recovery = make()
    for sequence in (1, 5):
        note(recovery, sequence)

    assert [note(recovery, n) for n in (5, 1, 3, 3)] == [None] * 4
    assert (recovery.streams.late, recovery.streams.duplicates) == (1, 3)


@given(st.lists(st.integers(1, 60), max_size=120))
def test_every_number_up_to_the_newest_is_either_delivered_or_named_exactly_once(
    arrivals: list[int],
) -> None:
    """The accounting rule, whatever comes in whatever order."""
    recovery = make()
    delivered: list[int] = []
    named: list[int] = []
    for sequence in arrivals:
        missing = note(recovery, sequence)
        if missing is not None:
            named += range(sequence - missing, sequence)
            delivered.append(sequence)

    assert sorted(delivered + named) == list(range(1, max(arrivals, default=0) + 1))
    assert delivered == sorted(delivered)
    assert recovery.streams.lost == len(named)
    rest = recovery.streams.duplicates + recovery.streams.late
    assert len(delivered) + rest == len(arrivals)


def test_the_tables_are_bounded() -> None:
    recovery = make()
    for incarnation in range(100):
        note(recovery, 1, incarnation=incarnation)
    for sequence in range(3, 1000, 2):
        recovery.receive(Envelope(99, sequence, 0), "a", b"", now_ns=0)

    assert len(recovery.streams) == 10
    stream = list(recovery.streams)[-1]
    assert len(stream.lost_ranges) == LOST_RANGES_MAX
    assert len(stream.unreported) <= UNREPORTED_MAX
    assert stream.lost == 499
