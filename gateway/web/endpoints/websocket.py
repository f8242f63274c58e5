"""The WebSocket endpoint."""

import functools

from aiohttp import web

from gateway.core.protocol.errors import CloseCode, RequestError
from gateway.core.sessions.permissions import Identity
from gateway.logs import logger
from gateway.web import admission, authentication
from gateway.web.context import CONTEXT, Context
from gateway.web.sockets.connection import Connection, Frames
from gateway.web.sockets.websocket import upgrade


log = logger("gateway.websocket")


async def websocket(request: web.Request) -> web.StreamResponse:
    """Serve one client at ``/ws``; see docs/protocol.md, part 2."""
    context = request.app[CONTEXT]
    token = authentication.of_header(request)
    if token is not None:  # no browser: it sees the status of a refusal
        await authentication.of_token(context, token, address=request.remote or "")
    limits = context.config.clients
    answer, receive_queue, window_bits = await upgrade(
        request,
        protocol=authentication.SUBPROTOCOL,
        message_bytes_max=limits.message_bytes_max,
        compression=limits.compression_bytes_min > 0,
    )
    if request.transport is None:
        return answer
    connection = Connection(
        request,
        Frames(
            receive_queue, None if window_bits is None else context.compressor.encoder(window_bits)
        ),
        hub=context.hub,
        heartbeat=context.heartbeat,
        sockets=context.sockets,
        limits=limits,
        spread_seconds=admission.spread_seconds(context),
        now_ns=context.now_ns(),
    )
    refused = admission.refusal(context, connection.address)
    if refused is not None:
        connection.end(refused)
        context.metrics.closed(refused, 0)
    authenticate = functools.partial(admission.authenticate, context, connection)
    if connection.ending:  # refused, or a violation came in one segment with the handshake
        await connection.serve(context.now_ns, authenticate)
        return answer
    try:
        who = await _identify(context, connection, request)
        if who is not None:
            await _arrive(context, connection, request, who)
        connection.settle()
        await connection.serve(context.now_ns, authenticate)
    except Exception:
        log.exception("connection_failed", client_id=connection.client_id)
        connection.end(CloseCode.INTERNAL)
        await connection.gone()
    finally:
        admission.leave(context, connection)
    return answer


async def _identify(
    context: Context, connection: Connection, request: web.Request
) -> Identity | None:
    """Return who a client is; None if its token is not valid, which only the open socket can tell."""
    try:
        token = authentication.of_subprotocol(request)
        if token is None or context.verifier is None:
            return await authentication.of_request(request)
        return await authentication.of_token(context, token, address=connection.address)
    except RequestError as error:
        code = CloseCode.TRY_LATER if error.code.temporary else CloseCode.UNAUTHORIZED
        connection.refuse(error, code)
        context.metrics.closed(code, 0)
        return None


async def _arrive(
    context: Context, connection: Connection, request: web.Request, who: Identity
) -> None:
    """Let a client in; what is wrong with its wishes is told, and it may still ask for others."""
    try:
        connect_request, error = admission.read(request.query, who), None
    except RequestError as wrong:
        connect_request, error = admission.read({}, who), wrong
    await admission.arrive(context, connection, connect_request)
    if error is not None and connection.session is not None:
        connection.session.refuse(error)
