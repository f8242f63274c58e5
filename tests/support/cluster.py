"""What tests of clusters share: settings, and what gateways say of each other."""

from __future__ import annotations

from typing import Any

import pytest

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


async def degraded(gateway: Gateway) -> list[str]:
    """Wait until a gateway says that it is degraded, and return how."""

    async def found() -> Any:
        answer = await gateway.get_json("/readyz")
        assert answer["ready"]
        return answer["degraded"]

    reasons: list[str] = await eventually(found, saying="it says that it is degraded")
    return reasons


async def whole(gateway: Gateway) -> None:
    """Wait until a gateway uses its engine."""

    async def up() -> bool:
        return not (await gateway.get_json("/readyz"))["degraded"]

    await eventually(up, saying="it uses its engine")


def note(n: int) -> dict[str, Any]:
    return {"event_type": "note", "data": {"n": n}}


def numbers(client: Client, channel: str = "chat") -> list[int]:
    """The numbers of the notes that a client has had."""
    return [event["data"]["n"] for event in client.channel(channel).events]
