"""History, replay and live messages in any order: each stream comes out in order, whole or told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ingest import recovery as limits
from gateway.core.ingest.publishers import Heartbeat
from gateway.core.ingest.recovery import (
    FIRST_HEARTBEAT_TIMEOUT_NS,
    REPLY_TIMEOUT_NS,
    REQUESTS_OPEN_MAX,
    RETRY_NS,
    STARTUP_NS,
    Recovery,
)
from gateway.core.ingest.streams import Streams
from gateway.core.protocol.envelope import Envelope


BEATS = 1


class Bench:
    """A joiner, what it lets through and what it gives up, for one topic or several."""

    def __init__(self, *, started_ns: int = -STARTUP_NS, history: int = 100) -> None:
        self.recovery = Recovery(
            streams=Streams(streams_max=100),
            started_ns=started_ns,
            history=lambda _topic: history,
        )
        self.now_ns = 0
        self.out: list[int] = []
        self.named: list[int] = []

    def live(self, *sequences: int, topic: str = "a") -> None:
        for sequence in sequences:
            envelope = Envelope(7, sequence, 0, BEATS)
            stream = self.recovery.receive(envelope, topic, b"x", now_ns=self.now_ns)
            if stream is not None:
                self._through(stream.take_unreported(), sequence)
            self.drain()

    def beat(self, newest: int, *, topics: tuple[str, ...] = ("a",), replay: bool = True) -> None:
        text = Heartbeat(
            f"{7:016x}", 1.0, dict.fromkeys(topics, newest), "p", "r" if replay else None
        )
        self.recovery.on_heartbeat(text, now_ns=self.now_ns)
        self.drain()

    def answer(self, *, holds: range, at_most: int = 100) -> bool:
        """Answer the next request from what a publisher holds; False if there is none."""
        for ask in self.recovery.take_requests():
            found = [n for n in range(ask.first, ask.last + 1) if n in holds][:at_most]
            messages = [(Envelope(7, n, 0, BEATS), b"x") for n in found]
            self.recovery.on_reply(ask.number, messages, now_ns=self.now_ns)
            self.drain()
            return True
        return False

    def wait(self, ns: int) -> None:
        self.now_ns += ns
        self.recovery.expire(now_ns=self.now_ns)
        self.drain()

    def drain(self) -> None:
        for stream, envelope, _ in self.recovery.released(now_ns=self.now_ns):
            self._through(stream.take_unreported(), envelope.sequence)
        for stream in self.recovery.take_unreported():
            self._name(stream.take_unreported())

    def _through(self, missing: tuple[tuple[int, int, str], ...], sequence: int) -> None:
        self._name(missing)
        self.out.append(sequence)

    def _name(self, missing: tuple[tuple[int, int, str], ...]) -> None:
        for first, last, _ in missing:
            self.named += range(first, last + 1)


def test_what_was_missed_comes_before_what_was_held() -> None:
    bench = Bench()
    bench.beat(0)
    bench.live(1, 2, 6, 7)
    assert bench.out == [1, 2]
    bench.answer(holds=range(1, 8))

    assert (bench.out, bench.named) == ([1, 2, 3, 4, 5, 6, 7], [])
    assert bench.recovery.repaired == 3


def test_the_rest_is_asked_for_again() -> None:
    bench = Bench()
    bench.beat(0)
    bench.live(1, 9)
    while bench.answer(holds=range(1, 10), at_most=3):
        pass

    assert bench.out == list(range(1, 10))


def test_what_is_held_no_longer_is_lost() -> None:
    bench = Bench()
    bench.beat(0)
    bench.live(1, 9)
    while bench.answer(holds=range(5, 10)):
        pass

    assert (bench.out, bench.named) == ([1, 5, 6, 7, 8, 9], [2, 3, 4])


def test_no_answer_is_waited_for_so_long_and_not_asked_for_again_at_once() -> None:
    bench = Bench()
    bench.beat(0)
    bench.live(1, 4)
    bench.recovery.take_requests()
    bench.wait(REPLY_TIMEOUT_NS)
    bench.live(8)

    assert (bench.out, bench.named) == ([1, 4, 8], [2, 3, 5, 6, 7])
    assert bench.recovery.take_requests() == []
    bench.wait(RETRY_NS)
    bench.live(10)
    assert len(bench.recovery.take_requests()) == 1


def test_a_late_answer_changes_nothing() -> None:
    bench = Bench()
    bench.beat(0)
    bench.live(1, 3)
    [ask] = bench.recovery.take_requests()
    bench.wait(REPLY_TIMEOUT_NS)
    bench.recovery.on_reply(ask.number, [(Envelope(7, 2, 0), b"x")], now_ns=bench.now_ns)
    bench.drain()

    assert (bench.out, bench.named) == ([1, 3], [2])


def test_a_first_message_in_the_middle_waits_for_its_publishers_heartbeat() -> None:
    bench = Bench(started_ns=0)
    bench.live(5, 6)
    assert bench.out == []
    bench.beat(6)
    bench.answer(holds=range(3, 7))

    assert (bench.out, bench.named) == ([3, 4, 5, 6], []), "what came before is older than we are"


def test_a_heartbeat_that_never_comes_holds_nothing_up() -> None:
    bench = Bench()
    bench.live(5)
    bench.wait(FIRST_HEARTBEAT_TIMEOUT_NS)

    assert (bench.out, bench.named) == ([5], [1, 2, 3, 4])


def test_a_heartbeat_shows_the_loss_of_the_last_message() -> None:
    bench = Bench()
    bench.beat(0, replay=False)
    bench.live(1, 2)
    bench.beat(4, replay=False)

    assert (bench.out, bench.named) == ([1, 2], [3, 4])


def test_requests_under_way_are_bounded_and_all_have_their_turn() -> None:
    bench = Bench(started_ns=0)
    topics = tuple(f"t{n}" for n in range(30))
    bench.beat(2, topics=topics)
    rounds = 0
    while asks := bench.recovery.take_requests():
        assert len(asks) <= REQUESTS_OPEN_MAX
        rounds += 1
        for ask in asks:
            messages = [(Envelope(7, n, 0), b"x") for n in (1, 2)]
            bench.recovery.on_reply(ask.number, messages, now_ns=0)
        bench.drain()

    assert rounds > 3
    assert len(bench.out) == 60
    assert bench.recovery.recovering == 0


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HELD_MAX", 50)
    bench = Bench()
    bench.beat(0)
    bench.live(1)
    bench.live(*range(3, 60))

    assert bench.named == [2]
    assert bench.out == [1, *range(3, 60)]
    assert bench.recovery.held == 0


def test_a_repair_that_was_given_up_frees_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a publisher whose requests all ended like that would get no further request."""
    monkeypatch.setattr(limits, "HELD_MAX", 50)
    bench = Bench()
    bench.beat(0)
    bench.live(1)
    for n in range(REQUESTS_OPEN_MAX + 1):
        bench.live(*range(100 * n + 3, 100 * n + 102))
    bench.recovery.take_requests()
    bench.live(1000)

    assert len(bench.recovery.take_requests()) == 1


def test_a_reply_to_a_repair_that_was_given_up_does_not_end_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "HELD_MAX", 50)
    bench = Bench()
    bench.beat(0)
    bench.live(1, *range(3, 60))
    [old] = bench.recovery.take_requests()
    bench.live(61)
    bench.recovery.on_reply(old.number, [(Envelope(7, 2, 0), b"x")], now_ns=0)
    bench.drain()
    bench.answer(holds=range(1, 62))

    assert (bench.named, bench.out[-3:]) == ([2], [59, 60, 61])


def test_a_queued_repair_that_was_given_up_does_not_take_the_turn_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "HELD_MAX", 50)
    bench = Bench()
    topics = [f"t{n}" for n in range(2 * REQUESTS_OPEN_MAX + 1)]
    bench.beat(0, topics=tuple(topics))
    for topic in topics:
        bench.live(1, topic=topic)
    for topic in topics[:REQUESTS_OPEN_MAX]:
        bench.live(3, topic=topic)
    for topic in topics[REQUESTS_OPEN_MAX:-1]:
        bench.live(*range(3, 103), topic=topic)
    bench.live(3, topic=topics[-1])
    for request in bench.recovery.take_requests():
        bench.recovery.on_reply(request.number, [(Envelope(7, 2, 0), b"x")], now_ns=0)

    assert [request.topic for request in bench.recovery.take_requests()] == topics[-1:]


@given(st.data())
def test_whatever_comes_when_it_comes_out_once_in_order_or_is_named(data: st.DataObject) -> None:
    """Live messages lost and repeated, heartbeats, answers in parts, late or never, in any order."""
    bench = Bench()
    newest = 0
    holds = data.draw(st.integers(1, 30))
    for _ in range(data.draw(st.integers(0, 40))):
        match data.draw(st.sampled_from(["live", "lost", "again", "beat", "answer", "wait"])):
            case "live":
                newest += 1
                bench.live(newest)
            case "lost":
                newest += 1
            case "again" if newest:
                bench.live(data.draw(st.integers(1, newest)))
            case "beat":
                bench.beat(newest)
            case "answer":
                bench.answer(holds=range(newest - holds, newest + 1), at_most=3)
            case "wait":
                bench.wait(data.draw(st.sampled_from([1, REPLY_TIMEOUT_NS, RETRY_NS])))
    for _ in range(40):
        bench.beat(newest)
        if not bench.answer(holds=range(newest - holds, newest + 1)):
            bench.wait(max(REPLY_TIMEOUT_NS, FIRST_HEARTBEAT_TIMEOUT_NS))
    bench.wait(RETRY_NS)

    assert bench.out == sorted(set(bench.out))
    assert sorted(bench.out + bench.named) == list(range(1, newest + 1))
    assert bench.recovery.recovering == bench.recovery.held == 0
