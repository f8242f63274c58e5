"""`gateway doctor` says what is wrong with a real cluster: its Redis, its Sentinels, its gateways."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from neurograph_publisher import Publisher

from gateway.config.cluster import parse_url
from tests.conftest import Launch
from tests.support.addresses import free_port
from tests.support.cluster import clustered, sees
from tests.support.command import run
from tests.support.redis import RedisGroup, RedisServer
from tests.support.waiting import eventually


Findings = list[dict[str, Any]]


async def examined(url: str, prefix: str, *arguments: str) -> Findings:
    """What the doctor says of the cluster, where no gateway runs."""
    settings = {"url": url, "prefix": prefix, "timeout_seconds": 30}
    cluster = [part for key, value in settings.items() for part in ("--set", f"cluster.{key}={value}")]
    where = ("--bind", "", "--port", str(free_port()), "--seconds", "0.1", "--json")
    _, command = await run("doctor", *where, *cluster, *arguments)
    assert command.errors == "", command.errors
    return [one for one in command.messages if one["place"] == str(parse_url(url))]


def states(found: Findings, *checks: str) -> list[str]:
    return [one["state"] for one in found if one["check"] in checks]


async def test_gateways_that_hear_different_publishers_are_named(
    redis: RedisServer, prefix: str, launch: Launch
) -> None:
    a = await launch(settings=clustered(redis, prefix, "a"))
    b = await launch(settings=clustered(redis, prefix, "b"))
    await sees(a, "a", "b")
    with Publisher(connect=a.bus_in, name="core", heartbeat_seconds=0.1):

        async def said() -> Findings:
            found = await examined(redis.url, prefix, "--set", "cluster.ttl_seconds=5")
            return [one for one in found if one["check"] == "publishers" and one["state"] == "problem"]

        [one] = await eventually(said, saying="the difference is seen")
    assert one["text"].startswith("b does not hear core")
    assert one["remedy"]
    assert b.bus_in != a.bus_in


async def test_an_engine_that_evicts_is_a_problem(own_redis: RedisServer, prefix: str) -> None:
    own_redis.command("CONFIG", "SET", "maxmemory", "100mb")
    own_redis.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")

    found = await examined(own_redis.url, prefix)

    assert states(found, "memory") == ["problem"]
    assert states(found, "engine", "data", "clock") == ["ok"] * 3
    assert states(found, "gateways") == ["note"]


async def test_an_engine_that_is_down_is_a_problem(prefix: str) -> None:
    found = await examined(f"redis://127.0.0.1:{free_port()}", prefix)

    [one] = [one for one in found if one["check"] == "engine"]
    assert one["state"] == "problem"
    assert "cluster.url" in one["remedy"]


async def test_sentinels_and_their_servers_are_examined() -> None:
    """All as the documents say, but that data is kept; then without `min-replicas-to-write` on one of the servers."""
    with RedisGroup(replicas=2) as group:
        await eventually(_in_thread(group.knows_all), saying="the Sentinels know all")
        good = await examined(group.url, "neurograph")
        group.servers[1].command("CONFIG", "SET", "min-replicas-to-write", 0)
        bad = await examined(group.url, "neurograph")

    assert states(good, "sentinels", "replicas", "failover") == ["ok"] * 3
    assert states(good, "data") == ["warning"]
    [one] = [one for one in bad if one["check"] == "failover"]
    assert one["state"] == "warning"
    assert str(group.servers[1].port) in one["text"]


def _in_thread(call: Callable[[], bool]) -> Callable[[], Any]:
    return lambda: asyncio.to_thread(call)
