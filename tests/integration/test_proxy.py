"""`gateway proxy` between publishers and gateways: events, heartbeats and replay pass through it."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from neurograph_publisher import Publisher

from tests.conftest import Connect, Launch
from tests.support import ws
from tests.support.addresses import ipc
from tests.support.command import Command, command
from tests.support.curve import Ring
from tests.support.gateway import Gateway
from tests.support.waiting import eventually


COUNT = 150
PAYLOAD = "x" * 20_000
"""So large that the kernel's buffers of a Unix socket do not hold `COUNT` of them."""

Start = Callable[..., Any]
Make = Callable[..., Publisher]


class Proxy:
    """A running `gateway proxy`."""

    def __init__(self, running: Command) -> None:
        self.command = running
        [listening] = [json.loads(line) for line in running.errors.splitlines() if '"listening"' in line]
        self.url, self.publish = listening["url"], listening["publish"]

    def figure(self, name: str) -> float:
        with urlopen(f"{self.url}/metrics", timeout=60) as answer:
            found = re.search(rf"^neurograph_gateway_proxy_{name} (\S+)$", answer.read().decode(), re.MULTILINE)
        assert found is not None, name
        return float(found[1])

    async def shows(self, **figures: float) -> None:
        async def so() -> bool:
            return {name: await asyncio.to_thread(self.figure, name) for name in figures} == figures

        await eventually(so, saying=str(figures))


@asynccontextmanager
async def proxy_at(bind: str, publish: str, *more: str) -> AsyncIterator[Proxy]:
    """Run a proxy; with the block, SIGTERM ends it well, unless it has ended."""
    arguments = ["--port", "0", "--bind", bind, "--set", "connect=", "--set", f"proxy.publish={publish}"]
    async with command("proxy", *arguments, *more) as running:
        await running.until(lambda it: '"listening"' in it.errors)
        yield Proxy(running)
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGTERM)
            assert 0 == await running.exited()


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def one(bind: str, publish: str, *more: str) -> Proxy:
            return await stack.enter_async_context(proxy_at(bind, publish, *more))

        yield one


@pytest.fixture
def make() -> Iterator[Make]:
    with ExitStack() as stack:

        def one(**how: Any) -> Publisher:
            return stack.enter_context(
                Publisher(**{"heartbeat_seconds": 0.2, "linger_seconds": 0, "replay": 1_000, **how})
            )

        yield one


async def subscribed(gateway: Gateway, incarnation: int) -> None:
    """Wait until a gateway has heard a publisher."""

    async def heard() -> bool:
        found = await gateway.get_json("/api/v1/websocket/publishers")
        return f"{incarnation:016x}" in {one["incarnation"] for one in found["publishers"]}

    await eventually(heard, saying=f"{incarnation:016x}")


async def offsets(client: ws.Client, last: int) -> tuple[list[int], list[int]]:
    """What came up to a number: events, and what gaps report, in order."""
    events: list[int] = []
    lost: list[int] = []
    while not (events or lost) or max(*events, *lost, 0) < last:
        message = await client.next()
        if message["type"] == "event":
            events.append(message["offset"])
        elif message["type"] == "gap":
            lost += range(message["from"], message["to"] + 1)
    return events, lost


async def test_what_is_lost_behind_the_proxy_is_replayed_through_it(
    start: Start, make: Make, launch: Launch, connect: Connect, tmp_path: Path
) -> None:
    """The proxy drops what a gateway that stands still does not read; the other gateway is not disturbed."""
    proxy = await start(ipc(tmp_path, "in"), ipc(tmp_path, "out"), "--set", "proxy.send_hwm=10")
    settings = {"bus.receive_hwm": 10, "history.bytes_max": 100_000_000}
    one, other = [await launch(connect=[proxy.publish], bind="", settings=settings) for _ in range(2)]
    publisher = make(connect=ipc(tmp_path, "in"))
    assert publisher.wait_for_subscriber(60)
    for gateway in (one, other):
        await subscribed(gateway, publisher.incarnation)
    slow, quick = await connect("numbers", to=one), await connect("numbers", to=other)
    one.kill(signal.SIGSTOP)
    for number in range(1, COUNT + 1):
        publisher.publish("numbers", [number, PAYLOAD])
        await asyncio.sleep(0)
    expected = list(range(1, COUNT + 1))
    assert (expected, []) == await offsets(quick, COUNT)
    one.kill(signal.SIGCONT)

    assert (expected, []) == await offsets(slow, COUNT)
    assert await one.metric("neurograph_gateway_bus_messages_recovered_total") > 0
    assert publisher.replayed > 0
    assert proxy.figure("replay_requests_total") > 0


async def test_a_proxy_that_is_killed_and_started_again_loses_nothing_unreported(
    start: Start, make: Make, launch: Launch, connect: Connect, tmp_path: Path
) -> None:
    places = ipc(tmp_path, "in"), ipc(tmp_path, "out")
    proxy = await start(*places)
    gateways = [await launch(connect=[places[1]], bind="") for _ in range(2)]
    publisher = make(connect=places[0])
    assert publisher.wait_for_subscriber(60)
    for gateway in gateways:
        await subscribed(gateway, publisher.incarnation)
    clients = [await connect("numbers", to=gateway) for gateway in gateways]
    for number in range(COUNT):
        publisher.publish("numbers", number)
        if number == COUNT // 3:
            proxy.command.process.send_signal(signal.SIGKILL)
        if number == 2 * COUNT // 3:
            await start(*places)
        await asyncio.sleep(0.001)

    for client in clients:
        events, lost = await offsets(client, COUNT)
        assert list(range(1, COUNT + 1)) == sorted(events + lost)
        assert events == sorted(set(events))


async def test_a_gateway_that_starts_later_gets_the_history_through_the_proxy_with_curve(
    start: Start, make: Make, launch: Launch, connect: Connect, tmp_path: Path
) -> None:
    """One publisher connects to the proxy, and the proxy connects to another one."""
    ring = Ring(tmp_path)
    ring.listing("peers", "core", "gateway")
    ring.listing("askers", "proxy")
    bound = make(bind="tcp://127.0.0.1:*", replay_endpoint="tcp://127.0.0.1:*", curve=ring.curve("far", "askers"))
    secured = {
        "bus.curve_key_file": ring.secret("proxy"),
        "bus.curve_server_key_file": ring.public("far"),
        "bus.curve_client_keys_dir": tmp_path / "peers",
    }
    ring.add("peers", "far")  # it is asked for replay at an address of its own
    more = [part for key, value in secured.items() for part in ("--set", f"{key}={value}")]
    proxy = await start(ipc(tmp_path, "in"), "tcp://127.0.0.1:*", *more, "--connect", bound.endpoint)
    connecting = make(connect=ipc(tmp_path, "in"), curve=ring.curve("core", "proxy"))
    await proxy.shows(publishers=2, gateways=0)
    for number in range(3):
        bound.publish("far", number)
        connecting.publish("near", number)
    gateway = await launch(
        connect=[proxy.publish],
        bind="",
        settings={"bus.curve_key_file": ring.secret("gateway"), "bus.curve_server_key_file": ring.public("proxy")},
    )
    client = await connect("far", "near", to=gateway, last=10)

    found = [await client.until("event") for _ in range(6)]
    assert {("far", n) for n in range(3)} | {("near", n) for n in range(3)} == {
        (e["channel"], e["data"]) for e in found
    }
    await proxy.shows(publishers=2, gateways=1, handshakes_failed_total=0)


async def test_a_proxy_connects_to_a_name(start: Start, make: Make, tmp_path: Path) -> None:
    bound = make(bind="tcp://127.0.0.1:*")
    assert bound.endpoint is not None
    name = bound.endpoint.replace("127.0.0.1", "127.1")
    proxy = await start(ipc(tmp_path, "in"), ipc(tmp_path, "out"), "--connect", name)

    await proxy.shows(publishers=1, publishers_live=1)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (
            ["--insecure-allow-remote", "--set", "proxy.publish=tcp://192.0.2.1:5557"],
            "proxy.publish: tcp://192.0.2.1:5557 cannot be bound",
        ),
        (["--host", "192.0.2.1", "--insecure-allow-remote"], "cannot listen on 192.0.2.1"),
    ],
)
async def test_a_proxy_that_cannot_open_an_address_ends_and_says_which(
    more: list[str], reason: str, tmp_path: Path
) -> None:
    places = ["--bind", ipc(tmp_path, "in"), "--set", "connect=", "--set", f"proxy.publish={ipc(tmp_path, 'out')}"]
    async with command("proxy", "--port", "0", *places, *more) as running:
        assert 1 == await running.exited()

    assert reason in running.errors


async def test_sigterm_ends_the_proxy(start: Start, tmp_path: Path) -> None:
    proxy = await start(ipc(tmp_path, "in"), ipc(tmp_path, "out"))
    proxy.command.process.send_signal(signal.SIGTERM)

    assert 0 == await proxy.command.exited()
    assert '"stopped"' in proxy.command.errors


async def test_a_proxy_refuses_settings_that_it_cannot_use(tmp_path: Path) -> None:
    source = json.dumps([{"endpoint": "tcp://127.0.0.1:1"}])
    async with command("proxy", "--port", "0", variables={"GATEWAY_BUS_SOURCES": source}) as running:
        assert 2 == await running.exited()
        assert "bus.sources: a proxy passes on messages as they are" in running.errors
