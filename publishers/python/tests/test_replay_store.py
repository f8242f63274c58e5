"""The messages kept for replay, compared with a plain list of all messages sent."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st
from neurograph_publisher.replay import Request, Store, parse, reply


PAIRS = 256
MIB = 1024 * 1024
OVERHEAD = 256

SENT = st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), st.integers(0, 2000)), max_size=80)


def sequences(pairs: list[bytes]) -> list[int]:
    """Return the numbers, which the tests write into the envelopes; each payload precedes its envelope."""
    return [int(envelope) for envelope in pairs[1::2]]


def size(kept: list[tuple[int, int]]) -> int:
    return sum(size for _, size in kept)


@given(
    sent=SENT,
    skipped=st.sets(st.integers(1, 80)),
    messages=st.integers(1, 20),
    topic_bytes_max=st.integers(1, 8000),
    bytes_max=st.integers(8000, 20_000),
    topics_max=st.integers(1, 4),
)
def test_the_newest_messages_of_each_topic_are_kept_within_all_limits(
    sent: list[tuple[bytes, int]],
    skipped: set[int],
    messages: int,
    topic_bytes_max: int,
    bytes_max: int,
    topics_max: int,
) -> None:
    """Numbers may be used without a message, as when a signal handler raises."""
    store = Store(messages, topic_bytes_max=topic_bytes_max, bytes_max=bytes_max, topics_max=topics_max)
    newest: dict[bytes, int] = {}
    model: dict[bytes, list[tuple[int, int]]] = {}  # numbers and sizes
    for topic, length in sent:
        number = newest[topic] = newest.get(topic, 0) + 1
        if number in skipped:
            continue
        store.append(topic, number, bytes(length), b"%d" % number)
        kept = [*model.pop(topic, []), (number, length + OVERHEAD)][-messages:]
        while size(kept) > topic_bytes_max:
            kept = kept[1:]
        model[topic] = kept
        while len(model) > topics_max or sum(map(size, model.values())) > bytes_max:
            del model[next(iter(model))]

    assert store.bytes == sum(map(size, model.values()))
    for topic in newest:
        assert sequences(store.read(topic, 0, 2**64 - 1)) == [n for n, _ in model.get(topic, [])]


@given(count=st.integers(1, 600), first=st.integers(0, 700), last=st.integers(0, 700) | st.just(2**64 - 1))
def test_a_range_is_read_from_the_oldest_held_and_up_to_one_reply(count: int, first: int, last: int) -> None:
    store = Store(500)
    for number in range(1, count + 1):
        store.append(b"a", number, b"", b"%d" % number)
    held = list(range(1, count + 1))[-500:]

    assert sequences(store.read(b"a", first, last)) == [n for n in held if first <= n <= last][:PAIRS]


@given(st.lists(st.integers(0, 3 * MIB // 2), min_size=1, max_size=6))
def test_a_reply_holds_a_mebibyte_or_one_message(lengths: list[int]) -> None:
    store = Store(10)
    for number, length in enumerate(lengths, 1):
        store.append(b"a", number, bytes(length), b"%d" % number)
    found = sequences(store.read(b"a", 1, 10))
    total = sum(lengths[: len(found)])

    assert found == list(range(1, len(found) + 1))
    assert len(found) == 1 or total <= MIB
    assert len(found) == len(lengths) or total + lengths[len(found)] > MIB


def test_the_topic_that_was_published_on_least_recently_goes_first() -> None:
    store = Store(10, topics_max=2)
    for number, topic in enumerate([b"a", b"b", b"a", b"c"], 1):
        store.append(topic, number, b"", b"%d" % number)

    assert [sequences(store.read(topic, 1, 9)) for topic in [b"a", b"b", b"c"]] == [[1, 3], [], [4]]


def test_a_message_larger_than_all_bounds_is_not_kept_and_the_next_is() -> None:
    store = Store(10, topic_bytes_max=1000, bytes_max=1000)
    for number, length in enumerate([5, 2000, 5], 1):
        store.append(b"a", number, bytes(length), b"%d" % number)

    assert sequences(store.read(b"a", 1, 9)) == [3]
    assert store.bytes == 5 + OVERHEAD


@given(
    number=st.binary(min_size=8, max_size=8),
    topic=st.binary(max_size=130),
    first=st.integers(0, 2**64 - 1),
    last=st.integers(0, 2**64 - 1),
)
def test_a_request_is_read_as_it_was_written(number: bytes, topic: bytes, first: int, last: int) -> None:
    frames = [b"NGR1", number, topic, struct.pack(">QQ", first, last)]

    assert parse(frames) == Request(number, topic, first, last)


@given(st.lists(st.sampled_from([b"NGR1", b"NGR2", b"", bytes(7), bytes(8), bytes(9), b"a", bytes(16)]), max_size=6))
def test_frames_that_are_not_a_request_are_rejected(frames: list[bytes]) -> None:
    fits = len(frames) == 4 and (frames[0], len(frames[1]), len(frames[3])) == (b"NGR1", 8, 16)

    assert (parse(frames) is not None) == fits


def test_a_reply_repeats_the_number_and_names_the_incarnation() -> None:
    request = Request(b"numbered", b"a", 1, 2)

    assert reply(request, 0x0123456789ABCDEF, [b"p", b"e"]) == [
        b"NGR1",
        b"numbered",
        bytes.fromhex("0123456789abcdef"),
        b"p",
        b"e",
    ]
