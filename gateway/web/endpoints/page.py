"""The page at ``/``: what runs here and where to look, until there is a dashboard."""

import base64
import hashlib
import html

from aiohttp import web

from gateway import __version__
from gateway.web.endpoints.rest import answer


LINKS = {
    "/api/v1/websocket/status": "clients, bus, counts",
    "/api/v1/websocket/channels": "channels, schemas, positions",
    "/api/v1/websocket/channels/metrics/events?limit=3": "the newest events of a channel",
    "/api/v1/websocket/rejections": "bus messages that were not let in, and why",
    "/api/v1/websocket/publishers": "what was lost on the bus, by publisher",
    "/metrics": "for Prometheus",
    "/healthz": "the loop turns",
    "/readyz": "new clients are welcome",
    "/openapi.json": "this HTTP interface",
    "/asyncapi.json": "the WebSocket protocol",
}

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 4rem auto; padding: 0 1rem;
       color-scheme: light dark }
td { padding: .2rem 1.2rem .2rem 0; vertical-align: top }
pre { padding: 1rem; border: 1px solid #8886; border-radius: .5rem; overflow-x: auto }
"""

_TRY = """ws = new WebSocket(location.origin.replace("http", "ws") + "/ws")
ws.onmessage = message => console.log(message.data)
ws.onopen = () => ws.send('{"type": "subscribe", "channels": ["metrics"], "last": 1}')"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Vary": "Accept",
}


async def page(request: web.Request) -> web.Response:
    """Answer with the page, or as JSON for those who ask for it."""
    accept = request.headers.get("Accept", "")
    if "application/json" in accept and "text/html" not in accept:
        about = answer({"name": "neurograph-gateway", "version": __version__, "links": LINKS})
        about.headers["Vary"] = "Accept"
        return about
    rows = "".join(
        f'<tr><td><a href="{html.escape(link)}">{html.escape(link)}</a><td>{text}'
        for link, text in LINKS.items()
    )
    text = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>neurograph-gateway</title><style>{_STYLE}</style>"
        f"<h1>neurograph-gateway {__version__}</h1>"
        "<p>Events from a ZeroMQ bus, for WebSocket clients at <code>/ws</code>. "
        f"In this page's console:<pre>{html.escape(_TRY)}</pre><table>{rows}</table>"
    )
    return web.Response(text=text, content_type="text/html", headers=_HEADERS)
