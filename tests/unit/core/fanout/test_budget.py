"""Filters that would take too long delay their own readers, who still get every event; and nobody else."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from gateway.core.fanout.budget import PAUSE_NS, TURN_STEPS_MAX, VIEW_STEPS_MAX
from gateway.core.fanout.cohorts import Reader
from gateway.core.fanout.filters import SEARCHED_CHARS_MAX, Filter, parse
from gateway.core.fanout.views import Subscription
from gateway.core.log.sources import ORIGIN
from gateway.core.protocol.parser import Opcode
from tests.support.core import Core, Peer, Writer, make_hub, publish


class Counting(Filter):
    """A filter that matches every event, is said to take many steps, and counts its evaluations."""

    __slots__ = ("evaluations",)

    def __init__(self, text: str, steps: int) -> None:
        super().__init__(text, self._count, nodes=steps)
        self.evaluations = 0

    def _count(self, event: Mapping[str, object]) -> bool:
        self.evaluations += 1
        return True


def subscriber(hub: Core, name: str, filter_: Filter | None, rate: float | None = None) -> Peer:
    """Return a client that subscribes to `robots` with a filter."""
    peer = Peer(hub, name)
    session = peer.connect()
    view = frozenset({Subscription("robots", filter_, rate)})
    assert session.reader is not None
    hub.fanout.subscribe(session.reader, view, hub.heads())
    peer.take()
    return peer


def offsets(peer: Peer) -> list[int]:
    return [m["offset"] for m in peer.received if m["type"] == "event" and m["channel"] == "robots"]


def flush_all(hub: Core) -> int:
    """Flush as often as there is something due; return how often."""
    count, now_ns = 0, 0
    while (due_ns := hub.fanout.due_ns) is not None:
        now_ns = max(now_ns, due_ns)
        hub.fanout.flush(now_ns=now_ns)
        count += 1
    return count


def test_an_expensive_filter_delays_its_own_reader_and_nobody_else() -> None:
    hub = make_hub()
    slow = subscriber(hub, "slow", Counting("slow", VIEW_STEPS_MAX // 10))
    quick, plain = subscriber(hub, "quick", parse("data.status == 's'")), subscriber(hub, "plain", None)
    publish(hub, "robots", 500)
    assert [len(offsets(quick)), len(offsets(plain)), len(offsets(slow))] == [500, 500, 0]

    assert flush_all(hub) == 500 // (TURN_STEPS_MAX // (VIEW_STEPS_MAX // 10)) + 1
    assert offsets(slow) == [*range(1, 501)]
    publish(hub, "robots")
    assert offsets(slow)[-1] == 501, "it is live again"


def test_one_turn_takes_no_more_steps_than_all_views_may_take() -> None:
    hub = make_hub()
    filters = [Counting(f"f{number}", 10_000) for number in range(100)]
    peers = [subscriber(hub, f"p{number}", one) for number, one in enumerate(filters)]

    def evaluations() -> int:
        return sum(one.evaluations for one in filters)

    publish(hub, "robots")
    most = TURN_STEPS_MAX // 10_000
    assert evaluations() == most
    hub.fanout.flush(now_ns=1)
    assert evaluations() == 2 * most
    flush_all(hub)

    assert [offsets(peer) for peer in peers] == [[1]] * 100
    assert evaluations() == 100


def test_a_reader_without_a_filter_reads_on_when_the_turn_is_spent() -> None:
    hub = make_hub()
    for number in range(10):
        subscriber(hub, f"p{number}", Counting(f"f{number}", VIEW_STEPS_MAX))
    publish(hub, "robots", 10)
    hub.fanout.flush(now_ns=PAUSE_NS)
    late = Peer(hub, "late")
    late.connect("robots", last=10)

    assert offsets(late) == [*range(1, 11)]


def test_between_two_turns_there_is_a_pause() -> None:
    hub = make_hub()
    slow = subscriber(hub, "slow", Counting("slow", VIEW_STEPS_MAX))
    publish(hub, "robots", 10)
    hub.fanout.flush(now_ns=PAUSE_NS)
    reached = len(offsets(slow))
    assert hub.fanout.due_ns == 2 * PAUSE_NS
    hub.fanout.flush(now_ns=2 * PAUSE_NS - 1)
    assert len(offsets(slow)) == reached
    hub.fanout.flush(now_ns=2 * PAUSE_NS)

    assert len(offsets(slow)) > reached


def test_readers_at_the_same_place_share_what_their_filter_judges() -> None:
    hub = make_hub()
    filter_ = Counting("slow", VIEW_STEPS_MAX // 10)
    peers = [subscriber(hub, f"p{number}", filter_) for number in range(20)]
    publish(hub, "robots", 100)
    flush_all(hub)

    assert [len(offsets(peer)) for peer in peers] == [100] * 20
    assert filter_.evaluations < 200


def test_readers_that_share_a_filter_get_bytes_each_as_it_asked() -> None:
    hub = make_hub()
    filter_ = Counting("slow", VIEW_STEPS_MAX)
    written: dict[bool, list[bytes]] = {False: [], True: []}
    for binary, frames in written.items():
        reader = Reader(writer=Writer(frames.append), on_lag=lambda: None)
        hub.fanout.subscribe(reader, frozenset({Subscription("robots", filter_, binary=binary)}), hub.heads())
    hub.tick([[b"robots", b'{"data_base64":"/9j/"}']] * 3, now_ns=1)
    flush_all(hub)

    assert {binary: {frame[0] for frame in frames} for binary, frames in written.items()} == {
        False: {0x80 | Opcode.TEXT},
        True: {0x80 | Opcode.BINARY},
    }


def test_a_history_is_judged_in_several_turns() -> None:
    hub = make_hub()
    publish(hub, "robots", 100)
    filter_ = Counting("slow", VIEW_STEPS_MAX // 10)
    late = Peer(hub, "late")
    session = late.connect()
    assert session.reader is not None
    hub.fanout.subscribe(session.reader, frozenset({Subscription("robots", filter_)}), {"robots": ORIGIN})
    assert 0 < filter_.evaluations <= 20
    flush_all(hub)

    assert offsets(late) == [*range(1, 101)]


def test_events_that_are_evicted_before_they_are_judged_are_a_gap() -> None:
    hub = make_hub(events_max=10)
    slow = subscriber(hub, "slow", Counting("slow", VIEW_STEPS_MAX))
    publish(hub, "robots", 30)
    flush_all(hub)

    assert [(m["from"], m["to"], m["reason"]) for m in slow.received if m["type"] == "gap"] == [(1, 20, "evicted")]
    assert offsets(slow) == [*range(21, 31)]


def test_with_a_rate_only_the_newest_events_are_judged() -> None:
    """How many of the others match is not known."""
    hub = make_hub()
    filter_ = Counting("slow", VIEW_STEPS_MAX // 2)
    slow = subscriber(hub, "slow", filter_, rate=1)
    publish(hub, "robots")
    flush_all(hub)
    slow.take()
    publish(hub, "robots", 100)
    flush_all(hub)

    assert offsets(slow) == [101]
    assert [(m["to"], m.get("count")) for m in slow.received if m["type"] == "gap"] == [(101, None)]
    assert filter_.evaluations < 10


@pytest.mark.parametrize("searches", [1, 2, 20])
def test_the_searches_of_a_filter_share_a_limit(searches: int) -> None:
    """A longer string is an error: the event does not match."""
    filter_ = parse(" || ".join(["data.contains('b')"] * searches))
    limit = SEARCHED_CHARS_MAX // searches
    assert filter_.searches == searches
    assert filter_.matches({"data": "a" * (limit - 1) + "b"})
    assert not filter_.matches({"data": "a" * limit + "b"})
    assert filter_.errors == 1
