"""The engine with a real Redis: commands, streams, and what happens when it fails."""

from __future__ import annotations

import asyncio
import re
import signal
import time

import pytest

from gateway.cluster import engine as cluster_engine
from gateway.cluster.engine import Engine, EngineError, EngineUnavailable, StreamEntry, probe
from gateway.cluster.scripts import Script, _read
from gateway.config.model import Cluster
from gateway.core.protocol.errors import ErrorCode
from tests.support.blocks import ROOT
from tests.support.redis import RedisServer, some_port
from tests.support.waiting import eventually
from tests.unit.cluster.conftest import NewEngine, down, up


NUMBER = Script("number", _read("prelude") + "return redis.call('INCR', PREFIX .. ARGV[3])")


async def appended(server: RedisServer, engine: Engine, stream: str, number: int) -> None:
    await asyncio.to_thread(server.command, "XADD", engine.key(stream), "*", "n", number)


async def test_commands_that_collect_are_sent_together_and_answered_in_order(
    redis: RedisServer, engine: NewEngine
) -> None:
    one = await up(engine(redis.url))

    replies = await asyncio.gather(*(one.command("INCR", one.key("counter")) for _ in range(1200)))

    assert list(range(1, 1201)) == replies


async def test_a_wrong_command_costs_the_others_nothing(redis: RedisServer, engine: NewEngine) -> None:
    one = await up(engine(redis.url))
    before, wrong, after = one.command("PING"), one.command("NONSENSE"), one.command("PING")

    with pytest.raises(EngineError, match="NONSENSE"):
        await wrong
    assert {True} == {await before, await after}
    assert one.up


async def test_engines_of_one_server_have_one_epoch(redis: RedisServer, engine: NewEngine) -> None:
    first, second = await up(engine(redis.url)), await up(engine(redis.url))

    assert first.epoch == second.epoch != 0
    assert 1 == await first.run(NUMBER, "n")
    assert 2 == await second.run(NUMBER, "n")


async def test_a_script_of_data_that_is_gone_does_nothing(redis: RedisServer, engine: NewEngine) -> None:
    """Whoever asks gets an error at once; then the engine has another epoch, and goes on."""
    one = await up(engine(redis.url))
    before = one.epoch
    await asyncio.to_thread(redis.command, "DEL", one.key("engine"))

    with pytest.raises(EngineUnavailable) as caught:
        await one.run(NUMBER, "n")

    assert not caught.value.sent
    assert caught.value.code is ErrorCode.UNAVAILABLE
    await eventually(lambda: one.up and one.epoch != before)
    assert 1 == await one.run(NUMBER, "n")


async def test_streams_are_followed_from_where_they_were_left(own_redis: RedisServer, engine: NewEngine) -> None:
    """A stream that is added while others are waited for is followed at once."""
    one = await up(engine(own_redis.url))
    got: dict[str, list[bytes]] = {"a": [], "b": []}
    one.follow(one.key("a"), lambda entries: got["a"].extend(fields["n"] for _, fields in entries))
    await appended(own_redis, one, "a", 1)
    await eventually(lambda: got["a"] == [b"1"])
    one.follow(one.key("b"), lambda entries: got["b"].extend(fields["n"] for _, fields in entries))
    await appended(own_redis, one, "b", 2)
    await eventually(lambda: got["b"] == [b"2"])
    await asyncio.to_thread(own_redis.command, "CLIENT", "KILL", "TYPE", "normal")
    await appended(own_redis, one, "a", 3)

    await eventually(lambda: got["a"] == [b"1", b"3"])


async def test_after_a_restart_of_the_server_the_epoch_is_another_one(
    own_redis: RedisServer, engine: NewEngine
) -> None:
    """The data may lack what was confirmed: entries come again from the oldest, for whoever follows to compare."""
    one = await up(engine(own_redis.url))
    ups: list[bool] = []
    one.on_up.append(ups.append)
    got: list[StreamEntry] = []
    one.follow(one.key("a"), got.extend)
    await appended(own_redis, one, "a", 1)
    await eventually(lambda: len(got) == 1)
    before = one.epoch
    own_redis.kill()
    await down(one)
    own_redis.start()
    await up(one)

    await eventually(lambda: len(got) == 2)
    assert one.epoch != before
    assert [True] == ups


async def test_a_server_that_is_gone_fails_commands_at_once(own_redis: RedisServer, engine: NewEngine) -> None:
    """It says what is wrong and what to do; it comes back by itself."""
    one = await up(engine(own_redis.url))
    own_redis.kill()
    await down(one)
    with pytest.raises(EngineUnavailable) as caught:
        await one.command("PING")

    assert f"127.0.0.1:{own_redis.port}" in str(caught.value)
    assert not caught.value.sent
    assert "Redis runs there" in one.advice
    own_redis.start()
    await up(one)
    assert 1 == one.failures


async def test_a_server_that_does_not_answer_is_given_up_after_the_timeout(
    own_redis: RedisServer, engine: NewEngine
) -> None:
    """Whoever asked then is not sure whether it was done; whoever asks later fails at once."""
    one = await up(engine(own_redis.url, timeout_seconds=0.3))
    own_redis.kill(signal.SIGSTOP)
    with pytest.raises(EngineUnavailable) as caught:
        await one.command("INCR", one.key("n"))

    assert caught.value.sent
    with pytest.raises(EngineUnavailable, match="does not answer within"):
        await one.command("PING")
    own_redis.kill(signal.SIGCONT)
    await up(one)


async def test_a_server_is_not_to_blame_if_the_gateway_did_not_run(own_redis: RedisServer, engine: NewEngine) -> None:
    """It has answered in time, and its answer was read late."""
    one = await up(engine(own_redis.url, timeout_seconds=2))
    own_redis.kill(signal.SIGSTOP)
    reply = one.command("INCR", one.key("n"))
    await eventually(lambda: one._sent)
    own_redis.kill(signal.SIGCONT)
    time.sleep(2.5)  # noqa: ASYNC251 - longer than the deadline

    assert 1 == await reply
    assert (True, 0) == (one.up, one.failures)


async def test_a_silent_server_is_noticed_without_commands(own_redis: RedisServer, engine: NewEngine) -> None:
    one = await up(engine(own_redis.url, timeout_seconds=0.3))
    own_redis.kill(signal.SIGSTOP)

    await down(one)
    own_redis.kill(signal.SIGCONT)


async def test_a_full_server_is_down_until_there_is_room(own_redis: RedisServer, engine: NewEngine) -> None:
    one = await up(engine(own_redis.url))
    await asyncio.to_thread(own_redis.command, "CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(EngineUnavailable, match="maxmemory"):
        await one.command("SET", one.key("x"), "y")
    await eventually(lambda: "raise maxmemory" in one.advice)
    await asyncio.to_thread(own_redis.command, "CONFIG", "SET", "maxmemory", 0)

    await up(one)


async def test_a_wrong_password_is_reported_without_it(engine: NewEngine) -> None:
    with RedisServer("--requirepass", "right") as server:
        url = f"redis://:wr0ng@127.0.0.1:{server.port}"
        one = engine(url)
        await eventually(lambda: "user and password" in one.advice)
        found = await probe(Cluster(url=url))

        assert found is not None
        assert "wr0ng" not in f"{one.problem}{one.address!r}{found}{Cluster(url=url)!r}"
        assert await probe(Cluster(url=f"redis://:right@127.0.0.1:{server.port}")) is None


async def test_an_acl_user_may_use_nothing_but_the_prefix(redis: RedisServer, engine: NewEngine, prefix: str) -> None:
    """The permissions that docs/cluster.md names suffice."""
    [command] = re.findall(r"^    (ACL SETUSER .*)$", (ROOT / "docs/cluster.md").read_text(), re.MULTILINE)
    redis.command(*command.replace("PASSWORD", "secret").replace("~neurograph:", f"~{prefix}:").split())
    one = await up(engine(f"redis://gateway:secret@127.0.0.1:{redis.port}"))
    got: list[StreamEntry] = []
    one.follow(one.key("a"), got.extend)

    assert 1 == await one.run(NUMBER, "n")
    await one.command("XADD", one.key("a"), "*", "n", 1)
    await eventually(lambda: got)


async def test_commands_beyond_those_that_may_wait_fail_at_once(
    redis: RedisServer, engine: NewEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_engine, "_WAITING_MAX", 3)
    one = await up(engine(redis.url))
    waiting = [one.command("INCR", one.key("counter")) for _ in range(3)]
    with pytest.raises(EngineUnavailable, match="3 commands wait already"):
        await one.command("INCR", one.key("counter"))

    assert [1, 2, 3] == await asyncio.gather(*waiting)
    assert 4 == await one.command("INCR", one.key("counter"))


async def test_nobody_waits_for_a_server_that_never_was_there(engine: NewEngine) -> None:
    one = engine(f"redis://127.0.0.1:{some_port()}")
    with pytest.raises(EngineUnavailable):
        await one.command("PING")
    await eventually(lambda: "Redis runs there" in one.advice)
