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
    identity = None
    if authentication.bearer_token(request) is not None:
        # Not from a browser: its client sees the HTTP status of a refusal.
        identity = await authentication.identity_of_request(request)
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
    try:
        if connection.can_write and not receive_queue.begins_with_violation():
            await _admit(context, connection, request, identity)
        await connection.serve(context.now_ns, functools.partial(admission.authenticate, context, connection))
    except Exception:
        log.exception("connection_failed", client_id=connection.client_id)
        connection.close(CloseCode.INTERNAL)
        await connection.wait_closed()
    finally:
        admission.release(context, connection)
    return response


async def _admit(context: Context, connection: Connection, request: web.Request, verified: Identity | None) -> None:
    """Admit a client as its subprotocol's token says, or as the identity already `verified`.

    The open connection reports an invalid token, as browsers hide the status of an upgrade. If the
    query parameters are invalid, the client is admitted without them, and gets the error."""
    try:
        token = authentication.subprotocol_token(request)
        if token is not None:
            identity = await authentication.identity_of_token(context, token, address=connection.address)
        else:
            identity = verified or await authentication.identity_of_request(request)
    except RequestError as error:
        code = CloseCode.TRY_LATER if error.code.temporary else CloseCode.UNAUTHORIZED
        connection.refuse(error, code)
        context.metrics.closed(code, 0)
        return
    invalid = None
    try:
        connect_request = admission.read_connect_request(request.query, identity)
    except RequestError as error:
        connect_request, invalid = admission.read_connect_request({}, identity), error
    if connection.can_write:
        await context.admission.admit(context, connection, connect_request)
    if invalid is not None and connection.session is not None:
        connection.session.refuse(invalid)
