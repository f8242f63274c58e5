"""Configuration, identities and sessions are decoded as they were encoded."""

from __future__ import annotations

from gateway.config.model import ChannelHistory, Config, Role
from gateway.core.sessions.permissions import Claims, Grants, Identity, Policy
from gateway.core.sessions.store import state_of
from gateway.workers import messages
from tests.support.core import Peer, make_hub, publish


def through(message: messages.ToWorker) -> messages.ToWorker:
    return messages.to_worker.decode(messages.encode(message))


def identity() -> Identity:
    policy = Policy({"reader": Grants(("a.*",), ("b",))}, unauthenticated_role=None)
    claims = Claims(user_id="ada", expires_ns=7, roles=("reader",), grants=Grants(("c.>",)))
    return policy.identity(claims)


def test_a_configuration_stays_as_it_is() -> None:
    config = Config(workers=3, channels={"a.b": ChannelHistory(key="data.k")}, roles={"x": Role(subscribe=(">",))})

    assert messages.Start(config, "e1") == through(messages.Start(config, "e1"))


def test_an_identity_stays_as_it_is() -> None:
    message = messages.Admit(1, "client", "secret", identity(), None, "203.0.113.7", "sse")

    assert message == messages.to_parent.decode(messages.encode(message))


def test_a_session_stays_as_it_is() -> None:
    """What it follows, under which conditions and rights, how far it came, what waits for it."""
    hub = make_hub()
    publish(hub, "robots")
    peer = Peer(hub, "p")
    peer.connect("robots")
    session = peer.session
    assert session is not None
    hub.receive(
        session, '{"type":"subscribe","channels":["a.*",{"channel":"logs","filter":"data.n > 1","rate":2}]}', now_ns=0
    )
    session.subscriptions["a.*"] = session.subscriptions["a.*"]._replace(within=frozenset({"a.b"}))
    state = state_of(session)
    message = through(messages.Admitted(1, state))
    assert isinstance(message, messages.Admitted)
    assert message.session == state

    assert list(session.subscriptions.values()) == message.session.subscriptions
    assert {"$everyone", "logs", "robots"} <= message.session.known.keys()
