"""The WebSocket endpoint, ``/ws`` (docs/protocol.md, part 2)."""

import functools

from aiohttp import HttpVersion11, web

from gateway.core.protocol import msgpack
from gateway.core.protocol.errors import CloseCode, RequestError
from gateway.core.sessions.permissions import Identity
from gateway.runtime.logs import logger
from gateway.web import admission, authentication, query
from gateway.web.context import CONTEXT, Context
from gateway.web.endpoints.schemas import WEBSOCKET_QUERY
from gateway.web.problems import invalid_field
from gateway.web.sockets.connection import Connection, WebSocket
from gateway.web.sockets.websocket import ReceiveQueue, offered_protocols, upgrade


log = logger("gateway.websocket")

_ENCODINGS = ("json", msgpack.NAME)
_PARAMETERS = tuple(one.name for one in WEBSOCKET_QUERY)


async def websocket(request: web.Request) -> web.StreamResponse:
    """The WebSocket (part 2)."""
    context = request.app[CONTEXT]
    _check_handshake(request)
    identity = None
    if authentication.bearer_token(request) is not None:
        # Not from a browser: its client sees the HTTP status of a refusal.
        identity = await authentication.identity_of_request(request)
        identity = await _identity_of_both(context, request, identity)
    limits = context.config.clients
    packed = _is_packed(request)
    response, receive_queue, window_bits = await upgrade(
        request,
        protocols=(authentication.MSGPACK_SUBPROTOCOL, authentication.SUBPROTOCOL)
        if packed
        else (authentication.SUBPROTOCOL,),
        message_bytes_max=limits.message_bytes_max,
        compression=limits.compression_bytes_min > 0,
    )
    if request.transport is None:
        return response
    connection = admission.connect(context, request, _stream(context, receive_queue, window_bits, packed=packed))
    try:
        if connection.can_write and not receive_queue.begins_with_violation():
            await _admit(context, connection, request, identity)
        await connection.serve(context.now_ns, functools.partial(admission.answer, context, connection))
    except Exception:
        log.exception("connection_failed", client_id=connection.client_id)
        connection.close(CloseCode.INTERNAL)
        await connection.wait_closed()
    finally:
        admission.release(context, connection)
    return response


def _is_packed(request: web.Request) -> bool:
    """Return whether the messages are MessagePack: as the address says, else the subprotocol that the client prefers."""
    encoding = request.query.get("encoding")
    if encoding is not None:
        return encoding == msgpack.NAME
    known = {authentication.SUBPROTOCOL, authentication.MSGPACK_SUBPROTOCOL}
    offered = [one for one in offered_protocols(request) if one in known]
    return offered[:1] == [authentication.MSGPACK_SUBPROTOCOL]


def _encoding_problem(request: web.Request) -> RequestError | None:
    encoding = request.query.get("encoding", _ENCODINGS[0])
    if encoding in _ENCODINGS:
        return None
    return invalid_field(f"encoding: {encoding[:40]!r} is not one of {', '.join(_ENCODINGS)}")


def _stream(context: Context, queue: ReceiveQueue, window_bits: int | None, *, packed: bool) -> WebSocket:
    if packed:
        return WebSocket(queue, context.msgpack.encoder(window_bits), msgpack.message_to_json)
    return WebSocket(queue, None if window_bits is None else context.compressor.encoder(window_bits))


def _check_handshake(request: web.Request) -> None:
    """Refuse what a proxy may have understood otherwise.
    Raises RequestError: the HTTP version has no upgrade, or the handshake has two keys."""
    if request.version < HttpVersion11:
        raise invalid_field("a WebSocket needs HTTP/1.1; the request has an older version")
    if len(request.headers.getall("Sec-WebSocket-Key", [])) > 1:
        raise invalid_field("the request has several Sec-WebSocket-Key headers; send exactly one")


async def _identity_of_both(context: Context, request: web.Request, identity: Identity) -> Identity:
    """Return the identity of the subprotocol's token, if there is one beside that of the Authorization header.
    Raises RequestError: it is invalid, or another user's."""
    token = authentication.subprotocol_token(request)
    if token is None:
        return identity
    other = await authentication.identity_of_token(context, token, address=request.remote or "")
    if other.user_id != identity.user_id:
        raise invalid_field("the Authorization header and the subprotocol have tokens of different users; send one")
    return other


async def _admit(context: Context, connection: Connection, request: web.Request, verified: Identity | None) -> None:
    """Admit a client as its subprotocol's token says, or as the identity already `verified`.

    The open connection reports an invalid token, as browsers hide the status of an upgrade. If the
    query parameters are invalid, the client is admitted without them, and gets the error; if one is
    unknown, the others count."""
    try:
        token = authentication.subprotocol_token(request)
        if verified is not None:
            identity = verified
        elif token is not None:
            identity = await authentication.identity_of_token(context, token, address=connection.address)
        else:
            identity = await authentication.identity_of_request(request)
    except RequestError as error:
        code = CloseCode.TRY_LATER if error.code.temporary else CloseCode.UNAUTHORIZED
        connection.refuse(error, code)
        admission.count_refused(context, code)
        return
    invalid = None
    try:
        connect_request = admission.read_connect_request(request.query, identity)
        invalid = query.problem_of(request, _PARAMETERS) or _encoding_problem(request)
    except RequestError as error:
        connect_request, invalid = admission.read_connect_request({}, identity), error
    try:
        if connection.can_write:
            await context.admission.admit(context, connection, connect_request)
        if invalid is not None and connection.session is not None:
            connection.session.refuse(invalid)
    finally:
        invalid = None  # its traceback refers to this frame: the cycle would keep the connection
