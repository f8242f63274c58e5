"""What the scripts do in a real Redis is what the engine of the simulation does."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gateway.cluster import sessions as shell
from gateway.cluster.cluster import _LEAVE, _REPORT
from gateway.cluster.events import _APPEND
from gateway.cluster.numbering import _LEASE
from gateway.cluster.scripts import Script
from tests.simulation.engine_data import Data
from tests.support.redis import RedisServer
from tests.unit.cluster.conftest import NewEngine, up


CLIENTS, SECRETS, USERS = ("c1", "c2", "c3"), ("s1", "s2", "s3", "s4"), ("", "u1", "u2")
CHANNELS = ("$everyone", "a", "b", "c")
_LONG = 1_000_000


def some_event(pick: random.Random, *, skipped: int = 0) -> list[Any]:
    return [pick.choice(CHANNELS), 3, f"{pick.getrandbits(64):016x}", skipped, b"x"]


def some_call(pick: random.Random, fence: int) -> tuple[Script, list[Any]]:
    client, secret, user = pick.choice(CLIENTS), pick.choice(SECRETS), pick.choice(USERS)
    identity = pick.choice(("", "i"))
    once = [*pick.choice([("", ""), ("k", "a"), ("k", "b"), ("l", "a")]), _LONG]
    news = [f"news-{once[0]}" if once[0] else "", *once[1:]]
    several = [part for _ in range(pick.randint(1, 3)) for part in some_event(pick, skipped=pick.choice((0, 0, 2)))]
    fence = max(fence - pick.choice((0, 0, 0, 1)), 1)
    calls: list[tuple[Script, list[Any]]] = [
        (_REPORT, [b"r", _LONG, b"h"]),
        (shell._SAVE, [client, _LONG, identity, user, b"kept%d" % pick.randint(1, 9), pick.randint(0, 1), secret]),
        (shell._SAVE, [client, _LONG, identity, user, b"two", 1, secret, pick.choice(SECRETS)]),
        (shell._TAKE, [secret, pick.choice(("", "i")), pick.randint(0, 1)]),
        (shell._PERSONAL, [3, b"e%d" % pick.randint(1, 9), client, "", *once]),
        (shell._PERSONAL, [3, b"u", "", pick.choice(("u1", "u2")), *once]),
        (_APPEND, [_LONG, 2, _LONG, *news, "rest", "", *some_event(pick)]),
        (_APPEND, [_LONG, pick.choice((2, 4)), _LONG, "", "", 0, "", fence, *several]),
        (_LEASE, [_LONG, pick.choice((0, 0, 0, 1))]),
        (shell._KICK, [client]),
        (shell._FORGET, [client]),
        (_LEAVE, []),
    ]
    return pick.choices(calls, weights=[3, 8, 3, 6, 6, 2, 3, 8, 3, 2, 1, 1])[0]


def plain(reply: Any) -> Any:
    """Return a reply without the ids of streams' entries."""
    match reply:
        case [2, client, kept, entries]:
            return [2, client, kept, [list(fields) for _, fields in entries]]
        case [known, [*reports]]:
            return [known, len(reports)]
    return reply


@pytest.mark.parametrize("seed", range(4))
async def test_scripts_answer_as_the_engine_of_the_simulation(redis: RedisServer, engine: NewEngine, seed: int) -> None:
    pick = random.Random(seed)
    gateways = [await up(engine(redis.url)) for _ in range(3)]
    data, epoch = Data(), f"{gateways[0].epoch:016x}"
    data.engine = {"epoch": epoch, "server": ""}
    for number in range(300):
        one = pick.choice(gateways)
        script, arguments = some_call(pick, data.fence)
        reply = await one.run(script, *arguments)
        assert plain(reply) == plain(data.run(script.name, epoch, one.gateway, arguments)), (number, script.name)

    for kind in (
        "events",
        *(f"channel:{one}" for one in CHANNELS),
        *(f"personal:{one}" for one in CLIENTS),
        *(f"inbox:{one.gateway}" for one in gateways),
    ):
        found: Any = await gateways[0].command("XRANGE", gateways[0].key(*kind.split(":")), "-", "+")
        held = [{name.decode(): value for name, value in fields.items()} for _, fields in found]
        expected = [fields for _, fields in data.streams[kind].entries] if kind in data.streams else []
        if kind.startswith("inbox"):  # to a user's clients in any order
            held, expected = (sorted(entries, key=lambda one: sorted(one.items())) for entries in (held, expected))
        assert held == expected, kind
