"""Reference counts free all that the gateway drops: the garbage collector, which would stop it, finds nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import msgspec
import psutil
import pytest

from tests.support.gateway import Gateway
from tests.support.tokens import SETTINGS, bearer, token
from tests.support.waiting import eventually
from tests.support.ws import connect


SITE = """
import collections, gc, json, os, signal

def told(*_):
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    kinds = collections.Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.garbage)
    with open(f"{os.path.dirname(__file__)}/{os.getpid()}.tmp", "w") as file:
        json.dump(kinds, file)
    os.rename(file.name, file.name.replace(".tmp", ".json"))

gc.disable()
signal.signal(signal.SIGUSR2, told)
"""


async def garbage(gateway: Gateway, folder: Path) -> Counter[str]:
    """Return what only the collector would free in a gateway and its workers, by type."""
    process = psutil.Process(gateway.process.pid)
    found: Counter[str] = Counter()
    for one in (process, *process.children()):
        one.send_signal(signal.SIGUSR2)
        file = folder / f"{one.pid}.json"
        await eventually(file.exists)
        found.update(msgspec.json.decode(file.read_bytes(), type=dict[str, int]))
    return found


@pytest.mark.long
@pytest.mark.parametrize("flags", [[], ["--workers", "2"]], ids=["one process", "two workers"])
async def test_clients_that_disconnected_leave_no_garbage(flags: Sequence[str], tmp_path: Path) -> None:
    """However they went, and whatever they asked for."""
    (tmp_path / "sitecustomize.py").write_text(SITE)
    paths = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    admin = token("admin")
    async with Gateway(environment={"PYTHONPATH": paths}, interpreter=True, flags=flags, settings=SETTINGS) as gateway:
        gateway.token = admin
        for number in range(20):
            client = await connect(gateway.url, "metrics", "logs", headers=bearer(admin))
            await client.send({"type": "nonsense"})
            await client.expect("error")
            if number % 2:
                await client.lose()
            await client.close()
        async with aiohttp.ClientSession(headers=bearer(admin)) as http:
            for _ in range(20):
                for path in ("/healthz", "/api/v1/websocket/status", "/no/such/place", "/events?no=such"):
                    await (await http.get(gateway.url + path)).read()
                stream = await http.get(gateway.url + "/events?channels=metrics")
                await stream.content.readline()
                stream.close()
        await eventually(lambda: connections(gateway, 0))
        found = await garbage(gateway, tmp_path)

    ours = {kind: count for kind, count in found.items() if kind.startswith("gateway.")}
    assert {kind: count for kind, count in ours.items() if count >= 10} == {}


async def connections(gateway: Gateway, count: int) -> bool:
    await asyncio.sleep(0)
    return bool((await gateway.status())["connections"] == count)
