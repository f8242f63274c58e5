"""Gateways with a real Redis: they know each other, and go on without it."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import aiohttp
import pytest

from tests.conftest import Connect, Launch, NewPublisher
from tests.support.cluster import clustered, degraded, members, sees, whole
from tests.support.command import run
from tests.support.gateway import Gateway
from tests.support.redis import RedisServer
from tests.support.tokens import SETTINGS, bearer, token
from tests.support.waiting import eventually
from tests.support.ws import address


async def test_gateways_list_each_other_until_they_end(
    redis: RedisServer, prefix: str, launch: Launch, connect: Connect
) -> None:
    """With version, start, clients and lag; one that is killed disappears after its time, one that ends at once."""
    a = await launch(settings=clustered(redis, prefix, "a"))
    b = await launch(settings=clustered(redis, prefix, "b"))
    c = await launch(settings=clustered(redis, prefix, "c", workers=2))
    await connect("metrics", to=b)
    for one in (a, b, c):
        await sees(one, "a", "b", "c")

    async def counted() -> bool:
        return [0, 1, 0] == [one["clients"] for one in await members(a)]

    await eventually(counted)
    [own] = [one for one in await members(a) if one["own"]]
    assert "a" == own["name"]
    assert own["version"]
    assert own["uptime_seconds"] > 0
    assert 3 == await c.metric("neurograph_gateway_cluster_gateways")
    b.kill()
    await b.exited()
    for one in (a, c):
        await sees(one, "a", "c")
    c.kill(signal.SIGTERM)
    await sees(a, "a")


async def test_gateways_with_another_prefix_are_another_cluster(
    redis: RedisServer, prefix: str, launch: Launch
) -> None:
    a = await launch(settings=clustered(redis, prefix, "a"))
    b = await launch(settings=clustered(redis, f"{prefix}-other", "b"))

    await sees(a, "a")
    await sees(b, "b")


async def test_a_gateway_alone_has_no_cluster(gateway: Gateway) -> None:
    assert (await gateway.status())["cluster"] is None
    assert 0 == await gateway.metric("neurograph_gateway_cluster_gateways")


async def test_status_shows_the_gateways(redis: RedisServer, prefix: str, launch: Launch) -> None:
    a = await launch(settings=clustered(redis, prefix, "first-one"))
    await sees(a, "first-one")
    _, shown = await run("status", "--url", a.url)
    [row] = [line for line in shown.lines if line.startswith("first-one")]

    assert row.endswith("this one")


async def presence(gateway: Gateway, channel: str, *clients: str) -> dict[str, Any]:
    """Wait until a gateway lists exactly these clients as subscribers of a channel."""
    found: dict[str, Any] = {}

    async def listed() -> bool:
        found.update(await gateway.get_json(f"/api/v1/websocket/channels/{channel}/presence"))
        return sorted(clients) == [one["client_id"] for one in found["clients"]]

    await eventually(listed, saying=lambda: f"not {clients}: {found}")
    return found


async def test_presence_is_the_same_on_each_gateway(
    redis: RedisServer, prefix: str, launch: Launch, connect: Connect
) -> None:
    """Also of clients with wildcards, and of those in workers. A gateway that is killed takes its clients with it."""
    a = await launch(settings=clustered(redis, prefix, "a"))
    b = await launch(settings=clustered(redis, prefix, "b"))
    c = await launch(settings=clustered(redis, prefix, "c", workers=2))
    first = await connect("robots.r1", to=a, user_id="ada")
    second = await connect("robots.*", to=b, user_id="ada")
    third = await connect("robots.>", "robots.r1", to=c, user_id="eve")
    await connect("robots.r2", to=b)
    ids = [one.client_id for one in (first, second, third)]
    for gateway in (a, b, c):
        found = await presence(gateway, "robots.r1", *ids)
        assert (3, 2) == (found["subscribers"], found["users"])
    await first.send({"type": "unsubscribe", "channels": ["robots.r1"]})
    for gateway in (a, b, c):
        await presence(gateway, "robots.r1", *ids[1:])
    b.kill()
    await b.exited()
    for gateway in (a, c):
        await presence(gateway, "robots.r1", ids[2])
    await third.close()
    for gateway in (a, c):
        await presence(gateway, "robots.r1")


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_clients_of_a_user_are_counted_on_all_gateways(
    workers: int, redis: RedisServer, prefix: str, launch: Launch, connect: Connect
) -> None:
    """One beyond the limit is refused wherever it comes, with its token or before; there is room when one goes, or its
    gateway is killed."""
    settings = {**SETTINGS, "clients.connections_per_user_max": 2, "workers": workers}
    a = await launch(settings=clustered(redis, prefix, "a", **settings))
    b = await launch(settings=clustered(redis, prefix, "b", **settings))
    a.token = b.token = token("admin", user="root")
    await sees(a, "a", "b")
    alice = bearer(token("developer"))
    first = await connect("metrics", to=a, headers=alice)
    await connect("metrics", to=b, headers=alice)
    for gateway in (a, b):
        assert ("closing", 4503) == await greeted(gateway, alice)
        stranger = await connect(to=gateway)
        assert "forbidden" == (await stranger.refused({"type": "auth", "token": token("developer")}))["code"]
    await connect("metrics", to=b, headers=bearer(token("developer", user="bob")))
    await first.close()

    async def has_room() -> bool:
        return ("connected", None) == await greeted(a, alice)

    await eventually(has_room)
    b.kill()
    await b.exited()
    await sees(a, "a")
    third = await connect("metrics", to=a, headers=alice)
    assert await third.ping()


async def greeted(gateway: Gateway, headers: dict[str, str]) -> tuple[str, int | None]:
    """Connect a client for a moment; return its first message's type and close code."""
    async with aiohttp.ClientSession() as http:
        ws = await http.ws_connect(address(gateway.url, {}), headers=headers)
        message = await ws.receive_json()
        await ws.close()
    return message["type"], message.get("code")


async def test_events_of_the_bus_cause_no_command(
    own_redis: RedisServer, prefix: str, launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    """Not one, of 1,000 events to 3 clients; what the gateway sends to report itself is counted."""
    gateway = await launch(settings=clustered(own_redis, prefix, "a") | {"cluster.ttl_seconds": 3600})
    bus = await publisher(gateway.bus_in)
    clients = [await connect("metrics", to=gateway) for _ in range(3)]
    await presence(gateway, "metrics", *(one.client_id for one in clients))

    def calls() -> dict[str, int]:
        found = own_redis.command("INFO", "commandstats")
        assert isinstance(found, dict)
        ours = ("ping", "info", "client|", "config", "hello", "auth")
        return {
            name: stats["calls"] for name, stats in found.items() if not name.removeprefix("cmdstat_").startswith(ours)
        }

    before = await asyncio.to_thread(calls)
    bus.send_numbered("metrics", range(1, 1001))
    for one in clients:
        await one.events("metrics", 1000)

    assert before == await asyncio.to_thread(calls)


@pytest.mark.parametrize("how", ["killed", "stopped", "full"])
async def test_without_its_engine_a_gateway_delivers_what_comes_from_the_bus(
    how: str, own_redis: RedisServer, prefix: str, launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    """It is ready, says that it is degraded and what to do, and comes back by itself."""
    settings = clustered(own_redis, prefix, "a") | {"cluster.timeout_seconds": 0.5, "cluster.ttl_seconds": 1.0}
    gateway = await launch(settings=settings)
    bus = await publisher(gateway.bus_in)
    client = await connect("metrics", to=gateway)
    await whole(gateway)
    match how:
        case "killed":
            own_redis.kill()
        case "stopped":
            own_redis.kill(signal.SIGSTOP)
        case "full":
            await asyncio.to_thread(own_redis.command, "CONFIG", "SET", "maxmemory", 1)
    [problem] = await degraded(gateway)
    refused = await gateway.get_json("/api/v1/websocket/channels/metrics/presence", status=503)
    late = await connect("metrics", to=gateway)
    bus.send_numbered("metrics", range(1, 101))
    bus.send("$personal", client_id=client.client_id)
    for one in (client, late):
        await one.events("metrics", 100)
    await client.events("$personal", 1)

    assert "unavailable" == refused["code"]
    assert f"127.0.0.1:{own_redis.port}" in problem
    assert {"killed": "Redis runs there", "stopped": "does not answer", "full": "maxmemory"}[how] in problem
    assert 0 == await gateway.metric("neurograph_gateway_cluster_engine_up")
    match how:
        case "killed":
            await asyncio.to_thread(own_redis.start)
        case "stopped":
            own_redis.kill(signal.SIGCONT)
        case "full":
            await asyncio.to_thread(own_redis.command, "CONFIG", "SET", "maxmemory", 0)
    await whole(gateway)
    warned = await gateway.logged("cluster_unavailable")
    # On a busy machine there may be another outage than that of the test: each is logged once.
    assert 1 <= len(warned) <= await gateway.metric("neurograph_gateway_cluster_engine_failures_total")
    assert warned[0]["advice"]


async def test_a_gateway_starts_without_its_engine_and_never_shows_the_password(
    launch: Launch, prefix: str, connect: Connect
) -> None:
    with RedisServer("--requirepass", "right") as server:
        wrong = {"cluster.url": f"redis://:hunter2@127.0.0.1:{server.port}"}
        gateway = await launch(settings=clustered(server, prefix, "a") | wrong)
        [problem] = await degraded(gateway)
        await connect("metrics", to=gateway)
        shown = [json.dumps(await gateway.status()), problem, *gateway.lines]
        _, status = await run("status", "--url", gateway.url)
        code, checked = await run("check", "--set", f"cluster.url={wrong['cluster.url']}")

    assert "check the user and password of cluster.url" in problem
    assert "check the user and password of cluster.url" in checked.errors
    assert f"degraded ({problem})" in " ".join(status.output.split())
    assert 0 == code
    assert not [line for line in (*shown, checked.output, checked.errors) if "hunter2" in line]
