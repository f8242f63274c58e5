"""Replay: what was sent is given again to those who missed it, byte for byte."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from neurograph_publisher import Publisher
from neurograph_publisher.replay import REPLY_BYTES_MAX, REPLY_MESSAGES_MAX, Kept, Store

from .bus import Bus


class Asker:
    """A gateway that asks."""

    def __init__(self, endpoint: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(endpoint)
        self._number = 0

    def ask(self, topic: str, first: int, last: int) -> list[bytes]:
        """The reply, without what is the same in all."""
        self._number += 1
        number = self._number.to_bytes(8, "big")
        self.socket.send_multipart(
            [b"NGR1", number, topic.encode(), struct.pack(">QQ", first, last)]
        )
        magic, answered, _, *pairs = self.read()
        assert (magic, answered) == (b"NGR1", number)
        return pairs

    def sequences(self, topic: str, first: int, last: int) -> list[int]:
        pairs = self.ask(topic, first, last)
        return [struct.unpack(">4sIQQQ", frame)[3] for frame in pairs[1::2]]

    def read(self) -> list[bytes]:
        assert self.socket.poll(10_000), "no reply"
        return self.socket.recv_multipart()

    def close(self) -> None:
        self._context.destroy(linger=0)


@pytest.fixture
def publisher(bus: Bus) -> Iterator[Publisher]:
    with Publisher(connect=bus.endpoint, replay=1000, heartbeat_seconds=0.05) as made:
        bus.await_publisher(made)
        yield made


@pytest.fixture
def asker(bus: Bus, publisher: Publisher) -> Iterator[Asker]:
    made = Asker(bus.beat()["replay"])
    yield made
    made.close()


def test_what_was_sent_is_given_again_byte_for_byte(
    bus: Bus, publisher: Publisher, asker: Asker
) -> None:
    publisher.publish("robots", {"ü": 1})
    frames = bus.socket.recv_multipart()
    while frames[0] == b"$heartbeat":
        frames = bus.socket.recv_multipart()

    assert asker.ask("robots", 1, 1) == frames[1:]
    assert publisher.replayed == 1


def test_a_range_is_given_as_far_as_it_is_kept(publisher: Publisher, asker: Asker) -> None:
    for number in range(1200):
        publisher.publish("robots", number)

    assert asker.sequences("robots", 1100, 1105) == list(range(1100, 1106))
    assert asker.sequences("robots", 190, 203) == [201, 202, 203], "the newest 1,000 are kept"
    assert asker.sequences("robots", 1, 100) == []
    assert asker.sequences("robots", 1199, 2**64 - 1) == [1199, 1200]
    assert asker.sequences("robots", 5, 2) == []
    assert asker.sequences("nobody", 1, 10) == []


def test_a_reply_is_bounded_and_the_rest_is_asked_for_again(
    publisher: Publisher, asker: Asker
) -> None:
    for _ in range(600):
        publisher.publish("robots", 1)
    for _ in range(5):
        publisher.publish("big", "x" * (REPLY_BYTES_MAX // 2))

    assert len(asker.sequences("robots", 1, 600)) == REPLY_MESSAGES_MAX
    assert asker.sequences("big", 1, 5) == [1], "with the quotes two are above the limit"
    publisher.publish("huge", "x" * (2 * REPLY_BYTES_MAX))
    assert asker.sequences("huge", 1, 1) == [1], "one is given, however large"


def test_what_nobody_had_room_for_is_kept_all_the_same() -> None:
    """A subscriber at its high-water mark: the message is dropped, and can be asked for."""
    stalled = Bus(high_water_mark=1)
    with Publisher(
        connect=stalled.endpoint, high_water_mark=1, replay=100_000, heartbeat_seconds=0.05
    ) as publisher:
        stalled.await_publisher(publisher)
        asker = Asker(stalled.beat()["replay"])
        payload = "x" * 1000
        while publisher.publish("robots", payload):
            pass
        lost = publisher.published + publisher.dropped

        assert asker.sequences("robots", lost, lost) == [lost]
        asker.close()
    stalled.close()


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"NGR1"],
        [b"NGR2", bytes(8), b"robots", bytes(16)],
        [b"NGR1", bytes(7), b"robots", bytes(16)],
        [b"NGR1", bytes(8), b"robots", bytes(15)],
        [b"NGR1", bytes(8), b"robots", bytes(16), b""],
        [b"NGR1"] * 100,
    ],
)
def test_what_is_no_request_is_counted_and_harms_nobody(
    publisher: Publisher, asker: Asker, frames: list[bytes]
) -> None:
    publisher.publish("robots", 1)
    asker.socket.send_multipart(frames)

    assert asker.sequences("robots", 1, 1) == [1]
    assert publisher.bad_requests == 1


def test_a_topic_that_is_no_text_is_unknown(publisher: Publisher, asker: Asker) -> None:
    asker.socket.send_multipart([b"NGR1", bytes(8), b"\xff", struct.pack(">QQ", 1, 2)])

    assert len(asker.read()) == 3


def test_two_who_ask_at_once_get_their_own_answers(publisher: Publisher, asker: Asker) -> None:
    for number in range(10):
        publisher.publish("robots", number)
    address = publisher._replay_address
    assert address is not None
    other = Asker(address)
    for one in (asker, other):
        one._number += 100 if one is other else 0
    assert asker.sequences("robots", 1, 3) == [1, 2, 3]
    assert other.sequences("robots", 8, 10) == [8, 9, 10]
    other.close()


def test_an_asker_that_never_reads_costs_a_bounded_memory(
    publisher: Publisher, asker: Asker
) -> None:
    """Replies beyond the ROUTER's mark are dropped and counted; others are served."""
    for _ in range(256):
        publisher.publish("robots", "x" * 4000)
    address = publisher._replay_address
    assert address is not None
    deaf = Asker(address)
    deaf.socket.setsockopt(zmq.RCVHWM, 1)
    for number in range(300):
        request = [b"NGR1", number.to_bytes(8, "big"), b"robots", struct.pack(">QQ", 1, 256)]
        deaf.socket.send_multipart(request)

    assert asker.sequences("robots", 1, 2) == [1, 2]
    deaf.close()


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30)), max_size=100),
    st.integers(1, 10),
    st.integers(1, 300),
)
def test_a_store_keeps_the_newest_within_its_bounds(
    sent: list[tuple[str, int]], messages_max: int, bytes_max: int
) -> None:
    store = Store(messages_max=messages_max, bytes_max=bytes_max)
    numbers = dict.fromkeys("abc", 0)
    for topic, size in sent:
        numbers[topic] += 1
        store.keep(topic, Kept(numbers[topic], b"x" * size, b""))
        held = {name: store.read(name, 1, 1 << 60) for name in "abc"}
        assert store.bytes == sum(len(m.payload) for kept in held.values() for m in kept)
        assert store.bytes <= bytes_max
        for name, kept in held.items():
            found = [message.sequence for message in kept]
            assert len(found) <= messages_max
            assert not found or found == list(range(found[0], numbers[name] + 1))
