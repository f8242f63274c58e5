"""Clients learn that their filters fail: at once, then once a minute while they do."""

from __future__ import annotations

from typing import Any

from tests.support.core import SECOND, Peer, make_hub, publish


def subscribed(peer: Peer, *channels: str | dict[str, Any], text: str = "data.missing > 1") -> None:
    peer.connect()
    peer.send(type="subscribe", channels=list(channels), filter=text)
    peer.take()


def warnings(peer: Peer) -> list[tuple[str, int]]:
    return [(one["channel"], one["count"]) for one in peer.take() if one["type"] == "warning"]


def test_a_filter_that_fails_is_reported_at_once_and_then_once_a_minute() -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    subscribed(peer, "robots")
    told = []
    for second in range(0, 130, 10):
        publish(hub, "robots", 2, now_ns=second * SECOND)
        hub.warn_of_failed_filters(now_ns=second * SECOND)
        told.append(warnings(peer))

    assert [("robots", 2)] == told[0]
    assert [("robots", 12)] == told[6]
    assert [("robots", 12)] == told[12]
    assert 3 == len([one for one in told if one])


def test_the_last_failures_are_reported_also_if_none_follow() -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    subscribed(peer, "robots")
    for second in (0, 1):
        publish(hub, "robots", now_ns=second * SECOND)
        hub.warn_of_failed_filters(now_ns=second * SECOND)
    peer.take()
    hub.warn_of_failed_filters(now_ns=59 * SECOND)
    before = warnings(peer)
    hub.warn_of_failed_filters(now_ns=60 * SECOND)

    assert [] == before
    assert [("robots", 1)] == warnings(peer)


def test_the_warning_has_the_filter_and_what_to_do() -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    subscribed(peer, "robots")
    publish(hub, "robots")
    hub.warn_of_failed_filters(now_ns=0)
    [*_, warning] = peer.take()

    assert "filter_failed" == warning["code"]
    assert warning["message"].startswith("the filter of `robots` failed on 1 event, which")
    assert warning["message"].endswith("has(data.x)`: data.missing > 1")


def test_only_the_subscriptions_whose_filter_decides_are_named() -> None:
    """Beside a filter that only does not match, the same one on another channel, and a wildcard that does not decide."""
    hub = make_hub()
    fine, other, both = Peer(hub, "f"), Peer(hub, "o"), Peer(hub, "b")
    subscribed(fine, "robots", text="event_type == 'x'")
    subscribed(other, "logs")
    subscribed(both, "x.*", "x.robots")
    publish(hub, "robots")
    publish(hub, "x.robots")
    hub.warn_of_failed_filters(now_ns=0)

    assert [] == warnings(fine)
    assert [] == warnings(other)
    assert [("x.robots", 1)] == warnings(both)


def test_failures_in_history_are_reported() -> None:
    hub = make_hub()
    publish(hub, "robots", 3)
    peer = Peer(hub, "p")
    peer.connect()
    peer.send(type="subscribe", channels=["robots"], last=2, filter="data.missing > 1")
    hub.warn_of_failed_filters(now_ns=0)

    assert [("robots", 2)] == warnings(peer)


def test_nothing_is_kept_of_clients_that_left() -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    subscribed(peer, "robots")
    publish(hub, "robots")
    hub.warn_of_failed_filters(now_ns=0)
    peer.disconnect()
    hub.warn_of_failed_filters(now_ns=60 * SECOND)

    assert {} == hub._filter_warnings._failing
