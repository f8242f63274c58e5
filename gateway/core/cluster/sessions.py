"""Sessions as the engine keeps them, so that another gateway can go on with them."""

import hashlib
from dataclasses import replace

import msgspec
from msgspec import UNSET, Struct

from gateway.core.fanout import filters
from gateway.core.fanout.views import Subscription
from gateway.core.log.log import ChannelLog
from gateway.core.log.sources import ORIGIN
from gateway.core.protocol.channels import EVERYONE, PERSONAL
from gateway.core.protocol.messages import Position
from gateway.core.sessions.hub import Hub
from gateway.core.sessions.permissions import Identity
from gateway.core.sessions.requests import ConnectRequest
from gateway.core.sessions.session import Session


class KeptSubscription(Struct, frozen=True, array_like=True):
    pattern: str
    filter: str | None
    rate: float | None
    binary: bool


class KeptSession(Struct, frozen=True):
    """A session without its secret and permissions, and the positions up to which its client has confirmed events."""

    user_id: str | None
    subscriptions: list[KeptSubscription]
    positions: dict[str, Position]
    engine: int = 0
    """The epoch of the engine in which it began: what was lost with that epoch may be all that it had of a channel."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(KeptSession).decode


def secret_key(secret: str) -> str:
    """Return what stands for a session's secret in the engine, whose data may be read by others."""
    return hashlib.sha256(secret.encode()).hexdigest()[:32]


def identity_key(identity: Identity) -> str:
    """Return what identities that may resume each other's sessions have in common; empty if all may."""
    return "" if identity.is_open else _encode([identity.user_id, identity.is_anonymous]).decode()


def encode(session: Session) -> bytes:
    subscriptions = [
        KeptSubscription(one.pattern, one.filter.text if one.filter else None, one.rate, one.binary)
        for one in session.subscriptions.values()
    ]
    # Who has had nothing of a channel yet begins with its oldest event, whoever numbers it at the other gateway.
    known = {name: at.position for name, at in session.known.items() if any(at.position.offsets.values())}
    if session.personal is not None and any(session.personal.position.offsets.values()):
        known[PERSONAL] = _personal_position(session, session.personal)
    return _encode(KeptSession(session.user_id, subscriptions, {**session.elsewhere, **known}, session.engine))


def _personal_position(session: Session, log: ChannelLog) -> Position:
    """Return what the client has confirmed of each source of its personal messages, also where that is nothing: what only
    this gateway has numbered is lost if the client moves, and the next gateway reports each source that it does not know."""
    at = session.known[PERSONAL].position if PERSONAL in session.known else session.elsewhere.get(PERSONAL)
    confirmed = {} if at is None else {id_: offset for id_, offset in at.offsets.items() if id_}
    newest = log.position
    offsets = {**dict.fromkeys(newest.offsets, 0), **confirmed}
    others = {id_: offset for id_, offset in offsets.items() if id_ != newest.epoch}
    return Position(newest.epoch, offsets[newest.epoch], others or UNSET)


def numbered_here(session: Session) -> int:
    """Return how many personal messages this gateway has numbered for a session."""
    log = session.personal
    return 0 if log is None else log.position.offsets.get(log.own_source, 0)


def only_here(session: Session) -> int:
    """Return how many of them no other gateway would report: the engine does not have a position before them, and the
    client has not confirmed them."""
    log = session.personal
    if log is None:
        return 0
    confirmed = _personal_position(session, log).offsets.get(log.own_source, 0)
    return max(numbered_here(session) - max(confirmed, session.numbered_written), 0)


def restore(hub: Hub, client_id: str, kept: bytes, request: ConnectRequest, *, engine: int, now_ns: int) -> Session:
    """Add another gateway's session to the hub, as that of a client that has disconnected and brings its secret; `engine`
    is the epoch of the engine now.
    Raises msgspec.MsgspecError: it cannot be read."""
    found = _decode(kept)
    identity = request.identity
    if identity.expires_ns is None:
        identity = replace(identity, user_id=found.user_id)
    session = hub.new_session(client_id, identity)
    session.subscriptions = {
        one.pattern: Subscription(
            one.pattern, None if one.filter is None else filters.parse(one.filter), one.rate, binary=one.binary
        )
        for one in found.subscriptions
    }
    session.elsewhere, session.engine = found.positions, found.engine
    if EVERYONE not in found.positions and found.engine in (0, engine):
        session.known = {EVERYONE: ORIGIN}
    elif EVERYONE not in found.positions:
        session.elsewhere = {
            **found.positions,
            EVERYONE: ORIGIN.position,
        }  # of no source, so it is not known what it missed
    assert request.session is not None
    hub.store.add_attached(session, request.session)
    hub.store.remember(session, now_ns=now_ns)
    return session
