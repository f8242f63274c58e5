"""REST, asked of any worker and answered by the parent, which knows the whole gateway.

A worker passes a request on as it came, over a socket pair that nobody else can reach. What the worker has found out
(the client's address, and whether it uses TLS) is in headers of our own."""

import asyncio
import socket
from collections.abc import Callable

import aiohttp
from aiohttp import web
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.web.context import BODY
from gateway.web.problems import Handler


_SECONDS_MAX = 15.0
_ADDRESS, _SCHEME = "X-Gateway-Address", "X-Gateway-Scheme"
_DROPPED_HEADERS = frozenset(
    {
        *("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect"),
        *("content-length", "content-encoding", "date", "server", "vary", "x-content-type-options"),
        *("access-control-allow-origin", "x-forwarded-for", "x-forwarded-proto"),
        *(_ADDRESS.lower(), _SCHEME.lower()),
    }
)
"""What belongs to one connection, or is added on both."""


class _PairConnector(aiohttp.BaseConnector):
    """Connects to who gets the other ends of its socket pairs: there is no address that could vanish."""

    def __init__(self, hand_over: Callable[[socket.socket], object]) -> None:
        super().__init__()
        self._hand_over = hand_over

    async def _create_connection(self, *_: object) -> ResponseHandler:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._hand_over(theirs)
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        _transport, protocol = await asyncio.get_running_loop().create_unix_connection(self._factory, sock=ours)
        return protocol


class RestProxy:
    """Passes requests on to the parent, once their bodies have been read.

    For each connection, `hand_over` gives the parent one end of a socket pair."""

    def __init__(self, hand_over: Callable[[socket.socket], object]) -> None:
        self._http = aiohttp.ClientSession(
            connector=_PairConnector(hand_over),
            timeout=aiohttp.ClientTimeout(total=_SECONDS_MAX),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )

    async def handle(self, request: web.Request) -> web.Response:
        if self._http.closed:
            raise RequestError(ErrorCode.UNAVAILABLE, "the gateway is stopping")
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in _DROPPED_HEADERS]
        headers += [(_ADDRESS, request.remote or ""), (_SCHEME, request.scheme)]
        url = URL(f"http://gateway{request.rel_url.raw_path_qs}", encoded=True)
        try:
            async with self._http.request(
                request.method, url, headers=headers, data=request.get(BODY) or None, allow_redirects=False
            ) as answer:
                return web.Response(
                    status=answer.status,
                    headers=[(k, v) for k, v in answer.headers.items() if k.lower() not in _DROPPED_HEADERS],
                    body=await answer.read(),
                )
        except (aiohttp.ClientError, OSError, TimeoutError, RuntimeError) as error:
            # RuntimeError is aiohttp's for a connection that was closed while its answer was read.
            raise RequestError(ErrorCode.UNAVAILABLE, "the process that knows does not answer") from error

    async def close(self) -> None:
        await self._http.close()


@web.middleware
async def forwarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Take a request that a worker passed on for its client's own."""
    address, scheme = request.headers.get(_ADDRESS), request.headers.get(_SCHEME)
    if address is not None and scheme is not None:
        request = request.clone(remote=address, scheme=scheme)
    return await handler(request)
