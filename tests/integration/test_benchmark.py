"""The benchmark's load and publisher: what they count is what there was."""

from __future__ import annotations

import sys

import pytest

from ops.benchmarks.programs import NotHere, program
from ops.benchmarks.scenarios import steady
from ops.benchmarks.servers import Server, gateway, limit
from ops.benchmarks.stage import Stage


try:
    program("load")
except NotHere as missing:
    pytest.skip(str(missing), allow_module_level=True)

FORGETFUL = """
import sys, zmq, zmq.asyncio, asyncio
from aiohttp import web

clients, forgets = [], int(sys.argv[3])

async def follow(request):
    client = web.WebSocketResponse()
    await client.prepare(request)
    clients.append(client)
    async for _ in client:
        pass
    return client

async def main():
    app = web.Application()
    app.router.add_get("/ws", follow)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1])).start()
    bus = zmq.asyncio.Context.instance().socket(zmq.SUB)
    bus.connect(f"tcp://127.0.0.1:{sys.argv[2]}")
    bus.subscribe(b"")
    count = 0
    while True:
        text = (await bus.recv_multipart())[1].decode()
        count += len(clients) == 3
        for number, client in enumerate(clients):
            if number or count % forgets:
                await client.send_str(text)

asyncio.run(main())
"""
"""A server that keeps every nth event from its first client."""


@pytest.mark.parametrize("name", ["tick", "event", "gateway"])
def test_all_events_reach_all_clients(name: str) -> None:
    figures = steady(20, 500, 0.4)(gateway() if name == "gateway" else limit(name), 1)

    assert figures["missing"] == 0
    assert 0 < figures["p50"] <= figures["p99"]
    assert figures["cpu"] > 0


def test_the_load_notices_what_is_missing() -> None:
    command = (sys.executable, "-c", FORGETFUL, "{port}", "{bus}", "10")
    with Stage(Server("forgetful", command)) as stage:
        stage.connect(3)
        run = stage.measure(500, 200, quiet_ms=5000, max_ms=30_000)

    assert run.taken.missing == 20
    assert run.taken.faults in {19, 20}  # where the last one is missing, none comes behind it
    assert not run.complete


def test_a_larger_event_is_that_much_larger() -> None:
    with Stage(limit("tick"), publish=("--size", "70000")) as stage:
        stage.connect(2)
        run = stage.measure(100, 20, quiet_ms=20_000, max_ms=30_000)

    assert run.complete
    assert run.taken.bytes == 2 * 20 * (70_000 + 10)
