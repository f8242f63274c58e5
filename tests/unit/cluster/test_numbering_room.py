"""A gateway with the lease has a real Redis number what it hears."""

from __future__ import annotations

import asyncio
import time

from gateway.cluster.events import ClusterEvents
from gateway.cluster.numbering import ClusterNumbering
from gateway.runtime.tasks import Tasks
from tests.support.core import make_hub
from tests.support.redis import RedisServer
from tests.support.waiting import eventually
from tests.unit.cluster.conftest import NewEngine, up


async def test_what_the_engine_has_no_room_for_is_a_gap_once_it_has_room(redis: RedisServer, engine: NewEngine) -> None:
    hub = make_hub()
    client = engine(redis.url)
    events = ClusterEvents(client, hub.logs)
    numbering = ClusterNumbering(client, events, hub.pipeline, Tasks(), ttl_seconds=60)
    keeping = [asyncio.create_task(one) for one in (events.keep_current(), numbering.keep_sending())]
    await up(client)
    await events.settled.wait()
    await eventually(lambda: numbering.lease.state == "holding")
    now_ms = round(time.time() * 1000)
    for n in range(hub.logs.channels_max):  # of other gateways
        await asyncio.to_thread(redis.command, "ZADD", client.key("channels"), now_ms, f"other{n}")

    def hear(n: int) -> None:
        hub.tick([[b"raw", b'{"event_type":"x","data":%d}' % n]], now_ns=0)

    hear(1)
    hear(2)
    await eventually(lambda: events.channels.counts["refused"] == 2)
    await asyncio.to_thread(redis.command, "ZADD", client.key("channels"), now_ms - 301_000, "other0")
    hear(3)
    await eventually(lambda: len(hub.logs.by_name["raw"]) == 2)
    log = hub.logs.by_name["raw"]
    for one in keeping:
        one.cancel()

    assert [(2, False), (3, True)] == [(one.offset, one.is_event) for one in log.held(log.cursor_at(0))]
