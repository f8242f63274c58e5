"""The caller's identity, from the token in a request, and which callers an address serves.

A token is in the `Authorization` header; browsers, which cannot set that header for a WebSocket, send
it as the subprotocol ``bearer.<token>`` beside ``neurograph``. ``?token=`` works if `auth.query_token`
is on."""

import time
from enum import Enum

from aiohttp import web

from gateway.auth import TokenError
from gateway.core.protocol.channels import is_name
from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.core.sessions.permissions import Action, Identity
from gateway.core.sources.topics import escape
from gateway.runtime.logs import Throttle, logger
from gateway.web.context import CONTEXT, Context
from gateway.web.problems import Handler, invalid_field


audit = logger("gateway.audit")

SUBPROTOCOL = "neurograph"
MSGPACK_SUBPROTOCOL = "neurograph.msgpack"
_BEARER = "bearer."
_refusals = Throttle(count=5, interval_seconds=1.0)

IDENTITY: web.RequestKey[Identity] = web.RequestKey("identity", Identity)
"""The caller, for the handlers of all addresses that are not `Access.OPEN`."""


class Access(Enum):
    """Which callers an address serves."""

    OPEN = "anyone"
    IDENTIFIED = "permitted"
    """Callers with a valid token or none; the handler checks what their permissions allow."""
    SUBSCRIBER = "subscriber"
    """Callers that may subscribe to the channel in the address."""
    PUBLISHER = "publisher"
    """Callers that may publish to the channel in the query, or to anything if there is none."""
    ADMIN = "admin"
    OPERATOR = "operator"
    """Callers that may see the gateway's state, and send to any client."""


async def identity_of_request(request: web.Request) -> Identity:
    """Return the identity of the caller, from the `Authorization` header or ``?token=``.
    Raises RequestError: the token is invalid, or the header is not one that carries a token."""
    context = request.app[CONTEXT]
    token = bearer_token(request)
    if token is None and context.config.auth.query_token:
        token = request.query.get("token")
    return await identity_of_token(context, token, address=request.remote or "")


def bearer_token(request: web.Request) -> str | None:
    """Return the token in the `Authorization` header, if there is one and tokens are used.
    Raises RequestError: the header has another scheme."""
    given = request.headers.getall("Authorization", [])
    if not given or request.app[CONTEXT].verifier is None:
        return None
    if len(given) > 1:
        raise invalid_field(f"the request has {len(given)} Authorization headers; send exactly one")
    [text] = given
    scheme, _, token = text.partition(" ")
    if scheme.lower() != "bearer":
        raise RequestError(
            ErrorCode.UNAUTHORIZED,
            "the scheme of the Authorization header is not supported; expected `Authorization: Bearer <token>`",
        )
    return token.strip()


def subprotocol_token(request: web.Request) -> str | None:
    offered = request.headers.get("Sec-WebSocket-Protocol", "")
    for one in map(str.strip, offered.split(",")):
        if one.startswith(_BEARER):
            return one.removeprefix(_BEARER)
    return None


async def identity_of_token(context: Context, token: str | None, *, address: str) -> Identity:
    """Verify a token and return its identity; without a token, or a verifier, the anonymous one.
    Raises RequestError: the token is invalid, or the keys to verify it cannot be fetched now."""
    if context.verifier is None or token is None:
        return context.policy.anonymous
    try:
        return context.policy.identity(await context.verifier.verify(token))
    except TokenError as error:
        context.metrics.token_refused(error.reason)
        suppressed = _refusals.allow(address, now=time.monotonic())
        if suppressed is not None:
            audit.warning("token_refused", address=address, reason=error.reason, suppressed=suppressed)
        code = ErrorCode.UNAVAILABLE if error.temporary else ErrorCode.UNAUTHORIZED
        raise RequestError(code, str(error)) from None  # the cause is only for our log


def restricted(access: Access, handler: Handler) -> Handler:
    """Return a handler that serves only callers with this access."""
    if access is Access.OPEN:
        return handler

    async def serve(request: web.Request) -> web.StreamResponse:
        identity = request[IDENTITY] = await identity_of_request(request)
        if access is Access.ADMIN:
            identity.require_admin()
        elif access is Access.OPERATOR:
            identity.require_operator()
        elif access is Access.SUBSCRIBER:
            identity.require(Action.SUBSCRIBE, _checked(_channel(request)))
        elif access is Access.PUBLISHER:
            name = request.query.get("channel")
            identity.require_publisher(None if name is None else _checked(name))
        return await handler(request)

    return serve


def _checked(name: str) -> str:
    """Return the name of a channel, if it is one."""
    if not is_name(name):
        raise RequestError(ErrorCode.INVALID_CHANNEL, f"{name[:128]!r} is not a valid channel name")
    return name


def _channel(request: web.Request) -> str:
    """Return the channel in the path; a name's escapes may be escaped again or not, as in kv%40host."""
    found: str = request.match_info["channel"]
    escaped = escape(found)
    if escaped != found and escaped in request.app[CONTEXT].hub.logs.by_name:
        request.match_info["channel"] = found = escaped
    return found
