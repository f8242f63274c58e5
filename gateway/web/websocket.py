"""The WebSocket endpoint: who arrives, as which session, and what is left behind."""

import asyncio
import secrets
import uuid
from collections.abc import Mapping

import msgspec
from aiohttp import web

from gateway.core import messages
from gateway.core.errors import CloseCode, ErrorCode, RequestError
from gateway.core.hub import Arrival
from gateway.core.messages import Position
from gateway.logs import logger
from gateway.web.connection import Connection
from gateway.web.context import CONTEXT, Context
from gateway.web.transport import Socket


log = logger("gateway.websocket")

_SECRET_BYTES = 24
_USER_CHARS_MAX = 128
_DIGITS_MAX = 9


async def websocket(request: web.Request) -> web.StreamResponse:
    """Serve one client at ``/ws``; see docs/protocol.md, part 2."""
    context = request.app[CONTEXT]
    ws = Socket(message_bytes_max=context.config.clients.message_bytes_max)
    if not ws.can_prepare(request):
        raise web.HTTPUpgradeRequired(
            text="this address speaks WebSocket", headers={"Upgrade": "websocket"}
        )
    await ws.prepare(request)
    if request.transport is None:
        return ws
    connection = Connection(
        request,
        ws,
        hub=context.hub,
        pulse=context.pulse,
        limits=context.config.clients,
        spread_seconds=context.config.shutdown.spread_seconds,
        now_ns=context.now_ns(),
    )
    refusal = _refusal(context)
    if refusal is not None:
        connection.end(refusal)
        context.metrics.closed(refusal, 0)
    if connection.ending:  # refused, or a violation came in one segment with the handshake
        await connection.serve(context.now_ns)
        return ws
    try:
        _arrive(context, connection, request)
        await connection.serve(context.now_ns)
    except Exception:
        log.exception("connection failed", client_id=connection.client_id)
        connection.end(CloseCode.INTERNAL)
        await connection.gone()
    finally:
        _leave(context, connection)
    return ws


def _refusal(context: Context) -> CloseCode | None:
    """Say why nobody is let in now; told after the upgrade, as browsers see nothing before it."""
    if context.draining:
        return CloseCode.RESTART
    if len(context.connections) >= context.config.clients.connections_max:
        return CloseCode.TRY_LATER
    return None


async def close_all(context: Context, code: CloseCode) -> None:
    """Send every client away and wait until all are gone."""
    connections = list(context.connections.values())
    for connection in connections:
        connection.end(code)
    await asyncio.gather(*(connection.gone() for connection in connections))


def _arrive(context: Context, connection: Connection, request: web.Request) -> None:
    """Give a connection its session: a new one, or the one that its secret opens."""
    hub, now_ns = context.hub, context.now_ns()
    error = None
    try:
        arrival = _arrival(request.query)
    except RequestError as wrong:
        arrival, error = _arrival({}), wrong
    held = hub.attached(arrival.session, now_ns=now_ns) if arrival.session else None
    if held is not None:
        old = context.connections[held.client_id]
        old.end(CloseCode.SESSION_TAKEN_OVER)
        _leave(context, old)
    session = hub.arrive(arrival, connection.reader, now_ns=now_ns)
    connection.session = session
    context.connections[session.client_id] = connection
    context.metrics.opened()
    context.pulse.add(connection, now=asyncio.get_running_loop().time())
    if error is not None:
        hub.refuse(session, error)


def _leave(context: Context, connection: Connection) -> None:
    """Release everything that a connection held; once, whoever comes first."""
    session = connection.session
    if session is None:
        return
    connection.session = None
    now_ns = context.now_ns()
    code = connection.code
    seconds = (now_ns - connection.connected_ns) / 1e9
    context.pulse.remove(connection)
    del context.connections[session.client_id]
    context.hub.depart(session, code=code, seconds=seconds, now_ns=now_ns)
    context.metrics.closed(code, seconds)


def _arrival(query: Mapping[str, str]) -> Arrival:
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
