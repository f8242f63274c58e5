"""Replay: a gateway that missed messages asks for them, over real sockets."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import zmq
from neurograph_publisher import Publisher, PublisherError

from tests.support.waiting import DEADLINE_SECONDS, eventually, scaled

from .bus import WITHIN_MS, Bus
from .test_interruptions import Interruption, interrupted_by


EVERYTHING = (1, 2**64 - 1)


class Asker:
    """A gateway's side of replay."""

    def __init__(
        self,
        publisher: Publisher,
        *,
        high_water_mark: int = 1000,
        prepare: Callable[[zmq.Socket[bytes]], None] = lambda _: None,
    ) -> None:
        assert publisher.replay_address is not None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.rcvhwm = high_water_mark
        prepare(self.socket)
        self.socket.connect(publisher.replay_address)
        self._incarnation = struct.pack(">Q", publisher.incarnation)
        self._number = 0

    def request(self, topic: str, first: int, last: int) -> bytes:
        """Send a request; returns its number."""
        self._number += 1
        number = struct.pack(">Q", self._number)
        wanted = struct.pack(">QQ", first, last)
        self.socket.send_multipart([b"NGR1", number, topic.encode(), wanted])
        return number

    def reply(self, number: bytes) -> list[bytes]:
        """The pairs of the next reply, which is to be the one to this request."""
        assert self.socket.poll(WITHIN_MS), "no reply"
        magic, answered, incarnation, *pairs = self.socket.recv_multipart()
        assert (magic, answered, incarnation) == (b"NGR1", number, self._incarnation)
        return pairs

    def ask(self, topic: str, first: int, last: int) -> list[bytes]:
        return self.reply(self.request(topic, first, last))

    def numbers(self, topic: str, first: int, last: int) -> list[int]:
        """The sequences of the messages that one reply holds."""
        return [struct.unpack(">4sIQQQ", one)[3] for one in self.ask(topic, first, last)[1::2]]

    def all_numbers(self, topic: str) -> list[int]:
        """The sequences of all that is kept, asked for until there is no more."""
        found: list[int] = []
        while more := self.numbers(topic, found[-1] + 1 if found else 1, 2**64 - 1):
            found += more
        return found

    def close(self) -> None:
        self._context.destroy(linger=0)


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher(
        bind="tcp://127.0.0.1:*",
        payload_bytes_max=4_000_000,  # more than one reply holds
        replay=1000,
        linger_seconds=0.1,
        heartbeat_seconds=3600,
    ) as publisher:
        yield publisher


@pytest.fixture
def asker(publisher: Publisher) -> Iterator[Asker]:
    asker = Asker(publisher)
    yield asker
    asker.close()


def test_what_was_sent_is_sent_again_byte_for_byte(publisher: Publisher, asker: Asker) -> None:
    bus = Bus(connect=publisher.endpoint)
    bus.await_publisher(publisher)
    publisher.publish("robots.r2", {"ü": [1.5, None]})
    publisher.log("info", "started")
    [_, *robot], [_, *log] = bus.event_frames(), bus.event_frames()
    bus.close()

    assert asker.ask("robots.r2", 1, 1) == robot
    assert asker.ask("logs", *EVERYTHING) == log
    assert publisher.replayed == 2


@pytest.mark.usefixtures("only_woken")
def test_what_nobody_was_there_to_receive_is_kept_too(publisher: Publisher, asker: Asker) -> None:
    publisher.publish("a", 1)

    assert asker.numbers("a", 1, 1) == [1]


def test_a_range_is_answered_with_what_is_kept_of_it(publisher: Publisher, asker: Asker) -> None:
    for number in range(1200):
        publisher.publish("a", number)

    assert asker.numbers("a", 1, 200) == []
    assert asker.numbers("a", 190, 203) == [201, 202, 203]
    assert asker.numbers("a", 700, 702) == [700, 701, 702]
    assert asker.numbers("a", 1199, 2**64 - 1) == [1199, 1200]
    assert asker.numbers("a", 1201, 1300) == []
    assert asker.numbers("a", 5, 2) == []
    assert asker.all_numbers("a") == list(range(201, 1201))


@pytest.mark.parametrize("topic", ["unknown", "", "not a topic", "ä"])
def test_a_topic_of_which_nothing_is_known_has_an_empty_answer(publisher: Publisher, asker: Asker, topic: str) -> None:
    publisher.publish("a", 1)

    assert asker.ask(topic, *EVERYTHING) == []


def test_a_reply_is_bounded_by_number_and_by_size(publisher: Publisher, asker: Asker) -> None:
    for number in range(300):
        publisher.publish("many", number)
    for _ in range(5):
        publisher.publish("large", "x" * 400_000)
    publisher.publish("huge", "x" * 2_000_000)

    assert asker.numbers("many", *EVERYTHING) == list(range(1, 257))
    assert asker.numbers("large", *EVERYTHING) == [1, 2]
    assert asker.numbers("huge", *EVERYTHING) == [1]
    assert asker.all_numbers("large") == [1, 2, 3, 4, 5]


def test_messages_dropped_at_the_high_water_mark_can_be_replayed() -> None:
    stalled = Bus(high_water_mark=10)
    with Publisher(connect=stalled.endpoint, high_water_mark=10, linger_seconds=0, replay=100_000) as publisher:
        stalled.await_publisher(publisher)
        total = 0
        while publisher.dropped < 100:
            publisher.publish("a", "x" * 1000)
            total += 1
        asker = Asker(publisher)

        assert asker.all_numbers("a") == list(range(1, total + 1))
        asker.close()
    stalled.close()


def test_a_message_torn_by_a_raising_signal_handler_can_be_replayed(bus: Bus) -> None:
    """The gateway rejects the torn message itself."""
    torn: set[int] = set()
    with Publisher(connect=bus.endpoint, replay=1_000_000) as publisher:
        bus.await_publisher(publisher)
        asker = Asker(publisher)

        def interrupt() -> None:
            raise Interruption

        while not torn:
            before = publisher._sequences.get("a", 0)
            with suppress(Interruption), interrupted_by(interrupt, again=False):
                while True:
                    publisher.publish("a", "x")
            publisher.publish("end", 0)
            whole: set[int] = set()
            while (frames := bus.event_frames())[0] != b"end":
                if len(frames) == 3 and frames[2]:
                    whole.add(struct.unpack(">4sIQQQ", frames[2])[3])
            used = set(range(before + 1, publisher._sequences.get("a", 0) + 1))
            torn = {n for n in used - whole if asker.numbers("a", n, n) == [n]}
        asker.close()

    assert len(torn) == 1


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"", b""],
        [b"NGR1"],
        [b"NGR2", bytes(8), b"a", bytes(16)],
        [b"", b"NGR1", bytes(8), b"a", bytes(16)],
        [b"NGR1", bytes(7), b"a", bytes(16)],
        [b"NGR1", bytes(8), b"a", bytes(15)],
        [b"NGR1", bytes(8), b"a", bytes(17)],
        [b"NGR1", bytes(8), b"a", bytes(16), b""],
        [b"NGR1", bytes(8), b"a", b"x" * 60_000],
        [b"NGR1"] * 10_000,
    ],
    ids=lambda frames: f"{len(frames)} frames, {sum(map(len, frames))} bytes",
)
def test_an_invalid_request_is_counted_and_does_not_affect_others(
    publisher: Publisher, asker: Asker, frames: list[bytes]
) -> None:
    publisher.publish("a", 1)
    other = Asker(publisher)
    asker.socket.send_multipart(frames)

    assert asker.numbers("a", 1, 1) == [1]
    assert other.numbers("a", 1, 1) == [1]
    assert (publisher.bad_requests, publisher.replayed) == (1, 2)
    other.close()


def test_a_far_too_large_frame_closes_only_its_senders_connection(publisher: Publisher, asker: Asker) -> None:
    publisher.publish("a", 1)
    large = Asker(publisher)
    monitor = large.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    large.socket.send_multipart([b"NGR1", bytes(8), b"x" * 1_000_000, bytes(16)])
    assert monitor.poll(WITHIN_MS), "the connection was not closed"

    assert asker.numbers("a", 1, 1) == [1]
    assert large.numbers("a", 1, 1) == [1], "ZeroMQ did not reconnect"
    large.close()


def test_many_concurrent_requesters_each_get_their_own_replies(publisher: Publisher) -> None:
    for number in range(1000):
        publisher.publish("a", number)
        publisher.publish("b", number)
    askers = [Asker(publisher) for _ in range(4)]
    answers: dict[int, tuple[list[int], list[int]]] = {}

    def ask(which: int) -> None:
        answers[which] = askers[which].all_numbers("a"), askers[which].numbers("b", which, 10)

    threads = [threading.Thread(target=ask, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for asker in askers:
        asker.close()

    for which in range(4):
        assert answers[which] == (list(range(1, 1001)), list(range(max(which, 1), 11)))


def test_a_thousand_requests_in_a_row_are_all_answered(publisher: Publisher, asker: Asker) -> None:
    """A gateway that starts sends so many, to get everything that is held of every topic."""
    for topic in range(1000):
        publisher.publish(f"t{topic}", "x" * 1000)
    requests = [asker.request(f"t{topic}", *EVERYTHING) for topic in range(1000)]

    assert all(len(asker.reply(number)) == 2 for number in requests)
    assert (publisher.replayed, publisher.unanswered) == (1000, 0)


async def test_a_requester_that_never_reads_holds_few_replies_and_does_not_delay_others(
    publisher: Publisher, asker: Asker
) -> None:
    for _ in range(256):
        publisher.publish("a", "x" * 4000)
    deaf = Asker(publisher, high_water_mark=1)
    for _ in range(1500):
        deaf.request("a", *EVERYTHING)
    await eventually(lambda: publisher.unanswered)
    assert publisher._replier is not None
    [waiting] = publisher._replier._waiting.values()

    assert len(waiting) <= 1000
    assert publisher.replayed < 200, "more replies were sent than the kernel's buffers and a queue of 32 hold"
    for _ in range(100):
        assert len(asker.numbers("a", 1, 10)) == 10
    await eventually(lambda: publisher.replayed + publisher.unanswered == 1600)
    deaf.close()


async def test_a_requester_that_disconnects_does_not_affect_others(publisher: Publisher, asker: Asker) -> None:
    for _ in range(256):
        publisher.publish("a", "x" * 4000)
    for _ in range(20):
        gone = Asker(publisher)
        for _ in range(5):
            gone.request("a", *EVERYTHING)
        gone.close()

    assert len(asker.numbers("a", 1, 10)) == 10


def test_a_publisher_closes_amid_replay(bus: Bus) -> None:
    publisher = Publisher(connect=bus.endpoint, replay=1000, linger_seconds=0.1)
    for _ in range(1000):
        publisher.publish("a", "x" * 4000)
    enough = threading.Event()
    first = threading.Event()

    def ask_on() -> None:
        asker = Asker(publisher)
        asker.socket.sndtimeo = 10
        while not enough.is_set():
            with suppress(zmq.Again):
                asker.request("a", *EVERYTHING)
            while asker.socket.poll(1):
                asker.socket.recv_multipart()
                first.set()
        asker.close()

    threads = [threading.Thread(target=ask_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert first.wait(scaled(DEADLINE_SECONDS))
    publisher.close()
    enough.set()
    for thread in threads:
        thread.join()

    assert not publisher._attendant.is_alive()
    assert publisher.replayed > 0


def test_publishing_goes_on_while_replies_are_given(publisher: Publisher, asker: Asker) -> None:
    for _ in range(500):
        publisher.publish("a", "x")
    requests = [asker.request("a", *EVERYTHING) for _ in range(200)]
    for number in range(2000):
        assert publisher.publish("b", number)

    assert all(len(asker.reply(number)) == 512 for number in requests)
    assert asker.numbers("b", 2000, 2000) == [2000]


def test_heartbeats_have_the_replay_endpoint(bus: Bus) -> None:
    with Publisher(connect=bus.endpoint, replay=1) as publisher:
        said = bus.heartbeat()["replay"]
        assert said == publisher.replay_address
        assert said.startswith("tcp://127.0.0.1:")
        assert int(said.rpartition(":")[2]) > 0


def test_another_address_can_be_announced_than_the_one_bound(bus: Bus) -> None:
    with Publisher(
        connect=bus.endpoint, replay=1, replay_endpoint="tcp://0.0.0.0:*", replay_address="tcp://robot.example:7000"
    ):
        assert bus.heartbeat()["replay"] == "tcp://robot.example:7000"


def test_without_replay_heartbeats_have_no_replay_endpoint(bus: Bus) -> None:
    with Publisher(connect=bus.endpoint) as publisher:
        assert bus.heartbeat()["replay"] is None
        assert publisher.replay_address is None
        assert (publisher.replayed, publisher.unanswered, publisher.bad_requests) == (0, 0, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"replay": -1},
        {"replay": 1_000_001},
        {"replay": 1, "replay_endpoint": "carrier://pigeon"},
        {"replay": 1, "heartbeat_seconds": 0},
    ],
)
def test_invalid_replay_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(PublisherError, match=r"replay|carrier"):
        Publisher(bind="tcp://127.0.0.1:*", **options)
