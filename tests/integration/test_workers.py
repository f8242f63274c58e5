"""One gateway in several processes is still one gateway, and outlives the loss of any worker."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from tests.conftest import Connect, Launch, NewPublisher
from tests.support import ws
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.record import Record
from tests.support.sse import EventSource
from tests.support.tokens import SETTINGS, bearer, token
from tests.support.waiting import eventually


API = "/api/v1/websocket"
EVENT = {"event_type": "test.workers", "data": {"n": 1}}

Pair = Callable[..., Awaitable[tuple[ws.Client, ws.Client]]]


@pytest.fixture
async def crew(launch: Launch) -> Gateway:
    """A gateway with two workers."""
    return await launch(flags=["--workers", "2"])


@pytest.fixture
async def bus(crew: Gateway, publisher: NewPublisher) -> Publisher:
    return await publisher(crew.bus_in)


@pytest.fixture
async def pair(crew: Gateway, connect: Connect) -> Pair:
    """Connect two clients alike, to two different workers."""

    async def make(*channels: str, to: Gateway | None = None, **query: Any) -> Any:
        first = await connect(*channels, to=to or crew, **query)
        there = holder(to or crew, first)
        return first, await elsewhere(to or crew, connect, there, *channels, **query)

    return make


def workers(gateway: Gateway) -> list[psutil.Process]:
    return psutil.Process(gateway.process.pid).children()


def holder(gateway: Gateway, client: ws.Client) -> psutil.Process:
    """The worker that has the other end of a client's socket."""
    port = client._ws.get_extra_info("sockname")[1]
    for worker in workers(gateway):
        with contextlib.suppress(psutil.NoSuchProcess):
            if port in [one.raddr[1] for one in worker.net_connections("tcp") if len(one.raddr)]:
                return worker
    raise AssertionError("no worker holds this client")


async def elsewhere(
    gateway: Gateway, connect: Connect, than: psutil.Process, *channels: str, **query: Any
) -> ws.Client:
    """Connect a client that another worker holds than a certain one."""
    for _ in range(20):
        client: ws.Client = await connect(*channels, to=gateway, **query)
        if holder(gateway, client).pid != than.pid:
            return client
        if "session" in query:
            query["session"] = client.session
        await client.close()
    raise AssertionError("all clients go to one worker")


async def cut(client: ws.Client) -> None:
    """Lose the connection without a word."""
    client._ws._writer.transport.abort()
    await client.closed()


def started(gateway: Gateway, count: int) -> bool:
    """Whether so many workers have been ready, in all."""
    return sum("worker ready" in line for line in gateway.lines) >= count


async def replaced(gateway: Gateway, victim: psutil.Process) -> None:
    """Wait until another worker is in the place of one that was killed."""
    gateway.errors_expected = True

    async def whole() -> bool:
        pids = [one.pid for one in workers(gateway) if one.status() != psutil.STATUS_ZOMBIE]
        return victim.pid not in pids and len(pids) == 2 and started(gateway, 3)

    await eventually(whole, within=20)


# -- one gateway ---------------------------------------------------------------------------------


async def test_connections_are_spread_evenly(crew: Gateway, connect: Connect) -> None:
    """Each goes to the worker that has fewest."""
    clients = [await connect(to=crew) for _ in range(20)]
    counts = Counter(holder(crew, client).pid for client in clients)

    assert 2 == len(counts)
    assert 8 <= min(counts.values())


async def test_positions_mean_the_same_on_every_worker(
    crew: Gateway, bus: Publisher, pair: Pair, connect: Connect
) -> None:
    """A client goes on at another worker exactly where it stood."""
    first, witness = await pair("load", "own.numbers")
    bus.send_numbered("load", range(1, 11), enveloped=True)
    bus.send_numbered("own.numbers", range(1, 11))
    for client in (first, witness):
        await client.events("load", 10)
        await client.events("own.numbers", 10)
    since = (await first.ping())["positions"]
    here = since == (await witness.ping())["positions"]
    del since["$everyone"]
    bus.send_numbered("load", range(11, 21), enveloped=True)
    bus.send_numbered("own.numbers", range(11, 21))
    await witness.events("load", 20)
    there = holder(crew, first)
    await cut(first)
    second = await elsewhere(crew, connect, there, "load", "own.numbers", since=since)
    answer = await second.expect("subscribed")
    await second.events("load", 10)
    await second.events("own.numbers", 10)

    assert here
    assert {"load": True, "own.numbers": True} == answer["recovered"]
    for name in ("load", "own.numbers"):
        assert list(range(11, 21)) == second.channel(name).numbers
        assert [] == second.channel(name).faults(after=10, until=20)


async def test_a_session_is_taken_up_at_another_worker(
    crew: Gateway, bus: Publisher, connect: Connect
) -> None:
    """Identity, subscriptions with filters, positions, and personal messages that waited."""
    first = await connect(to=crew, user_id="ada")
    there = holder(crew, first)
    await first.subscribe({"channel": "load", "filter": "data.n > 5"}, "test.*")
    bus.send_numbered("load", range(1, 11))
    await first.events("load", 5)
    await crew.broadcast({"client_id": first.client_id, "event": EVENT})
    await first.events("$personal", 1)
    positions = (await first.ping())["positions"]
    await cut(first)
    await crew.broadcast({"client_id": first.client_id, "event": EVENT})
    bus.send_numbered("load", range(1, 11))
    second = await elsewhere(crew, connect, there, session=first.session, since=positions)
    await second.events("load", 5)
    await second.events("$personal", 1)

    assert first.client_id == second.client_id
    assert (True, "ada") == (second.hello["resumed"], second.hello["user_id"])
    assert [6, 7, 8, 9, 10] == second.channel("load").numbers
    assert [2] == second.channel("$personal").offsets
    assert {"load", "test.*"} == set(
        (await second.ask({"type": "get_subscriptions"}, "subscriptions"))["channels"]
    )


async def test_what_a_client_confirmed_is_known_to_every_worker(
    launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    """Without `since` a session goes on behind the last answered ping, wherever it comes back."""
    gateway = await launch(flags=["--workers", "2"], settings={"clients.heartbeat_seconds": 0.2})
    bus = await publisher(gateway.bus_in)
    first = await connect("load", to=gateway)
    await first.expect("subscribed")
    bus.send_numbered("load", range(1, 11))
    await first.events("load", 10)

    async def told() -> bool:
        nonlocal first
        there = holder(gateway, first)
        await cut(first)
        first = await elsewhere(gateway, connect, there, session=first.session)
        answer = await first.expect("subscribed")
        await asyncio.sleep(1)  # for pings and what is told of them
        return bool(answer["positions"]["load"]["offset"] == 10)

    await eventually(told, within=20)


async def test_an_attached_session_is_taken_over_from_another_worker(
    crew: Gateway, bus: Publisher, connect: Connect
) -> None:
    """The old connection is closed with 4500; the new one has everything, and there is one client."""
    old = await connect("over", to=crew)
    await old.expect("subscribed")
    new = await connect(to=crew, session=old.session)
    await new.expect("subscribed")
    code = await old.closed()
    bus.send("over", {"n": 1})
    await new.events("over", 1)

    assert 4500 == code
    assert old.client_id == new.client_id
    assert (True, 1) == (new.hello["resumed"], (await crew.status())["connections"])


async def test_broadcasts_reach_whoever_is_connected_to_any_worker(
    crew: Gateway, pair: Pair
) -> None:
    """To a user, to a client, to everyone, to a channel; recipients are counted over all."""
    one, two = await pair("test.all", user_id="ada")
    for client in (one, two):
        answer = await crew.broadcast({"client_id": client.client_id, "event": EVENT})
        assert 1 == answer["recipients"]
        await client.events("$personal", 1)
    for target in ({"user_id": "ada"}, {"everyone": True}, {"channel": "test.all"}):
        answer = await crew.broadcast({**target, "event": EVENT})
        assert 2 == answer["recipients"]
    for client in (one, two):
        await client.events("$personal", 2)
        await client.events("$everyone", 1)
        await client.events("test.all", 1)
        assert [1, 2] == client.channel("$personal").offsets
    await crew.broadcast({"client_id": "nobody", "event": EVENT}, status=404)


async def test_who_comes_and_goes_is_told_with_true_totals(
    crew: Gateway, pair: Pair, connect: Connect
) -> None:
    """One order of events on ``connections``, the same for all."""
    witness, other = await pair("connections")
    third = await connect("metrics", to=crew)
    await cut(third)

    def of_third(client: ws.Client) -> list[tuple[str, int]]:
        return [
            (event["event_type"], event["data"]["total_connections"])
            for event in client.channel("connections").events
            if event["data"]["client_id"] == third.client_id
        ]

    expected = [("client.connected", 3), ("client.subscribed", 3), ("client.disconnected", 2)]
    await eventually(lambda: expected == of_third(witness) == of_third(other))


async def test_every_worker_gives_the_same_answers(
    crew: Gateway, bus: Publisher, pair: Pair
) -> None:
    """REST and metrics are those of the whole gateway, whichever worker is asked."""
    clients = await pair("load", user_id="ada")
    bus.send_numbered("load", range(1, 11))
    for client in clients:
        await client.events("load", 10)
    for _ in range(6):  # each on a connection of its own
        status = await crew.status()
        presence = await crew.get_json(f"{API}/channels/load/presence")
        detail = await crew.get_json(f"{API}/channels/load")
        history = await crew.get_json(f"{API}/channels/load/events?since=7")

        assert (2, 2) == (status["connections"], status["subscriptions"])
        assert {c.client_id for c in clients} == {c["client_id"] for c in status["clients"]}
        assert [["load"], ["load"]] == [c["channels"] for c in status["clients"]]
        assert (2, 1) == (presence["subscribers"], presence["users"])
        assert (2, 10) == (detail["subscribers"], detail["position"]["offset"])
        assert [8, 9, 10] == [event["offset"] for event in history["events"]]
        assert 2 == await crew.metric("gateway_connections")
        assert 20 <= await crew.metric("gateway_events_delivered_total") <= 30
        assert 2 == await crew.metric("gateway_connections_total")
        assert 10 == await crew.metric("gateway_events_received_total", channel="load")
        assert "ok" == (await crew.get_json("/healthz"))["status"]
        assert (await crew.get_json("/readyz"))["ready"]


async def test_errors_of_rest_come_through(crew: Gateway) -> None:
    """The problem documents of the parent, with their status and headers."""
    unknown = await crew.request("GET", f"{API}/channels/never.opened")
    refused = await crew.request("POST", f"{API}/broadcast", raw=b"{")
    method = await crew.request("DELETE", f"{API}/status")

    assert (404, "unknown_channel") == (unknown.status, unknown.json["code"])
    assert (400, "invalid_json") == (refused.status, refused.json["code"])
    assert 405 == method.status
    assert unknown.headers["Content-Type"].startswith("application/problem+json")
    assert "nosniff" == unknown.headers["X-Content-Type-Options"]


async def test_a_stream_of_server_sent_events_goes_on_at_any_worker(
    crew: Gateway, bus: Publisher
) -> None:
    """`Last-Event-ID` holds for all."""
    async with EventSource(crew.url, "channels=load") as source:
        await source.next("subscribed")
        bus.send_numbered("load", range(1, 6))
        await source.messages(5)
        last = source.last_id
    bus.send_numbered("load", range(6, 11))
    for _ in range(3):
        async with EventSource(crew.url, "channels=load", last_id=last) as source:
            found = await source.messages(5)
            assert [6, 7, 8, 9, 10] == [event["offset"] for event in found]


async def test_on_demand_the_interest_of_all_workers_counts(
    launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    """A channel is fetched while any worker has a client that follows it, and no longer."""
    gateway = await launch(
        flags=["--workers", "2"],
        settings={"log.on_demand": True, "bus.linger_seconds": 0.2, "sessions.ttl_seconds": 0.1},
    )
    bus = await publisher(gateway.bus_in)
    one = await connect("asked", to=gateway)
    two = await elsewhere(gateway, connect, holder(gateway, one), "asked")

    def watched() -> bool:
        bus._count()
        return b"asked" in bus.topics

    await eventually(watched)
    await one.close()
    await asyncio.sleep(1.5)  # longer than it would take without the other
    assert watched()
    await two.close()
    await eventually(lambda: not watched())


# -- limits --------------------------------------------------------------------------------------


async def test_a_user_has_so_many_clients_at_all_workers(launch: Launch, connect: Connect) -> None:
    """And a token that a client brings later is counted, too."""
    gateway = await launch(
        flags=["--workers", "2"], settings={**SETTINGS, "clients.per_user_max": 2}
    )
    gateway.token = token("admin", user="the test")
    for _ in range(2):
        await connect("metrics", to=gateway, headers=bearer(token("admin")))
    async with aiohttp.ClientSession() as http:
        third = await http.ws_connect(ws.address(gateway.url, {}), headers=bearer(token("admin")))
        farewell = await third.receive_json()
        await third.receive()
    nobody = await connect(to=gateway)
    await nobody.send({"type": "auth", "token": token("admin"), "id": 1})
    error = await nobody.expect("error")
    bob = await nobody.ask({"type": "auth", "token": token("admin", user="bob")}, "authenticated")

    assert (4503, "closing") == (farewell["code"], farewell["type"])
    assert "forbidden" == error["code"]
    assert "bob" == bob["user_id"]
    users = Counter(c["user_id"] for c in (await gateway.status())["clients"])
    assert {"alice": 2, "bob": 1} == users


async def test_the_gateway_has_so_many_clients_at_all_workers(
    launch: Launch, connect: Connect
) -> None:
    """The one too many is told to come back; `/readyz` says why."""
    gateway = await launch(flags=["--workers", "2"], settings={"clients.connections_max": 3})
    for _ in range(3):
        await connect(to=gateway)
    async with aiohttp.ClientSession() as http:
        fourth = await http.ws_connect(ws.address(gateway.url, {}))
        farewell = await fourth.receive_json()
    ready = await gateway.request("GET", "/readyz")

    assert (1013, "closing") == (farewell["code"], farewell["type"])
    assert (503, ["clients.connections_max is reached"]) == (ready.status, ready.json["reasons"])


async def test_an_address_has_so_many_clients_at_all_workers(
    launch: Launch, connect: Connect
) -> None:
    """As a proxy names it."""
    gateway = await launch(
        flags=["--workers", "2"],
        settings={"clients.per_address_max": 2, "proxies": "127.0.0.1"},
    )
    far = {"X-Forwarded-For": "203.0.113.7"}
    clients = [await connect(to=gateway, headers=far) for _ in range(2)]
    async with aiohttp.ClientSession() as http:
        third = await http.ws_connect(ws.address(gateway.url, {}), headers=far)
        farewell = await third.receive_json()
    await clients[0].close()

    async def again() -> bool:
        async with aiohttp.ClientSession() as http:
            late = await http.ws_connect(ws.address(gateway.url, {}), headers=far)
            return bool((await late.receive_json())["type"] == "connected")

    assert (1013, "closing") == (farewell["code"], farewell["type"])
    await eventually(again)


# -- workers that die ----------------------------------------------------------------------------


class Follower:
    """A client that comes back whenever it is cut, and keeps one record of all."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.record = Record()
        self.cuts = 0
        self.position: dict[str, Any] = {}
        self.failures: list[str] = []
        self.subscribed = asyncio.Event()

    async def run(self) -> None:
        session = None
        while True:
            since = {"load": self.position} if self.position else None
            try:
                client = await ws.connect(self.url, "load", session=session, since=since)
            except (aiohttp.ClientError, OSError, AssertionError):
                await asyncio.sleep(0.05)
                continue
            try:
                session = client.session
                await self._read(client)
            finally:
                await client.close()
            self.cuts += 1

    async def _read(self, client: ws.Client) -> None:
        with contextlib.suppress(AssertionError):  # closed
            while True:
                message = await client.next(within=60)
                if message["type"] == "subscribed":
                    self._note(message)
                elif message["type"] in {"event", "gap"} and message["channel"] == "load":
                    self.record.add(message)
                    self.position |= {"offset": message.get("offset", message.get("to"))}
                    self.position["epoch"] = message.get("epoch") or self.position["epoch"]

    def _note(self, subscribed: dict[str, Any]) -> None:
        if self.position and subscribed["recovered"].get("load") is not True:
            self.failures.append(str(subscribed))
        if not self.position:
            self.position = dict(subscribed["positions"]["load"])
        self.subscribed.set()


async def test_clients_of_a_worker_that_is_killed_resume_without_loss(
    launch: Launch, publisher: NewPublisher
) -> None:
    """200 clients, events all the time, two kills: every offset exactly once at every client."""
    gateway = await launch(flags=["--workers", "2"])
    bus = await publisher(gateway.bus_in)
    followers = [Follower(gateway.url) for _ in range(200)]
    tasks = [asyncio.create_task(follower.run()) for follower in followers]
    for follower in followers:
        await asyncio.wait_for(follower.subscribed.wait(), 20)
    sent, stop = 0, False

    async def pour() -> None:
        nonlocal sent
        while not stop:
            sent += 1
            bus.send("load", {"n": sent}, enveloped=True)
            await asyncio.sleep(0.02)

    def reached(number: int) -> bool:
        return all(f.record.events and f.record.numbers[-1] >= number for f in followers)

    pouring = asyncio.create_task(pour())
    gateway.errors_expected = True
    for n in range(2):
        await eventually(functools.partial(reached, sent + 10), within=30)
        max(workers(gateway), key=lambda one: len(one.net_connections("tcp"))).kill()
        await eventually(functools.partial(started, gateway, 3 + n), within=20)
    stop = True
    await pouring

    await eventually(lambda: reached(sent), within=30)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert sum(f.cuts for f in followers) >= 100
    assert [] == [fault for f in followers for fault in f.record.faults(after=0, until=sent)]
    assert [] == [failure for f in followers for failure in f.failures]
    assert [] == [gap for f in followers for gap in f.record.gaps]
    assert all(list(range(1, sent + 1)) == f.record.numbers for f in followers)


async def test_a_new_worker_has_all_that_the_logs_hold(
    crew: Gateway, bus: Publisher, pair: Pair, connect: Connect
) -> None:
    """History, positions and current values are there before its first client."""
    first, second = await pair("load")
    bus.send_numbered("load", range(1, 101))
    await second.events("load", 100)
    crew.errors_expected = True
    for n, victim in enumerate(workers(crew)):
        victim.kill()
        await eventually(functools.partial(started, crew, 3 + n))
    late = await connect("load", to=crew, last=30)
    resumed = await connect(
        to=crew, session=first.session, since={"load": {"epoch": "", "offset": 0}}
    )
    await late.events("load", 30)

    assert list(range(71, 101)) == late.channel("load").offsets
    assert resumed.hello["resumed"] is True
    bus.send_numbered("load", range(101, 111))
    await late.events("load", 40)
    assert [] == late.channel("load").faults(after=70, until=110)


async def test_counters_do_not_go_back_when_a_worker_is_replaced(
    crew: Gateway, bus: Publisher, pair: Pair, connect: Connect
) -> None:
    """What was counted stays counted, and each client lost is a connection closed."""
    clients = await pair("load")
    bus.send_numbered("load", range(1, 101))
    for client in clients:
        await client.events("load", 100)

    async def counters() -> dict[str, float]:
        names = [
            *("gateway_events_delivered_total", "gateway_writes_total"),
            *("gateway_connections_total", "gateway_connections_closed_total"),
            *("gateway_fanout_latency_seconds_count", "process_cpu_seconds_total"),
        ]
        return {name: await crew.metric(name) for name in names}

    before = await counters()
    victim = holder(crew, clients[0])
    victim.kill()
    during = await counters()
    await replaced(crew, victim)
    after = await counters()

    assert all(before[name] <= during[name] <= after[name] for name in before)
    assert 200 <= before["gateway_events_delivered_total"]
    assert 1 == after["gateway_connections_closed_total"]
    assert 1 == await crew.metric("gateway_connections")


async def test_who_comes_while_there_is_no_worker_is_served_by_the_next(
    crew: Gateway, connect: Connect
) -> None:
    """It waits for a moment, rather than being turned away."""
    crew.errors_expected = True
    for worker in workers(crew):
        worker.kill()
    client = await connect("metrics", to=crew)

    assert client.hello["type"] == "connected"


async def test_a_worker_that_hangs_is_replaced(crew: Gateway, pair: Pair) -> None:
    """It reports nothing for too long; its clients are cut and may come back."""
    one, other = await pair("metrics")
    victim = holder(crew, one)
    victim.suspend()
    await replaced(crew, victim)
    await one.closed()

    assert (await other.ping())["type"] == "pong"


async def test_a_session_is_taken_over_from_a_worker_that_hangs(
    crew: Gateway, pair: Pair, connect: Connect
) -> None:
    """What it does not let go of is taken from it."""
    crew.errors_expected = True
    one, _ = await pair("metrics")
    victim = holder(crew, one)
    victim.suspend()
    new = await elsewhere(crew, connect, victim, session=one.session)

    assert one.client_id == new.client_id
    assert (True, "pong") == (new.hello["resumed"], (await new.ping())["type"])
    await one.closed(within=30)  # when the worker is replaced


# -- the end -------------------------------------------------------------------------------------


async def test_all_workers_drain(crew: Gateway, pair: Pair) -> None:
    """Every client is told when to come back; the exit status is 0, and no process is left."""
    clients = await pair("metrics")
    children = workers(crew)
    crew.kill(signal.SIGTERM)
    codes = [await client.closed() for client in clients]
    status = await crew.exited()

    assert [1012, 1012] == codes
    assert all(c.closing is not None and c.closing["reconnect"] for c in clients)
    assert 0 == status
    assert [] == psutil.wait_procs(children, timeout=5)[1]


async def test_no_worker_outlives_its_parent(crew: Gateway, pair: Pair) -> None:
    """Killed with -9, the parent leaves no process, no port and no folder behind."""
    clients = await pair("metrics")
    children, folder = workers(crew), runtime_folder(crew)
    port = crew.port
    crew.kill(signal.SIGKILL)
    await crew.exited()
    for client in clients:
        await client.closed()

    assert [] == psutil.wait_procs(children, timeout=10)[1]
    assert not folder.exists()
    with socket.create_server(("127.0.0.1", port)):
        pass


async def test_a_second_signal_ends_all_at_once(crew: Gateway, pair: Pair) -> None:
    """The workers go with their parent."""
    crew.expected_exit = None
    await pair("metrics")
    children = workers(crew)
    crew.kill(signal.SIGTERM)
    crew.kill(signal.SIGTERM)
    await crew.exited()

    assert [] == psutil.wait_procs(children, timeout=10)[1]


async def test_signals_to_a_worker_are_not_its_own(crew: Gateway, pair: Pair) -> None:
    """A service manager may signal every process: the parent alone says when clients go."""
    clients = await pair("metrics")
    for worker in workers(crew):
        worker.send_signal(signal.SIGTERM)
        worker.send_signal(signal.SIGINT)
    for client in clients:
        await client.ping()
    await crew.metric("gateway_connections")
    for client in clients:
        await client.ping()


# -- what a worker has ---------------------------------------------------------------------------


def runtime_folder(gateway: Gateway) -> Path:
    paths = [
        Path(str(one.laddr)).parent
        for one in psutil.Process(gateway.process.pid).net_connections("unix")
        if str(one.laddr).endswith("/rest")
    ]
    return paths[0]


def threads(process: psutil.Process) -> set[str]:
    return {path.read_text().strip() for path in Path(f"/proc/{process.pid}/task").glob("*/comm")}


def open_files(process: psutil.Process) -> set[str]:
    found = set()
    for path in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(str(path.readlink()))
    return found


async def test_a_worker_has_only_what_it_needs(crew: Gateway, bus: Publisher, pair: Pair) -> None:
    """No listening socket, no socket of the bus, no thread of ZeroMQ; its folder is the user's alone."""
    await pair("metrics")
    parent = psutil.Process(crew.process.pid)
    ours = open_files(parent)

    assert any(name.startswith("ZMQ") for name in threads(parent))
    assert 0o700 == runtime_folder(crew).stat().st_mode & 0o777
    for worker in workers(crew):
        assert not [one for one in open_files(worker) & ours if one.startswith("socket:")]
        assert not any(name.startswith("ZMQ") for name in threads(worker))
        assert not [c for c in worker.net_connections("tcp") if c.status == psutil.CONN_LISTEN]


async def test_with_one_worker_there_is_one_process(launch: Launch) -> None:
    """The default costs nothing."""
    gateway = await launch(flags=["--workers", "1"])

    assert [] == workers(gateway)


async def test_three_workers_are_one_gateway(
    launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    """Nothing is about the number two."""
    gateway = await launch(flags=["--workers", "3"])
    bus = await publisher(gateway.bus_in)
    clients = [await connect("load", to=gateway) for _ in range(9)]
    bus.send_numbered("load", range(1, 51))
    for client in clients:
        await client.events("load", 50)
    pids = {holder(gateway, client).pid for client in clients}
    await gateway.broadcast({"everyone": True, "event": EVENT})
    for client in clients:
        await client.events("$everyone", 1)

    assert 3 == len(pids)
    assert [] == [fault for c in clients for fault in c.channel("load").faults(after=0, until=50)]
    assert 9 == (await gateway.status())["connections"]


async def test_a_port_that_is_taken_is_said_before_any_worker_starts(launch: Launch) -> None:
    """Exit status 1 with the reason, as with one process."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        gateway = Gateway(port=taken.getsockname()[1], flags=["--workers", "2"])
        with pytest.raises(AssertionError, match="does not listen"):
            await asyncio.to_thread(gateway.start)
        assert 1 == gateway.process.wait(10)
    assert any("cannot start" in line for line in gateway.lines)
    assert not any("worker" in line for line in gateway.lines)
