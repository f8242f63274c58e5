"""What makes each alert fire, and what makes it resolve.

A scene is an asynchronous generator with four parts: it starts a gateway that works; after its first `yield` it
causes the alert; after the second it ends the cause; and after the third it stops the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.alerts.prometheus import Target
from tests.support import tls, ws
from tests.support.addresses import free_port
from tests.support.gateway import Gateway
from tests.support.issuer import es256
from tests.support.keyserver import KeyServer, has, says
from tests.support.publisher import Publisher
from tests.support.raw import open_raw
from tests.support.workers import workers


Scene = Callable[[], AsyncGenerator[Target | None, None]]

_SMALL = {"clients.send_buffer_bytes": 32768, "clients.write_buffer_bytes_max": 32768}
_PADDING = "x" * 3000


@asynccontextmanager
async def _again_and_again(act: Callable[[], object], *, seconds: float) -> AsyncIterator[None]:
    """Do something for as long as the block lasts."""

    async def repeat() -> None:
        while True:
            act()
            await asyncio.sleep(seconds)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _heartbeat(bus: Publisher, *, name: str = "core", seconds: float = 0.5) -> None:
    heartbeat = {"incarnation": f"{bus.incarnation:016x}", "interval": seconds, "name": name}
    bus.send_frames(b"$heartbeat", json.dumps(heartbeat).encode())


async def down() -> AsyncGenerator[Target | None, None]:
    """A gateway is killed, and started again at the same port."""
    async with Gateway(port=free_port()) as gateway:
        yield Target("down", gateway.port)
        gateway.kill()
        await gateway.exited()
        yield None
        await gateway.restart()
        gateway.expected_exit = 0
        yield None


async def full() -> AsyncGenerator[Target | None, None]:
    """All connections are used."""
    async with Gateway(settings={"clients.connections_max": 1}) as gateway:
        yield Target("full", gateway.port)
        client = await ws.connect(gateway.url, "metrics")
        yield None
        await client.close()
        yield None


async def crashed() -> AsyncGenerator[Target | None, None]:
    """Nearly all connections are used, and the gateway is killed: what it had reported must not stay."""
    async with Gateway(settings={"clients.connections_max": 1}) as gateway:
        yield Target("crashed", gateway.port)
        client = await ws.connect(gateway.url, "metrics")
        yield None
        gateway.kill()
        await gateway.exited()
        await client.close()
        yield None


async def silent() -> AsyncGenerator[Target | None, None]:
    """No event has ever come, then some do."""
    async with Gateway() as gateway, Publisher(gateway.bus_in) as bus:
        yield Target("silent", gateway.port)
        yield None
        async with _again_and_again(lambda: bus.send("a"), seconds=0.2):
            yield None


async def stale() -> AsyncGenerator[Target | None, None]:
    """A publisher crashes, and comes again as another incarnation of the same name."""
    async with Gateway() as gateway:
        async with Publisher(gateway.bus_in) as bus, _again_and_again(lambda: _heartbeat(bus), seconds=0.1):
            yield Target("stale", gateway.port)
        yield None
        async with Publisher(gateway.bus_in) as bus, _again_and_again(lambda: _heartbeat(bus), seconds=0.1):
            yield None


async def lost() -> AsyncGenerator[Target | None, None]:
    """A publisher's numbers have a hole, and it has no replay."""
    async with Gateway() as gateway, Publisher(gateway.bus_in) as bus:
        bus.send("a", enveloped=True)
        yield Target("lost", gateway.port)
        bus.sequences["a"] += 5
        bus.send("a", enveloped=True)
        yield None
        yield None


async def rejected() -> AsyncGenerator[Target | None, None]:
    """A publisher sends what is not JSON, for a while."""
    async with Gateway() as gateway, Publisher(gateway.bus_in) as bus:
        yield Target("rejected", gateway.port)
        async with _again_and_again(lambda: bus.send_payload("a", b"{"), seconds=0.2):
            yield None
        yield None


async def cut() -> AsyncGenerator[Target | None, None]:
    """Clients do not read, and are closed."""
    settings = {**_SMALL, "clients.stall_timeout_seconds": 1.0}
    async with Gateway(settings=settings) as gateway, Publisher(gateway.bus_in) as bus:
        yield Target("cut", gateway.port)
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                peer = await open_raw(gateway.port, "/ws?channels=slow", receive_buffer=8192)
                stack.callback(peer.close)
            for _ in range(1000):
                bus.send("slow", _PADDING)
            yield None
        yield None


async def lags() -> AsyncGenerator[Target | None, None]:
    """A client does not read for longer than its socket holds, and leaves."""
    settings = {**_SMALL, "clients.stall_timeout_seconds": 600.0, "history.events_max": 10_000}
    async with Gateway(settings=settings) as gateway, Publisher(gateway.bus_in) as bus:
        yield Target("lags", gateway.port)
        peer = await open_raw(gateway.port, "/ws?channels=slow", receive_buffer=8192)
        for _ in range(3000):
            bus.send("slow", "x" * 1000)
        yield None
        peer.close()
        yield None


async def expires() -> AsyncGenerator[Target | None, None]:
    """A certificate is replaced by one that is valid for a day, and by one that is valid for a year."""
    with tempfile.TemporaryDirectory(prefix="ng-tls-") as name:
        folder = Path(name)
        served, short, long = (tls.make(folder, one, days=days) for one, days in _CERTIFICATES.items())
        async with Gateway(settings=served.settings, trust=tls.trusting(served, short, long)) as gateway:
            yield Target("expires", gateway.port, scheme="https")
            served.take(short)
            yield None
            served.take(long)
            yield None


_CERTIFICATES = {"served": 365, "short": 1, "long": 366}


async def worker() -> AsyncGenerator[Target | None, None]:
    """A worker is killed."""
    async with Gateway(flags=["--workers", "2"]) as gateway:
        yield Target("worker", gateway.port)
        gateway.errors_expected = True
        workers(gateway)[0].kill()
        yield None
        yield None


async def keys() -> AsyncGenerator[Target | None, None]:
    """The server of the keys fails, and works again."""
    issuer = es256(kid="first")
    works = has([issuer.jwk])
    async with KeyServer(works) as server:
        settings = {"auth.jwks_url": server.url, "auth.insecure_jwks": "true", "auth.jwks_refresh_seconds": 10}
        async with Gateway(settings=settings) as gateway:
            yield Target("keys", gateway.port, token=issuer.token(roles=["monitor"]))
            server.act = says("", "500 Internal Server Error")
            yield None
            server.act = works
            yield None


async def saturated() -> AsyncGenerator[Target | None, None]:
    """The gateway's process gets no CPU for most of the time."""
    async with Gateway() as gateway:
        yield Target("saturated", gateway.port)

        async def stops() -> None:
            while True:
                gateway.kill(signal.SIGSTOP)
                await asyncio.sleep(0.7)
                gateway.kill(signal.SIGCONT)
                await asyncio.sleep(0.5)

        task = asyncio.create_task(stops())
        yield None
        task.cancel()
        gateway.kill(signal.SIGCONT)
        yield None


SCENES: dict[Scene, tuple[str, ...]] = {
    down: ("GatewayDown",),
    full: ("GatewayNotReady", "GatewayNearLimit"),
    crashed: ("GatewayNearLimit",),
    silent: ("GatewayBusSilent",),
    stale: ("GatewayPublisherStale",),
    lost: ("GatewayMessagesLost",),
    rejected: ("GatewayEventsRejected",),
    cut: ("GatewayClientsCut",),
    lags: ("GatewayClientLags",),
    expires: ("GatewayCertificateExpires",),
    worker: ("GatewayWorkersRestart",),
    keys: ("GatewayKeysNotFetched",),
    saturated: ("GatewaySaturated",),
}
"""The alerts of each scene; its gateway is the instance of the same name."""
