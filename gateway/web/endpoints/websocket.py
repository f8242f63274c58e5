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
    token = authentication.bearer_token(request)
    identity = None
    if token is not None:  # not from a browser: its client sees the HTTP status of a refusal
        identity = await authentication.identity_of_token(
            context, token, address=request.remote or ""
        )
    limits = context.config.clients
    answer, receive_queue, window_bits = await upgrade(
        request,
        protocol=authentication.SUBPROTOCOL,
        message_bytes_max=limits.message_bytes_max,
        compression=limits.compressed_bytes_min > 0,
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
        identity = await _identify(context, connection, request, identity)
        if identity is not None:
            await _admit(context, connection, request, identity)
        connection.settle()
        await connection.serve(context.now_ns, authenticate)
    except Exception:
        log.exception("connection failed", client_id=connection.client_id)
        connection.end(CloseCode.INTERNAL)
        await connection.gone()
    finally:
        admission.leave(context, connection)
    return answer


async def _identify(
    context: Context, connection: Connection, request: web.Request, verified: Identity | None
) -> Identity | None:
    """Return the client's identity: that of its subprotocol's token, or the one already `verified`.

    If a token is invalid, the open connection reports it, as browsers hide the status of an upgrade,
    and the result is None.
    """
    try:
        token = authentication.subprotocol_token(request)
        if token is not None and context.verifier is not None:
            return await authentication.identity_of_token(
                context, token, address=connection.address
            )
        return verified or await authentication.identity_of_request(request)
    except RequestError as error:
        code = CloseCode.TRY_LATER if error.code.temporary else CloseCode.UNAUTHORIZED
        connection.refuse(error, code)
        context.metrics.closed(code, 0)
        return None


async def _admit(
    context: Context, connection: Connection, request: web.Request, identity: Identity
) -> None:
    """Admit a client; if its query parameters are invalid, without them, and report the error."""
    try:
        connect_request, error = admission.read(request.query, identity), None
    except RequestError as invalid:
        connect_request, error = admission.read({}, identity), invalid
    await admission.arrive(context, connection, connect_request)
    if error is not None and connection.session is not None:
        connection.session.refuse(error)
