"""Heartbeats: what is no heartbeat is refused, silence is judged by each publisher's own interval."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.ingest import publishers as limits
from gateway.core.ingest.publishers import MISSED_HEARTBEATS_MAX, STALE_NS_MAX, Publishers, parse
from tests.support.core import SECOND


def text(**changed: Any) -> bytes:
    return json.dumps({"incarnation": f"{7:016x}", "interval": 1.0, **changed}).encode()


class Bench:
    """Publishers, the time, and the changes so far."""

    def __init__(self) -> None:
        self.publishers = Publishers()
        self.now_ns = 0

    def beat(self, incarnation: int, *, name: str = "", interval: float = 1.0, link: int = 0) -> None:
        self.publishers.link = link
        heartbeat = parse(text(incarnation=f"{incarnation:016x}", name=name, interval=interval))
        self.publishers.on_heartbeat(heartbeat, now_ns=self.now_ns)

    def wait(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND)
        self.publishers.find_stale(now_ns=self.now_ns)

    def changes(self) -> list[tuple[int, str]]:
        return [(change.publisher.incarnation, change.state) for change in self.publishers.take_changes()]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"interval": 1e-9}, "interval"),
        ({"interval": 1e9}, "interval"),
        ({"incarnation": "7"}, "incarnation"),
        ({"sequences": {"a": 2**70}}, "sequences"),
        ({"sequences": {"a": 2**63}}, "sequences"),
        ({"sequences": {"$everyone": 1}}, "everyone"),
        ({"sequences": {"*": 1}}, "sequences"),
        ({"sequences": {"a\u0007": 1}}, "sequences"),
        ({"sequences": {"x" * 129: 1}}, "sequences"),
        ({"sequences": {f"t{n}": 1 for n in range(limits.TOPICS_MAX + 1)}}, "sequences"),
    ],
)
def test_a_heartbeat_beyond_the_limits_is_refused_and_the_error_names_the_member(
    changed: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        parse(text(**changed))


def test_the_limits_themselves_are_accepted() -> None:
    names = {f"t{n}": 2**63 - 1 for n in range(limits.TOPICS_MAX)}

    assert len(parse(text(interval=0.01, sequences=names)).sequences) == limits.TOPICS_MAX


def test_a_link_may_be_silent_for_as_long_as_its_slowest_publisher_says() -> None:
    bench = Bench()
    bench.beat(1, interval=2.0)
    bench.beat(2, interval=0.01)
    bench.beat(3, interval=60.0, link=1)

    assert bench.publishers.silence_ns(0) == MISSED_HEARTBEATS_MAX * 2 * SECOND
    assert bench.publishers.silence_ns(1) == MISSED_HEARTBEATS_MAX * 60 * SECOND
    assert bench.publishers.silence_ns(2) == 0, "no publisher there, no limit"


def test_no_interval_makes_a_link_look_dead_within_a_second() -> None:
    bench = Bench()
    bench.beat(1, interval=0.01)

    assert bench.publishers.silence_ns(0) == SECOND


def test_a_new_incarnation_of_the_same_name_replaces_the_one_that_fell_silent() -> None:
    bench = Bench()
    bench.beat(1, name="core")
    bench.wait(2)
    bench.beat(2, name="core")
    bench.wait(2)

    assert bench.changes() == [(1, "connected"), (2, "connected"), (1, "stale"), (1, "disconnected")]
    assert [publisher.incarnation for publisher in bench.publishers.known] == [2]


def test_two_living_publishers_of_the_same_name_both_stay() -> None:
    bench = Bench()
    for _ in range(5):
        bench.beat(1, name="worker")
        bench.beat(2, name="worker")
        bench.wait(1)

    assert len(bench.publishers.known) == 2


def test_publishers_that_make_room_for_others_are_reported_as_if_they_had_fallen_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Many appear at once, invented ones perhaps: what one that was forgotten sent last is in doubt."""
    monkeypatch.setattr(limits, "PUBLISHERS_MAX", 3)
    bench = Bench()
    for incarnation in range(1, 6):
        bench.beat(incarnation)
    bench.beat(2)

    assert [publisher.incarnation for publisher in bench.publishers.known] == [4, 5, 2]
    assert [one for one, state in bench.changes() if state == "disconnected"] == [1, 2, 3]
    assert bench.publishers.find_stale(now_ns=0) == {1, 3}
    assert bench.publishers.find_stale(now_ns=0) == set()


def test_of_two_publishers_of_the_same_name_neither_has_ended_while_both_are_heard() -> None:
    bench = Bench()
    for _ in range(2):
        bench.beat(1, name="worker")
        bench.wait(0.5)
        bench.beat(2, name="worker")
        bench.wait(0.5)

    assert [bench.publishers.has_ended(one) for one in (1, 2)] == [False, False]


def test_a_publisher_has_ended_if_it_is_silent_since_there_is_another_one_of_its_name() -> None:
    bench = Bench()
    bench.beat(1, name="worker")
    bench.wait(0.5)
    bench.beat(2, name="worker")

    assert [bench.publishers.has_ended(one) for one in (1, 2)] == [True, False]


def test_a_silent_publisher_is_forgotten_in_the_end_and_the_bus_stays_stale() -> None:
    bench = Bench()
    bench.beat(1)
    bench.wait(4)
    assert bench.publishers.state == "stale"
    bench.wait(STALE_NS_MAX / SECOND)

    assert bench.publishers.known == []
    assert bench.publishers.state == "stale"
