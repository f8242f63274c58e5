"""The page at ``/``: it names the gateway and links to every address that a browser can open."""

import base64
import hashlib
import html

from aiohttp import web

from gateway import __version__
from gateway.web.endpoints.rest import answer
from gateway.web.endpoints.schemas import ROUTES


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
    """A page that links to these addresses; JSON if `Accept` asks for it."""
    links = {route.example: route.summary for route in request.app[ROUTES] if route.example}
    accept = request.headers.get("Accept", "")
    if "application/json" in accept and "text/html" not in accept:
        about = answer({"name": "neurograph-gateway", "version": __version__, "links": links})
        about.headers["Vary"] = "Accept"
        return about
    rows = "".join(
        f'<tr><td><a href="{html.escape(link)}">{html.escape(link)}</a><td>{html.escape(summary)}'
        for link, summary in links.items()
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
