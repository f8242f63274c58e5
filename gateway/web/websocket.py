"""The WebSocket endpoint."""

from aiohttp import web

from gateway.core.errors import CloseCode, RequestError
from gateway.logs import logger
from gateway.web import arrivals
from gateway.web.connection import Connection
from gateway.web.context import CONTEXT
from gateway.web.transport import Socket


log = logger("gateway.websocket")


async def websocket(request: web.Request) -> web.StreamResponse:
    """Serve one client at ``/ws``; see docs/protocol.md, part 2."""
    context = request.app[CONTEXT]
    ws = Socket(message_bytes_max=context.config.clients.message_bytes_max)
    if not ws.can_prepare(request):
        raise web.HTTPUpgradeRequired(
            text="this address speaks WebSocket", headers={"Upgrade": "websocket"}
        )
    await ws.prepare(request)
    if request.transport is None:
        return ws
    connection = Connection(
        request,
        ws,
        hub=context.hub,
        pulse=context.pulse,
        limits=context.config.clients,
        spread_seconds=arrivals.spread_seconds(context),
        now_ns=context.now_ns(),
    )
    refused = arrivals.refusal(context, connection.address)
    if refused is not None:
        connection.end(refused)
        context.metrics.closed(refused, 0)
    if connection.ending:  # refused, or a violation came in one segment with the handshake
        await connection.serve(context.now_ns)
        return ws
    try:
        try:
            arrival, error = arrivals.read(request.query), None
        except RequestError as wrong:
            arrival, error = arrivals.read({}), wrong
        arrivals.arrive(context, connection, arrival)
        if error is not None and connection.session is not None:
            context.hub.refuse(connection.session, error)
        await connection.serve(context.now_ns)
    except Exception:
        log.exception("connection failed", client_id=connection.client_id)
        connection.end(CloseCode.INTERNAL)
        await connection.gone()
    finally:
        arrivals.leave(context, connection)
    return ws
