"""Replay through a proxy: requests by incarnation, answers to whoever asked."""

from __future__ import annotations

from gateway.core.ingest import publishers
from gateway.core.ingest.forwarding import WAITING_MAX, WAITING_NS_MAX, Forwarding
from gateway.core.ingest.ingest import REPLAY
from gateway.core.ingest.publishers import Heartbeat, Publishers


RANGE = (3).to_bytes(8) + (5).to_bytes(8)
SECOND = 1_000_000_000


def heard(*incarnations: int) -> Forwarding:
    found = Forwarding()
    for one in incarnations:
        found.hear(Heartbeat(f"{one:016x}", 1.0, replay=f"tcp://host{one}:1"), now_ns=0)
    return found


def request(incarnation: int, *, asker: bytes = b"a", number: int = 7) -> list[bytes]:
    return [asker, REPLAY, number.to_bytes(8), b"topic", RANGE, incarnation.to_bytes(8)]


def test_a_request_goes_to_the_publisher_that_it_names() -> None:
    found = heard(1, 2).ask(request(2), now_ns=0)

    assert found is not None
    assert ("tcp://host2:1", "topic", 3, 5, False) == (
        found.endpoint,
        found.topic,
        found.first,
        found.last,
        found.forwarded,
    )


def test_an_answer_goes_to_whoever_asked_with_its_own_number() -> None:
    forwarding = heard(1)
    asked = [forwarding.ask(request(1, asker=asker), now_ns=0) for asker in (b"a", b"b")]
    answers = [
        None if one is None else forwarding.answer([REPLAY, one.number.to_bytes(8), b"incarnation", b"payload"])
        for one in reversed(asked)
    ]

    expected = [[asker, REPLAY, (7).to_bytes(8), b"incarnation", b"payload"] for asker in (b"b", b"a")]
    assert expected == answers


def test_an_answer_that_comes_twice_or_unasked_goes_nowhere() -> None:
    forwarding = heard(1)
    asked = forwarding.ask(request(1), now_ns=0)
    assert asked is not None
    reply = [REPLAY, asked.number.to_bytes(8), b"incarnation"]

    assert forwarding.answer(reply) is not None
    assert [None, None] == [forwarding.answer(reply), forwarding.answer([REPLAY])]


def test_requests_that_cannot_be_passed_on_are_counted() -> None:
    forwarding = heard(1)
    forwarding.hear(Heartbeat(f"{3:016x}", 1.0), now_ns=0)
    wrong = [request(2), request(3), request(1)[:5], [*request(1)[:4], b"", b""]]

    assert [None] * 4 == [forwarding.ask(one, now_ns=0) for one in wrong]
    assert (0, 4) == (forwarding.requests, forwarding.unanswered)


def test_requests_without_an_answer_are_given_up() -> None:
    forwarding = heard(1)
    asked = forwarding.ask(request(1), now_ns=0)
    assert asked is not None
    forwarding.expire(now_ns=WAITING_NS_MAX)

    assert forwarding.answer([REPLAY, asked.number.to_bytes(8)]) is None
    assert 1 == forwarding.unanswered


def test_the_oldest_request_is_given_up_for_one_too_many() -> None:
    forwarding = heard(1)
    for _ in range(WAITING_MAX + 1):
        forwarding.ask(request(1), now_ns=0)

    assert 1 == forwarding.unanswered


def proxied(publishers: Publishers) -> list[int]:
    heartbeat = Heartbeat(f"{9:016x}", 1.0, replay="tcp://*:1", proxy=True)
    publishers.link = 4
    publishers.on_heartbeat(heartbeat, now_ns=0)
    return list(publishers.proxies)


def test_a_proxy_is_no_publisher_and_is_forgotten_when_it_is_silent() -> None:
    found = Publishers()
    assert [4] == proxied(found)
    assert ("unknown", []) == (found.state, found.known)

    found.find_stale(now_ns=publishers.MISSED_HEARTBEATS_MAX * SECOND + 1)
    assert {} == found.proxies


def test_a_proxy_that_ends_is_forgotten() -> None:
    found = Publishers()
    proxied(found)
    found.on_heartbeat(Heartbeat(f"{9:016x}", 0.0, replay="tcp://*:1", proxy=True), now_ns=1)

    assert {} == found.proxies


def test_nobody_who_connects_to_the_gateway_can_pose_as_a_proxy() -> None:
    found = Publishers()
    found.bound.add(4)

    assert [] == proxied(found)
