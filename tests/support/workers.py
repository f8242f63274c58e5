"""The workers of a gateway: which one holds whom, and what becomes of them."""

from __future__ import annotations

import contextlib
from typing import Any

import psutil

from tests.conftest import Connect
from tests.support import ws
from tests.support.gateway import Gateway
from tests.support.waiting import eventually


def workers(gateway: Gateway) -> list[psutil.Process]:
    """Its workers; when they are forked those that have been ready, see `forkserver`."""
    if gateway.interpreter:
        return psutil.Process(gateway.process.pid).children()
    ready = [one["pid"] for one in gateway.records if one["message"] == "worker_ready"]
    return [psutil.Process(pid) for pid in ready if psutil.pid_exists(pid)]


def runs(process: psutil.Process) -> bool:
    """Whether a process has not ended; its parent may take note of its end at any moment."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def holder(gateway: Gateway, client: ws.Client) -> psutil.Process:
    """The worker that has the other end of a client's socket."""
    port = client._ws.get_extra_info("sockname")[1]
    for worker in workers(gateway):
        with contextlib.suppress(psutil.NoSuchProcess):
            if port in [one.raddr[1] for one in worker.net_connections("tcp") if len(one.raddr)]:
                return worker
    raise AssertionError("no worker holds this client")


async def elsewhere(
    gateway: Gateway, connect: Connect, than: psutil.Process, *channels: str, **query: Any
) -> ws.Client:
    """Connect a client that another worker holds than a certain one."""
    for _ in range(20):
        client: ws.Client = await connect(*channels, to=gateway, **query)
        if holder(gateway, client).pid != than.pid:
            return client
        if "session" in query:
            query["session"] = client.session
        await client.close()
    raise AssertionError("all clients go to one worker")


def started(gateway: Gateway, count: int) -> bool:
    """Whether so many workers have been ready, in all."""
    return sum("worker_ready" in line for line in gateway.lines) >= count


def lost(gateway: Gateway, count: int) -> bool:
    """Whether the gateway has noticed that so many workers ended, in all."""
    return sum("worker_lost" in line for line in gateway.lines) >= count


async def replaced(gateway: Gateway, victim: psutil.Process) -> None:
    """Wait until another worker is in the place of one that was killed."""
    gateway.errors_expected = True

    async def whole() -> bool:
        pids = [one.pid for one in workers(gateway) if runs(one)]
        return victim.pid not in pids and len(pids) == 2 and started(gateway, 3)

    await eventually(whole)
