"""Connections: TLS, and the primary server as Sentinel names it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.cluster import require
from gateway.cluster.engine import probe
from gateway.config import ConfigError
from gateway.config.model import Cluster
from tests.support import tls
from tests.support.redis import RedisServer
from tests.support.waiting import eventually
from tests.unit.cluster.conftest import NewEngine, up


SERVICE = "events"


@pytest.fixture
def replicated() -> Iterator[tuple[RedisServer, RedisServer, RedisServer]]:
    """A primary server, its replica and a Sentinel."""
    with RedisServer() as primary, RedisServer("--replicaof", "127.0.0.1", str(primary.port)) as replica:
        sentinel = RedisServer(sentinel=True)
        sentinel.watch(primary, SERVICE)
        with sentinel:
            yield primary, replica, sentinel


async def test_after_a_failover_the_new_primary_is_used(
    replicated: tuple[RedisServer, RedisServer, RedisServer], engine: NewEngine
) -> None:
    """What it lacks is not known: the epoch is another one."""
    primary, replica, sentinel = replicated
    one = await up(engine(f"redis+sentinel://127.0.0.1:{sentinel.port}/{SERVICE}"))
    before = one.epoch
    await one.command("SET", one.key("x"), "y")

    def is_known() -> bool:
        found = sentinel.command("SENTINEL", "REPLICAS", SERVICE)
        return isinstance(found, list) and bool(found) and replica.command("DBSIZE") == 2

    await eventually(lambda: asyncio.to_thread(is_known), saying="Sentinel knows the replica")
    primary.kill()
    await eventually(lambda: one.up and one.epoch != before, saying=lambda: one.problem)

    assert b"y" == await one.command("GET", one.key("x"))
    assert replica.command("ROLE")[0] == "master"  # type: ignore[index]


async def test_the_log_names_the_server_that_sentinel_named(
    replicated: tuple[RedisServer, RedisServer, RedisServer], engine: NewEngine
) -> None:
    primary, _, sentinel = replicated
    with capture_logs() as lines:
        await up(engine(f"redis+sentinel://127.0.0.1:{sentinel.port}/{SERVICE}"))

    [line] = [one for one in lines if one["event"] == "cluster_available"]
    assert f"127.0.0.1:{primary.port}" == line["server"]


async def test_a_service_that_sentinel_does_not_know_is_reported(
    replicated: tuple[RedisServer, RedisServer, RedisServer],
) -> None:
    _, _, sentinel = replicated

    found = await probe(Cluster(url=f"redis+sentinel://127.0.0.1:{sentinel.port}/other"))

    assert found is not None
    assert "No master found for 'other'" in found[0]


async def test_a_server_with_tls_is_verified(tmp_path: Path) -> None:
    files = tls.make(tmp_path)
    options = (*("--tls-cert-file", str(files.cert)), *("--tls-key-file", str(files.key)), "--tls-auth-clients", "no")
    with RedisServer(*options) as server:
        # Its kernel gives it a port for TLS beside the other one, which tells when it is ready.
        port = server.listen_with_tls()
        url = f"rediss://localhost:{port}"

        assert await probe(Cluster(url=url, ca_file=str(files.cert), timeout_seconds=10)) is None
        refused = await probe(Cluster(url=url, timeout_seconds=10))

    assert refused is not None
    assert "certificate verify failed" in refused[0].lower()


async def test_the_password_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("right\n")
    with RedisServer("--requirepass", "right") as server:
        assert await probe(Cluster(url=server.url, password_file=str(file), timeout_seconds=10)) is None

    with pytest.raises(ConfigError, match="password_file"):
        await probe(Cluster(url=server.url, password_file=str(tmp_path / "none")))


def test_a_cluster_without_the_library_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)

    with pytest.raises(ConfigError, match=r"needs the package redis.*pip install 'neurograph-gateway\[cluster\]'"):
        require()


async def test_a_server_that_evicts_silently_is_warned_of(own_redis: RedisServer) -> None:
    """If it has no limit, it never does."""
    settings = Cluster(url=own_redis.url, timeout_seconds=10)
    await asyncio.to_thread(own_redis.command, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    unlimited = await probe(settings)
    await asyncio.to_thread(own_redis.command, "CONFIG", "SET", "maxmemory", "100mb")
    found = await probe(settings)
    await asyncio.to_thread(own_redis.command, "CONFIG", "SET", "maxmemory-policy", "noeviction")

    assert unlimited is None
    assert found is not None
    assert "allkeys-lru" in found[0]
    assert "noeviction" in found[1]
    assert await probe(settings) is None
