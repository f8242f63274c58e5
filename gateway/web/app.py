"""The application: the routes, behind the checks that every request passes first."""

import asyncio
import re
from collections.abc import Set

from aiohttp import HttpVersion11, web

from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.metrics.metrics import OTHER
from gateway.metrics.table import Refused
from gateway.runtime.logs import Throttle, logger
from gateway.runtime.turns import Turns
from gateway.web.access import Caller, check_framing
from gateway.web.authentication import Access, restricted
from gateway.web.context import BODY, CONTEXT, PREFIX, Context
from gateway.web.endpoints import schemas
from gateway.web.problems import SERVER, Handler, problem, problems
from gateway.web.query import strict
from gateway.web.routes import ROUTES
from gateway.web.sockets.http import HEAD_BYTES_MAX, HEADERS_ADVICE, ending_with_connection


log = logger("gateway.http")

_BODY_SLACK_BYTES = 4096
"""The most that a broadcast's body may hold beside its event."""
_PREFLIGHT_SECONDS = 600
_ALLOWED_HEADERS = "Authorization, Content-Type, Last-Event-ID"
_AUTHORITY_OF_TARGET = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#]*)", re.IGNORECASE | re.ASCII)
_COUNTED: dict[ErrorCode, Refused] = {ErrorCode.UNKNOWN_HOST: "host", ErrorCode.FORBIDDEN_ORIGIN: "origin"}

_ROUTE_OF: web.AppKey[dict[Handler, schemas.Route]] = web.AppKey("route of each handler", dict)
_REFUSALS: web.AppKey[Throttle] = web.AppKey("refusals logged", Throttle)
_ORIGIN: web.RequestKey[str] = web.RequestKey("origin", str)
"""The origin of the web page that sends a request, once it has been allowed."""


def build(context: Context, *, proxy: Handler | None = None) -> web.Application:
    """Return the application; `proxy`, if given, answers the routes that workers proxy."""
    body_bytes_max = context.config.ingest.payload_bytes_max + _BODY_SLACK_BYTES
    app = web.Application(middlewares=[problems, _guard], client_max_size=body_bytes_max)
    app[CONTEXT] = context
    app[schemas.ROUTES] = ROUTES
    app[_ROUTE_OF] = {}
    app[_REFUSALS] = Throttle(count=1, interval_seconds=1.0)
    app.on_response_prepare.append(_add_headers)
    for route in ROUTES:
        handler = _handler(route, proxy if route.is_proxied else None)
        app[_ROUTE_OF][handler] = route
        context.metrics.add_route(route.path)
        methods = {route.method, "HEAD"} if route.method == "GET" and not route.is_stream else {route.method}
        if route.is_urgent:
            methods.add("OPTIONS")  # HAProxy's `option httpchk /readyz` asks so
        for path in (route.path, *route.aliases):
            resource = app.router.add_resource(path)
            for method in methods:
                resource.add_route(method, handler, expect_handler=_expect_nothing)
    return app


def _handler(route: schemas.Route, proxy: Handler | None) -> Handler:
    """Return what serves a route: its own handler, or `proxy`, behind the checks and limits of the route."""
    handler = proxy or route.handler
    if route.is_limited:
        handler = _limited(handler)
    if route.body is not None:
        handler = _with_body(handler)
    if proxy is None or route.body is not None:  # the parent checks the others
        handler = restricted(route.access, handler)
    return strict(route.parameters, handler) if route.is_strict else handler


def _limited(handler: Handler) -> Handler:
    async def serve(request: web.Request) -> web.StreamResponse:
        return await request.app[CONTEXT].request_limit.answer(request, handler, ending_with_connection(request))

    return serve


def _with_body(handler: Handler) -> Handler:
    """Return a handler for which the body has been read, once its length is known and there is room for it."""

    async def serve(request: web.Request) -> web.StreamResponse:
        context, length, length_max = request.app[CONTEXT], request.content_length, request.client_max_size
        if length is not None and length > length_max:
            raise RequestError(ErrorCode.TOO_LARGE, f"the body has {length} bytes; at most {length_max} are accepted")
        async with context.request_limit.body(
            length_max if length is None else length, ending_with_connection(request)
        ):
            try:
                async with asyncio.timeout(context.config.clients.handshake_timeout_seconds):
                    asks = request.headers.get("Expect", "").lower() == "100-continue"
                    if asks and request.version >= HttpVersion11:
                        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    request[BODY] = await _body(request, context.turns, bytes_max=length_max)
            except TimeoutError as error:
                raise RequestError(ErrorCode.TIMEOUT, "the body was not received in time; send it at once") from error
            return await handler(request)

    return serve


async def _body(request: web.Request, turns: Turns, *, bytes_max: int) -> bytes:
    """Read a body, part by part. Raises RequestError: it has more bytes than it may have."""
    body = bytearray()
    while part := await request.content.readany():
        await turns.take()
        body += part
        if len(body) > bytes_max:
            raise RequestError(ErrorCode.TOO_LARGE, f"the body has more than {bytes_max} bytes")
    return bytes(body)


async def _expect_nothing(_request: web.Request) -> None:
    """Let the handler ask for the body; aiohttp would ask for it before anything is checked."""


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what the access policy refuses; handlers see the client's own `remote` and `scheme`."""
    with ending_with_connection(request):
        await request.app[CONTEXT].turns.take()
    checked = _check(request)  # not here: a WebSocket keeps the variables of this for as long as it is open
    return checked if isinstance(checked, web.Response) else await handler(checked)


def _check(request: web.Request) -> web.Request | web.Response:
    """Return a request as its handler sees it, or the answer without a handler."""
    policy, headers = request.app[CONTEXT].access_policy, request.headers
    peer, scheme = request.remote or "", request.scheme

    def header(name: str) -> list[str]:
        return headers.getall(name, [])

    caller = policy.caller(peer, scheme, header("X-Forwarded-For"), header("X-Forwarded-Proto"))
    try:
        # As many bytes as there are characters, if the head is ASCII.
        size = len(request.raw_path) + sum(len(name) + len(text) + 4 for name, text in headers.items())
        if size > HEAD_BYTES_MAX:
            raise RequestError(ErrorCode.HEADERS_TOO_LARGE, HEADERS_ADVICE)
        check_framing(request.method, request.version >= HttpVersion11, header)
        route = request.app[_ROUTE_OF].get(request.match_info.handler)
        try:
            host = policy.check_host(header("Host"), _authority(request.raw_path))
        except RequestError:
            if not _serves_any_host(request.app[CONTEXT], route):
                raise
            host = ""
        origin = policy.check_origin(header("Origin"), scheme=caller.scheme, host=host)
        if route is None or not route.is_urgent:
            policy.check_fetch_site(header, opens=route is not None and not route.is_stream and route.method == "GET")
    except RequestError as error:
        return _refuse(request, error, caller.address)
    if origin is not None:
        request[_ORIGIN] = origin
        missed = request.match_info.http_exception
        asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if asks and isinstance(missed, web.HTTPMethodNotAllowed):
            return _preflight(missed.allowed_methods)
        if asks and missed is None:
            return _preflight({"GET", "HEAD"})  # only health has OPTIONS of its own
    if caller != Caller(peer, scheme):
        request = request.clone(remote=caller.address, scheme=caller.scheme)
    if prefix := policy.prefix(peer, header("X-Forwarded-Prefix")):
        request[PREFIX] = prefix
    return request


def _serves_any_host(context: Context, route: schemas.Route | None) -> bool:
    """Return whether a route is served under any name: rebinding one gains a page nothing.

    Health is no secret, and pages have no token for what only an administrator's shows.
    """
    if route is None:
        return False
    only_with_token = context.verifier is not None and not context.policy.anonymous.permissions.admin
    return route.is_urgent or (only_with_token and route.access is Access.ADMIN)


def _authority(target: str) -> str | None:
    """Return the authority in a request line, or None if that has only a path."""
    if target.startswith("/") or target == "*":
        return None
    found = _AUTHORITY_OF_TARGET.match(target)
    return found[1] if found else target


def _refuse(request: web.Request, error: RequestError, address: str) -> web.Response:
    """Answer with a problem and close the connection: nothing more is read from it."""
    reason = _COUNTED.get(error.code)
    if reason is not None:
        request.app[CONTEXT].metrics.refused(reason)
        suppressed = request.app[_REFUSALS].allow(reason, now=asyncio.get_running_loop().time())
        if suppressed is not None:
            log.info("request_refused", reason=error.message, address=address, suppressed=suppressed)
    response = problem(error.code, error.message)
    response.force_close()
    return response


def _preflight(methods: Set[str]) -> web.Response:
    """Answer a CORS preflight with the methods and headers that a page may use (Fetch standard)."""
    headers = {
        "Access-Control-Allow-Methods": ", ".join(sorted(methods)),
        "Access-Control-Allow-Headers": _ALLOWED_HEADERS,
        "Access-Control-Max-Age": str(_PREFLIGHT_SECONDS),
    }
    return web.Response(status=204, headers=headers)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    context = request.app[CONTEXT]
    if context.pipeline is None or context.config.workers == 1:  # else a worker counts the answer
        route = request.app[_ROUTE_OF].get(request.match_info.handler)
        context.metrics.responded(OTHER if route is None else route.path, response.status)
    headers = response.headers
    headers["Server"] = SERVER
    if context.draining:
        response.force_close()  # the next request finds another process
    if response.status == 101:  # its headers stay in memory for as long as the connection
        return
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Vary"] = f"{headers['Vary']}, Origin" if "Vary" in headers else "Origin"
    if "Upgrade" in request.headers:
        response.force_close()  # a proxy may take what follows for another protocol
        if response.status != 101:
            headers["Connection"] = "close"  # aiohttp has decided before that it is kept, and says nothing
    if _ORIGIN in request:
        headers["Access-Control-Allow-Origin"] = request[_ORIGIN]
