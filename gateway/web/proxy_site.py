"""The HTTP side of `gateway proxy`: health and metrics, for probes and Prometheus."""

from collections.abc import Callable

from aiohttp import web


async def serve(host: str, port: int, *, metrics: Callable[[], str]) -> tuple[web.AppRunner, int]:
    """Serve ``/healthz``, ``/readyz`` and ``/metrics``; return what ends it, and the port.
    Raises OSError: the address cannot be bound."""

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    application = web.Application(client_max_size=1024)
    application.add_routes([web.get("/healthz", health), web.get("/readyz", health), web.get("/metrics", page)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner, runner.addresses[0][1]
