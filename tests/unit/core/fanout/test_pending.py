"""What is in the logs and not written yet: everybody gets it once, in order, whatever they do meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from gateway.core.protocol.messages import Broadcast, Position
from tests.support.core import SECOND, Core, Peer, make_hub, publish, somebody


MS = SECOND // 1000


@pytest.fixture
def hub() -> Core:
    """A hub that writes when it is told to."""
    hub = make_hub()
    hub.fanout.on_pending = lambda: None
    publish(hub, "robots", 5)
    hub.fanout.write()
    return hub


def came(peer: Peer, channel: str = "robots") -> list[int]:
    """The offsets of events that came on a channel since the last look."""
    return [one["offset"] for one in peer.take() if one.get("channel") == channel]


def follow(hub: Core, name: str, *channels: str, **options: Any) -> Peer:
    peer = Peer(hub, name)
    peer.connect(*(channels or ("robots",)), **options)
    return peer


def settled(hub: Core, name: str, *channels: str) -> Peer:
    """A peer that is live, and has read all there is."""
    peer = follow(hub, name, *channels)
    hub.fanout.write()
    peer.take()
    return peer


def with_a_rate(hub: Core) -> Peer:
    """A live peer that wants one event per second."""
    peer = Peer(hub, "p")
    peer.connect()
    peer.say(type="subscribe", channels=["robots"], rate=1)
    hub.fanout.write()
    peer.take()
    return peer


def test_what_gathered_is_one_write_in_order(hub: Core) -> None:
    peer = settled(hub, "p")
    hub.fanout.take_tally()
    for _ in range(3):
        publish(hub, "robots", 2)
    assert came(peer) == []
    hub.fanout.write()

    assert came(peer) == [6, 7, 8, 9, 10, 11]
    assert hub.fanout.take_tally().writes == 1


def test_nothing_is_written_twice(hub: Core) -> None:
    peer = settled(hub, "p")
    publish(hub, "robots")
    hub.fanout.write()
    hub.fanout.write()

    assert came(peer) == [6]


def test_who_comes_meanwhile_begins_behind_what_is_pending(hub: Core) -> None:
    live = settled(hub, "live")
    publish(hub, "robots", 2)
    new = follow(hub, "new")
    [subscribed] = [one for one in new.take() if one["type"] == "subscribed"]
    publish(hub, "robots", 2)
    hub.fanout.write()
    publish(hub, "robots")
    hub.fanout.write()

    assert subscribed["positions"]["robots"]["offset"] == 7
    assert came(new) == [8, 9, 10]
    assert came(live) == [6, 7, 8, 9, 10]
    assert len(list(hub.fanout.cohorts)) == 1, "both are live and share their writes"


def test_who_asks_for_the_last_few_gets_those_that_are_pending_once(hub: Core) -> None:
    publish(hub, "robots", 2)
    new = follow(hub, "new", last=3)
    assert came(new) == [5, 6, 7]
    publish(hub, "robots")
    hub.fanout.write()

    assert came(new) == [8]


def test_who_resumes_meanwhile_gets_what_is_pending_once(hub: Core) -> None:
    publish(hub, "robots", 2)
    back = follow(hub, "back", since={"robots": Position("e1", 4)})
    assert came(back) == [5, 6, 7]
    hub.fanout.write()

    assert came(back) == []


def test_a_position_from_the_history_may_be_ahead_of_the_live_clients(hub: Core) -> None:
    """What is pending is in the history already: who goes on from there does not get it again."""
    publish(hub, "robots", 2)
    peer = follow(hub, "p", since={"robots": hub.logs.by_name["robots"].position})
    hub.fanout.write()
    publish(hub, "robots")
    hub.fanout.write()

    assert came(peer) == [8]


def test_who_changes_what_it_follows_gets_what_is_pending_first(hub: Core) -> None:
    peer = settled(hub, "p")
    publish(hub, "robots", 2)
    publish(hub, "metrics", 2)
    [reply, *_] = peer.say(type="subscribe", channels=["metrics"])
    positions = peer.say(type="ping")[-1]["positions"]
    publish(hub, "metrics")
    hub.fanout.write()

    assert reply["positions"]["metrics"]["offset"] == 2
    assert positions["robots"]["offset"] == 7
    seen = [(one["channel"], one["offset"]) for one in peer.take() if one["type"] == "event"]
    assert seen == [("robots", 6), ("robots", 7), ("metrics", 3)]


def test_who_follows_no_longer_gets_nothing_more(hub: Core) -> None:
    peer = settled(hub, "p", "robots", "metrics")
    publish(hub, "robots")
    publish(hub, "metrics")
    peer.say(type="unsubscribe", channels=["robots"])
    hub.fanout.write()

    assert came(peer, "metrics") == [1]
    assert came(peer) == []


def test_positions_say_what_was_written(hub: Core) -> None:
    peer = settled(hub, "p")
    publish(hub, "robots", 2)
    before = peer.say(type="ping")[-1]["positions"]["robots"]["offset"]
    hub.fanout.write()
    after = peer.say(type="ping")[-1]["positions"]["robots"]["offset"]

    assert (before, after) == (5, 7)
    assert hub.heads()["robots"].offset == 7


def test_a_pong_confirms_nothing_that_is_pending(hub: Core) -> None:
    peer = settled(hub, "p")
    session = peer.session
    assert session is not None
    publish(hub, "robots", 2)
    session.on_ping(b"1", hub.heads())
    hub.fanout.write()
    session.on_pong(b"1")
    peer.disconnect()
    peer.take()
    peer.connect(session=session.secret)

    assert came(peer) == [6, 7]


def test_a_connection_that_is_lost_meanwhile_loses_nothing(hub: Core) -> None:
    peer = settled(hub, "p")
    session = peer.session
    assert session is not None
    session.on_ping(b"1", hub.heads())
    session.on_pong(b"1")
    publish(hub, "robots", 2)
    peer.disconnect()
    hub.fanout.write()
    assert came(peer) == []
    publish(hub, "robots")
    peer.connect(session=session.secret)
    assert came(peer) == [6, 7, 8]
    hub.fanout.write()

    assert came(peer) == []


def test_who_does_not_read_is_behind_before_what_was_pending(hub: Core) -> None:
    peer = settled(hub, "p")
    publish(hub, "robots", 2)
    peer.writing_paused = True
    hub.fanout.write()
    publish(hub, "robots")
    peer.read_on()
    assert came(peer) == [6, 7, 8]
    hub.fanout.write()
    publish(hub, "robots")
    hub.fanout.write()

    assert came(peer) == [9]


def test_a_message_to_one_client_overtakes_and_harms_nothing(hub: Core) -> None:
    for paused in (False, True):
        peer = settled(hub, f"p{paused}")
        assert peer.session is not None
        at = hub.logs.by_name["robots"].newest.offset
        publish(hub, "robots", 2)
        peer.writing_paused = paused
        message = Broadcast(event=Raw(b'{"hello":1}'), client_id=peer.session.client_id)
        hub.broadcast(message, somebody(), now_ns=0)
        hub.fanout.write()
        if paused:
            peer.read_on()
        seen = [(one["channel"], one["offset"]) for one in peer.take() if one["type"] == "event"]

        assert sorted(seen) == [("$personal", 1), ("robots", at + 1), ("robots", at + 2)]


def test_who_is_sent_away_gets_what_is_pending_and_nobody_else_does(hub: Core) -> None:
    peer, other = settled(hub, "p"), settled(hub, "other")
    assert peer.session is not None
    assert peer.session.reader is not None
    publish(hub, "robots", 2)
    hub.fanout.flush_reader(peer.session.reader)
    assert came(peer) == [6, 7]
    assert came(other) == []
    hub.fanout.write()

    assert came(peer) == []
    assert came(other) == [6, 7]


def test_a_rate_goes_by_the_time_of_writing(hub: Core) -> None:
    """What was received before the last of a view's writes is no reason for another."""
    peer = with_a_rate(hub)
    start = 10 * SECOND
    publish(hub, "robots", now_ns=start)
    hub.fanout.write(now_ns=start)
    publish(hub, "robots", now_ns=start + 500 * MS)
    hub.fanout.write(now_ns=start + 500 * MS)
    assert came(peer) == [6]
    publish(hub, "robots", now_ns=start + 999 * MS)
    hub.fanout.flush(now_ns=start + SECOND)
    assert came(peer) == [7]
    hub.fanout.write(now_ns=start + SECOND + MS)
    assert came(peer) == []
    hub.fanout.flush(now_ns=start + 2 * SECOND)

    assert came(peer) == [8]


def test_what_rates_held_back_comes_before_what_is_pending(hub: Core) -> None:
    peer = with_a_rate(hub)
    publish(hub, "robots", now_ns=SECOND)
    hub.fanout.write()
    publish(hub, "robots", 2, now_ns=SECOND + MS)
    hub.fanout.write()
    publish(hub, "robots", now_ns=SECOND + 2 * MS)
    peer.take()
    places = peer.say(type="ping")[-1]["positions"]["robots"]["offset"]
    peer.take()
    hub.fanout.flush(now_ns=2 * SECOND)
    [event, gap] = peer.take()
    hub.fanout.write(now_ns=2 * SECOND)
    hub.fanout.flush(now_ns=3 * SECOND)

    assert places == 6
    assert (event["offset"], gap["from"], gap["to"], gap["count"]) == (8, 7, 8, 1)
    assert came(peer) == [9]
