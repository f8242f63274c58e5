"""What a real Redis keeps for a cluster at most, and for how long."""

from __future__ import annotations

from typing import Any

from gateway.cluster.clients import _PRESENCE, _WILDCARDS
from gateway.cluster.cluster import _REPORT
from gateway.cluster.engine import Engine
from gateway.cluster.events import _ONCE_MS, ClusterEvents
from gateway.cluster.sessions import _KICK, _ONCE_SECONDS, _PERSONAL, _SAVE
from gateway.core.cluster.once import Once
from gateway.core.cluster.presence import key_of, members
from gateway.core.fanout.views import Subscription
from gateway.core.log.logs import Logs
from gateway.core.protocol.events import Event
from tests.support.redis import RedisServer
from tests.unit.cluster.conftest import NewEngine, up


_TTL_MS = 60_000
_UNREAD = 10_000
"""Entries that a gateway has not read; Redis drops whole nodes of a stream, of 100 entries."""
_FILL_STREAM = """
for n = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'kind', 'kick', 'client', n) end
redis.call('PEXPIRE', KEYS[1], 60000)
return 0
"""


async def pair(engine: NewEngine, redis: RedisServer) -> tuple[Engine, Engine]:
    """The engines of two gateways, which have reported."""
    found = await up(engine(redis.url)), await up(engine(redis.url))
    for one in found:
        await one.run(_REPORT, b"r", _TTL_MS, b"h")
    return found


async def present(of: Engine, *patterns: str) -> None:
    """Let clients of a gateway be subscribed, each to one of these."""
    found = [one for n, pattern in enumerate(patterns) for one in members(f"c{n}", None, [Subscription(pattern)])]
    scored = [part for one in found for part in (0, one)]
    await of.command("ZADD", of.key("presence", of.gateway), *scored)


async def test_a_gateway_that_reads_nothing_has_a_bounded_inbox(redis: RedisServer, engine: NewEngine) -> None:
    first, second = await pair(engine, redis)
    inbox = second.key("inbox", second.gateway)
    await second.run(_SAVE, "c1", _TTL_MS, "", "", b"kept", 1, "secret")
    await first.command("EVAL", _FILL_STREAM, 1, inbox, 2 * _UNREAD)

    assert 1 == await first.run(_KICK, "c1")
    length = await first.command("XLEN", inbox)
    assert isinstance(length, int)
    assert _UNREAD <= length <= _UNREAD + 200
    newest: Any = await first.command("XREVRANGE", inbox, "+", "-", "COUNT", 1)
    assert b"c1" == newest[0][1][b"client"]


async def test_of_each_gateway_so_many_clients_and_wildcards_are_listed(redis: RedisServer, engine: NewEngine) -> None:
    """The limits are arguments of the scripts: 100,000 clients would take a second of each run of the tests."""
    [first, second] = await pair(engine, redis)
    third = await up(engine(redis.url))
    await third.run(_REPORT, b"r", _TTL_MS, b"h")
    for one in (second, third):
        await present(one, *["busy"] * 5, "a.*", "b.*", "b.*", "c.*")

    for limit, listed in ((3, 6), (9, 10)):
        reply = await first.run(_PRESENCE, limit, key_of("busy"))
        assert isinstance(reply, list)
        assert listed == len(reply)
    for limit, patterns in ((2, {b"a.*", b"b.*"}), (9, {b"a.*", b"b.*", b"c.*"})):
        reply = await first.run(_WILDCARDS, limit)
        assert isinstance(reply, list)
        assert patterns == set(reply)


async def test_idempotency_keys_are_forgotten_after_their_time(redis: RedisServer, engine: NewEngine) -> None:
    """Of events and of personal messages; then the same request is a new one."""
    [first, _] = await pair(engine, redis)
    events, once = ClusterEvents(first, Logs(epoch="own", channels_max=20)), Once("key", "content", "error")
    event = Event("a", b'"data":1', 0)
    assert (await events.publish(event, once=once, answer="1")).is_new
    assert not (await events.publish(event, once=once, answer="1")).is_new
    key = first.key("once", "key")
    assert 0 < await left_ms(first, key) <= _ONCE_MS

    await first.command("PEXPIRE", key, 0)
    assert (await events.publish(event, once=once, answer="1")).is_new

    await first.run(_SAVE, "c1", _TTL_MS, "", "", b"kept", 1, "secret")
    assert 1 == await first.run(_PERSONAL, 3, b"e", "c1", "", "other", "content", _ONCE_SECONDS * 1000)
    assert 0 < await left_ms(first, first.key("once", "other")) <= _ONCE_MS


async def left_ms(engine: Engine, key: str) -> int:
    left = await engine.command("PTTL", key)
    assert isinstance(left, int)
    return left
