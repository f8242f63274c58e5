"""Pending entries, in the logs and not written yet: each client gets them once, in order, whatever it does meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from gateway.core.protocol.messages import Broadcast, Position
from tests.support.core import SECOND, Core, Peer, make_hub, open_identity, publish


MS = SECOND // 1000


@pytest.fixture
def hub() -> Core:
    """A hub that writes only when `write` is called."""
    hub = make_hub()
    hub.fanout.on_pending = lambda: None
    publish(hub, "robots", 5)
    hub.fanout.write()
    return hub


def offsets(peer: Peer, channel: str = "robots") -> list[int]:
    """Return the offsets of a channel's events that were received since the last call."""
    return [one["offset"] for one in peer.take() if one.get("channel") == channel]


def subscribed_peer(hub: Core, name: str, *channels: str, **options: Any) -> Peer:
    peer = Peer(hub, name)
    peer.connect(*(channels or ("robots",)), **options)
    return peer


def settled(hub: Core, name: str, *channels: str) -> Peer:
    """A live peer that has received everything."""
    peer = subscribed_peer(hub, name, *channels)
    hub.fanout.write()
    peer.take()
    return peer


def with_a_rate(hub: Core) -> Peer:
    """A live peer with a rate of one event per second."""
    peer = Peer(hub, "p")
    peer.connect()
    peer.send(type="subscribe", channels=["robots"], rate=1)
    hub.fanout.write()
    peer.take()
    return peer


def test_pending_events_are_one_write_in_order(hub: Core) -> None:
    peer = settled(hub, "p")
    hub.fanout.take_tally()
    for _ in range(3):
        publish(hub, "robots", 2)
    assert offsets(peer) == []
    hub.fanout.write()

    assert offsets(peer) == [6, 7, 8, 9, 10, 11]
    assert hub.fanout.take_tally().writes == 1


def test_nothing_is_written_twice(hub: Core) -> None:
    peer = settled(hub, "p")
    publish(hub, "robots")
    hub.fanout.write()
    hub.fanout.write()

    assert offsets(peer) == [6]


def test_a_new_client_starts_behind_what_is_pending(hub: Core) -> None:
    live = settled(hub, "live")
    publish(hub, "robots", 2)
    new = subscribed_peer(hub, "new")
    [subscribed] = [one for one in new.take() if one["type"] == "subscribed"]
    publish(hub, "robots", 2)
    hub.fanout.write()
    publish(hub, "robots")
    hub.fanout.write()

    assert subscribed["positions"]["robots"]["offset"] == 7
    assert offsets(new) == [8, 9, 10]
    assert offsets(live) == [6, 7, 8, 9, 10]
    assert len(list(hub.fanout.cohorts)) == 1, "both are live and share their writes"


def test_last_includes_pending_events_once(hub: Core) -> None:
    publish(hub, "robots", 2)
    new = subscribed_peer(hub, "new", last=3)
    assert offsets(new) == [5, 6, 7]
    publish(hub, "robots")
    hub.fanout.write()

    assert offsets(new) == [8]


def test_a_client_that_resumes_gets_pending_events_once(hub: Core) -> None:
    publish(hub, "robots", 2)
    back = subscribed_peer(hub, "back", since={"robots": Position("e1", 4)})
    assert offsets(back) == [5, 6, 7]
    hub.fanout.write()

    assert offsets(back) == []


def test_a_position_from_the_history_may_be_ahead_of_the_live_clients(hub: Core) -> None:
    """Pending events are in the history: a client that resumes behind them does not get them again."""
    publish(hub, "robots", 2)
    peer = subscribed_peer(hub, "p", since={"robots": hub.logs.by_name["robots"].position})
    hub.fanout.write()
    publish(hub, "robots")
    hub.fanout.write()

    assert offsets(peer) == [8]


def test_a_client_that_subscribes_gets_pending_events_first(hub: Core) -> None:
    peer = settled(hub, "p")
    publish(hub, "robots", 2)
    publish(hub, "metrics", 2)
    [reply, *_] = peer.send(type="subscribe", channels=["metrics"])
    positions = peer.send(type="ping")[-1]["positions"]
    publish(hub, "metrics")
    hub.fanout.write()

    assert reply["positions"]["metrics"]["offset"] == 2
    assert positions["robots"]["offset"] == 7
    seen = [(one["channel"], one["offset"]) for one in peer.take() if one["type"] == "event"]
    assert seen == [("robots", 6), ("robots", 7), ("metrics", 3)]


def test_a_client_that_unsubscribes_gets_nothing_more(hub: Core) -> None:
    peer = settled(hub, "p", "robots", "metrics")
    publish(hub, "robots")
    publish(hub, "metrics")
    peer.send(type="unsubscribe", channels=["robots"])
    hub.fanout.write()

    assert offsets(peer, "metrics") == [1]
    assert offsets(peer) == []


def test_positions_are_those_of_what_was_written(hub: Core) -> None:
    peer = settled(hub, "p")
    publish(hub, "robots", 2)
    before = peer.send(type="ping")[-1]["positions"]["robots"]["offset"]
    hub.fanout.write()
    after = peer.send(type="ping")[-1]["positions"]["robots"]["offset"]

    assert (before, after) == (5, 7)
    assert hub.heads()["robots"].at == 7


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

    assert offsets(peer) == [6, 7]


def test_a_client_that_disconnects_while_events_are_pending_loses_nothing(hub: Core) -> None:
    peer = settled(hub, "p")
    session = peer.session
    assert session is not None
    session.on_ping(b"1", hub.heads())
    session.on_pong(b"1")
    publish(hub, "robots", 2)
    peer.disconnect()
    hub.fanout.write()
    assert offsets(peer) == []
    publish(hub, "robots")
    peer.connect(session=session.secret)
    assert offsets(peer) == [6, 7, 8]
    hub.fanout.write()

    assert offsets(peer) == []


def test_a_full_socket_lags_from_before_what_was_pending(hub: Core) -> None:
    peer = settled(hub, "p")
    publish(hub, "robots", 2)
    peer.writing_paused = True
    hub.fanout.write()
    publish(hub, "robots")
    peer.read_on()
    assert offsets(peer) == [6, 7, 8]
    hub.fanout.write()
    publish(hub, "robots")
    hub.fanout.write()

    assert offsets(peer) == [9]


def test_a_personal_message_overtakes_pending_events(hub: Core) -> None:
    for paused in (False, True):
        peer = settled(hub, f"p{paused}")
        assert peer.session is not None
        at = hub.logs.by_name["robots"].at
        publish(hub, "robots", 2)
        peer.writing_paused = paused
        message = Broadcast(event=Raw(b'{"hello":1}'), client_id=peer.session.client_id)
        hub.broadcast(message, open_identity(), now_ns=0)
        hub.fanout.write()
        if paused:
            peer.read_on()
        seen = [(one["channel"], one["offset"]) for one in peer.take() if one["type"] == "event"]

        assert sorted(seen) == [("$personal", 1), ("robots", at + 1), ("robots", at + 2)]


def test_flush_reader_writes_pending_events_to_one_reader_only(hub: Core) -> None:
    peer, other = settled(hub, "p"), settled(hub, "other")
    assert peer.session is not None
    assert peer.session.reader is not None
    publish(hub, "robots", 2)
    hub.fanout.flush_reader(peer.session.reader)
    assert offsets(peer) == [6, 7]
    assert offsets(other) == []
    hub.fanout.write()

    assert offsets(peer) == []
    assert offsets(other) == [6, 7]


def test_a_rate_uses_the_time_of_writing(hub: Core) -> None:
    """Events that were received before a view's last write do not cause another."""
    peer = with_a_rate(hub)
    start = 10 * SECOND
    publish(hub, "robots", now_ns=start)
    hub.fanout.write(now_ns=start)
    publish(hub, "robots", now_ns=start + 500 * MS)
    hub.fanout.write(now_ns=start + 500 * MS)
    assert offsets(peer) == [6]
    publish(hub, "robots", now_ns=start + 999 * MS)
    hub.fanout.flush(now_ns=start + SECOND)
    assert offsets(peer) == [7]
    hub.fanout.write(now_ns=start + SECOND + MS)
    assert offsets(peer) == []
    hub.fanout.flush(now_ns=start + 2 * SECOND)

    assert offsets(peer) == [8]


def test_events_that_were_held_back_come_before_pending_ones(hub: Core) -> None:
    peer = with_a_rate(hub)
    publish(hub, "robots", now_ns=SECOND)
    hub.fanout.write()
    publish(hub, "robots", 2, now_ns=SECOND + MS)
    hub.fanout.write()
    publish(hub, "robots", now_ns=SECOND + 2 * MS)
    peer.take()
    places = peer.send(type="ping")[-1]["positions"]["robots"]["offset"]
    peer.take()
    hub.fanout.flush(now_ns=2 * SECOND)
    [event, gap] = peer.take()
    hub.fanout.write(now_ns=2 * SECOND)
    hub.fanout.flush(now_ns=3 * SECOND)

    assert places == 6
    assert (event["offset"], gap["from"], gap["to"], gap["count"]) == (8, 7, 8, 1)
    assert offsets(peer) == [9]


def hold_back(hub: Core, peer: Peer) -> None:
    """Publish event 6, which a peer with a rate gets, and event 7, which its rate holds back."""
    for now_ns in (10 * SECOND, 10 * SECOND + MS):
        publish(hub, "robots", now_ns=now_ns)
        hub.fanout.write(now_ns=now_ns)
    assert [6] == offsets(peer)


def test_what_a_rate_holds_back_comes_also_if_the_client_subscribes_to_more_meanwhile(hub: Core) -> None:
    peer = with_a_rate(hub)
    hold_back(hub, peer)
    peer.send(type="subscribe", channels=["logs"])
    hub.fanout.flush(now_ns=12 * SECOND)

    assert [7] == offsets(peer)


def test_a_client_gets_nothing_that_was_held_back_before_it_subscribed(hub: Core) -> None:
    """It joins others whose rate holds something back."""
    peer, late = with_a_rate(hub), settled(hub, "late", "logs")
    peer.send(type="subscribe", channels=["logs"])
    hold_back(hub, peer)
    late.send(type="subscribe", channels=["robots"], rate=1)
    hub.fanout.flush(now_ns=12 * SECOND)

    assert [7] == offsets(peer)
    assert [] == offsets(late)


def test_a_client_whose_socket_is_full_gets_nothing_more_also_if_it_subscribes_to_more_meanwhile(hub: Core) -> None:
    """It lags until its socket has drained: else what waits for it there would have no limit."""
    peer = settled(hub, "p")
    peer.writing_paused = True
    peer.send(type="subscribe", channels=["logs"])
    peer.take()
    publish(hub, "robots", 2)
    hub.fanout.write()
    while_full = offsets(peer)
    peer.read_on()

    assert while_full == []
    assert offsets(peer) == [6, 7]


def test_a_client_gets_all_events_of_a_channel_that_was_closed_since_it_asked_for_the_current_value(hub: Core) -> None:
    """The current value's place in the earlier log is no place in the new one."""
    peer = settled(hub, "p", "logs")
    peer.send(type="subscribe", channels=["robots"], last=1)
    hub.fanout.write()
    peer.send(type="unsubscribe", channels=["robots"])
    hub.logs.close("robots")
    publish(hub, "robots")
    hub.fanout.write()
    peer.send(type="subscribe", channels=["robots"])
    peer.take()
    peer.writing_paused = True
    publish(hub, "robots", 2)
    hub.fanout.write()
    peer.read_on()

    assert offsets(peer) == [2, 3]
