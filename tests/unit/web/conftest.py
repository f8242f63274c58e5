"""The application on a test server, with a real hub behind it and a clock that tests turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from gateway.auth import Verifier
from gateway.config.model import Config
from gateway.metrics.metrics import EndpointStatus, Metrics
from gateway.runtime.listening import listen
from gateway.runtime.system import loop_factory
from gateway.web import app
from gateway.web.admission import LOCAL
from gateway.web.context import Context
from gateway.web.sockets.io_uring import IoUring
from gateway.web.sockets.listener import Listener
from gateway.wiring import build_policy
from tests.support.core import SECOND, Core, make_hub, publish


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

    hub: Core
    client: TestClient[web.Request, web.Application] = field(init=False)
    context: Context = field(init=False)
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
def ring() -> Iterator[IoUring]:
    """io_uring, where this kernel lets us have it."""
    try:
        ring = IoUring()
    except OSError as error:
        pytest.xfail(f"no io_uring here: {error}")
    yield ring
    ring.close()


@dataclass(frozen=True, slots=True)
class Edge:
    """A gateway's own listener in this process, for what needs its sockets."""

    context: Context
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


MakeSite = Callable[..., Awaitable[Site]]
MakeEdge = Callable[..., Awaitable[Edge]]


def make_context(config: Config, hub: Core, **fields: Any) -> Context:
    return Context(
        config=config,
        hub=hub,
        pipeline=hub.pipeline,
        **{
            "metrics": Metrics(hub, hub.pipeline, endpoints=list, buffers=list),
            "now_ns": time.time_ns,
            "started_ns": 0,
            "bus": list,
            "unready": list,
            "policy": build_policy(config),
            "verifier": None,
            "admission": LOCAL,
            **fields,
        },
    )


@pytest.fixture
async def make_edge() -> AsyncIterator[MakeEdge]:
    """Listen with a configuration and, if there is one, what verifies tokens."""
    async with AsyncExitStack() as stack:

        async def make(config: Config | None = None, verifier: Verifier | None = None) -> Edge:
            config = config or Config()
            context = make_context(config, make_hub(), verifier=verifier)
            runner = web.AppRunner(app.build(context), access_log=None, shutdown_timeout=1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            listener = Listener(runner, config.clients, tls=lambda: None, on_refused=context.metrics.refused)
            stack.callback(listener.close)
            listener.listen(await listen(["127.0.0.1"], 0))
            listener.resume_accepting()
            return Edge(context, listener.addresses[0][1])

        yield make


@pytest.fixture
def make_site(aiohttp_client: AiohttpClient) -> MakeSite:
    """Serve a hub that `make_hub` makes with these arguments."""

    async def make(config: Config | None = None, **hub: Any) -> Site:
        config = config or Config()
        site = Site(make_hub(**hub))
        context = make_context(
            config, site.hub, now_ns=lambda: site.now_ns, bus=lambda: site.links(), unready=lambda: site.unready
        )
        site.context = context
        site.client = await aiohttp_client(app.build(context))
        return site

    return make


@pytest.fixture
async def site(make_site: MakeSite) -> Site:
    return await make_site()
