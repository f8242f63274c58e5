"""aiohttp, a `send_str` per event and client: python aiohttp_server.py PORT BUS_PORT."""

import sys
from contextlib import suppress

import uvloop
import zmq
import zmq.asyncio
from aiohttp import web


clients: set[web.WebSocketResponse] = set()


async def follow(request: web.Request) -> web.WebSocketResponse:
    client = web.WebSocketResponse(compress=False)
    await client.prepare(request)
    clients.add(client)
    async for _ in client:
        pass
    clients.discard(client)
    return client


async def send_events() -> None:
    bus = zmq.asyncio.Context.instance().socket(zmq.SUB)
    bus.connect(f"tcp://127.0.0.1:{sys.argv[2]}")
    bus.subscribe(b"")
    while True:
        text = (await bus.recv_multipart())[1].decode()
        for client in list(clients):
            with suppress(ConnectionError):
                await client.send_str(text)


async def main() -> None:
    app = web.Application()
    app.router.add_get("/ws", follow)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1]), backlog=4096).start()
    await send_events()


if __name__ == "__main__":
    uvloop.run(main())
