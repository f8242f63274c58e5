"""REST, asked of any worker and answered by the parent, which knows the whole gateway.

A worker passes a request on as it came, over a socket that only this user can reach. What the door
found out, who calls and how, goes along in headers of our own."""

import asyncio

import aiohttp
from aiohttp import web
from yarl import URL

from gateway.core.protocol.errors import ErrorCode, RequestError
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


class RestProxy:
    """Passes requests on to the parent at a Unix socket, each within `body_seconds` and a while."""

    def __init__(self, path: str, *, body_seconds: float) -> None:
        self._body_seconds = body_seconds
        self._http = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path),
            timeout=aiohttp.ClientTimeout(total=_SECONDS_MAX),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )

    async def handle(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(self._body_seconds):
                body = await request.read()
        except TimeoutError as error:
            raise RequestError(ErrorCode.TIMEOUT, "the body took too long to come") from error
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in _DROPPED_HEADERS]
        headers += [(_ADDRESS, request.remote or ""), (_SCHEME, request.scheme)]
        url = URL(f"http://gateway{request.rel_url.raw_path_qs}", encoded=True)
        try:
            async with self._http.request(
                request.method, url, headers=headers, data=body or None, allow_redirects=False
            ) as answer:
                return web.Response(
                    status=answer.status,
                    headers=[(k, v) for k, v in answer.headers.items() if k.lower() not in _DROPPED_HEADERS],
                    body=await answer.read(),
                )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
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
