"""Events per second in one process, beside a bare aiohttp loop that reads the same frames.

PYTHONPATH=.:clients/python/src python clients/python/benchmarks/throughput.py [--count N]

The frames come from a process of its own that does nothing but write them, so the reader is what is
measured. Both readers parse every message; each runs several times, in turn, and the best counts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import time
from collections.abc import Callable, Coroutine
from multiprocessing.connection import Connection as Pipe

import aiohttp
import orjson
from aiohttp import web
from neurograph_client import Client, Event

from gateway.core.protocol.frames import text_frame


ROUNDS = 5
CHUNK = 500

_POSITION = {"epoch": "0123456789abcdef", "offset": 0}


def frames(count: int) -> bytes:
    """Events as the gateway writes them, with the data of `metrics`."""
    fields = (
        b'"event_type":"system_metrics","timestamp":"2026-01-01T00:00:00.000000Z","data":'
        b'{"cpu_percent":12.5,"memory_mb":2048.0,"events_per_sec":10.0,"total_tokens":1,'
        b'"total_connections":3}'
    )
    return b"".join(
        text_frame(b'{"type":"event","channel":"metrics","offset":%d,%b}' % (offset, fields))
        for offset in range(1, count + 1)
    )


def serve(count: int, pipe: Pipe) -> None:
    """Greet and subscribe each client as a gateway does, then write all frames as fast as they go."""
    data = frames(count)
    size = max(1, len(data) * CHUNK // count)

    async def handle(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        hello = {
            "type": "connected",
            "client_id": "c",
            "user_id": None,
            "session": "s",
            "session_ttl_seconds": 0,
            "resumed": False,
            "server": {"name": "benchmark", "version": "0"},
            "heartbeat_seconds": 30,
            "limits": {"message_bytes_max": 65536, "subscriptions_max": 10},
        }
        await ws.send_str(orjson.dumps(hello).decode())
        while True:
            asked = orjson.loads(await ws.receive_str())
            positions = {"positions": {"metrics": _POSITION}, "id": asked["id"]}
            if asked["type"] == "ping":
                await ws.send_str(orjson.dumps({"type": "pong", **positions}).decode())
                continue
            answer = {"type": "subscribed", "channels": ["metrics"], "recovered": {}, "denied": []}
            await ws.send_str(orjson.dumps({**answer, **positions}).decode())
            break
        assert request.transport is not None
        for at in range(0, len(data), size):
            request.transport.write(data[at : at + size])
            await request.protocol._drain_helper()
        with contextlib.suppress(Exception):
            await ws.receive()
        return ws

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/ws", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        pipe.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(main())


async def bare(url: str, count: int) -> float:
    """Read with nothing but aiohttp and orjson; returns the seconds it took."""
    async with aiohttp.ClientSession() as http, http.ws_connect(url + "/ws", max_msg_size=0) as ws:
        await ws.receive()
        await ws.send_str('{"type":"subscribe","channels":["metrics"],"id":1}')
        await ws.receive()
        seen = 0
        began = time.perf_counter()
        async for frame in ws:
            message = orjson.loads(frame.data)
            if message["type"] == "event":
                seen += 1
                if seen == count:
                    break
        return time.perf_counter() - began


async def client(url: str, count: int) -> float:
    """Read with the client; returns the seconds it took."""
    async with Client(url) as one, one.subscribe("metrics") as events:
        seen = 0
        began = time.perf_counter()
        async for item in events:
            if isinstance(item, Event):
                seen += 1
                if seen == count:
                    break
        return time.perf_counter() - began


def main() -> None:
    """Measure both, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200_000)
    count = parser.parse_args().count
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(count, theirs), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ours.recv()}"
    readers: dict[str, Callable[[str, int], Coroutine[None, None, float]]] = {
        "bare aiohttp": bare,
        "neurograph_client": client,
    }
    best = dict.fromkeys(readers, float("inf"))
    for _ in range(ROUNDS):
        for name, read in readers.items():
            best[name] = min(best[name], asyncio.run(read(url, count)))
    server.terminate()
    for name, seconds in best.items():
        print(f"{name:20}{count / seconds:12,.0f} events/s")
    print(f"{'factor':20}{best['neurograph_client'] / best['bare aiohttp']:12.2f}")


if __name__ == "__main__":
    main()
