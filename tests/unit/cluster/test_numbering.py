"""The gateway that has the lease, and a real Redis that numbers what it heard."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gateway.cluster.engine import Engine
from gateway.cluster.events import ClusterEvents
from gateway.cluster.numbering import ClusterNumbering
from gateway.core.protocol.events import Event
from gateway.runtime.tasks import Tasks
from tests.support.core import Core, make_hub
from tests.support.redis import RedisServer
from tests.support.waiting import eventually
from tests.unit.cluster.conftest import NewEngine, up


@dataclass
class Holder:
    """A gateway that has the lease."""

    hub: Core
    engine: Engine
    events: ClusterEvents
    numbering: ClusterNumbering

    @classmethod
    async def of(cls, engine: Engine, *, channels_max: int = 20) -> Holder:
        hub = make_hub(channels_max=channels_max)
        events = ClusterEvents(engine, hub.logs)
        numbering = ClusterNumbering(engine, events, hub.pipeline, Tasks(), ttl_seconds=60.0)
        await up(engine)
        numbering.renew()
        await eventually(lambda: numbering.lease.state == "holding")
        return cls(hub, engine, events, numbering)

    def hear(self, *channels: str) -> None:
        divert = self.hub.pipeline.divert
        assert divert is not None
        assert [] == divert([Event(channel, b'"data":1', 0) for channel in channels])

    async def numbered(self) -> object:
        return await self.engine.command("ZRANGE", self.engine.key("channels"), 0, -1)


async def test_an_event_of_a_channel_that_cannot_open_holds_up_no_other(redis: RedisServer, engine: NewEngine) -> None:
    one = await Holder.of(engine(redis.url), channels_max=8)
    channels = [f"c{n}" for n in range(10)]
    one.hear(*channels)
    await one.numbering.send_all()

    found = await one.numbered()
    assert isinstance(found, list)
    assert {name.encode() for name in channels[:8]} == set(found)
    assert not one.numbering.lease.to_send


async def test_what_was_heard_waits_while_the_engine_is_down(own_redis: RedisServer, engine: NewEngine) -> None:
    one = await Holder.of(engine(own_redis.url))
    await asyncio.to_thread(own_redis.kill)
    one.hear("a")
    await one.numbering.send_all()

    assert "waiting" == one.numbering.lease.state
