"""The application: which address is served by what, and to whom."""

from aiohttp import web

from gateway.web import page, rest, schemas
from gateway.web.context import CONTEXT, Context
from gateway.web.identity import admin, identified, subscriber
from gateway.web.problems import SERVER, problems
from gateway.web.sse import events
from gateway.web.websocket import websocket


API = "/api/v1/websocket"
_BODY_SLACK_BYTES = 4096
"""What a broadcast may hold beside its event."""


def build(context: Context) -> web.Application:
    """Put the application together."""
    body_bytes_max = context.config.ingest.payload_bytes_max + _BODY_SLACK_BYTES
    app = web.Application(middlewares=[problems], client_max_size=body_bytes_max)
    app[CONTEXT] = context
    app.on_response_prepare.append(_sign)
    app.add_routes(
        [
            web.get("/", page.page),
            web.get("/ws", websocket, allow_head=False),
            web.get("/events", identified(events), allow_head=False),
            web.get(f"{API}/status", admin(rest.status)),
            web.get(f"{API}/channels", identified(rest.channels)),
            web.get(f"{API}/channels/{{channel}}", subscriber(rest.channel)),
            web.get(f"{API}/channels/{{channel}}/events", subscriber(rest.history)),
            web.get(f"{API}/channels/{{channel}}/presence", subscriber(rest.presence)),
            web.get(f"{API}/rejections", admin(rest.rejections)),
            web.get(f"{API}/publishers", admin(rest.publishers)),
            web.post(f"{API}/broadcast", identified(rest.broadcast)),
            web.get("/metrics", admin(rest.metrics)),
            web.get("/healthz", rest.health),
            web.get("/readyz", rest.readiness),
            web.get("/openapi.json", schemas.openapi),
            web.get("/asyncapi.json", schemas.asyncapi),
        ]
    )
    return app


async def _sign(_request: web.Request, response: web.StreamResponse) -> None:
    if response.status == 101:  # it is kept for as long as the connection lasts
        return
    response.headers["Server"] = SERVER
    response.headers["X-Content-Type-Options"] = "nosniff"
