"""The dashboard: the page at ``/`` and its files, as clients/dashboard was built into ``gateway/web/static``."""

import gzip
import hashlib
from functools import cache
from importlib.resources import files

from aiohttp import web
from msgspec import Struct

from gateway import __version__
from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.web.endpoints.rest import answer
from gateway.web.endpoints.schemas import ROUTES


_PAGE = "index.html"
_TYPES = {
    _PAGE: "text/html",
    "icon.svg": "image/svg+xml",
    "embed.js": "text/javascript",
    "event-stream.js": "text/javascript",
    "assets/dashboard.js": "text/javascript",
    "assets/dashboard.css": "text/css",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class _File(Struct, frozen=True):
    body: bytes
    compressed: bytes
    tag: str


@cache
def _read(name: str) -> _File:
    """Read a file once; it is part of the package and does not change."""
    body = files("gateway.web").joinpath("static", name).read_bytes()
    return _File(body, gzip.compress(body, mtime=0), f'"{hashlib.sha256(body).hexdigest()[:32]}"')


async def page(request: web.Request) -> web.Response:
    """The dashboard; JSON with links to these addresses if `Accept` asks for it."""
    accept = request.headers.get("Accept", "")
    if "application/json" in accept and "text/html" not in accept:
        links = {route.example: route.summary for route in request.app[ROUTES] if route.example}
        about = answer({"name": "neurograph-gateway", "version": __version__, "links": links})
        about.headers["Vary"] = "Accept"
        return about
    response = _file(request, _PAGE)
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Vary"] = "Accept, Accept-Encoding"
    return response


async def page_file(request: web.Request) -> web.Response:
    """A file of the dashboard."""
    name = request.path.removeprefix("/")
    if name not in _TYPES or name == _PAGE:
        raise RequestError(ErrorCode.NOT_FOUND, f"there is no {request.path[:128]!r}; the dashboard is at /")
    return _file(request, name)


async def embed(request: web.Request) -> web.Response:
    """A script for pages of one's own: the elements `neurograph-chart` and `neurograph-tail`."""
    return _file(request, "embed.js")


async def event_stream(request: web.Request) -> web.Response:
    """A module for pages of one's own: the class `EventStream`, an EventSource that does not give up"""
    return _file(request, "event-stream.js")


def _file(request: web.Request, name: str) -> web.Response:
    file = _read(name)
    # A newer gateway has newer files at the same addresses, so each use asks whether they are current.
    headers = {"Cache-Control": "no-cache", "ETag": file.tag, "Vary": "Accept-Encoding"}
    if file.tag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    body = file.body
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
        body = file.compressed
    return web.Response(body=body, content_type=_TYPES[name], charset="utf-8", headers=headers)
