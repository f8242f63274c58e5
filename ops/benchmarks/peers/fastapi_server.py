"""FastAPI on uvicorn, a `send_json` per event and client: python fastapi_server.py PORT BUS_PORT."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import uvicorn  # type: ignore[import-not-found,unused-ignore]  # no dependency of this project
import zmq
import zmq.asyncio
from fastapi import FastAPI, WebSocket, WebSocketDisconnect  # type: ignore[import-not-found,unused-ignore]


clients: set[WebSocket] = set()


async def send_events() -> None:
    bus = zmq.asyncio.Context.instance().socket(zmq.SUB)
    bus.connect(f"tcp://127.0.0.1:{sys.argv[2]}")
    bus.subscribe(b"")
    while True:
        event = json.loads((await bus.recv_multipart())[1])
        for client in list(clients):
            with suppress(RuntimeError, WebSocketDisconnect):
                await client.send_json(event)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    sending = asyncio.create_task(send_events())
    yield
    sending.cancel()


app = FastAPI(lifespan=lifespan)


@app.websocket("/ws")  # type: ignore[untyped-decorator,unused-ignore]
async def follow(client: WebSocket) -> None:
    await client.accept()
    clients.add(client)
    try:
        with suppress(WebSocketDisconnect):
            while True:
                await client.receive_text()
    finally:
        clients.discard(client)


if __name__ == "__main__":
    uvicorn.run(
        app, port=int(sys.argv[1]), log_level="error", loop="uvloop", backlog=4096,
        ws_ping_interval=600, ws_ping_timeout=600, ws_per_message_deflate=False,
    )  # fmt: skip
