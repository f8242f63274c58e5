"""Limits that many clients press on at the same moment, with one process and with two workers."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.conftest import Launch, OpenRaw
from tests.support.gateway import Gateway
from tests.support.raw import RawPeer
from tests.support.record import Message
from tests.support.tokens import SETTINGS, bearer, token
from tests.support.waiting import eventually


MANY = 40
LIMITS: dict[str, object] = {
    **SETTINGS,
    "clients.connections_max": 12,
    "clients.connections_per_address_max": 8,
    "clients.connections_per_user_max": 5,
    "sessions.disconnected_max": 6,
    "trusted_proxies": "127.0.0.1",
}


@pytest.fixture(params=[[], ["--workers", "2"]], ids=["one process", "two workers"])
async def limited(request: pytest.FixtureRequest, launch: Launch) -> Gateway:
    gateway = await launch(flags=request.param, settings=LIMITS)
    gateway.token = token("admin")
    return gateway


class Visitors:
    """Clients that connect to a gateway at the same moment."""

    def __init__(self, gateway: Gateway, raw: OpenRaw) -> None:
        self.gateway = gateway
        self.admitted: list[tuple[RawPeer, Message]] = []
        self.refused: Counter[int | None] = Counter()
        self._raw = raw

    async def come(self, headers: list[dict[str, str]], path: str = "/ws") -> None:
        """Connect once with each of some headers."""
        peers = [await self._raw(to=self.gateway, upgrade=False) for _ in headers]
        await asyncio.gather(*(self._come(*one, path) for one in zip(peers, headers, strict=True)))

    async def _come(self, peer: RawPeer, headers: dict[str, str], path: str) -> None:
        status, _ = await peer.upgrade(path, **headers)
        assert status == 101
        first = await peer.read_message()
        if first["type"] == "connected":
            self.admitted.append((peer, first))
        else:
            self.refused[(await peer.read_ending()).code] += 1
            peer.close()

    async def leave(self) -> None:
        """Lose all connections at the same moment."""
        for peer, _ in self.admitted:
            peer.reset()
        self.admitted.clear()


def user(name: str, number: int) -> dict[str, str]:
    return {**bearer(token(user=name)), "X_Forwarded_For": f"10.0.0.{number}"}


LIMITED = {
    "clients": ([user(f"u{n}", n) for n in range(MANY)], 12, 1013),
    "one address": ([user(f"u{n}", 1) for n in range(MANY)], 8, 1013),
    "one user": ([user("ada", n) for n in range(MANY)], 5, 4503),
}


@pytest.mark.parametrize(("headers", "places", "code"), LIMITED.values(), ids=LIMITED)
async def test_clients_that_come_at_once_get_the_places_there_are(
    limited: Gateway, raw: OpenRaw, headers: list[dict[str, str]], places: int, code: int
) -> None:
    """Each time: those that are lost at once leave all their places."""
    visitors = Visitors(limited, raw)
    for _ in range(2):
        visitors.refused.clear()
        await visitors.come(headers)
        assert (len(visitors.admitted), visitors.refused) == (places, {code: MANY - places})
        await visitors.leave()

        async def left() -> bool:
            return bool((await limited.status())["connections"] == 0)

        await eventually(left)
    assert (await limited.status())["sessions_remembered"] == 6


async def test_a_session_that_many_take_over_at_once_has_one_connection(limited: Gateway, raw: OpenRaw) -> None:
    """All bring the same secret; no place is taken twice, and none is kept."""
    visitors = Visitors(limited, raw)
    await visitors.come([user("ada", 0)])
    [(_, connected)] = visitors.admitted
    await visitors.come([user("ada", n) for n in range(MANY)], f"/ws?session={connected['session']}")

    async def one() -> bool:
        return bool((await limited.status())["connections"] == 1)

    await eventually(one)
    assert {message["client_id"] for _, message in visitors.admitted} == {connected["client_id"]}
    await visitors.leave()
