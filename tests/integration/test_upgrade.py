"""`gateway upgrade` and inherited sockets: the port never closes, and clients lose nothing."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest
from neurograph_client import Client, Event, NotConnectedError
from neurograph_publisher import Inbox, Message, Publisher

import gateway as gateway_package
from tests.conftest import Launch
from tests.support.command import run_here
from tests.support.forkserver import search_path
from tests.support.gateway import Gateway
from tests.support.waiting import DEADLINE_SECONDS, eventually, scaled
from tests.support.workers import runs, workers


CHANNEL = "numbers"
SETTINGS: dict[str, object] = {
    "bus.discovery_seconds": 0.5,
    "history.events_max": 100_000,
    "shutdown.reconnect_spread_seconds": 1,
    "shutdown.timeout_seconds": 30,
}


@pytest.fixture
async def upgradable(launch: Launch, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that can be upgraded; its last process is ended, too."""
    gateway = await launch(settings={**SETTINGS, "control_file": tmp_path / "control"})
    yield gateway
    await end_successor(gateway)


async def end_successor(gateway: Gateway) -> None:
    """End the process that serves now, unless it is the first one, and see that it ends by itself."""
    pids = [record["pid"] for record in gateway.records if record["message"] == "upgraded"]
    for pid in pids[-1:]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(process.wait, scaled(DEADLINE_SECONDS))


async def upgrade(gateway: Gateway, control: Path) -> int:
    """Upgrade it; return the new process's pid."""
    done = await asyncio.to_thread(run_here, "upgrade", "--set", f"control_file={control}")
    assert done.returncode == 0, done.stderr + gateway.log_tail()
    found = re.search(r"Process (\d+) serves now", done.stdout)
    assert found is not None
    return int(found[1])


class Follower:
    """One client, and what it received."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.others: list[str] = []
        """Gaps, and everything else that is no event."""


class LibraryFollower(Follower):
    """A client of the Python library."""

    async def run(self, url: str) -> None:
        async with Client(url) as client:
            async for item in client.subscribe(CHANNEL, last=1_000):
                if isinstance(item, Event):
                    self.numbers.append(item.data["n"])
                else:
                    self.others.append(repr(item))


class PlainFollower(Follower):
    """A client of its own make: it waits as `closing` asks, and resumes from its position."""

    async def run(self, url: str) -> None:
        position: dict[str, object] = {}
        async with aiohttp.ClientSession() as http:
            while True:
                query = {"since": json.dumps({CHANNEL: position})} if position else {"last": "1000"}
                async with http.ws_connect(f"{url}/ws", params={"channels": CHANNEL, **query}) as ws:
                    async for frame in ws:
                        message = json.loads(frame.data)
                        match message["type"]:
                            case "subscribed":
                                position = message["positions"][CHANNEL]
                            case "event":
                                self.numbers.append(message["data"]["n"])
                                position |= {key: message[key] for key in ("epoch", "offset") if key in message}
                            case "closing":
                                await asyncio.sleep(message["after_ms"] / 1000)
                            case "gap":
                                self.others.append(str(message))


class Prober:
    """Connects all the time, and counts how that ended."""

    def __init__(self) -> None:
        self.results: Counter[str] = Counter()

    async def run(self, port: int) -> None:
        while True:
            self.results[await self._try(port)] += 1
            await asyncio.sleep(0.002)

    async def _try(self, port: int) -> str:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = await reader.read()
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
        except OSError as error:
            return type(error).__name__
        return answer[9:12].decode() or "no answer"


@asynccontextmanager
async def background(*jobs: object) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(job) for job in jobs]  # type: ignore[call-overload]
    try:
        yield
        for task in tasks:
            assert not task.done() or task.exception() is None, task.exception()  # none ends by itself
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _publish(publisher: Publisher, sent: list[int], per_second: int) -> None:
    while True:
        sent.append(len(sent))
        publisher.publish(CHANNEL, {"n": sent[-1]})
        await asyncio.sleep(1 / per_second)


async def check_upgrades(gateway: Gateway, control: Path, *, clients: int, upgrades: int, per_second: int) -> None:
    """Upgrade again and again under load; each client has every event once, and nobody was refused."""
    sent: list[int] = []
    followers = [LibraryFollower() if n % 2 else PlainFollower() for n in range(clients)]
    prober = Prober()
    with Publisher(connect=gateway.bus_in, replay=100_000) as publisher:
        assert await asyncio.to_thread(publisher.wait_for_subscriber, 60)
        async with background(prober.run(gateway.port), *(one.run(gateway.url) for one in followers)):
            publishing = asyncio.create_task(_publish(publisher, sent, per_second))
            await eventually(lambda: all(one.numbers for one in followers), saying="all clients receive")
            for _ in range(upgrades):
                await upgrade(gateway, control)
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
            await eventually(
                lambda: all(one.numbers[-1] == sent[-1] for one in followers),
                saying=lambda: f"all have {sent[-1]}: {Counter(one.numbers[-1] for one in followers)}",
            )
    owed = sum(len(sent) - one.numbers[0] for one in followers)
    delivered = sum(len(one.numbers) for one in followers)
    print(f"{clients} clients, {upgrades} upgrades: owed {owed}, delivered {delivered}, probes {dict(prober.results)}")
    assert [one.others for one in followers if one.others] == []
    assert all(one.numbers == list(range(one.numbers[0], len(sent))) for one in followers)
    assert set(prober.results) == {"200"}


async def test_an_upgrade_loses_no_event_and_refuses_nobody(upgradable: Gateway, tmp_path: Path) -> None:
    """`make upgrades` does it with 500 clients, 20 times."""
    clients, upgrades = (int(os.environ.get(name, few)) for name, few in (("CLIENTS", 20), ("UPGRADES", 1)))
    await check_upgrades(upgradable, tmp_path / "control", clients=clients, upgrades=upgrades, per_second=20)


async def test_all_hosts_are_served_after_an_upgrade(launch: Launch, tmp_path: Path) -> None:
    control = tmp_path / "control"
    gateway = await launch(flags=["--host", "127.0.0.1,::1"], settings={**SETTINGS, "control_file": control})
    await upgrade(gateway, control)
    port = gateway.port
    for address in ("127.0.0.1", "[::1]"):
        gateway.url = f"http://{address}:{port}"
        assert (await gateway.request("GET", "/readyz")).status == 200

    listening = await gateway.logged("listening", times=2)
    assert [[f"http://[::1]:{port}"]] * 2 == [one["also"] for one in listening]
    await end_successor(gateway)


async def test_the_bus_gets_what_clients_publish_once_and_in_order_across_an_upgrade(
    launch: Launch, tmp_path: Path
) -> None:
    """What was answered without `bus` may be missing there; all else is received, and nothing twice."""
    with tempfile.TemporaryDirectory(prefix="ng-") as folder:  # a short path, as a socket's has to be
        endpoint, control = f"ipc://{folder}/out", tmp_path / "control"
        gateway = await launch(settings={**SETTINGS, "control_file": control, "bus.publish": endpoint})
        reached: list[int] = []
        received: list[object] = []
        with Inbox(endpoint, CHANNEL) as inbox:
            assert await asyncio.to_thread(inbox.wait_for_gateway, DEADLINE_SECONDS)
            stop = threading.Event()
            receiving = asyncio.create_task(asyncio.to_thread(_receive, inbox, received, stop))
            async with Client(gateway.url, timeout=DEADLINE_SECONDS) as client:
                publishing = asyncio.create_task(_publish_over(client, reached))
                await eventually(lambda: len(reached) > 20)
                await upgrade(gateway, control)
                before = len(reached)
                await eventually(lambda: client.connection_count > 1 and len(reached) > before + 20)
                publishing.cancel()
                await asyncio.gather(publishing, return_exceptions=True)
                await eventually(lambda: reached[-1] in received)
            stop.set()
            await receiving
    await end_successor(gateway)

    assert set(reached) <= set(received)
    assert received == sorted(set(received))  # type: ignore[type-var]  # numbers, and no gap


def _receive(inbox: Inbox, received: list[object], stop: threading.Event) -> None:
    while not stop.is_set():
        item = inbox.receive(0.1)
        if item is not None:
            received.append(item.data if isinstance(item, Message) else item)


async def _publish_over(client: Client, reached: list[int]) -> None:
    """Publish numbers one after the other, and keep those that a process on the bus gets."""
    for number in itertools.count():
        with contextlib.suppress(NotConnectedError):  # the gateway that was asked has ended
            if (await client.publish(CHANNEL, number)).bus:
                reached.append(number)
        await asyncio.sleep(0.005)


async def test_a_new_process_that_does_not_start_leaves_the_old_one_as_it_was(launch: Launch, tmp_path: Path) -> None:
    """Its configuration is wrong; the old process goes on, its bus, too."""
    file, control = tmp_path / "gateway.toml", tmp_path / "control"
    file.write_text(f'control_file = "{control}"\n')
    gateway = await launch(flags=["--config", str(file)])
    gateway.errors_expected = True
    file.write_text(f'control_file = "{control}"\n[ingest]\nnesting_max = -1\n')

    done = run_here("upgrade", "--set", f"control_file={control}")

    assert done.returncode == 1
    assert "Not upgraded, and this process goes on: the new process ended before it was ready" in done.stderr
    assert any("nesting_max" in line for line in gateway.lines)
    with Publisher(connect=gateway.bus_in) as publisher:
        assert await asyncio.to_thread(publisher.wait_for_subscriber, 60)
        publisher.publish("robots", {})
        await gateway.holds("robots", 1)


async def test_systemd_knows_the_new_process_before_the_command_ends(launch: Launch, tmp_path: Path) -> None:
    control = tmp_path / "control"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        gateway = await launch(
            settings={**SETTINGS, "control_file": control}, environment={"NOTIFY_SOCKET": str(tmp_path / "notify")}
        )
        systemd.setblocking(False)
        lines: list[str] = []
        # Read meanwhile: the socket holds few messages, and one comes every second.
        asyncio.get_running_loop().add_reader(systemd, lambda: lines.extend(systemd.recv(4096).decode().splitlines()))
        try:
            pid = await upgrade(gateway, control)
            with contextlib.suppress(BlockingIOError):
                while True:
                    lines += systemd.recv(4096).decode().splitlines()
        finally:
            asyncio.get_running_loop().remove_reader(systemd)
            await end_successor(gateway)

    assert f"MAINPID={pid}" in lines


def systemd_sockets(listening: Sequence[socket.socket], *arguments: str) -> subprocess.Popen[bytes]:
    """Start a gateway as systemd does: descriptors from 3 on, and the pid that they are for."""
    numbers = [one.fileno() for one in listening]
    script = (  # not a shell's: that knows descriptors below 10 only
        "import os, sys\n"
        f"for target, number in enumerate({numbers}, 3):\n"
        "    os.dup2(number, target)\n"
        f"os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='{len(numbers)}')\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'gateway', 'serve', *sys.argv[1:]])\n"
    )
    return subprocess.Popen([sys.executable, "-c", script, *arguments], pass_fds=numbers)


async def test_connections_wait_at_systemds_socket_while_no_gateway_runs(tmp_path: Path) -> None:
    """They are answered by the next process: it never closes the socket."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        arguments = ("--bind", f"ipc://{tmp_path}/in", "--connect", f"ipc://{tmp_path}/out")
        prober = Prober()
        early = asyncio.create_task(prober._try(port))
        results = []
        for _ in range(2):
            process = systemd_sockets([listening], *arguments)
            try:
                results.append(await asyncio.wait_for(early, scaled(DEADLINE_SECONDS)))
            finally:
                process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(process.wait, scaled(DEADLINE_SECONDS)) == 0
            early = asyncio.create_task(prober._try(port))
        early.cancel()

    assert results == ["200", "200"]


async def test_a_gateway_whose_package_was_replaced_serves_with_its_workers_and_ends_without_any(
    launch: Launch, tmp_path: Path
) -> None:
    """Its exit status is 1, so that its supervisor starts the new version."""
    package = shutil.copytree(Path(gateway_package.__file__).parent, tmp_path / "gateway")
    search = os.pathsep.join((str(tmp_path), search_path("gateway")))
    gateway = await launch(
        flags=["--workers", "2"], environment={"PYTHONPATH": search, "PYTHONSAFEPATH": "1"}, interpreter=True
    )
    gateway.errors_expected = True
    gateway.expected_exit = 1
    first, second = workers(gateway)
    (package / "wiring.py").write_text((package / "wiring.py").read_text() + "# the new version\n")
    first.kill()
    await eventually(lambda: sum("another version" in line for line in gateway.lines) >= 2)
    assert (await gateway.get_json("/readyz"))["ready"]
    assert runs(second)

    second.kill()
    assert await gateway.exited() == 1

    said = [(one["message"], one.get("reason", "")) for one in gateway.records]
    assert [reason for message, reason in said if message == "cannot_serve"] == [
        "no worker is left, so this process ends: another version of the package was installed since the gateway "
        "started; restart the gateway"
    ]
    assert said[-1][0] == "stopped"
