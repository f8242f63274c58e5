"""The application on a test server, with a real hub behind it and a clock that tests turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from gateway.config.model import Config
from gateway.core.sessions.hub import Hub
from gateway.metrics import Metrics
from gateway.runtime import loop_factory
from gateway.web import app
from gateway.web.context import Context, EndpointStatus
from gateway.web.sockets.heartbeat import ClientHeartbeat
from gateway.web.sockets.io_uring import Ring
from gateway.wiring import build_policy
from tests.support.core import SECOND, make_hub, publish


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What writes to transports is held against those of both loops."""
    factories = {"asyncio": asyncio.new_event_loop}
    if item.path.name == "test_writers.py":
        factories["uvloop"] = loop_factory() or asyncio.new_event_loop
    return factories


API = "/api/v1/websocket"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `json` also of problems."""

    status: int
    headers: Any
    body: bytes
    json: Any


@dataclass(slots=True)
class Site:
    """A gateway's HTTP side: ask it, publish behind its back, make it unready or broken."""

    hub: Hub
    client: TestClient[web.Request, web.Application] = field(init=False)
    now_ns: int = 1000 * SECOND
    unready: list[str] = field(default_factory=list)
    links: Callable[[], list[EndpointStatus]] = list

    async def ask(self, method: str, path: str, **how: Any) -> Answer:
        async with self.client.request(method, path, **how) as answer:
            body = await answer.read()
            is_json = answer.content_type.endswith("json") and body
            value = msgspec.json.decode(body) if is_json else None
            return Answer(answer.status, answer.headers, body, value)

    async def get(self, path: str, **how: Any) -> Answer:
        return await self.ask("GET", path, **how)

    async def broadcast(self, body: object = None, *, raw: bytes = b"", query: str = "") -> Answer:
        data = raw or msgspec.json.encode(body)
        return await self.ask("POST", f"{API}/broadcast{query}", data=data)

    def publish(self, channel: str, count: int = 1) -> None:
        publish(self.hub, channel, count, now_ns=self.now_ns)

    def wait(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND)


@pytest.fixture
def ring() -> Iterator[Ring]:
    """io_uring, where this kernel lets us have it."""
    try:
        ring = Ring()
    except OSError as error:
        pytest.xfail(f"no io_uring here: {error}")
    yield ring
    ring.close()


MakeSite = Callable[..., Awaitable[Site]]


@pytest.fixture
def make_site(aiohttp_client: AiohttpClient) -> MakeSite:
    """Serve a hub made as `make_hub` is told to."""

    async def make(config: Config | None = None, **hub: Any) -> Site:
        config = config or Config()
        site = Site(make_hub(**hub))
        context = Context(
            config=config,
            hub=site.hub,
            metrics=Metrics(site.hub, links=list, buffers=list),
            now_ns=lambda: site.now_ns,
            started_ns=0,
            heartbeat=ClientHeartbeat(site.hub, config.clients),
            bus=lambda: site.links(),
            unready=lambda: site.unready,
            policy=build_policy(config),
            verifier=None,
        )
        site.client = await aiohttp_client(app.build(context))
        return site

    return make


@pytest.fixture
async def site(make_site: MakeSite) -> Site:
    return await make_site()
