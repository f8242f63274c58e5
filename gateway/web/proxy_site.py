"""The HTTP side of `gateway proxy`: health and metrics, for probes and Prometheus."""

import socket
from collections.abc import Callable, Sequence

from aiohttp import web


async def serve(sockets: Sequence[socket.socket], *, metrics: Callable[[], str]) -> web.AppRunner:
    """Serve ``/healthz``, ``/readyz`` and ``/metrics`` at sockets that listen; return what ends it."""

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    application = web.Application(client_max_size=1024)
    application.add_routes([web.get("/healthz", health), web.get("/readyz", health), web.get("/metrics", page)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    for one in sockets:
        await web.SockSite(runner, one).start()
    return runner
