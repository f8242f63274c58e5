"""What a client may subscribe to, from its first message to a change of its permissions."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET

from gateway.config.model import Config
from gateway.core.protocol.errors import RequestError
from gateway.core.protocol.messages import Position
from gateway.core.sessions.permissions import Claims, Grants, Identity, Policy
from gateway.core.sessions.session import Session
from gateway.wiring import build_policy
from tests.support.core import SECOND, Core, Peer, make_hub, publish


NOBODY = Policy({"anonymous": Grants(subscribe=("metrics",))}, None).anonymous


def user(*patterns: str, name: str = "alice") -> Identity:
    claims = Claims(user_id=name, expires_ns=100 * SECOND, grants=Grants(subscribe=patterns))
    return build_policy(Config()).identity(claims)


def kinds(received: list[dict[str, Any]]) -> list[str]:
    return [message["type"] for message in received]


def channels(received: list[dict[str, Any]]) -> list[str]:
    return [message["channel"] for message in received if message["type"] == "event"]


def test_only_channels_that_a_client_may_see_are_suggested_to_it() -> None:
    hub = make_hub()
    publish(hub, "secrets")
    publish(hub, "robots")
    peer = Peer(hub, "a")
    peer.connect(identity=user("secret", "robot", "robots"))
    [secret] = peer.send(type="subscribe", channels=["secret"])
    [robot] = peer.send(type="subscribe", channels=["robot"])

    assert "warnings" not in secret
    assert ["no such channel yet: `robot`; did you mean `robots`?"] == robot["warnings"]


def authenticate(hub: Core, session: Session, identity: Identity) -> None:
    hub.authenticate(session, identity, UNSET, now_ns=0)


def test_denied_channels_are_listed_with_the_reason_and_the_others_are_served() -> None:
    hub = make_hub()
    anonymous, alice = Peer(hub, "s"), Peer(hub, "a")
    anonymous.connect(identity=NOBODY)
    alice.connect(identity=user("robots"))
    [to_anonymous] = anonymous.send(type="subscribe", channels=["metrics", "robots", "x.>"])
    [to_alice] = alice.send(type="subscribe", channels=["robots", "logs"])
    for peer in (anonymous, alice):
        peer.take()
    for name in ("metrics", "robots", "logs", "x.y"):
        publish(hub, name) if name not in {"logs"} else None

    assert ["metrics"] == to_anonymous["channels"]
    assert [("robots", "unauthorized"), ("x.>", "unauthorized")] == [
        (one["channel"], one["code"]) for one in to_anonymous["denied"]
    ]
    assert [("logs", "forbidden")] == [(o["channel"], o["code"]) for o in to_alice["denied"]]
    assert {"metrics"} == set(to_anonymous["positions"])
    assert ["metrics"] == channels(anonymous.take())
    assert ["robots"] == channels(alice.take())


def test_a_wildcard_gets_only_granted_channels_also_of_those_that_open_later() -> None:
    hub = make_hub()
    publish(hub, "app.a")
    publish(hub, "secret.a")
    peer = Peer(hub, "p")
    peer.connect(identity=user("app.*", "pub"))
    replies, *_ = peer.send(type="subscribe", channels=[">"], last=10)
    publish(hub, "app.b")
    publish(hub, "secret.b")
    publish(hub, "pub")

    assert {"app.a"} == set(replies["positions"]) - {"metrics", "status", "connections"}
    assert ["app.a", "app.b", "pub"] == channels(peer.take())


def test_a_position_does_not_grant_a_channel() -> None:
    hub = make_hub()
    publish(hub, "secret", 3)
    peer = Peer(hub, "p")
    peer.connect(identity=user("app.*"))
    since = {"secret": {"epoch": hub.logs.by_name["secret"].position.epoch, "offset": 0}}
    peer.take()
    peer.send(type="subscribe", channels=[">"], since=since)
    peer.send(type="subscribe", channels=[{"channel": "secret", "last": 3}])

    assert [] == channels(peer.received)
    assert all("secret" not in one.get("positions", {}) for one in peer.received)


def test_clients_with_different_grants_for_one_wildcard_share_no_bytes() -> None:
    hub = make_hub()
    peers = {name: Peer(hub, name) for name in ("a", "b", "all")}
    peers["a"].connect(">", identity=user("x.a"))
    peers["b"].connect(">", identity=user("x.b"))
    peers["all"].connect(">", identity=user(">"))
    for peer in peers.values():
        peer.take()
    publish(hub, "x.a", 2)
    publish(hub, "x.b")

    assert ["x.a"] * 2 == channels(peers["a"].take())
    assert ["x.b"] == channels(peers["b"].take())
    assert ["x.a", "x.a", "x.b"] == channels(peers["all"].take())


def test_a_new_token_adds_and_removes_channels_of_a_wildcard() -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    session = peer.connect("x.>", "y", identity=user("x.a", "y"))
    publish(hub, "x.b")
    peer.take()
    authenticate(hub, session, user("x.b"))
    replies = peer.take()
    publish(hub, "x.a")
    publish(hub, "x.b")
    publish(hub, "y")
    epoch = hub.logs.by_name["x.b"].position.epoch

    assert ["authenticated", "unsubscribed", "subscribed"] == kinds(replies)
    assert ["y"] == replies[1]["channels"]
    assert ["forbidden"] == [one["code"] for one in replies[1]["denied"]]
    assert ["x.>"] == replies[2]["channels"]
    assert {"x.b": {"epoch": epoch, "offset": 1}} == replies[2]["positions"]
    assert ["x.b"] == channels(peer.take())
    assert ["x.>"] == peer.send(type="get_subscriptions")[0]["channels"]


def test_a_lagging_client_gets_nothing_more_of_a_denied_channel() -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    session = peer.connect("x", "y", identity=user("x", "y"))
    peer.writing_paused = True
    publish(hub, "x", 5)
    publish(hub, "y", 5)
    peer.take()
    authenticate(hub, session, user("y"))
    peer.read_on()

    assert {"y"} == set(channels(peer.take()))


def test_an_anonymous_client_may_become_a_user_but_a_user_not_another_one() -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    session = peer.connect("metrics", identity=NOBODY)
    authenticate(hub, session, user("x"))
    reached = hub.store.of_user("alice")
    with pytest.raises(RequestError, match="another user"):
        authenticate(hub, session, user(">", name="mallory"))

    assert [session] == reached
    assert "alice" == session.user_id
    assert ["metrics"] == peer.send(type="get_subscriptions")[0]["channels"]


@pytest.mark.parametrize("who", [NOBODY, user(">", name="mallory")], ids=["nobody", "another"])
def test_another_user_cannot_resume_a_session_even_with_its_secret(who: Identity) -> None:
    hub = make_hub()
    alice, mallory = Peer(hub, "a"), Peer(hub, "m")
    session = alice.connect("x", identity=user("x"))
    stolen = session.secret
    mallory.connect(session=stolen, identity=who)
    held = hub.sessions.get(session.client_id)
    alice.disconnect()
    mallory.connect(session=stolen, identity=who)

    assert not any(one["resumed"] for one in mallory.received if one["type"] == "connected")
    assert held is session
    assert [] == mallory.send(type="get_subscriptions")[0]["channels"]


def test_a_resumed_session_has_the_permissions_of_the_new_token() -> None:
    hub = make_hub()
    publish(hub, "x")
    publish(hub, "y")
    peer = Peer(hub, "p")
    session = peer.connect("x", "y", identity=user("x", "y"))
    peer.disconnect()
    publish(hub, "x")
    publish(hub, "y")
    peer.take()
    epoch = hub.logs.by_name["x"].position.epoch
    since = {name: Position(epoch, 1) for name in ("x", "y")}
    peer.connect(session=session.secret, since=since, identity=user("y"))
    hello, subscribed, *events = peer.take()

    assert hello["resumed"]
    assert (["y"], ["x"]) == (subscribed["channels"], [one["channel"] for one in subscribed["denied"]])
    assert ["y"] == channels(events)


def test_a_broadcast_needs_permission_to_publish() -> None:
    from msgspec import Raw

    from gateway.core.protocol.messages import Broadcast

    hub = make_hub()
    event = Raw(b'{"hello":1}')
    writer = build_policy(Config()).identity(Claims(user_id="w", expires_ns=1, grants=Grants(publish=("notes",))))
    for refused in (
        Broadcast(event=event, channel="metrics"),
        Broadcast(event=event, everyone=True),
        Broadcast(event=event, user_id="alice"),
        Broadcast(event=event, client_id="nobody"),
    ):
        with pytest.raises(RequestError, match="none of your roles"):
            hub.broadcast(refused, writer, now_ns=0)
        with pytest.raises(RequestError, match="a token is needed"):
            hub.broadcast(refused, NOBODY, now_ns=0)

    assert "notes" == hub.broadcast(Broadcast(event=event, channel="notes"), writer, now_ns=0).channel
