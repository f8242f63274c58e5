"""One gateway in several processes outlives the loss of any worker, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import socket
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil
import pytest

from gateway.config.model import Bus, Config
from gateway.core.protocol.events import Event
from gateway.process.service import running
from gateway.workers import messages, supervisor
from tests.conftest import Connect, Launch, NewPublisher
from tests.integration.conftest import Pair
from tests.support import tls, ws
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.record import Record
from tests.support.waiting import DEADLINE_SECONDS, eventually, scaled
from tests.support.workers import elsewhere, holder, lost, replaced, started, workers


API = "/api/v1/websocket"
EVENT = {"event_type": "test.workers", "data": {"n": 1}}


@pytest.fixture
def launch(launch: Launch) -> Launch:
    """Start gateways and workers as users do: how they start and end is what is tested here."""
    return functools.partial(launch, interpreter=True)


# -- workers that end ----------------------------------------------------------------------------


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


async def test_clients_of_a_worker_that_is_killed_resume_without_loss(launch: Launch, publisher: NewPublisher) -> None:
    """200 clients, events all the time, two kills: every offset exactly once at every client."""
    gateway = await launch(flags=["--workers", "2"])
    bus = await publisher(gateway.bus_in)
    followers = [Follower(gateway.url) for _ in range(200)]
    tasks = [asyncio.create_task(follower.run()) for follower in followers]
    for follower in followers:
        await asyncio.wait_for(follower.subscribed.wait(), scaled(DEADLINE_SECONDS))
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
        await eventually(functools.partial(reached, sent + 10))
        max(workers(gateway), key=lambda one: len(one.net_connections("tcp"))).kill()
        await eventually(functools.partial(started, gateway, 3 + n))
    stop = True
    await pouring

    await eventually(lambda: reached(sent))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert sum(f.cuts for f in followers) >= 100
    assert [] == [fault for f in followers for fault in f.record.faults(after=0, until=sent)]
    assert [] == [failure for f in followers for failure in f.failures]
    assert [] == [gap for f in followers for gap in f.record.gaps]
    assert all(list(range(1, sent + 1)) == f.record.numbers for f in followers)


async def test_a_new_worker_has_all_that_the_logs_hold(
    divided: Gateway, divided_bus: Publisher, pair: Pair, connect: Connect
) -> None:
    """History, positions and current values are there before its first client."""
    first, second = await pair("load")
    divided_bus.send_numbered("load", range(1, 101))
    await second.events("load", 100)
    divided.errors_expected = True
    for n, victim in enumerate(workers(divided)):
        victim.kill()
        await eventually(functools.partial(started, divided, 3 + n))
    late = await connect("load", to=divided, last=30)
    resumed = await connect(to=divided, session=first.session, since={"load": {"epoch": "", "offset": 0}})
    await late.events("load", 30)

    assert list(range(71, 101)) == late.channel("load").offsets
    assert resumed.hello["resumed"] is True
    divided_bus.send_numbered("load", range(101, 111))
    await late.events("load", 40)
    assert [] == late.channel("load").faults(after=70, until=110)


async def test_counters_do_not_go_back_when_a_worker_is_replaced(
    divided: Gateway, divided_bus: Publisher, pair: Pair, connect: Connect
) -> None:
    """What was counted stays counted, and each client lost is a connection closed."""
    clients = await pair("load")
    divided_bus.send_numbered("load", range(1, 101))
    for client in clients:
        await client.events("load", 100)

    async def counters() -> dict[str, float]:
        names = [
            *("neurograph_gateway_events_delivered_total", "neurograph_gateway_writes_total"),
            *("neurograph_gateway_connections_opened_total", "neurograph_gateway_connections_closed_total"),
            *("neurograph_gateway_fanout_latency_seconds_count", "process_cpu_seconds_total"),
        ]
        return {name: await divided.metric(name) for name in names}

    before = await counters()
    victim = holder(divided, clients[0])
    victim.kill()
    during = await counters()
    await replaced(divided, victim)
    after = await counters()

    assert all(before[name] <= during[name] <= after[name] for name in before)
    assert 200 <= before["neurograph_gateway_events_delivered_total"]
    assert 1 == after["neurograph_gateway_connections_closed_total"]
    assert 1 == await divided.metric("neurograph_gateway_connections")


async def test_a_client_that_comes_while_there_is_no_worker_is_served_by_the_next(
    divided: Gateway, connect: Connect
) -> None:
    """It waits for a moment, rather than being turned away."""
    divided.errors_expected = True
    for worker in workers(divided):
        worker.kill()
    # What a dying one was just handed is cut with it: come when none is left.
    await eventually(functools.partial(lost, divided, 2))
    client = await connect("metrics", to=divided)

    assert client.hello["type"] == "connected"


async def test_a_worker_that_hangs_is_replaced(divided: Gateway, pair: Pair) -> None:
    """It reports nothing for too long; its clients are cut and may come back."""
    one, other = await pair("metrics")
    victim = holder(divided, one)
    victim.suspend()
    await replaced(divided, victim)
    await one.closed()

    assert (await other.ping())["type"] == "pong"


async def test_a_session_is_taken_over_from_a_worker_that_hangs(divided: Gateway, pair: Pair, connect: Connect) -> None:
    """What it does not let go of is taken from it."""
    divided.errors_expected = True
    one, _ = await pair("metrics")
    victim = holder(divided, one)
    victim.suspend()
    new = await elsewhere(divided, connect, victim, session=one.session)

    assert one.client_id == new.client_id
    assert (True, "pong") == (new.hello["resumed"], (await new.ping())["type"])
    await one.closed()  # when the worker is replaced


async def test_a_worker_that_is_killed_while_it_asks_for_a_session_leaves_no_client_behind(
    divided: Gateway, pair: Pair
) -> None:
    """A session that is being taken over, from a worker that hangs, for one that ends meanwhile."""
    divided.errors_expected = True
    one, other = await pair("metrics")
    hangs, dies = holder(divided, one), holder(divided, other)
    hangs.suspend()
    requests_open = [asyncio.create_task(ws.connect(divided.url, session=one.session)) for _ in range(4)]

    def asked() -> bool:
        """Whether some are at the one that will die: it has waited for the parent's word."""
        return len([c for c in dies.net_connections("tcp") if c.status == "ESTABLISHED"]) > 2

    await eventually(asked)
    await asyncio.sleep(0.2)  # less than the hanging one is given
    dies.kill()
    for task in requests_open:
        task.cancel()
    await asyncio.gather(*requests_open, return_exceptions=True)
    await eventually(functools.partial(started, divided, 4))

    async def nobody() -> bool:
        return bool((await divided.status())["connections"] == 0)

    await eventually(nobody)


async def test_a_worker_that_does_not_keep_up_is_replaced(
    launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    """What it has not read is bounded; the others get everything meanwhile."""
    gateway = await launch(flags=["--workers", "2"], settings={"history.bytes_max": 1_000_000})
    bus = await publisher(gateway.bus_in)
    one = await connect("metrics", to=gateway)
    victim = holder(gateway, one)
    other = await elsewhere(gateway, connect, victim, "load")
    await other.expect("subscribed")
    gateway.errors_expected = True
    victim.suspend()

    def given_up() -> bool:
        return any("process_too_slow" in line for line in gateway.lines)

    sent = 0
    while not given_up():
        sent += 1
        bus.send("load", {"n": sent, "text": "x" * 200_000}, enveloped=True)
        await other.events("load", sent)
    await replaced(gateway, victim)

    assert 66_000_000 < sent * 200_000 < 100_000_000
    assert list(range(1, sent + 1)) == other.channel("load").numbers
    assert gateway.rss() < 300_000_000


async def test_entries_that_no_worker_can_read_cost_no_worker_and_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """The channel's log is sent again."""
    config = Config(port=0, connect=(), bind="", workers=2, bus=Bus(discovery_seconds=0))
    async with running(config) as service:
        supervisor, logs = service._supervisor, service.hub.logs
        assert supervisor is not None
        client = await ws.connect(service.urls[0], "load")
        send = supervisor._send_all

        def spoil(message: messages.Message) -> None:
            body = msgspec.msgpack.decode(messages.encode(message))
            if body[0] == "Entries":
                body[1][-1][3] = "no bytes"
            send(body)

        logs.admit("load")
        monkeypatch.setattr(supervisor, "_send_all", spoil)
        logs.append([Event("load", b'"data":{"n":1}', 1)])
        monkeypatch.undo()
        logs.append([Event("load", b'"data":{"n":2}', 2)])
        await client.events("load", 2)
        await eventually(lambda: service.metrics.count("replication_failures_total")[""] == 2)

        assert [1, 2] == client.channel("load").numbers
        assert 0 == service.metrics.workers().lost
        await client.close()


async def test_a_worker_that_hangs_before_it_is_ready_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given longer than one that served already, and not for ever."""
    config = Config(host="127.0.0.1", port=0, connect=(), bind="", workers=2)
    children = psutil.Process().children
    known = {child.pid for child in children()}

    def new() -> list[psutil.Process]:
        return [child for child in children() if child.pid not in known]

    async with running(config):
        monkeypatch.setattr(supervisor, "_START_SECONDS", 1.0)
        served = new()
        known |= {child.pid for child in served}
        for child in served:
            child.kill()

        await eventually(lambda: len(new()) == 2, every=0.001)
        hangs = new()
        for child in hangs:
            child.suspend()
        await eventually(lambda: not any(child.is_running() for child in hangs))


async def test_a_worker_that_cannot_read_the_certificate_waits_until_it_can(launch: Launch, tmp_path: Path) -> None:
    """The others serve with the one that they have."""
    files, other = tls.make(tmp_path), tls.make(tmp_path, "other")
    good = files.cert.read_bytes()
    gateway = await launch(flags=["--workers", "2"], settings=files.settings, trust=tls.trusting(files, other))
    gateway.errors_expected = True
    files.cert.write_text("half of a certificate")
    victim = workers(gateway)[0]
    victim.kill()
    await eventually(lambda: any("worker_start_failed" in line for line in gateway.lines))
    ready = await gateway.get_json("/readyz")
    files.cert.write_bytes(good)
    await replaced(gateway, victim)

    assert ready["ready"]
    assert not any("Traceback" in line for line in gateway.lines)


# -- the end -------------------------------------------------------------------------------------


async def test_all_workers_drain(divided: Gateway, pair: Pair) -> None:
    """Every client gets a time to reconnect; the exit status is 0, and no process is left."""
    clients = await pair("metrics")
    children = workers(divided)
    divided.kill(signal.SIGTERM)
    codes = [await client.closed() for client in clients]
    status = await divided.exited()

    assert [1012, 1012] == codes
    assert all(c.closing is not None and c.closing["reconnect"] for c in clients)
    assert 0 == status
    assert [] == psutil.wait_procs(children, timeout=scaled(DEADLINE_SECONDS))[1]


async def test_a_worker_that_only_starts_holds_up_no_drain(divided: Gateway, pair: Pair) -> None:
    """Nobody is there to be sent away."""
    divided.errors_expected = True
    one, other = await pair("metrics")
    before = {worker.pid for worker in workers(divided)}
    holder(divided, one).kill()

    def new() -> list[psutil.Process]:
        """Until its program is its own, the parent waits for it: to stop it then would stop both."""
        found = [worker for worker in workers(divided) if worker.pid not in before]
        return [worker for worker in found if "gateway.workers" in worker.cmdline()]

    [starts] = await eventually(new, every=0.001)
    starts.suspend()
    divided.kill(signal.SIGTERM)
    code, status = await other.closed(), await divided.exited()

    assert (1012, 0) == (code, status)
    assert not any("drain_timed_out" in line for line in divided.lines)
    assert not starts.is_running()


async def test_workers_end_with_their_parent(divided: Gateway, pair: Pair) -> None:
    """Killed with -9, the parent leaves no process and no port behind."""
    clients = await pair("metrics")
    children = workers(divided)
    port = divided.port
    divided.kill(signal.SIGKILL)
    await divided.exited()
    for client in clients:
        await client.closed()

    assert [] == psutil.wait_procs(children, timeout=scaled(DEADLINE_SECONDS))[1]
    with socket.create_server(("127.0.0.1", port)):
        pass


async def test_a_second_signal_ends_all_at_once(divided: Gateway, pair: Pair) -> None:
    """The workers go with their parent."""
    divided.expected_exit = None
    await pair("metrics")
    children = workers(divided)
    divided.kill(signal.SIGTERM)
    divided.kill(signal.SIGTERM)
    await divided.exited()

    assert [] == psutil.wait_procs(children, timeout=scaled(DEADLINE_SECONDS))[1]


async def test_signals_to_a_worker_are_not_its_own(divided: Gateway, pair: Pair) -> None:
    """A service manager may signal every process: the parent alone says when clients go."""
    clients = await pair("metrics")
    for worker in workers(divided):
        worker.send_signal(signal.SIGTERM)
        worker.send_signal(signal.SIGINT)
    for client in clients:
        await client.ping()
    await divided.metric("neurograph_gateway_connections")
    for client in clients:
        await client.ping()


# -- what a worker has ---------------------------------------------------------------------------


def threads(process: psutil.Process) -> set[str]:
    return {path.read_text().strip() for path in Path(f"/proc/{process.pid}/task").glob("*/comm")}


def open_files(process: psutil.Process) -> set[str]:
    found = set()
    for path in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(str(path.readlink()))
    return found


async def test_a_worker_has_only_what_it_needs(divided: Gateway, divided_bus: Publisher, pair: Pair) -> None:
    """No listening socket, no socket of the bus, no thread of ZeroMQ."""
    await pair("metrics")
    parent = psutil.Process(divided.process.pid)
    ours = open_files(parent)

    assert any(name.startswith("ZMQ") for name in threads(parent))
    for worker in workers(divided):
        assert not [one for one in open_files(worker) & ours if one.startswith("socket:")]
        assert not any(name.startswith("ZMQ") for name in threads(worker))
        assert not [c for c in worker.net_connections("tcp") if c.status == psutil.CONN_LISTEN]


async def test_processes_find_each_other_without_files(launch: Launch, tmp_path: Path) -> None:
    """A folder for temporary files may be cleaned, have a long name, or be missing."""
    missing = tmp_path / ("x" * 200)
    gateway = await launch(flags=["--workers", "2"], environment={"TMPDIR": str(missing)})

    assert (await gateway.get_json("/readyz"))["ready"]
    assert 0 == await gateway.metric("neurograph_gateway_connections")
    named = {str(one.laddr) for one in psutil.Process(gateway.process.pid).net_connections("unix")} - {""}
    assert named <= {gateway.bus_in.removeprefix("ipc://")}


async def test_with_one_worker_there_is_one_process(launch: Launch) -> None:
    """The default costs nothing."""
    gateway = await launch(flags=["--workers", "1"])

    assert [] == workers(gateway)


async def test_three_workers_are_one_gateway(launch: Launch, publisher: NewPublisher, connect: Connect) -> None:
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
        assert 1 == gateway.process.wait(scaled(DEADLINE_SECONDS))
    assert any("cannot_start" in line for line in gateway.lines)
    assert not any("worker" in line for line in gateway.lines)
