"""Publishers' own numbers show what is missing, and when a publisher started again."""

from __future__ import annotations

import itertools
import struct

import pytest

from gateway.core.sources.errors import Unreadable
from gateway.core.sources.sequence import STEP_MAX, TOPICS_MAX, Numbering
from gateway.core.sources.spec import Spec


FORMATS = {"be32": ">I", "be64": ">Q", "le32": "<I", "le64": "<Q"}

Place = tuple[int, int]
"""Incarnation and number."""


class Numbers:
    """A publisher's numbering; its incarnations are 1, 2, 3, …"""

    def __init__(self, sequence: str = "be64", **settings: object) -> None:
        incarnations = itertools.count(1)
        spec = Spec(sequence=sequence, **settings)  # type: ignore[arg-type]  # settings of any kind
        self._numbering = Numbering(spec, new_incarnation=lambda: next(incarnations))
        self._format = FORMATS[sequence]

    def take(self, number: int, topic: bytes = b"t", channel: str = "") -> Place:
        frame = struct.pack(self._format, number)
        envelope = self._numbering.envelope(channel or topic.decode(), topic, frame)
        return envelope.incarnation, envelope.sequence


@pytest.mark.parametrize("sequence", FORMATS)
def test_numbers_in_order_have_no_hole(sequence: str) -> None:
    numbers = Numbers(sequence)

    assert [(1, 1), (1, 2), (1, 3)] == [numbers.take(number) for number in (255, 256, 257)]


def test_a_hole_stays_a_hole() -> None:
    numbers = Numbers()

    assert [(1, 1), (1, 5)] == [numbers.take(number) for number in (10, 14)]


def test_each_topic_has_its_own_numbers() -> None:
    numbers = Numbers()

    assert [(1, 1), (2, 1), (1, 2)] == [numbers.take(3, b"a"), numbers.take(8, b"b"), numbers.take(4, b"a")]


def test_with_one_count_for_all_topics_a_hole_is_before_the_next_message_of_any() -> None:
    numbers = Numbers(sequence_scope="publisher")

    assert [(1, 1), (1, 1), (1, 4)] == [numbers.take(0, b"a"), numbers.take(1, b"b"), numbers.take(4, b"a")]


@pytest.mark.parametrize(("first", "missing"), [(0, 2), (1, 1)])
def test_a_lower_number_is_a_new_start_and_what_comes_before_it_is_missing(first: int, missing: int) -> None:
    numbers = Numbers(sequence_first=first)
    numbers.take(10)

    assert (2, missing + 1) == numbers.take(2)
    assert (2, missing + 2) == numbers.take(3)


def test_the_same_number_again_is_a_new_start() -> None:
    numbers = Numbers()

    assert [(1, 1), (2, 1)] == [numbers.take(0), numbers.take(0)]


def test_with_one_count_for_all_topics_a_new_start_is_one_of_all() -> None:
    numbers = Numbers(sequence_scope="publisher")
    numbers.take(0, b"a")
    numbers.take(1, b"b")

    assert [(2, 1), (2, 1)] == [numbers.take(0, b"a"), numbers.take(1, b"b")]


def test_32_bits_overflow_without_a_hole() -> None:
    numbers = Numbers("le32")

    assert [(1, 1), (1, 2)] == [numbers.take(2**32 - 1), numbers.take(0)]


def test_a_number_far_ahead_is_a_new_start_of_which_nothing_is_known() -> None:
    numbers = Numbers()
    numbers.take(1)

    assert (2, 1) == numbers.take(STEP_MAX + 2)


def test_two_topics_of_one_channel_are_counted_apart() -> None:
    numbers = Numbers()

    assert [(1, 1), (2, 1), (1, 2)] == [numbers.take(n, topic, "c") for n, topic in ((5, b"a"), (9, b"b"), (6, b"a"))]


def test_the_topics_that_are_remembered_have_a_limit() -> None:
    numbers = Numbers()
    for topic in range(TOPICS_MAX):
        numbers.take(0, b"%d" % topic)

    assert (TOPICS_MAX + 1, 1) == numbers.take(0, b"more")
    assert (TOPICS_MAX + 2, 1) == numbers.take(5, b"0"), "it begins anew, without a loss"


@pytest.mark.parametrize("frame", [b"", b"1234567", None])
def test_a_number_of_another_size_is_refused_with_the_settings(frame: bytes | None) -> None:
    numbering = Numbering(Spec(sequence="be64"), new_incarnation=lambda: 1)

    with pytest.raises(Unreadable, match="set `sequence`"):
        numbering.envelope("c", b"t", frame)
