"""A gateway under attack beside clients that behave: what it costs, and whether it notices."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count

import psutil

from tests.fuzz.attack import Account, Attack
from tests.support import ws
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.record import Record
from tests.support.tokens import SETTINGS, bearer, token
from tests.support.waiting import eventually


CHANNEL = "healthy"
WITNESSES: list[dict[str, object]] = [{}, {"filter": "data.n >= 0"}, {"rate": 5}]
"""What the clients beside it ask for."""
WARM_UP = 300
"""Connections before the measure is taken: what is allocated once is no leak."""
_EVERY_SECONDS = 0.005
_LOOKS = 10

_SETTINGS: dict[str, object] = {
    **SETTINGS,
    # So that strangers reach as much as there is to be reached without a good token.
    "auth.query_token": "true",
    "roles.anonymous.subscribe": ">",
    "sessions.ttl_seconds": 0.5,
    f"channels.{CHANNEL}.key": "data.k",
    "logging.level": "debug",
}


@dataclass(frozen=True)
class Figures:
    """What a gateway at rest takes up."""

    tasks: float
    files: int
    bytes: int

    @classmethod
    async def of(cls, gateway: Gateway, *, tasks_max: float = math.inf) -> Figures:
        """Measure, once all who were there have gone and are forgotten.

        A task may end later than what it was for: more than `tasks_max` are waited for a while.
        """

        async def at_rest() -> bool:
            status = await gateway.status()
            return bool(status["connections"] == len(WITNESSES) and status["sessions_remembered"] == 0)

        async def few() -> bool:
            return (await cls._now(gateway))[0] <= tasks_max

        await eventually(at_rest, every=0.1, saying="all have gone")
        with contextlib.suppress(AssertionError):
            await eventually(few, every=0.1)
        # The least of several: a question of our own may not be closed yet.
        looks = [await cls._now(gateway) for _ in range(_LOOKS)]
        return cls(*(min(figures) for figures in zip(*looks, strict=True)))

    @classmethod
    async def _now(cls, gateway: Gateway) -> tuple[float, int, int]:
        process = psutil.Process(gateway.process.pid)
        tasks = await gateway.metric("neurograph_gateway_event_loop_tasks")
        return tasks, process.num_fds(), process.memory_info().rss


@dataclass
class Outcome:
    """What the attack came to."""

    account: Account
    before: Figures
    after: Figures
    published: int
    delivered: int
    faults: list[str] = field(default_factory=list)


async def siege(seed: int, numbers: range, *, at_once: int = 50) -> Outcome:
    """Attack a gateway with these connections of a seed; everything that is wrong is in `faults`."""
    async with _scene() as (gateway, publisher, witnesses):
        warm = Attack(gateway.port, seed=-1)
        await warm.run(range(WARM_UP), at_once=at_once)
        before = await Figures.of(gateway)
        attack = Attack(gateway.port, seed)
        async with _publishing(publisher) as published:
            await attack.run(numbers, at_once=at_once)
        records = [witness.channel(CHANNEL) for witness in witnesses]
        with contextlib.suppress(AssertionError):  # told below, as what is missing
            await eventually(lambda: all(_accounted(record) >= published[0] for record in records))
        after = await Figures.of(gateway, tasks_max=before.tasks)
        closed = await gateway.metric("neurograph_gateway_connections_closed_total", code="1011")
        faults = [*attack.account.faults, *gateway.alarms()]
        for record, options in zip(records, WITNESSES, strict=True):
            whole = record.numbers == list(range(published[0])) and not record.gaps
            if not (whole or ("rate" in options and _accounted(record) == published[0])):
                faults.append(f"the client beside it, with {options}: {record.faults()} {record.gaps}")
        if closed:
            faults.append(f"{closed:.0f} connections ended with 1011")
        return Outcome(attack.account, before, after, published[0], min(map(_accounted, records)), faults)


def _accounted(record: Record) -> int:
    """Return how many events came, each once, or were replaced by newer ones of their key."""
    conflated = [int(gap["count"]) for gap in record.gaps if gap["reason"] == "conflated"]
    return len(set(record.numbers)) + sum(conflated)


@contextlib.asynccontextmanager
async def _scene() -> AsyncIterator[tuple[Gateway, Publisher, list[ws.Client]]]:
    async with Gateway(settings=_SETTINGS) as gateway:
        gateway.errors_expected = True  # they are told with what else is wrong
        gateway.token = token("admin")
        async with Publisher(gateway.bus_in) as publisher:
            witnesses = [await ws.connect(gateway.url, headers=bearer(token("admin"))) for _ in WITNESSES]
            try:
                for client, options in zip(witnesses, WITNESSES, strict=True):
                    await client.subscribe(CHANNEL, **options)
                yield gateway, publisher, witnesses
            finally:
                for client in witnesses:
                    await client.close()


@contextlib.asynccontextmanager
async def _publishing(publisher: Publisher) -> AsyncIterator[list[int]]:
    """Publish all the time; hands out a list with the count."""
    published = [0]

    async def publish() -> None:
        for n in count():
            publisher.send(CHANNEL, {"n": n, "k": n % 3})
            published[0] += 1
            await asyncio.sleep(_EVERY_SECONDS)

    task = asyncio.create_task(publish())
    try:
        yield published
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
