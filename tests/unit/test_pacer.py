"""When what is ready is written, on a real loop."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

from gateway.config.model import Fanout as Settings
from gateway.core.arrival import Arrival
from gateway.core.hub import Hub
from gateway.core.readers import Reader
from gateway.pacer import Pacer
from tests.support.core import make_hub, publish, somebody
from tests.support.waiting import eventually


class Client:
    """A socket whose writes take their time."""

    writing_paused = False

    def __init__(self, hub: Hub) -> None:
        self.writes: list[bytes] = []
        self.costs_seconds = 0.0
        arrival = Arrival("c", "c", somebody(), channels=("robots",))
        hub.arrive(arrival, self._reader, now_ns=0)

    def _reader(self) -> Reader:
        return Reader(write=self._write, flow=self, on_lag=lambda: None)

    def _write(self, data: bytes) -> None:
        self.writes.append(data)
        time.sleep(self.costs_seconds)  # as a thousand sockets do


def scene(
    pace: Literal["adaptive", "fixed"], flush_seconds: float
) -> tuple[Hub, Client, Pacer, list[float]]:
    hub, took = make_hub(), list[float]()
    client = Client(hub)
    publish(hub, "robots")
    client.writes.clear()
    settings = Settings(pace=pace, flush_seconds=flush_seconds)
    return hub, client, Pacer(hub.fanout, settings, on_written=took.append), took


async def test_an_event_that_comes_alone_is_written_at_once() -> None:
    hub, client, pacer, took = scene("adaptive", 10.0)
    publish(hub, "robots")

    assert len(client.writes) == len(took) == 1
    pacer.close()


async def test_while_writing_is_dear_events_gather() -> None:
    hub, client, pacer, took = scene("adaptive", 10.0)
    client.costs_seconds = 0.05
    for _ in range(20):
        publish(hub, "robots")
    await eventually(lambda: len(client.writes) == 2)

    assert client.writes[1].count(b'"offset":') == 19
    assert len(took) == 2
    await eventually(lambda: not hub.fanout.pending)
    pacer.close()


async def test_no_write_waits_for_longer_than_is_set() -> None:
    hub, client, pacer, _ = scene("adaptive", 0.0)
    client.costs_seconds = 0.01
    for _ in range(5):
        publish(hub, "robots")

    assert len(client.writes) == 5
    pacer.close()


async def test_with_a_fixed_pace_events_always_gather() -> None:
    hub, client, pacer, _ = scene("fixed", 0.01)
    for _ in range(20):
        publish(hub, "robots")
    assert client.writes == []
    await eventually(lambda: client.writes)

    assert [one.count(b'"offset":') for one in client.writes] == [20]
    publish(hub, "robots")
    await eventually(lambda: len(client.writes) == 2)
    pacer.close()


async def test_what_is_closed_writes_nothing_more() -> None:
    hub, client, pacer, _ = scene("fixed", 0.001)
    publish(hub, "robots")
    pacer.close()
    await asyncio.sleep(0.02)  # in which it would have

    assert client.writes == []
