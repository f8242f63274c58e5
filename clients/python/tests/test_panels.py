"""A dashboard with 100 panels, each with its own subscription, within the gateway's limits."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from neurograph_client import Backoff, Client, Event, Gap, RequestRefusedError, Subscription

from tests.conftest import Launch, NewPublisher
from tests.proxies.servers import Nginx, Place
from tests.support.addresses import free_port
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.tls import make
from tests.support.waiting import eventually

from .conftest import NewProxy


COUNT = int(os.environ.get("PANELS", "100"))
NAMES = [f"panel.n{number}" for number in range(100)]


def mount(client: Client, names: Iterable[str], **options: Any) -> list[Subscription[Any]]:
    return [client.subscribe(name, **options) for name in names]


async def confirmed(panels: Iterable[Subscription[Any]]) -> None:
    for one in panels:
        await one.confirmed()


async def following(client: Client, names: Iterable[str]) -> None:
    """Wait until the gateway sends these channels to a client, and nothing else."""
    wanted = sorted(names)

    async def found() -> bool:
        return client.state == "connected" and sorted(await client.subscriptions()) == wanted

    await eventually(found)


async def test_100_panels_mount_unmount_and_survive_a_restart(launch: Launch, proxy: NewProxy) -> None:
    limits = {"clients.subscribes_burst": 4, "clients.subscribes_per_second": 0.1}
    gateway = await launch(settings={**limits, "shutdown.reconnect_spread_seconds": 0.2})
    between = await proxy(gateway)
    async with Client(between.url, backoff=Backoff(0.01, 0.05), timeout=60) as client:
        panels = mount(client, NAMES, last=1)
        await confirmed(panels)
        for one in panels[:50]:
            one.close()
        await following(client, NAMES[50:])

        gateway.kill(15)
        await gateway.exited()
        await gateway.restart()
        between.port = gateway.port
        await following(client, NAMES[50:])


@pytest.mark.skipif(not Nginx.is_installed(), reason="nginx is not installed")
async def test_panels_behind_a_proxy_survive_its_restart(
    launch: Launch, publisher: NewPublisher, tmp_path: Path
) -> None:
    """Events published while nginx is stopped, and those after its restart, arrive once each."""
    gateway = await launch(settings={"clients.subscriptions_max": COUNT + 28, "trusted_proxies": "127.0.0.1"})
    bus = await publisher(gateway.bus_in)
    names = [f"panel.n{number}" for number in range(COUNT)]

    def publish(numbers: range) -> None:
        for name in names:
            bus.send_numbered(name, numbers, enveloped=True)

    certificate = make(tmp_path)
    trust = ssl.create_default_context(cafile=certificate.cert)
    proxy = Nginx(Place(tmp_path, certificate, gateway_port=gateway.port, port=free_port()))
    await proxy.__aenter__()
    try:
        async with Client(proxy.url, ssl=trust, backoff=Backoff(0.01, 0.05), timeout=60) as client:
            panels = mount(client, names)
            await confirmed(panels)
            publish(range(1, 6))
            await proxy.__aexit__()
            publish(range(6, 11))
            await proxy.__aenter__()
            await following(client, names)
            publish(range(11, 16))
            for one in panels:
                found = [item.data["n"] if isinstance(item, Event) else item for item in await taken(one, 15)]
                assert found == list(range(1, 16))
            for one in panels[COUNT // 2 :]:
                one.close()
            await following(client, names[: COUNT // 2])
            assert client.connection_count >= 2
    finally:
        await proxy.__aexit__()


async def test_500_panels_subscribe_and_unsubscribe_with_a_few_messages(launch: Launch) -> None:
    """A message has room for about 200 subscriptions."""
    gateway = await launch(settings={"clients.subscriptions_max": 1000})

    async def sent(kind: str) -> float:
        return await gateway.metric("client_messages_total", type=kind)

    async with Client(gateway.url, timeout=60) as client:
        names = [f"panel.n{number}" for number in range(500)]
        panels = mount(client, names, last=1)
        await confirmed(panels)
        assert await sent("subscribe") <= 4

        for one in panels:
            one.close()
        await following(client, [])
        assert await sent("unsubscribe") <= 2


async def test_panels_that_change_faster_than_the_rate_limit_are_subscribed_in_the_end(launch: Launch) -> None:
    gateway = await launch(settings={"clients.subscribes_burst": 2, "clients.subscribes_per_second": 50})
    async with Client(gateway.url, timeout=60) as client:
        last = []
        for name in NAMES:
            first, second = mount(client, [name, f"{name}.other"])
            await asyncio.sleep(0)
            first.close()
            last.append(second)
        await confirmed(last)
        await following(client, [f"{name}.other" for name in NAMES])


async def test_requests_refused_by_the_rate_limit_are_sent_again(launch: Launch) -> None:
    limits = {"pings_burst": 1, "pings_per_second": 20, "messages_burst": 1, "messages_per_second": 20}
    gateway = await launch(settings={f"clients.{name}": value for name, value in limits.items()})
    async with Client(gateway.url, timeout=60) as client:
        await asyncio.gather(client.ping(), client.ping())

        answers = await asyncio.gather(client.subscriptions(), client.subscriptions())
        assert list(answers) == [[], []]


async def test_a_refused_panel_does_not_affect_the_others(gateway: Gateway, channel: str) -> None:
    names = [f"{channel}.n{number}" for number in range(100)]
    async with Client(gateway.url, timeout=60) as client:
        before = mount(client, names[:40])
        wrong = client.subscribe(f"{channel}.wrong", filter="1 +")
        after = mount(client, names[40:])

        with pytest.raises(RequestRefusedError, match="invalid_filter"):
            await wrong.confirmed()
        await confirmed([*before, *after])
        await following(client, names)


async def test_panels_of_one_channel_begin_where_each_requested(gateway: Gateway, bus: Publisher, channel: str) -> None:
    wildcard, channel = f"{channel}.*", f"{channel}.a"
    bus.send_numbered(channel, range(1, 11), enveloped=True)
    await gateway.holds(channel, 10)
    async with Client(gateway.url, timeout=60) as client:
        starts = [3, 10, 3]
        panels = [client.subscribe(wildcard if last == 10 else channel, last=last) for last in starts]
        found = []
        for last, one in zip(starts, panels, strict=True):
            items = [item async for item in _first(one, last, channel)]
            found.append([item.data["n"] for item in items])

    assert found == [list(range(11 - last, 11)) for last in starts]


async def taken(panel: Subscription[Any], count: int) -> list[Event[Any] | Gap]:
    """Return the next `count` items, and all others that wait already."""
    items: list[Event[Any] | Gap] = []
    while len(items) < count:
        items += await panel.take_all()
    return items


async def _first(panel: Subscription[Any], count: int, channel: str) -> Any:
    async for item in panel:
        if isinstance(item, Event) and item.channel == channel:
            yield item
            count -= 1
        if not count:
            return
