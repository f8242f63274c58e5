"""The WebSocket endpoint, ``/ws`` (docs/protocol.md, part 2)."""

import functools

from aiohttp import web

from gateway.core.protocol.errors import CloseCode, RequestError
from gateway.core.sessions.permissions import Identity
from gateway.logs import logger
from gateway.web import admission, authentication
from gateway.web.context import CONTEXT, Context
from gateway.web.sockets.connection import Connection, WebSocket
from gateway.web.sockets.websocket import upgrade


log = logger("gateway.websocket")


async def websocket(request: web.Request) -> web.StreamResponse:
    """The WebSocket (part 2)."""
    context = request.app[CONTEXT]
    token = authentication.bearer_token(request)
    identity = None
    if token is not None:  # not from a browser: its client sees the HTTP status of a refusal
        identity = await authentication.identity_of_token(
            context, token, address=request.remote or ""
        )
    limits = context.config.clients
    response, receive_queue, window_bits = await upgrade(
        request,
        protocol=authentication.SUBPROTOCOL,
        message_bytes_max=limits.message_bytes_max,
        compression=limits.compression_bytes_min > 0,
    )
    if request.transport is None:
        return response
    encode = None if window_bits is None else context.compressor.encoder(window_bits)
    connection = admission.connect(context, request, WebSocket(receive_queue, encode))
    authenticate = functools.partial(admission.authenticate, context, connection)
    if not connection.can_write:  # refused, or a violation was in one segment with the handshake
        await connection.serve(context.now_ns, authenticate)
        return response
    try:
        identity = await _identify(context, connection, request, identity)
        if identity is not None:
            await _admit(context, connection, request, identity)
        connection.release_request()
        await connection.serve(context.now_ns, authenticate)
    except Exception:
        log.exception("connection_failed", client_id=connection.client_id)
        connection.close(CloseCode.INTERNAL)
        await connection.wait_closed()
    finally:
        admission.release(context, connection)
    return response


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
        connect_request, error = admission.read_connect_request(request.query, identity), None
    except RequestError as invalid:
        connect_request, error = admission.read_connect_request({}, identity), invalid
    await admission.admit(context, connection, connect_request)
    if error is not None and connection.session is not None:
        connection.session.refuse(error)
