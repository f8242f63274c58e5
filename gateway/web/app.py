"""The application: which address is served by what, and to whom."""

import re

from aiohttp import HttpVersion11, web

from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.logs import Throttle, logger
from gateway.metrics import Refused
from gateway.web.access import AccessPolicy, check_framing, head_bytes
from gateway.web.authentication import admin, identified, subscriber
from gateway.web.context import CONTEXT, Context
from gateway.web.endpoints import page, rest, schemas
from gateway.web.endpoints.sse import events
from gateway.web.endpoints.websocket import websocket
from gateway.web.problems import SERVER, Handler, problem, problems
from gateway.web.sockets.http import HEAD_BYTES_MAX, HEADERS_ADVICE


log = logger("gateway.http")

API = "/api/v1/websocket"
_BODY_SLACK_BYTES = 4096
"""What a broadcast may hold beside its event."""
_PREFLIGHT_SECONDS = 600
_ALLOWED_HEADERS = "Authorization, Content-Type, Last-Event-ID"
_AUTHORITY_OF_TARGET = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#]*)", re.IGNORECASE | re.ASCII)
_COUNTED: dict[ErrorCode, Refused] = {
    ErrorCode.UNKNOWN_HOST: "host",
    ErrorCode.FORBIDDEN_ORIGIN: "origin",
}

_DOOR: web.AppKey[AccessPolicy] = web.AppKey("door", AccessPolicy)
_LOGGED: web.AppKey[Throttle] = web.AppKey("refusals logged", Throttle)
_ORIGIN: web.RequestKey[str] = web.RequestKey("origin", str)
"""The origin of the page that makes a request, if it may."""


def build(context: Context, *, forward: Handler | None = None) -> web.Application:
    """Put the application together; `forward` answers REST, where another process knows more."""

    def whole(handler: Handler) -> Handler:
        return handler if forward is None else forward

    body_bytes_max = context.config.ingest.payload_bytes_max + _BODY_SLACK_BYTES
    app = web.Application(middlewares=[problems, _knock], client_max_size=body_bytes_max)
    app[CONTEXT] = context
    app[_DOOR] = AccessPolicy(context.config)
    app[_LOGGED] = Throttle(count=1, interval_seconds=1.0)
    app.on_response_prepare.append(_sign)
    app.add_routes(
        [
            web.get("/", page.page),
            web.get("/ws", websocket, allow_head=False),
            web.get("/events", identified(events), allow_head=False),
            web.get(f"{API}/status", whole(admin(rest.status))),
            web.get(f"{API}/channels", whole(identified(rest.channels))),
            web.get(f"{API}/channels/{{channel}}", whole(subscriber(rest.channel))),
            web.get(f"{API}/channels/{{channel}}/events", whole(subscriber(rest.history))),
            web.get(f"{API}/channels/{{channel}}/presence", whole(subscriber(rest.presence))),
            web.get(f"{API}/rejections", whole(admin(rest.rejections))),
            web.get(f"{API}/publishers", whole(admin(rest.publishers))),
            web.post(f"{API}/broadcast", whole(identified(rest.broadcast))),
            web.get("/metrics", whole(admin(rest.metrics))),
            web.get("/healthz", whole(rest.health)),
            web.get("/readyz", whole(rest.readiness)),
            web.get("/openapi.json", schemas.openapi),
            web.get("/asyncapi.json", schemas.asyncapi),
        ]
    )
    return app


@web.middleware
async def _knock(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let in whom the door lets in; behind it `remote` and `scheme` are the client's own."""
    door, headers = request.app[_DOOR], request.headers
    peer, scheme = request.remote or "", request.scheme

    def header(name: str) -> list[str]:
        return headers.getall(name, [])

    caller = door.caller(peer, scheme, header("X-Forwarded-For"), header("X-Forwarded-Proto"))
    try:
        if head_bytes(request.raw_path, headers.items()) > HEAD_BYTES_MAX:
            raise RequestError(ErrorCode.HEADERS_TOO_LARGE, HEADERS_ADVICE)
        check_framing(request.method, request.version >= HttpVersion11, header)
        host = door.check_host(header("Host"), _authority(request.raw_path))
        origin = door.check_origin(header("Origin"), scheme=caller.scheme, host=host)
    except RequestError as refused:
        return _refused(request, refused, caller.address)
    if origin is not None:
        request[_ORIGIN] = origin
        missed = request.match_info.http_exception
        if isinstance(missed, web.HTTPMethodNotAllowed) and _is_preflight(request):
            return _preflight(missed)
    if (caller.address, caller.scheme) != (peer, scheme):
        request = request.clone(remote=caller.address, scheme=caller.scheme)
    return await handler(request)


def _authority(target: str) -> str | None:
    """Return what a request line names beside the path, if it does."""
    if target.startswith("/") or target == "*":
        return None
    found = _AUTHORITY_OF_TARGET.match(target)
    return found[1] if found else target


def _refused(request: web.Request, refused: RequestError, address: str) -> web.Response:
    """Answer whom the door does not let in, and end the connection: nothing more is read from it."""
    reason = _COUNTED.get(refused.code)
    if reason is not None:
        request.app[CONTEXT].metrics.refused(reason)
        suppressed = request.app[_LOGGED].allow(reason, now=request.loop.time())
        if suppressed is not None:
            log.info(
                "request_refused", reason=refused.message, address=address, suppressed=suppressed
            )
    response = problem(refused.code, refused.message)
    response.force_close()
    return response


def _is_preflight(request: web.Request) -> bool:
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers


def _preflight(missed: web.HTTPMethodNotAllowed) -> web.Response:
    """Say what a page of another origin may ask here (Fetch standard, CORS-preflight)."""
    headers = {
        "Access-Control-Allow-Methods": ", ".join(sorted(missed.allowed_methods)),
        "Access-Control-Allow-Headers": _ALLOWED_HEADERS,
        "Access-Control-Max-Age": str(_PREFLIGHT_SECONDS),
    }
    return web.Response(status=204, headers=headers)


async def _sign(request: web.Request, response: web.StreamResponse) -> None:
    if response.status == 101:  # it is kept for as long as the connection lasts
        return
    headers = response.headers
    headers["Server"] = SERVER
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Vary"] = f"{headers['Vary']}, Origin" if "Vary" in headers else "Origin"
    if "Upgrade" in request.headers:
        response.force_close()  # one in front of us may take the rest for something else
    if _ORIGIN in request:
        headers["Access-Control-Allow-Origin"] = request[_ORIGIN]
