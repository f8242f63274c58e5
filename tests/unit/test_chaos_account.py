"""The account of the chaos test of a cluster finds what is planted, and takes no excuse for what gateways could have had."""

from __future__ import annotations

import pytest

from tests.chaos.cluster.account import FAILED_SECONDS, Messages, Plain, Sent, Source, is_near


def lacks(one: Source, newest: int, *, held: int) -> tuple[int, int]:
    """How many numbers are reported, and how many are neither delivered nor reported."""
    found = one.lacks(newest, held=held)
    return found.reported, len(found.unaccounted)


def source(*numbers: int, last: int = 0) -> Source:
    """The account of a client that began behind `last`, and got these."""
    found = Source(last)
    for number in numbers:
        found.deliver(number)
    return found


def test_what_came_in_order_is_complete() -> None:
    assert (0, 0) == lacks(source(1, 2, 3), 3, held=3)
    assert (0, 0) == lacks(source(8, 9, last=7), 9, held=9)


@pytest.mark.parametrize("dropped", [1, 2, 3])
def test_an_event_that_is_dropped_is_found(dropped: int) -> None:
    assert (0, 1) == lacks(source(*({1, 2, 3} - {dropped})), 3, held=0)


@pytest.mark.parametrize("number", [1, 3])
def test_an_event_that_comes_twice_or_late_is_found(number: int) -> None:
    one = source(1, 3)
    with pytest.raises(AssertionError):
        one.deliver(number)


def test_a_source_that_a_gateway_leaves_out_is_found() -> None:
    assert (0, 5) == lacks(Source(), 5, held=0)


def test_a_gap_excuses_its_numbers_and_no_others() -> None:
    one = source(1)
    one.report(2, 3)
    one.deliver(5)

    assert (2, 1) == lacks(one, 5, held=0)


def test_a_gap_of_unknown_length_does_not_excuse_what_every_gateway_could_have_had() -> None:
    one = source(1)
    one.report_unknown(4)
    one.deliver(5)

    assert (1, 2) == lacks(one, 5, held=3)


def test_a_gap_of_unknown_length_excuses_what_came_while_the_client_was_away() -> None:
    """What a gateway knows that another one does not is not due to who asked neither."""
    one = source(1)
    one.report_unknown(4, due=2)

    assert (2, 1) == lacks(one, 4, held=4)


def test_what_is_named_although_a_publisher_has_it_is_counted() -> None:
    one = source(1)
    one.report(2, 4)

    assert (3, 0) == lacks(one, 4, held=3)
    assert 2 == one.lacks(4, held=3).reported_though_held


def test_the_end_of_a_source_excuses_what_follows_as_long_as_nothing_comes() -> None:
    """What a publisher sends after its end was reported, and none of which arrives, nothing shows."""
    one = source(1, 2)
    one.report_unknown(4)

    assert (3, 0) == lacks(one, 5, held=0)
    assert (2, 1) == lacks(one, 5, held=3)


def test_the_end_of_a_source_excuses_only_what_was_published_until_then_if_it_goes_on() -> None:
    one = source(1, 2)
    one.report_unknown(4)
    one.deliver(6)

    assert (2, 1) == lacks(one, 6, held=0)


SENT = Sent(7, began=100.0, answered=100.5, attempts=1, epoch="e1", offset=3)


def test_a_message_that_was_acknowledged_and_did_not_come_is_found() -> None:
    assert (0, [SENT]) == Messages().lacks([SENT], engine_failed=[], new_sessions=[])


def test_a_message_comes_once_in_an_epoch() -> None:
    one = Messages()
    one.deliver(7, "e1")
    one.deliver(7, "e2")
    with pytest.raises(AssertionError):
        one.deliver(7, "e1")

    assert (0, []) == one.lacks([SENT], engine_failed=[], new_sessions=[])
    assert [7] == one.again


@pytest.mark.parametrize(
    ("failed", "gap", "excused"),
    [
        (101.0, (102.0, "e1"), True),
        (101.0, (102.0, "e2"), True),
        (99.0, (99.5, "e1"), True),
        (99.0, (99.5, "e2"), False),
        (101.0, None, False),
        (100.5 + 2 * FAILED_SECONDS, (200.0, "e1"), False),
        (None, (102.0, "e1"), False),
    ],
)
def test_a_message_is_excused_if_its_engine_failed_and_that_was_reported(
    failed: float | None, gap: tuple[float, str] | None, excused: bool
) -> None:
    one = Messages()
    one.epoch_gaps += [] if gap is None else [gap]
    found, left = one.lacks([SENT], engine_failed=[] if failed is None else [failed], new_sessions=[])

    assert excused == (found == 1) == (left == [])


def plain(*numbers: int) -> Plain:
    """The account of a client that began behind number 10 of a publisher without envelopes, and got these."""
    found = Plain()
    found.begin(10)
    for number in numbers:
        found.deliver(number, "e1")
    return found


def test_a_message_without_an_envelope_that_is_passed_over_without_a_gap_is_found() -> None:
    assert ([], []) == plain(11, 12).lacks(12)
    assert ([], [11]) == plain(12).lacks(12)
    assert ([], [13]) == plain(11, 12).lacks(13)


def test_a_gap_excuses_what_is_passed_over_next_and_nothing_later() -> None:
    one = plain(11)
    one.report()
    for number in (14, 16):
        one.deliver(number, "e2")

    assert ([12, 13], [15]) == one.lacks(16)


def test_a_gap_at_the_end_excuses_nothing() -> None:
    one = plain(11)
    one.report()

    assert ([], [12]) == one.lacks(12)


def test_a_message_without_an_envelope_comes_again_of_another_source_only() -> None:
    one = plain(11)
    one.deliver(11, "e2")
    with pytest.raises(AssertionError):
        one.deliver(11, "e2")

    assert [11] == one.again


def test_another_source_fills_what_was_passed_over() -> None:
    one = plain(11, 13)
    one.deliver(12, "e2")

    assert ([], []) == one.lacks(13)


def test_a_change_counts_for_what_was_published_near_it() -> None:
    assert is_near(100.0, [100.0 + FAILED_SECONDS / 2])
    assert not is_near(100.0, [100.0 + 2 * FAILED_SECONDS])
    assert not is_near(100.0, [])
