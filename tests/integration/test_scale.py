"""Many clients, many events: all get everything, in order, once.

With TEST_FULL=1 the load test has its full size: 2,000 events/s for 30 s.
"""

from __future__ import annotations

import asyncio
import time

from tests.conftest import Launch, NewPublisher
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.sizes import full
from tests.support.swarm import Swarm
from tests.support.waiting import eventually


async def test_thousands_of_clients_receive_one_event(launch: Launch, publisher: NewPublisher) -> None:
    """Each of 5,000 (or 2,000) connected clients gets the one event, and the status counts them all."""
    count = full(5000, 2000)
    gateway = await launch()
    bus = await publisher(gateway.bus_in)
    swarm = Swarm(gateway.port, "scale")
    try:
        await swarm.connect(count)
        status = await gateway.status("?limit=1")
        bus.send("scale", {"n": 1})
        await swarm.all(lambda bee: bee.count == 1)
    finally:
        swarm.close()

    assert (status["connections"], status["subscriptions"]) == (count, count)
    assert swarm.faults() == []


async def _pour(bus: Publisher, count: int, per_second: int) -> None:
    """Publish `count` events, evenly, as fast as asked for or as this process can."""
    start = time.monotonic()
    sent = 0
    while sent < count:
        due = min(count, int((time.monotonic() - start) * per_second) + 1)
        bus.send_numbered("load", range(sent, due), enveloped=True)
        sent = due
        await asyncio.sleep(0.005)


def _settings(count: int) -> dict[str, object]:
    return {"history.events_max": count + 1, "history.bytes_max": 1 << 28}


async def test_100_clients_get_every_event_in_order(launch: Launch, publisher: NewPublisher) -> None:
    """100 clients under a steady load: nothing missing, nothing twice, in order."""
    count, per_second = full((60_000, 2000), (4000, 1000))
    gateway: Gateway = await launch(settings=_settings(count))
    bus = await publisher(gateway.bus_in)
    swarm = Swarm(gateway.port, "load")
    try:
        await swarm.connect(100)
        await _pour(bus, count, per_second)
        await swarm.all(lambda bee: bee.last == count)
    finally:
        swarm.close()

    assert swarm.faults() == []
    assert {(1, count, count)} == {(bee.first, bee.last, bee.count) for bee in swarm.bees}
    assert sum((await gateway.status())["rejected"].values()) == 0


async def test_a_thousand_clients_that_come_and_go_leave_nothing_behind(
    launch: Launch, publisher: NewPublisher
) -> None:
    """After five waves of 400 clients under load the counts are back, and memory does not climb."""
    gateway = await launch(settings={"sessions.disconnected_max": 100})
    bus = await publisher(gateway.bus_in)
    sizes = []
    for _ in range(5):
        swarm = Swarm(gateway.port, "waves")
        try:
            await swarm.connect(400)
            bus.send_numbered("waves", range(100))
            await swarm.all(lambda bee: bee.count == 100)
        finally:
            swarm.close()
        await _empty(gateway)
        sizes.append(gateway.rss())

    assert sizes[-1] - sizes[1] < 15 * 1024 * 1024, sizes


async def _empty(gateway: Gateway) -> None:
    async def empty() -> bool:
        status = await gateway.status()
        return bool((status["connections"], status["subscriptions"]) == (0, 0))

    await eventually(empty)
