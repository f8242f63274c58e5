"""Publishers' numbers: each hole is reported once, no message is released twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ingest.recovery import Recovery
from gateway.core.ingest.starts import STARTUP_NS
from gateway.core.ingest.streams import LOST_RANGES_MAX, UNREPORTED_MAX, Streams
from gateway.core.protocol.envelope import Envelope


def make(*, started_ns: int = -STARTUP_NS) -> Recovery:
    return Recovery(streams=Streams(streams_max=10), started_ns=started_ns, history=lambda _topic: 100)


def receive(recovery: Recovery, sequence: int, *, topic: str = "a", incarnation: int = 1) -> int | None:
    """Return how many messages are lost before this one; None if it is dropped."""
    recovery.tick += 1
    stream = recovery.receive(Envelope(incarnation, sequence, 0), topic, b"", now_ns=0)
    if stream is None:
        return None
    return sum(hole.last - hole.first + 1 for hole in stream.take_unreported())


def test_numbers_in_order_lose_nothing() -> None:
    recovery = make()

    assert [receive(recovery, n) for n in (1, 2, 3)] == [0, 0, 0]
    assert recovery.streams.lost == recovery.streams.duplicates == recovery.streams.late == 0


def test_a_hole_is_counted_at_the_message_that_shows_it() -> None:
    recovery = make()

    assert [receive(recovery, n) for n in (1, 4, 5, 9)] == [0, 2, 0, 3]
    assert recovery.streams.lost == 5


def test_a_stream_that_may_be_older_than_the_gateway_has_no_known_loss() -> None:
    recovery = make(started_ns=0)

    assert receive(recovery, 44) == 0
    assert receive(recovery, 3, incarnation=2) == 2, "a restart of a known publisher is not older"


def test_a_stream_that_was_forgotten_has_no_known_loss() -> None:
    recovery = make()
    for sequence in range(1, 501):
        receive(recovery, sequence)
    for incarnation in range(100, 110):
        receive(recovery, 1, topic="flood", incarnation=incarnation)

    assert receive(recovery, 501) == 0
    assert recovery.streams.lost == 0


def test_a_later_stream_whose_first_messages_are_missing_has_lost_them() -> None:
    assert receive(make(), 44) == 43


def test_a_restart_is_a_new_stream() -> None:
    recovery = make()
    receive(recovery, 100, incarnation=1)

    assert receive(recovery, 1, incarnation=2) == 0
    assert recovery.streams.started == 2


def test_topics_are_numbered_separately() -> None:
    recovery = make()

    assert [receive(recovery, 1, topic=topic) for topic in "abc"] == [0, 0, 0]


def test_duplicates_and_late_messages_are_dropped() -> None:
    recovery = make()
    for sequence in (1, 5):
        receive(recovery, sequence)

    assert [receive(recovery, n) for n in (5, 1, 3, 3)] == [None] * 4
    assert (recovery.streams.late, recovery.streams.duplicates) == (1, 3)


@given(st.lists(st.integers(1, 60), max_size=120))
def test_every_number_up_to_the_newest_is_delivered_or_reported_once(arrivals: list[int]) -> None:
    """In whatever order messages arrive."""
    recovery = make()
    delivered: list[int] = []
    reported: list[int] = []
    for sequence in arrivals:
        missing = receive(recovery, sequence)
        if missing is not None:
            reported += range(sequence - missing, sequence)
            delivered.append(sequence)

    assert sorted(delivered + reported) == list(range(1, max(arrivals, default=0) + 1))
    assert delivered == sorted(delivered)
    assert recovery.streams.lost == len(reported)
    dropped = recovery.streams.duplicates + recovery.streams.late
    assert len(delivered) + dropped == len(arrivals)


def test_streams_and_lost_ranges_are_limited() -> None:
    recovery = make()
    for incarnation in range(100):
        receive(recovery, 1, incarnation=incarnation)
    for sequence in range(3, 1000, 2):
        recovery.receive(Envelope(99, sequence, 0), "a", b"", now_ns=0)

    assert len(recovery.streams) == 10
    stream = list(recovery.streams)[-1]
    assert len(stream.lost_ranges) == LOST_RANGES_MAX
    assert len(stream.unreported) <= UNREPORTED_MAX
    assert stream.lost == 499
