"""Failures as they happen in production: in spite of them every event is delivered once, or reported as missing."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from tests.chaos.cluster.disruptor import ClusterDisruptor
from tests.chaos.cluster.stage import ClusterStage
from tests.chaos.disruptor import GatewayDisruptor
from tests.chaos.hostile import SETTINGS, Hostile
from tests.chaos.stage import Stage
from tests.support.addresses import free_tcp
from tests.support.gateway import Gateway, allow_many_files
from tests.support.publisher import Publisher
from tests.support.sizes import FULL, full
from tests.support.waiting import eventually
from tests.support.ws import connect


HOSTILE_SECONDS = full(15.0, 4.0)
CLUSTER_SECONDS = full(30.0, 8.0)
DISRUPTION_SECONDS = full(60.0, 8.0)
KILLS = full(20, 3)
CLIENTS = full(500, 50)
STOPPED_SECONDS = full(20.0, 2.0)


@pytest.fixture(autouse=True)
def _files() -> None:
    allow_many_files()


async def account(stage: Stage, *, what: str) -> None:
    """Stop publishing, and compare every client's account with what was published."""
    await stage.settle()
    print(f"{what}: {stage.delivered():,} checked deliveries, {stage.lost():,} reported as lost")
    assert stage.faults() == []
    assert stage.holes() == []


@pytest.mark.timeout(600)
async def test_random_failures_under_load_lose_no_event() -> None:
    """Processes are killed and stopped, links cut and stalled, and clients dropped and paused, in random order."""
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(1_000_000)))
    print(f"to repeat: CHAOS_SEED={seed}, or make chaos SEED={seed}")
    async with Stage(clients=100, rate=400, seed=seed) as stage:
        disruptor = GatewayDisruptor(stage, seed)
        await disruptor.run(DISRUPTION_SECONDS)
        await account(stage, what=f"seed {seed}, {dict(disruptor.done)}")
        assert stage.delivered() > 1_000_000 or not FULL
        assert stage.lost() == 0, "events were reported as lost that the publisher could replay"


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_random_failures_in_a_cluster_lose_no_event() -> None:
    """Three gateways, 20 publishers on one channel, Redis with replicas and Sentinels, and clients that change gateways."""
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(1_000_000)))
    print(f"to repeat: CHAOS_SEED={seed}, or make chaos CLUSTER=1 SEED={seed}")
    async with ClusterStage(clients=CLIENTS, readers=-(-CLIENTS // 20), rate=25, seed=seed) as stage:
        disruptor = ClusterDisruptor(stage, seed)
        await disruptor.run(CLUSTER_SECONDS)
        await stage.settle()
        print(dict(disruptor.done), stage.figures())
        assert stage.faults() + stage.senders.faults == []
        assert stage.unaccounted() == []
        assert stage.delivered() > 200_000 or not FULL


@pytest.mark.timeout(600)
@pytest.mark.parametrize("workers", full([1, 2], [2]))
async def test_hostile_publishers_and_clients_do_not_affect_others(workers: int) -> None:
    """No event is lost or duplicated, no worker or connection slot is lost, and memory stays within its limit."""
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(1_000_000)))
    print(f"to repeat: CHAOS_SEED={seed}, or make chaos SEED={seed} HOSTILE=1 WORKERS={workers}")
    settings = {"workers": workers, **SETTINGS}
    async with Stage(clients=20, rate=400, seed=seed, settings=settings, measured=True) as stage:
        stage.gateway.expected_exit = 0
        before = await stage.gateway.status()
        hostile = Hostile(stage, seed)
        await hostile.run(HOSTILE_SECONDS)
        await account(stage, what=f"hostile {seed}, {workers} workers, {dict(hostile.done)}")
        gone = eventually(
            lambda: connections(stage.gateway, before["connections"]), saying="the hostile connections are closed"
        )
        assert await gone
        assert stage.lost() == 0
        print({name: round(figure, 1) for name, figure in hostile.figures.items()})
        assert hostile.workers_lost == 0
        assert len(hostile.processes()) == (1 if workers == 1 else 1 + workers)
        assert hostile.bytes_max <= hostile.bytes_allowed


async def connections(gateway: Gateway, count: int) -> bool:
    answer = await gateway.request("GET", "/api/v1/websocket/status")
    return answer.status == 200 and bool(answer.json["connections"] == count)  # 503 while other requests have the slots


@pytest.mark.timeout(600)
async def test_kills_of_publisher_and_gateway_lose_nothing_that_is_still_held() -> None:
    """After each kill every client resumes from its position."""
    async with Stage(clients=CLIENTS, rate=60) as stage:
        back = []
        for _ in range(KILLS):
            stage.kill_publisher()
            stage.start_publisher()
            back.append(await stage.all_live())
        for _ in range(KILLS):
            await stage.kill_gateway()
            back.append(await stage.all_live())
        print(f"all {CLIENTS} clients received new events after {max(back):.1f} s at most")
        await account(stage, what=f"{2 * KILLS} kills")
        assert stage.lost() == 0


@pytest.mark.parametrize("mark", full([1_000, 100_000], [1_000]))
async def test_at_the_high_water_mark_exactly_the_lost_events_are_reported(mark: int) -> None:
    """The gateway is stopped while 5,000 events a second are published; nothing is kept for replay."""
    async with Stage(clients=2, rate=5_000, replay=0, mark=mark, receive_mark=mark, pad=2000) as stage:
        await stage.all_live()
        stage.gateway.kill(signal.SIGSTOP)
        sent = sum(sum(of.values()) for of in stage.truth().values())
        published = int(STOPPED_SECONDS * 5_000)
        await eventually(
            lambda: sum(sum(of.values()) for of in stage.truth().values()) > sent + published,
            within=STOPPED_SECONDS * 5,
        )
        stage.gateway.kill(signal.SIGCONT)
        await account(stage, what=f"mark {mark}")
        named = await stage.gateway.metric("neurograph_gateway_bus_messages_lost_total")
        made = [
            newest - follower.accounts[topic].excused.get(epoch_number, 0) - follower.count(topic, epoch_number)
            for follower in stage.followers
            for topic, table in stage.truth().items()
            for epoch_number, newest in table.items()
        ]
        print(f"the gateway reports {named:,.0f} lost events; two clients lack {sum(made):,}")

        assert stage.lost() == sum(made) == 2 * named
        assert named > 0 or mark > 1_000


class Cable:
    """A link between two network namespaces; while it is down, packets are lost and no connection is closed."""

    def __init__(self) -> None:
        # A new name and network each time: a killed run leaves its link behind, which would receive the
        # packets of a later run in the same network. RFC 2544 reserves these networks for tests.
        self.name = f"ng{secrets.token_hex(4)}"
        network = f"198.{18 + secrets.randbelow(2)}.{secrets.randbelow(256)}"
        self.near, self.far = f"{network}.1", f"{network}.2"

    def __enter__(self) -> Cable:
        _ip("netns", "add", self.name)
        _ip("link", "add", f"{self.name}a", "type", "veth", "peer", "name", f"{self.name}b")
        _ip("link", "set", f"{self.name}b", "netns", self.name)
        _ip("addr", "add", f"{self.near}/24", "dev", f"{self.name}a")
        _ip("link", "set", f"{self.name}a", "up")
        for command in (
            ("addr", "add", f"{self.far}/24", "dev", f"{self.name}b"),
            ("link", "set", f"{self.name}b", "up"),
            ("link", "set", "lo", "up"),
        ):
            _ip("-n", self.name, *command)
        return self

    def __exit__(self, *_: object) -> None:
        _ip("link", "del", f"{self.name}a")
        _ip("netns", "del", self.name)

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a program at the far end."""
        return subprocess.Popen(["ip", "netns", "exec", self.name, *command])

    def cut(self) -> None:
        _ip("-n", self.name, "link", "set", f"{self.name}b", "down")

    def mend(self) -> None:
        _ip("-n", self.name, "link", "set", f"{self.name}b", "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _namespaces() -> str:
    """Return why this machine has no network namespaces; empty if it has them."""
    if shutil.which("ip") is None:
        return "needs `ip` (Debian package iproute2)"
    try:
        with Cable():
            return ""
    except subprocess.CalledProcessError as error:
        return f"needs to be root: {error.stderr.decode().strip()}"


@pytest.fixture
async def cable() -> AsyncIterator[Cable]:
    missing = _namespaces()
    if missing:
        pytest.skip(f"network namespaces: {missing}")
    with Cable() as link:
        yield link


@pytest.mark.parametrize("seconds", full([5, 12, 60], [5]))
async def test_events_arrive_again_after_a_connection_was_silently_lost(cable: Cable, seconds: int) -> None:
    """Without a reset, missing heartbeats show that the link is down; replay repairs the events lost meanwhile."""
    gateway = Gateway(
        connect=[],
        bind=f"tcp://{cable.near}:5599",
        settings={"bus.heartbeat_seconds": 1, "bus.heartbeat_timeout_seconds": 3},
        flags=["--insecure-allow-remote"],
    )
    command = f"""
import sys, time
from neurograph_publisher import Publisher
with Publisher(connect="tcp://{cable.near}:5599", replay=100_000, heartbeat_seconds=0.5,
               replay_endpoint="tcp://{cable.far}:5598") as publisher:
    n = 0
    while True:
        n += 1
        publisher.publish("far", {{"n": n}}, "far")
        time.sleep(0.01)
"""
    async with gateway:
        publisher = cable.start(sys.executable, "-c", command)
        try:
            client = await connect(gateway.url, "far")
            await client.events("far", 50)
            cable.cut()
            await asyncio.sleep(seconds)  # the length of the outage is what is tested
            cable.mend()
            before = len(client.channel("far").events)
            await client.events("far", before + seconds * 50 + 200)
            record = client.channel("far")
            assert record.gaps == []
            assert record.numbers == list(range(record.numbers[0], record.numbers[-1] + 1))
            await client.close()
        finally:
            publisher.kill()
            publisher.wait()


async def test_a_gateway_blocked_while_a_publisher_restarts_loses_nothing() -> None:
    """A SUB socket subscribes again only when its thread runs; replay repairs the events missed until then."""
    async with Stage(clients=2, rate=200) as stage:
        await stage.all_live()
        stage.gateway.kill(signal.SIGSTOP)
        stage.kill_publisher()
        stage.start_publisher()
        epoch_number = stage.incarnation
        await eventually(lambda: stage.incarnation != epoch_number)
        await eventually(lambda: sum(of.get(stage.incarnation, 0) for of in stage.truth().values()) > 300)
        stage.gateway.kill(signal.SIGCONT)
        await stage.all_live()
        await account(stage, what="blocked")
        assert stage.lost() == 0


async def test_bytes_that_are_not_zeromq_do_not_disturb_the_bus() -> None:
    """A port scanner connects to the bus while events arrive; none is lost."""
    endpoint = free_tcp()
    async with Gateway(connect=[], bind=endpoint) as gateway, Publisher(endpoint) as publisher:
        client = await connect(gateway.url, "robots")
        await client.expect("subscribed")
        port = int(endpoint.rsplit(":", 1)[1])
        for n, welcome in enumerate((b"\xff" * 64, b"GET / HTTP/1.0\r\n\r\n", bytes(1000))):
            _, stranger = await asyncio.open_connection("127.0.0.1", port)
            stranger.write(welcome)
            await stranger.drain()
            publisher.send("robots", {"n": n}, enveloped=True)
            await client.events("robots", n + 1)
            stranger.close()
        assert client.channel("robots").numbers == [0, 1, 2]
        await client.close()
