"""Who asks: the token that a request brings, and whom it makes of its bearer.

A token comes in the `Authorization` header; from browsers, which cannot set it, as the WebSocket
subprotocol ``bearer.<token>`` beside ``neurograph``; and in ``?token=`` where that is switched on.
"""

import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.auth import TokenError
from gateway.core.protocol.channels import is_name
from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.core.sessions.permissions import Action, Identity
from gateway.logs import Throttle, logger
from gateway.web.context import CONTEXT, Context


audit = logger("gateway.audit")

SUBPROTOCOL = "neurograph"
_BEARER = "bearer."
_refusals = Throttle(count=5, interval_seconds=1.0)

IDENTITY: web.RequestKey[Identity] = web.RequestKey("identity", Identity)
"""Who asks, for handlers that answer to some more than to others."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def of_request(request: web.Request) -> Identity:
    """Return who makes a request.

    Raises:
        RequestError: It brings a token that is not valid, or none that can be read.
    """
    context = request.app[CONTEXT]
    token = of_header(request)
    if token is None and context.config.auth.query_token:
        token = request.query.get("token")
    return await of_token(context, token, address=request.remote or "")


def of_header(request: web.Request) -> str | None:
    """Return the token in a request's header, if it has one.

    Raises:
        RequestError: The header says something else.
    """
    text = request.headers.get("Authorization")
    if text is None or request.app[CONTEXT].verifier is None:
        return None
    scheme, _, token = text.partition(" ")
    if scheme.lower() != "bearer":
        raise RequestError(ErrorCode.UNAUTHORIZED, "the header is `Authorization: Bearer <token>`")
    return token.strip()


def of_subprotocol(request: web.Request) -> str | None:
    """Return the token among a request's subprotocols, if there is one."""
    offered = request.headers.get("Sec-WebSocket-Protocol", "")
    for one in map(str.strip, offered.split(",")):
        if one.startswith(_BEARER):
            return one.removeprefix(_BEARER)
    return None


async def of_token(context: Context, token: str | None, *, address: str) -> Identity:
    """Return whom a token makes of its bearer; without one, or with an open door, it is anybody.

    Raises:
        RequestError: The token is not valid, or the keys to tell are not to be had now.
    """
    if context.verifier is None or token is None:
        return context.policy.anonymous
    try:
        return context.policy.identity(await context.verifier.verify(token))
    except TokenError as error:
        suppressed = _refusals.allow(address, now=time.monotonic())
        if suppressed is not None:
            audit.warning(
                "token_refused", address=address, reason=error.reason, suppressed=suppressed
            )
        code = ErrorCode.UNAVAILABLE if error.temporary else ErrorCode.UNAUTHORIZED
        raise RequestError(code, str(error)) from None  # what it was stays in our log


def identified(handler: Handler) -> Handler:
    """Serve everybody, and tell the handler who it is."""

    async def serve(request: web.Request) -> web.StreamResponse:
        request[IDENTITY] = await of_request(request)
        return await handler(request)

    return serve


def admin(handler: Handler) -> Handler:
    """Serve those who may see the gateway's own state."""

    async def serve(request: web.Request) -> web.StreamResponse:
        (await of_request(request)).require_admin()
        return await handler(request)

    return serve


def subscriber(handler: Handler) -> Handler:
    """Serve those who may follow the channel in the address."""

    async def serve(request: web.Request) -> web.StreamResponse:
        identity = request[IDENTITY] = await of_request(request)
        name = request.match_info["channel"]
        if not is_name(name):
            raise RequestError(ErrorCode.INVALID_CHANNEL, f"{name[:128]!r} is not a channel's name")
        identity.require(Action.SUBSCRIBE, name)
        return await handler(request)

    return serve
