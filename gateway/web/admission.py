"""Who arrives with which wishes, as which session, and what is left behind."""

import asyncio
import logging
import secrets
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from gateway.core.protocol import messages
from gateway.core.protocol.errors import CloseCode, ErrorCode, RequestError
from gateway.core.protocol.messages import Position
from gateway.core.sessions.permissions import Identity
from gateway.core.sessions.requests import ConnectRequest
from gateway.core.sessions.session import Session
from gateway.logs import Throttle
from gateway.web.authentication import audit, of_token
from gateway.web.context import Context
from gateway.web.sockets.connection import Connection
from gateway.web.sockets.token_deadline import TokenDeadline


_SECRET_BYTES = 24
_USER_CHARS_MAX = 128
_DIGITS_MAX = 9
_denials = Throttle(count=5, interval_seconds=1.0)
_SOON_SECONDS = 1.0
"""A gateway that has just started is soon ready."""


def refusal(context: Context, address: str) -> CloseCode | None:
    """Say why nobody from there is let in now; told on the open connection, as browsers see nothing before."""
    if context.draining:
        return CloseCode.RESTART
    if context.refilling():
        return CloseCode.TRY_LATER
    if len(context.hub.sessions) >= context.config.clients.connections_max:
        context.metrics.refused("clients")
        return CloseCode.TRY_LATER
    if context.places.full(address):
        context.metrics.refused("address")
        return CloseCode.TRY_LATER
    return None


def spread_seconds(context: Context) -> float:
    """Return over what time clients that are sent away now are asked to come back."""
    return (
        _SOON_SECONDS if context.refilling() else context.config.shutdown.reconnect_spread_seconds
    )


async def close_all(context: Context, code: CloseCode) -> None:
    """Send every client away and wait until all are gone."""
    connections = list(context.connections.values())
    for connection in connections:
        connection.end(code)
    await asyncio.gather(*(connection.gone() for connection in connections))


async def arrive(context: Context, connection: Connection, connect_request: ConnectRequest) -> None:
    """Give a connection its session: a new one, or the one that its secret opens.

    It is sent away if its user, its address or everybody has too many clients already.
    """
    if context.registry is not None:
        await context.registry.arrive(connection, connect_request)
        return
    if connection.ending or connection.lost:
        return  # it went while its token was looked at
    held = context.hub.attached(connect_request, now_ns=context.now_ns())
    if held is None:
        full = too_many(context, connect_request.identity)
        # Asked again: others may have come while its token was looked at.
        refused = CloseCode.USER_LIMIT if full else refusal(context, connection.address)
        if refused is not None:
            connection.end(refused)
            context.metrics.closed(refused, 0)
            return
    if held is not None:
        old = context.connections[held.client_id]
        old.end(CloseCode.SESSION_TAKEN_OVER)
        leave(context, old)
    enter(context, connection, connect_request)


def enter(context: Context, connection: Connection, connect_request: ConnectRequest) -> None:
    """Greet a client that may come in; nothing else holds its session."""
    session = context.hub.connect(connect_request, connection.reader, now_ns=context.now_ns())
    connection.session = session
    context.connections[session.client_id] = connection
    context.places.take(connection.address)
    context.metrics.opened()
    context.heartbeat.add(connection, now=asyncio.get_running_loop().time())
    if context.verifier is not None:
        connection.token_deadline = TokenDeadline(connection, context.config.auth, context.now_ns)
        connection.token_deadline.settle()
    # With an open door it is anybody, and what anybody does fills logs.
    level = logging.DEBUG if context.verifier is None else logging.INFO
    audit.log(level, "client_connected", address=connection.address, **_who(session))


def too_many(context: Context, identity: Identity) -> bool:
    """Tell whether a user has as many clients as one may have."""
    if context.verifier is None or identity.user_id is None:
        return False
    return (
        context.hub.clients_of(identity.user_id) >= context.config.clients.connections_per_user_max
    )


async def authenticate(context: Context, connection: Connection, message: messages.Auth) -> None:
    """Let a connected client bring a token, its first or a newer one."""
    session = connection.session
    try:
        if context.verifier is None:
            raise RequestError(
                ErrorCode.UNSUPPORTED, "authentication is not configured on this gateway"
            )
        identity = await of_token(context, message.token, address=connection.address)
        if session is None or session is not connection.session:
            return  # it went meanwhile
        if not await _may_become(context, session, identity):
            raise RequestError(ErrorCode.FORBIDDEN, "this user has too many clients already")
        if session is not connection.session:
            return
        context.hub.authenticate(session, identity, message.id, now_ns=context.now_ns())
    except RequestError as error:
        if session is not None:
            session.refuse(error, message.id)
        return
    audit.info("client_authenticated", address=connection.address, **_who(session))
    if connection.token_deadline is not None:
        connection.token_deadline.settle()


async def _may_become(context: Context, session: Session, identity: Identity) -> bool:
    if context.registry is not None:
        return await context.registry.may_become(session, identity)
    return session.user_id == identity.user_id or not too_many(context, identity)


def denied(session: Session, channels: Sequence[str]) -> None:
    """Write down what somebody wanted to follow and may not."""
    suppressed = _denials.allow(session.client_id, now=time.monotonic())
    if suppressed is not None:
        audit.warning(
            "subscription_denied", channels=channels, suppressed=suppressed, **_who(session)
        )


def _who(session: Session) -> dict[str, object]:
    identity = session.identity
    return {
        "client_id": session.client_id,
        "user_id": identity.user_id,
        "roles": list(identity.roles),
    }


def leave(context: Context, connection: Connection, *, remember: bool = True) -> None:
    """Release everything that a connection held; once, whoever comes first.

    Its session can be taken up again if it is to be remembered.
    """
    session = connection.session
    if session is None:
        return
    connection.session = None
    if connection.token_deadline is not None:
        connection.token_deadline.cancel()
    now_ns = context.now_ns()
    code = connection.code
    seconds = (now_ns - connection.connected_ns) / 1e9
    context.heartbeat.remove(connection)
    del context.connections[session.client_id]
    context.places.free(connection.address)
    context.hub.disconnect(session, code=code, seconds=seconds, remember=remember, now_ns=now_ns)
    context.metrics.closed(code, seconds)


def read(query: Mapping[str, str], identity: Identity) -> ConnectRequest:
    """Read what a client brings with its address; with an open door also who it says it is.

    Raises:
        RequestError: A parameter is not what it should be.
    """
    user_id = query.get("user_id") or None
    if user_id is not None and len(user_id) > _USER_CHARS_MAX:
        raise RequestError(
            ErrorCode.INVALID_FIELD, f"user_id: at most {_USER_CHARS_MAX} characters"
        )
    if identity.is_open:
        identity = replace(identity, user_id=user_id)
    elif user_id not in {None, identity.user_id}:
        raise RequestError(ErrorCode.INVALID_FIELD, "user_id: here a token says who it is")
    return ConnectRequest(
        client_id=str(uuid.uuid4()),
        secret=secrets.token_urlsafe(_SECRET_BYTES),
        identity=identity,
        session=query.get("session") or None,
        channels=[name for name in query.get("channels", "").split(",") if name],
        last=_last(query.get("last")),
        since=_since(query.get("since")),
        options=messages.ViewOptions(query.get("filter") or None, _rate(query.get("rate"))),
    )


def at(connect_request: ConnectRequest, since: Mapping[str, Position]) -> ConnectRequest:
    """Return the same arrival at other positions."""
    return replace(connect_request, since=since)


def _last(text: str | None) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
        raise RequestError(ErrorCode.INVALID_FIELD, "last: a whole number of events")
    return int(text)


def _rate(text: str | None) -> float | None:
    if not text:
        return None
    try:
        return msgspec.convert(text, messages.Rate, strict=False)
    except msgspec.ValidationError as error:
        raise RequestError(ErrorCode.INVALID_FIELD, f"rate: {error}") from error


def _since(text: str | None) -> dict[str, Position] | None:
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=dict[str, Position])
    except (msgspec.DecodeError, RecursionError) as error:
        raise RequestError(
            ErrorCode.INVALID_FIELD,
            f'since: {error}; it is JSON like {{"metrics": {{"epoch": "...", "offset": 12}}}}',
        ) from error
