"""Who arrives with which wishes, as which session, and what is left behind."""

import asyncio
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import replace

import msgspec

from gateway.core import messages
from gateway.core.errors import CloseCode, ErrorCode, RequestError
from gateway.core.hub import Arrival
from gateway.core.messages import Position
from gateway.web.connection import Connection
from gateway.web.context import Context


_SECRET_BYTES = 24
_USER_CHARS_MAX = 128
_DIGITS_MAX = 9
_SOON_SECONDS = 1.0
"""A gateway that has just started is soon ready."""


def refusal(context: Context, address: str) -> CloseCode | None:
    """Say why nobody from there is let in now; told on the open connection, as browsers see nothing before."""
    if context.draining:
        return CloseCode.RESTART
    if context.refilling():
        return CloseCode.TRY_LATER
    if len(context.connections) >= context.config.clients.connections_max:
        context.metrics.refused("clients")
        return CloseCode.TRY_LATER
    if context.places.full(address):
        context.metrics.refused("address")
        return CloseCode.TRY_LATER
    return None


def spread_seconds(context: Context) -> float:
    """Return over what time clients that are sent away now are asked to come back."""
    return _SOON_SECONDS if context.refilling() else context.config.shutdown.spread_seconds


async def close_all(context: Context, code: CloseCode) -> None:
    """Send every client away and wait until all are gone."""
    connections = list(context.connections.values())
    for connection in connections:
        connection.end(code)
    await asyncio.gather(*(connection.gone() for connection in connections))


def arrive(context: Context, connection: Connection, arrival: Arrival) -> None:
    """Give a connection its session: a new one, or the one that its secret opens."""
    hub, now_ns = context.hub, context.now_ns()
    held = hub.attached(arrival.session, now_ns=now_ns) if arrival.session else None
    if held is not None:
        old = context.connections[held.client_id]
        old.end(CloseCode.SESSION_TAKEN_OVER)
        leave(context, old)
    session = hub.arrive(arrival, connection.reader, now_ns=now_ns)
    connection.session = session
    context.connections[session.client_id] = connection
    context.places.take(connection.address)
    context.metrics.opened()
    context.pulse.add(connection, now=asyncio.get_running_loop().time())


def leave(context: Context, connection: Connection, *, remember: bool = True) -> None:
    """Release everything that a connection held; once, whoever comes first.

    Its session can be taken up again if it is to be remembered.
    """
    session = connection.session
    if session is None:
        return
    connection.session = None
    now_ns = context.now_ns()
    code = connection.code
    seconds = (now_ns - connection.connected_ns) / 1e9
    context.pulse.remove(connection)
    del context.connections[session.client_id]
    context.places.free(connection.address)
    context.hub.depart(session, code=code, seconds=seconds, remember=remember, now_ns=now_ns)
    context.metrics.closed(code, seconds)


def read(query: Mapping[str, str]) -> Arrival:
    """Read what a client brings with its address.

    Raises:
        RequestError: A parameter is not what it should be.
    """
    user_id = query.get("user_id") or None
    if user_id is not None and len(user_id) > _USER_CHARS_MAX:
        raise RequestError(
            ErrorCode.INVALID_FIELD, f"user_id: at most {_USER_CHARS_MAX} characters"
        )
    return Arrival(
        client_id=str(uuid.uuid4()),
        secret=secrets.token_urlsafe(_SECRET_BYTES),
        user_id=user_id,
        session=query.get("session") or None,
        channels=[name for name in query.get("channels", "").split(",") if name],
        last=_last(query.get("last")),
        since=_since(query.get("since")),
        conditions=messages.Conditions(query.get("filter") or None, _rate(query.get("rate"))),
    )


def at(arrival: Arrival, since: Mapping[str, Position]) -> Arrival:
    """Return the same arrival at other positions."""
    return replace(arrival, since=since)


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
