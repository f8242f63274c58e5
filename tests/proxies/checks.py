"""What must work through each proxy; each check returns what its place in the table shows."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any
from urllib.parse import urljoin

import aiohttp
from neurograph_client import Client, Event
from neurograph_publisher import Publisher

from tests.proxies.servers import ReverseProxy
from tests.support.gateway import Gateway
from tests.support.sse import EventSource
from tests.support.waiting import eventually


_FORGED = "203.0.113.9"
_ANOTHER_LOOPBACK = "127.0.0.7"
_LOCKSTEP_EVENTS = 30
_REQUESTS = 20
_DELAY_MS_MAX = 30
"""Beyond that of the gateway itself: a proxy or kernel that waits for more waits for 40 ms or longer."""


@dataclass
class Stage:
    """A gateway with a publisher, and a proxy in front of it."""

    gateway: Gateway
    proxy: ReverseProxy
    publisher: Publisher

    @property
    def url(self) -> str:
        return self.proxy.url

    def publish(self, channel: str, number: int) -> None:
        self.publisher.publish(channel, {"n": number}, event_type="test.event")

    async def restart_gateway(self, *, meanwhile: Callable[[], Awaitable[object]] | None = None) -> None:
        """End the gateway as a service manager does, and start it again at the same port."""
        self.gateway.kill(signal.SIGTERM)
        await self.gateway.exited()
        if meanwhile is not None:
            await meanwhile()
        await self.gateway.restart()


Check = Callable[[Stage], Awaitable[str]]


async def page(stage: Stage) -> str:
    """The page, its files and its documents name addresses behind the prefix."""
    async with aiohttp.ClientSession() as http:
        async with http.get(stage.url, allow_redirects=False) as answer:
            target = urljoin(stage.url, answer.headers.get("Location", ""))
            assert answer.status in {301, 308}, answer.status
            assert target == f"{stage.url}/", target
        async with http.get(f"{stage.url}/") as answer:
            text = await answer.text()
        files = re.findall(r'(?:src|href)="([^"#]+)"', text)
        assert len(files) >= 3, text
        for name in files:
            async with http.get(f"{stage.url}/{name}") as answer:
                assert answer.status == 200, f"{name}: {answer.status}"
        async with http.get(f"{stage.url}/openapi.json") as answer:
            servers = (await answer.json())["servers"]
            assert servers[0]["url"].endswith("/gw"), servers
    return "ok"


async def websocket(stage: Stage) -> str:
    """The Python client follows a channel."""
    async with Client(stage.url) as client, client.subscribe("ws") as events:
        for number in range(100):
            stage.publish("ws", number)
        found = [(await anext(events)).data["n"] for _ in range(100)]  # type: ignore[union-attr]
    assert found == list(range(100)), found
    return "ok"


async def stream(stage: Stage) -> str:
    """Each event arrives before the next is published, and not much later than without the proxy."""
    through, direct = await _delays_ms(stage, stage.url), await _delays_ms(stage, stage.gateway.url)
    assert through < direct + _DELAY_MS_MAX, f"{through:.1f} ms for an event, {direct:.1f} ms without the proxy"
    return f"{through:.1f} ms"


async def _delays_ms(stage: Stage, url: str) -> float:
    delays = []
    async with EventSource(url, "channels=sse") as source:
        await source.next("subscribed")
        for number in range(_LOCKSTEP_EVENTS):
            began = time.perf_counter()
            stage.publish("sse", number)
            assert (await source.next()).data["data"] == {"n": number}
            delays.append(time.perf_counter() - began)
    return statistics.median(delays) * 1000


async def post(stage: Stage) -> str:
    """A broadcast of nearly the largest size arrives."""
    text = "x" * 900_000
    body = {"channel": "post", "event": {"event_type": "note", "data": {"text": text}}}
    async with aiohttp.ClientSession() as http, EventSource(stage.url, "channels=post") as source:
        await source.next("subscribed")
        async with http.post(f"{stage.url}/api/v1/websocket/broadcast", json=body) as answer:
            assert answer.status == 200, f"{answer.status} {await answer.text()}"
        assert (await source.next()).data["data"] == {"text": text}
    return "ok"


async def address(stage: Stage) -> str:
    """The gateway sees the client's own address, whatever the client itself sends."""
    connector = aiohttp.TCPConnector(local_addr=(_ANOTHER_LOOPBACK, 0))
    forged = {"X-Forwarded-For": _FORGED, "X-Forwarded-Proto": "http", "X-Forwarded-Prefix": "/forged"}
    async with aiohttp.ClientSession(connector=connector, headers=forged) as http:
        async with http.ws_connect(f"{stage.url}/ws") as socket:
            client_id = (await socket.receive_json())["client_id"]
            [client] = [one for one in (await stage.gateway.status())["clients"] if one["client_id"] == client_id]
        assert client["address"] == _ANOTHER_LOOPBACK, client["address"]
        async with http.get(f"{stage.url}/openapi.json") as answer:
            assert (await answer.json())["servers"][0]["url"].endswith("/gw")
    return "ok"


async def origin(stage: Stage) -> str:
    """A page of the proxy's own origin may open a WebSocket; no other may."""
    own = stage.url.removesuffix("/gw")
    async with aiohttp.ClientSession() as http:
        async with http.ws_connect(f"{stage.url}/ws", headers={"Origin": own}) as socket:
            assert (await socket.receive_json())["type"] == "connected"
        async with http.get(f"{stage.url}/healthz", headers={"Origin": "https://other.example"}) as answer:
            assert answer.status == 403, answer.status
    return "ok"


async def restart(stage: Stage) -> str:
    """Followers miss nothing while the gateway restarts; meanwhile requests fail as they should, or wait."""
    seen: set[str] = set()

    async def ask() -> None:
        try:
            async with asyncio.timeout(3):
                seen.add(str(await stage.proxy.status("/readyz")))
        except TimeoutError:
            seen.add("waits")

    async def is_up() -> bool:
        return await stage.proxy.status("/readyz") == 200

    async with _followed(stage, "restart"):
        await stage.restart_gateway(meanwhile=lambda: asyncio.gather(*[ask() for _ in range(_REQUESTS)]))
        await eventually(is_up, saying="the proxy serves again")
        # In each process of the proxy, not only in that which was asked.
        after = await asyncio.gather(*[stage.proxy.status("/readyz") for _ in range(_REQUESTS)])
    assert seen <= {"502", "503", "504", "waits"}, seen
    assert set(after) == {200}, after
    return f"0 lost ({', '.join(sorted(seen))})"


async def reload(stage: Stage) -> str:
    """Followers miss nothing while the proxy is reloaded three times."""
    async with _followed(stage, "reload"):
        for _ in range(3):
            await stage.proxy.reload()
    return "0 lost"


@contextlib.asynccontextmanager
async def _followed(stage: Stage, channel: str) -> AsyncIterator[None]:
    """Publish for as long as the block takes; a WebSocket and an event stream must bring each event once, in order."""
    found: dict[str, list[Any]] = {"WebSocket": [], "SSE": []}
    ready = [asyncio.Event(), asyncio.Event()]
    done = asyncio.Event()
    published = 0

    async def publish() -> None:
        nonlocal published
        for number in count():
            stage.publish(channel, number)
            published = number + 1
            if done.is_set():
                return
            await asyncio.sleep(0.002)

    async with asyncio.TaskGroup() as tasks:
        followers = [
            tasks.create_task(_follow_websocket(stage.url, channel, found["WebSocket"], ready[0])),
            tasks.create_task(follow_stream(stage.url, channel, found["SSE"], ready[1])),
        ]
        for one in ready:
            await one.wait()
        publishing = tasks.create_task(publish())
        await eventually(lambda: published > 200)
        yield
        enough = published + 200
        await eventually(lambda: published > enough)
        done.set()
        await publishing
        await eventually(
            lambda: all(numbers and numbers[-1] == published - 1 for numbers in found.values()),
            saying=lambda: f"the last of {published}: { ({name: numbers[-1:] for name, numbers in found.items()}) }",
        )
        for follower in followers:
            follower.cancel()
    for name, numbers in found.items():
        gaps = [one for one in numbers if not isinstance(one, int)]
        assert not gaps, f"{name}: {gaps}"
        missing, twice = published - len({*numbers}), len(numbers) - len({*numbers})
        assert numbers == list(range(published)), f"{name}: of {published} {missing} missing, {twice} twice"


async def _follow_websocket(url: str, channel: str, found: list[Any], ready: asyncio.Event) -> None:
    async with Client(url) as client, client.subscribe(channel) as events:
        ready.set()
        async for item in events:
            found += [item.data["n"] if isinstance(item, Event) else item]  # at once, not when all have come


async def follow_stream(url: str, channel: str, found: list[Any], ready: asyncio.Event) -> None:
    """Read a stream as an EventSource does: after its end again, behind the last event that had an id."""
    last_id = ""
    while True:
        with contextlib.suppress(aiohttp.ClientError):
            async with EventSource(url, f"channels={channel}", last_id=last_id) as source:
                if source.response.status == 200:
                    async for sent in source:
                        last_id = sent.last_id
                        if sent.name == "subscribed":
                            ready.set()
                        elif sent.name == "message":
                            found.append(sent.data["data"]["n"])
                        elif sent.name == "gap":
                            found.append(sent.data)
        await asyncio.sleep(0.1)


CHECKS: dict[str, Check] = {
    "page under /gw/": page,
    "WebSocket": websocket,
    "SSE, delay": stream,
    "POST": post,
    "client address": address,
    "origin": origin,
    "gateway restarts": restart,
    "proxy reloads": reload,
}
