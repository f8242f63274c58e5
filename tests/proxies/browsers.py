"""Event streams in browsers, direct and through each proxy, while the gateway restarts three times.

Each page follows a channel over every way at once: with `EventStream`, and with the browser's own EventSource."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from neurograph_publisher import Publisher

from tests.proxies.servers import Place, ReverseProxy
from tests.support import browser, firefox
from tests.support.addresses import free_port
from tests.support.gateway import Gateway
from tests.support.tls import Files
from tests.support.waiting import eventually


BROWSERS = {"chromium": browser.CHROMIUM, "firefox-esr": firefox.FIREFOX}
"""The program of each by its package in Debian; empty where it is not installed."""
_DIRECT = "direct"
_FOLLOW = """(async (ways) => {
  const { EventStream } = await import("/event-stream.js");
  globalThis.ways = {};
  globalThis.streams = [];  // nobody else holds them
  const ready = Object.entries(ways).flatMap(([name, address]) => {
    const way = (globalThis.ways[name] = { wrapped: [], own: [], gaps: 0 });
    const url = `${address}/events?channels=browser`;
    const source = (way.source = new EventSource(url));
    source.onmessage = (message) => way.own.push(JSON.parse(message.data).data.n);
    return [
      new Promise((subscribed) => source.addEventListener("subscribed", subscribed, { once: true })),
      new Promise((subscribed) => streams.push(new EventStream(url, (message) => {
        if (message.type === "event") way.wrapped.push(message.data.n);
        if (message.type === "gap") way.gaps += 1;
        if (message.type === "subscribed") subscribed();
      }, { backoffMs: [500, 2000] }))),
    ];
  });
  await Promise.all(ready);
  return true;
})(%s)"""
_NEWEST = "Math.min(...Object.values(globalThis.ways).map((way) => way.wrapped.at(-1) ?? -1))"
_FOUND = """Object.fromEntries(Object.entries(globalThis.ways).map(([name, way]) =>
  [name, { wrapped: way.wrapped, own: way.own, gaps: way.gaps, isClosed: way.source.readyState === 2 }]))"""


class Page(Protocol):
    async def evaluate(self, code: str) -> Any: ...


async def check(kinds: list[type[ReverseProxy]], folder: Path, certificate: Files) -> dict[str, dict[str, str]]:
    """Return what each browser got over each way, by way."""
    port = free_port()
    settings = {
        "trusted_proxies": "127.0.0.1",
        "allowed_origins": "*",  # one page for all ways
        "shutdown.reconnect_spread_seconds": 0.3,
        "history.events_max": 100_000,
        "bus.discovery_seconds": 1,
    }
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(Gateway(port=port, settings=settings))
        publisher = Publisher(connect=gateway.bus_in, replay=100_000, heartbeat_seconds=0.2)
        stack.callback(publisher.close)
        await asyncio.to_thread(publisher.wait_for_subscriber, 60)
        ways = {_DIRECT: f"http://127.0.0.1:{port}"}
        for kind in kinds:
            (place := folder / f"browsers-{kind.__name__}").mkdir()
            proxy = kind(Place(folder=place, certificate=certificate, gateway_port=port, port=free_port()))
            ways[kind.name] = (await stack.enter_async_context(proxy)).url
        address = f"{ways[_DIRECT]}/healthz"
        pages: dict[str, Page] = {}
        if browser.CHROMIUM:
            opening = browser.page(address, "--ignore-certificate-errors")
            pages["Chromium"] = await stack.enter_async_context(opening)
        if firefox.FIREFOX:
            pages["Firefox"] = await stack.enter_async_context(firefox.page(address))
        for page in pages.values():
            await page.evaluate(_FOLLOW % json.dumps(ways))
        published = await _publish_through_restarts(gateway, publisher, [*pages.values()])
        results: dict[str, dict[str, str]] = {way: {} for way in ways}
        for name, page in pages.items():
            for way, got in (await page.evaluate(_FOUND)).items():
                results[way][f"EventStream, {name}"] = _judged(got["wrapped"], published, gaps=got["gaps"])
                results[way][f"EventSource, {name}"] = "gives up" if got["isClosed"] else "goes on"
        return results


async def _publish_through_restarts(gateway: Gateway, publisher: Publisher, pages: list[Page]) -> int:
    """Publish while the gateway ends and starts three times; return how many events, all of which have arrived."""
    published = 0
    done = asyncio.Event()

    async def publish() -> None:
        nonlocal published
        for number in count():
            publisher.publish("browser", {"n": number}, event_type="test.event")
            published = number + 1
            if done.is_set():
                return
            await asyncio.sleep(0.005)

    async def arrived(newest: int) -> None:
        async def is_everywhere() -> bool:
            return all([await page.evaluate(_NEWEST) >= newest for page in pages])

        await eventually(is_everywhere, every=0.2, saying=f"event {newest} has come over all ways")

    publishing = asyncio.create_task(publish())
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        await arrived(published + 50)
        gateway.kill(number)
        await gateway.exited()
        await gateway.restart()
    await arrived(published + 50)
    done.set()
    await publishing
    await arrived(published - 1)
    return published


def _judged(numbers: list[int], published: int, *, gaps: int) -> str:
    missing, twice = published - len({*numbers}), len(numbers) - len({*numbers})
    if numbers == [*range(published)] and not gaps:
        return "0 lost"
    return f"FAILS: {missing} of {published} missing, {twice} twice, {gaps} gaps"
