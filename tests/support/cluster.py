"""What tests of clusters share: settings, and what gateways say of each other."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conftest import Launch
from tests.support.gateway import Gateway
from tests.support.redis import RedisServer
from tests.support.waiting import eventually
from tests.support.ws import Client


# A stopped gateway must be missed soon, and none only because the machine is busy.
TTL_SECONDS = 5.0

with_workers = pytest.mark.parametrize("cluster_pair", [1, 2], indirect=True)
"""The test with gateways in one process, and with workers."""


def clustered(server: RedisServer, prefix: str, name: str, **settings: object) -> dict[str, object]:
    """The settings of a gateway of a cluster."""
    given = {"url": server.url, "prefix": prefix, "name": name, "timeout_seconds": 30.0, "ttl_seconds": TTL_SECONDS}
    return {f"cluster.{key}": value for key, value in given.items()} | settings


async def members(gateway: Gateway) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await gateway.status())["cluster"]["gateways"]
    return found


async def sees(gateway: Gateway, *names: str) -> None:
    """Wait until a gateway lists exactly these."""

    async def listed() -> bool:
        return list(names) == [one["name"] for one in await members(gateway)]

    await eventually(listed, saying=f"{names} are listed")


async def degraded(*gateways: Gateway) -> list[str]:
    """Wait until each of these says that it is degraded, and return how."""

    async def found() -> list[str]:
        answers = [await one.get_json("/readyz") for one in gateways]
        assert all(answer["ready"] for answer in answers)
        each: list[list[str]] = [answer["degraded"] for answer in answers]
        return [reason for reasons in each for reason in reasons] if all(each) else []

    reasons: list[str] = await eventually(found, saying="each says that it is degraded")
    return reasons


async def whole(*gateways: Gateway) -> None:
    """Wait until each of these uses its engine."""

    async def up() -> bool:
        return not any([(await one.get_json("/readyz"))["degraded"] for one in gateways])

    await eventually(up, saying="each uses its engine")


async def launch_pair(launch: Launch, server: RedisServer, prefix: str, **settings: object) -> list[Gateway]:
    """Start two gateways of a cluster, and wait until they use its engine."""
    pair = [await launch(settings=clustered(server, prefix, name, **settings)) for name in ("first", "second")]
    await whole(*pair)
    return pair


async def restart(server: RedisServer, *gateways: Gateway) -> None:
    """Kill the engine and start it again; each gateway has noticed that, and uses it again."""
    server.kill()
    await degraded(*gateways)
    await asyncio.to_thread(server.start)
    await whole(*gateways)


def note(n: int) -> dict[str, Any]:
    return {"event_type": "note", "data": {"n": n}}


def numbers(client: Client, channel: str = "chat") -> list[int]:
    """The numbers of the notes that a client has had."""
    return [event["data"]["n"] for event in client.channel(channel).events]
