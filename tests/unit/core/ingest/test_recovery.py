"""Live and replayed messages in any order: each stream is released in order, and losses are reported."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ingest import recovery as limits
from gateway.core.ingest.publishers import FIRST_HEARTBEAT_TIMEOUT_NS, Heartbeat
from gateway.core.ingest.recovery import REPLY_TIMEOUT_NS, RETRY_NS, Recovery
from gateway.core.ingest.replay_turns import REQUESTS_OPEN_MAX
from gateway.core.ingest.starts import STARTUP_NS
from gateway.core.ingest.streams import Streams
from gateway.core.protocol.envelope import Envelope


SENDS_HEARTBEATS = 1


class Bench:
    """A recovery, the numbers that it released, and those that it reported as missing."""

    def __init__(self, *, started_ns: int = -STARTUP_NS, history: int = 100) -> None:
        self.recovery = Recovery(
            streams=Streams(streams_max=100), started_ns=started_ns, history=lambda _topic: history
        )
        self.now_ns = 0
        self.released: list[int] = []
        self.missing: list[int] = []

    def live(self, *sequences: int, topic: str = "a") -> None:
        for sequence in sequences:
            envelope = Envelope(7, sequence, 0, SENDS_HEARTBEATS)
            stream = self.recovery.receive(envelope, topic, b"x", now_ns=self.now_ns)
            if stream is not None:
                self._release(stream.take_unreported(), sequence)
            self.drain()

    def heartbeat(self, newest: int, *, topics: tuple[str, ...] = ("a",), replay: bool = True) -> None:
        text = Heartbeat(f"{7:016x}", 1.0, dict.fromkeys(topics, newest), "p", "r" if replay else None)
        self.recovery.on_heartbeat(text, now_ns=self.now_ns)
        self.drain()

    def reply(self, *, kept: range, at_most: int = 100) -> bool:
        """Reply to the next request with what the publisher kept; return False if there is none."""
        for request in self.recovery.take_requests():
            found = [n for n in range(request.first, request.last + 1) if n in kept][:at_most]
            messages = [(Envelope(7, n, 0, SENDS_HEARTBEATS), b"x") for n in found]
            self.recovery.on_reply(request.number, messages, now_ns=self.now_ns)
            self.drain()
            return True
        return False

    def wait(self, ns: int) -> None:
        self.now_ns += ns
        self.recovery.expire(now_ns=self.now_ns)
        self.drain()

    def drain(self) -> None:
        for stream, envelope, _ in self.recovery.released(now_ns=self.now_ns):
            self._release(stream.take_unreported(), envelope.sequence)
        for stream in self.recovery.take_unreported():
            self._report(stream.take_unreported())

    def _release(self, missing: tuple[tuple[int, int, str], ...], sequence: int) -> None:
        self._report(missing)
        self.released.append(sequence)

    def _report(self, missing: tuple[tuple[int, int, str], ...]) -> None:
        for first, last, reason in missing:
            if reason != "epoch":
                self.missing += range(first, last + 1)


def test_replayed_messages_come_before_held_ones() -> None:
    bench = Bench()
    bench.heartbeat(0)
    bench.live(1, 2, 6, 7)
    assert bench.released == [1, 2]
    bench.reply(kept=range(1, 8))

    assert (bench.released, bench.missing) == ([1, 2, 3, 4, 5, 6, 7], [])
    assert bench.recovery.repaired == 3


def test_what_was_asked_of_publishers_is_asked_of_their_proxy_once_it_is_heard() -> None:
    """Their own addresses may be out of reach; the proxy's heartbeat comes a second later at most."""
    bench = Bench()
    bench.live(1)
    bench.heartbeat(1)
    bench.live(4)
    [asked] = bench.recovery.take_requests()
    proxy = Heartbeat(f"{9:016x}", 1.0, replay="proxy", replay_key="key", proxy=True)
    bench.recovery.on_heartbeat(proxy, now_ns=bench.now_ns)
    [again] = bench.recovery.take_requests()
    bench.recovery.on_heartbeat(proxy, now_ns=bench.now_ns)

    assert ("r", None, False) == (asked.endpoint, asked.key, asked.forwarded)
    assert ("proxy", "key", True) == (again.endpoint, again.key, again.forwarded)
    assert (asked.number, 7, 2, 3) == (again.number, again.incarnation, again.first, again.last)
    assert [] == bench.recovery.take_requests()


def test_after_a_partial_reply_the_rest_is_requested() -> None:
    bench = Bench()
    bench.heartbeat(0)
    bench.live(1, 9)
    while bench.reply(kept=range(1, 10), at_most=3):
        pass

    assert bench.released == list(range(1, 10))


def test_what_the_publisher_no_longer_has_is_lost() -> None:
    bench = Bench()
    bench.heartbeat(0)
    bench.live(1, 9)
    while bench.reply(kept=range(5, 10)):
        pass

    assert (bench.released, bench.missing) == ([1, 5, 6, 7, 8, 9], [2, 3, 4])


def test_without_a_reply_messages_are_lost_and_no_request_is_sent_for_a_while() -> None:
    bench = Bench()
    bench.heartbeat(0)
    bench.live(1, 4)
    bench.recovery.take_requests()
    bench.wait(REPLY_TIMEOUT_NS)
    bench.live(8)

    assert (bench.released, bench.missing) == ([1, 4, 8], [2, 3, 5, 6, 7])
    assert bench.recovery.take_requests() == []
    bench.wait(RETRY_NS)
    bench.live(10)
    assert len(bench.recovery.take_requests()) == 1


def test_requests_that_wait_for_a_publisher_are_not_sent_once_it_has_not_answered() -> None:
    """They would keep the publishers that wait for it waiting as long again."""
    bench = Bench(started_ns=0)
    topics = tuple(f"t{n}" for n in range(2 * REQUESTS_OPEN_MAX))
    bench.heartbeat(2, topics=topics)
    assert len(bench.recovery.take_requests()) == REQUESTS_OPEN_MAX
    bench.wait(REPLY_TIMEOUT_NS)

    assert bench.recovery.take_requests() == []
    assert bench.recovery.recovering == 0


def test_a_late_reply_is_ignored() -> None:
    bench = Bench()
    bench.heartbeat(0)
    bench.live(1, 3)
    [request] = bench.recovery.take_requests()
    bench.wait(REPLY_TIMEOUT_NS)
    bench.recovery.on_reply(request.number, [(Envelope(7, 2, 0), b"x")], now_ns=bench.now_ns)
    bench.drain()

    assert (bench.released, bench.missing) == ([1, 3], [2])


def test_a_stream_that_starts_in_the_middle_waits_for_a_heartbeat() -> None:
    bench = Bench(started_ns=0)
    bench.live(5, 6)
    assert bench.released == []
    bench.heartbeat(6)
    bench.reply(kept=range(3, 7))

    assert (bench.released, bench.missing) == ([3, 4, 5, 6], []), "earlier ones are older than the gateway"


def test_without_a_heartbeat_messages_are_released_after_a_timeout() -> None:
    bench = Bench()
    bench.live(5)
    bench.wait(FIRST_HEARTBEAT_TIMEOUT_NS)

    assert (bench.released, bench.missing) == ([5], [1, 2, 3, 4])


def test_a_heartbeat_shows_the_loss_of_the_last_message() -> None:
    bench = Bench()
    bench.heartbeat(0, replay=False)
    bench.live(1, 2)
    bench.heartbeat(4, replay=False)

    assert (bench.released, bench.missing) == ([1, 2], [3, 4])


def test_requests_under_way_are_limited_and_all_are_sent() -> None:
    bench = Bench(started_ns=0)
    topics = tuple(f"t{n}" for n in range(30))
    bench.heartbeat(2, topics=topics)
    rounds = 0
    while requests := bench.recovery.take_requests():
        assert len(requests) <= REQUESTS_OPEN_MAX
        rounds += 1
        for request in requests:
            messages = [(Envelope(7, n, 0), b"x") for n in (1, 2)]
            bench.recovery.on_reply(request.number, messages, now_ns=0)
        bench.drain()

    assert rounds > 3
    assert len(bench.released) == 60
    assert bench.recovery.recovering == 0


def test_held_messages_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HELD_MAX", 50)
    bench = Bench()
    bench.heartbeat(0)
    bench.live(1)
    bench.live(*range(3, 60))

    assert bench.missing == [2]
    assert bench.released == [1, *range(3, 60)]
    assert bench.recovery.held == 0


def test_a_repair_that_was_given_up_frees_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a publisher whose requests all ended like that would get no further request."""
    monkeypatch.setattr(limits, "HELD_MAX", 50)
    bench = Bench()
    bench.heartbeat(0)
    bench.live(1)
    for n in range(REQUESTS_OPEN_MAX + 1):
        bench.live(*range(100 * n + 3, 100 * n + 102))
    bench.recovery.take_requests()
    bench.live(1000)

    assert len(bench.recovery.take_requests()) == 1


def test_a_reply_to_a_repair_that_was_given_up_does_not_end_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HELD_MAX", 50)
    bench = Bench()
    bench.heartbeat(0)
    bench.live(1, *range(3, 60))
    [old] = bench.recovery.take_requests()
    bench.live(61)
    bench.recovery.on_reply(old.number, [(Envelope(7, 2, 0), b"x")], now_ns=0)
    bench.drain()
    bench.reply(kept=range(1, 62))

    assert (bench.missing, bench.released[-3:]) == ([2], [59, 60, 61])


def test_a_queued_repair_that_was_given_up_does_not_take_the_turn_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HELD_MAX", 50)
    bench = Bench()
    topics = [f"t{n}" for n in range(2 * REQUESTS_OPEN_MAX + 1)]
    bench.heartbeat(0, topics=tuple(topics))
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
def test_each_message_is_released_once_in_order_or_reported_as_missing(data: st.DataObject) -> None:
    """With lost and repeated messages, heartbeats, and partial, late or missing replies, in any order."""
    bench = Bench()
    newest = 0
    kept = data.draw(st.integers(1, 30))
    for _ in range(data.draw(st.integers(0, 40))):
        match data.draw(st.sampled_from(["live", "lost", "again", "heartbeat", "reply", "wait"])):
            case "live":
                newest += 1
                bench.live(newest)
            case "lost":
                newest += 1
            case "again" if newest:
                bench.live(data.draw(st.integers(1, newest)))
            case "heartbeat":
                bench.heartbeat(newest)
            case "reply":
                bench.reply(kept=range(newest - kept, newest + 1), at_most=3)
            case "wait":
                bench.wait(data.draw(st.sampled_from([1, REPLY_TIMEOUT_NS, RETRY_NS])))
    for _ in range(40):
        bench.heartbeat(newest)
        if not bench.reply(kept=range(newest - kept, newest + 1)):
            bench.wait(max(REPLY_TIMEOUT_NS, FIRST_HEARTBEAT_TIMEOUT_NS))
    bench.wait(RETRY_NS)

    assert bench.released == sorted(set(bench.released))
    assert sorted(bench.released + bench.missing) == list(range(1, newest + 1))
    assert bench.recovery.recovering == bench.recovery.held == 0


def test_a_hole_before_the_first_heartbeat_waits_for_it_in_a_stream_that_has_begun() -> None:
    bench = Bench()
    bench.live(1, 2, 3, 6)
    assert (bench.released, bench.missing) == ([1, 2, 3], [])
    bench.heartbeat(6)
    bench.reply(kept=range(1, 7))

    assert (bench.released, bench.missing) == ([1, 2, 3, 4, 5, 6], [])


def test_a_stream_waits_for_the_first_heartbeat_only_once() -> None:
    bench = Bench()
    bench.live(1, 3)
    bench.wait(FIRST_HEARTBEAT_TIMEOUT_NS)
    bench.live(5)

    assert (bench.released, bench.missing) == ([1, 3, 5], [2, 4])
