"""Configuration, identities and sessions come out of the wire as they went in."""

from __future__ import annotations

import msgspec

from gateway.config.model import Config, History, Role
from gateway.core.sessions import store
from gateway.core.sessions.permissions import Claims, Grants, Identity, Policy
from gateway.workers import messages
from tests.support.core import Peer, make_hub


def through(message: messages.ToWorker) -> messages.ToWorker:
    decoder: msgspec.msgpack.Decoder[messages.ToWorker] = msgspec.msgpack.Decoder(messages.ToWorker)
    return decoder.decode(msgspec.msgpack.encode(message))


def identity() -> Identity:
    policy = Policy({"reader": Grants(("a.*",), ("b",))}, unauthenticated_role=None)
    claims = Claims(user_id="ada", expires_ns=7, roles=("reader",), grants=Grants(("c.>",)))
    return policy.identity(claims)


def test_a_configuration_stays_as_it_is() -> None:
    config = Config(
        workers=3, channels={"a.b": History(key="data.k")}, roles={"x": Role(subscribe=(">",))}
    )

    assert messages.Begin(config, "e1", "/r") == through(messages.Begin(config, "e1", "/r"))


def test_an_identity_stays_as_it_is() -> None:
    decoder = msgspec.msgpack.Decoder(messages.ToParent)
    message = messages.Arrive(1, "client", "secret", identity(), None, "203.0.113.7")

    assert message == decoder.decode(msgspec.msgpack.encode(message))


def test_a_session_stays_as_it_is() -> None:
    """What it follows, under which conditions and rights, how far it came, what waits for it."""
    hub = make_hub()
    peer = Peer(hub, "p")
    peer.connect("robots")
    session = peer.session
    assert session is not None
    hub.receive(
        session,
        '{"type":"subscribe","channels":["a.*",{"channel":"logs","filter":"data.n > 1","rate":2}]}',
        now_ns=0,
    )
    session.subscriptions["a.*"] = session.subscriptions["a.*"]._replace(within=frozenset({"a.b"}))
    state = store.pack(session)
    message = through(messages.Admitted(1, state))
    assert isinstance(message, messages.Admitted)
    assert message.session == state
    followed = store.subscriptions(message.session.followed)

    assert session.subscriptions == followed
    assert {"$everyone", "logs", "robots"} <= message.session.known.keys()
