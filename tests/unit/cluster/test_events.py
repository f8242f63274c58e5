"""Events that a real Redis numbers: idempotency keys, fences, and room for channels."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.cluster.events import ClusterEvents
from gateway.cluster.numbering import _LEASE
from gateway.core.cluster.lease import Waiting
from gateway.core.cluster.once import Once
from gateway.core.log.logs import Logs
from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.core.protocol.events import Event
from tests.support.redis import RedisServer
from tests.support.waiting import eventually
from tests.unit.cluster.conftest import NewEngine, up


NO_KEY = Once("", "", "")


class Node:
    """An engine's client with logs, which it keeps current."""

    def __init__(self, engine: NewEngine, redis: RedisServer, *, channels_max: int = 20) -> None:
        self.engine = engine(redis.url)
        self.logs = Logs(epoch="own", channels_max=channels_max)
        self.events = ClusterEvents(self.engine, self.logs)
        self._task = asyncio.create_task(self.events.keep_current())

    async def up(self) -> Node:
        await up(self.engine)
        await self.events.settled.wait()
        return self

    async def lease(self) -> tuple[int, bool]:
        reply = await self.engine.run(_LEASE, 60_000, 0)
        assert isinstance(reply, list)
        return int(reply[0]), bool(reply[1])

    async def has(self, *expected: tuple[int, bool], channel: str = "a") -> None:
        """Wait until a log has exactly these entries."""
        await eventually(lambda: self.entries(channel) == list(expected), saying=lambda: str(self.entries(channel)))

    def entries(self, channel: str = "a") -> list[tuple[int, bool]]:
        """The offset of each entry, and whether it is an event."""
        log = self.logs.by_name.get(channel)
        return [] if log is None else [(one.offset, one.is_event) for one in log.held(log.cursor_at(0))]


def raw(n: int, channel: str = "a", *, skipped: int = 0) -> Waiting:
    return Waiting(Event(channel, b'"data":%d' % n, 0), skipped)


async def test_a_lower_fence_is_refused(redis: RedisServer, engine: NewEngine) -> None:
    """A gateway that had the lease numbers nothing once another one has taken it, as long as it may have slept."""
    first, second = await Node(engine, redis).up(), await Node(engine, redis).up()
    fence, is_own = await first.lease()
    assert is_own
    assert (fence, False) == await second.lease()
    assert ("new", {"a"}) == await first.events.append([raw(1), raw(2)], fence=fence)
    await asyncio.to_thread(redis.command, "DEL", first.engine.key("lease"))
    higher, is_own = await second.lease()
    assert is_own
    assert higher > fence

    assert ("fenced", set()) == await first.events.append([raw(3)], fence=fence)
    assert ("new", {"a"}) == await second.events.append([raw(4)], fence=higher)
    for one in (first, second):
        await one.has((1, True), (2, True), (0, False), (1, True))


async def test_a_log_lacks_what_begins_a_source_until_the_stream_brings_it(
    redis: RedisServer, engine: NewEngine
) -> None:
    one = await Node(engine, redis).up()
    fence, _ = await one.lease()

    assert ("new", {"a"}) == await one.events.append([raw(1)], fence=fence)
    await one.has((1, True))
    assert ("new", set()) == await one.events.append([raw(2)], fence=fence)


async def test_numbers_that_are_left_out_are_gaps(redis: RedisServer, engine: NewEngine) -> None:
    one = await Node(engine, redis).up()
    fence, _ = await one.lease()
    await one.events.append([raw(1), raw(5, skipped=3)], fence=fence)

    await one.has((1, True), (4, False), (5, True))
    assert 3 == one.events.channels.counts["missing"]


async def test_a_channel_beyond_the_limit_is_refused_until_one_is_silent(redis: RedisServer, engine: NewEngine) -> None:
    one = await Node(engine, redis, channels_max=2).up()
    for channel in ("a", "b"):
        await one.events.publish(Event(channel, b'"data":1', 0), once=NO_KEY, answer="")
    with pytest.raises(RequestError, match=r"ingest.channels_max") as refused:
        await one.events.publish(Event("c", b'"data":1', 0), once=NO_KEY, answer="")
    assert ErrorCode.UNAVAILABLE is refused.value.code
    await one.events.publish(Event("$everyone", b'"data":1', 0), once=NO_KEY, answer="")
    silent_ms = round((time.time() - 301) * 1000)
    await asyncio.to_thread(redis.command, "ZADD", one.engine.key("channels"), silent_ms, "a")
    await one.events.publish(Event("c", b'"data":1', 0), once=NO_KEY, answer="")

    assert [b"b", b"c"] == await one.engine.command("ZRANGE", one.engine.key("channels"), 0, -1)
    assert 0 == await one.engine.command("EXISTS", one.engine.key("channel", "a"))


async def test_what_was_dropped_from_the_stream_of_all_channels_is_fetched(
    redis: RedisServer, engine: NewEngine
) -> None:
    """Also if it is more than one answer has, and nothing comes after it on its channel."""
    first, second = await Node(engine, redis).up(), await Node(engine, redis).up()
    for n in range(250):
        await first.events.publish(Event("a", b'"data":%d' % n, 0), once=NO_KEY, answer="")
    await asyncio.to_thread(redis.command, "XTRIM", first.engine.key("events"), "MAXLEN", 0)
    late = await Node(engine, redis).up()
    await first.events.publish(Event("b", b'"data":1', 0), once=NO_KEY, answer="")

    for one in (first, second, late):
        await one.has(*((n, True) for n in range(1, 251)))
        await one.has((1, True), channel="b")
