"""A name in an endpoint: all of its addresses are connected to, and followed as they change."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import aiohttp
import pytest
from neurograph_publisher import Publisher

from gateway.config.model import Bus, Config, Source
from gateway.config.sources import Endpoint
from gateway.process.service import Service, running
from tests.support import ws
from tests.support.addresses import free_port
from tests.support.waiting import eventually


_NETWORK = f"127.{secrets.randbelow(254) + 1}.{secrets.randbelow(254) + 1}"
HOSTS = (f"{_NETWORK}.2", f"{_NETWORK}.3")
"""Addresses of this machine that no other program uses: any port there is free."""
NAME = "publishers.test"
API = "/api/v1/websocket"

Addresses = dict[str, list[str]]
Make = Callable[..., Publisher]
Start = Callable[..., Any]


@pytest.fixture
def dns() -> Addresses:
    """The addresses of names; a name that is missing cannot be resolved."""
    return {NAME: []}


@pytest.fixture
def port() -> int:
    """A port that is free at each of the hosts."""
    return free_port()


@pytest.fixture
def make(port: int) -> Iterator[Make]:
    """Make a publisher at one of the hosts; all have the same ports."""
    with ExitStack() as stack:

        def one(host: str, **how: Any) -> Publisher:
            how = {"name": host, "heartbeat_seconds": 0.1, "linger_seconds": 0, **how}
            return stack.enter_context(Publisher(bind=f"tcp://{host}:{port}", **how))

        yield one


@pytest.fixture
async def start(dns: Addresses, port: int) -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def resolve(name: str) -> list[str]:
            if name not in dns:
                raise OSError("Temporary failure in name resolution")
            return list(dns[name])

        async def serve(**bus: Any) -> Service:
            settings = Bus(resolve_seconds=0.1, discovery_seconds=0.0, **bus)
            connect = () if settings.sources else (f"tcp://{NAME}:{port}",)
            config = Config(port=0, connect=connect, bind="", figures_seconds=0.0, bus=settings)
            return await stack.enter_async_context(running(config, resolve=resolve))

        yield serve


def addresses(service: Service, state: str = "connected") -> list[str]:
    return sorted(one.address.partition(":")[0] for one in service.bus() if one.state == state)


async def connected(service: Service, *hosts: str) -> None:
    await eventually(lambda: addresses(service) == sorted(hosts), saying=lambda: str(service.bus()))


async def numbers(client: ws.Client, count: int) -> list[Any]:
    return sorted([(await client.until("event"))["data"] for _ in range(count)])


async def test_each_address_of_a_name_is_connected_to_and_shown(
    start: Start, dns: Addresses, make: Make, port: int
) -> None:
    makers = [make(host) for host in HOSTS]
    dns[NAME] = [*HOSTS]
    service = await start()
    await connected(service, *HOSTS)
    client = await ws.connect(service.urls[0], "numbers")
    for number, publisher in enumerate(makers):
        assert publisher.wait_for_subscriber(60)
        publisher.publish("numbers", number)

    assert [0, 1] == await numbers(client, 2)
    async with aiohttp.ClientSession(service.urls[0]) as http:
        status = await (await http.get(f"{API}/status")).json()
        page = await (await http.get("/metrics")).text()
    places = [(one["endpoint"], one["address"]) for one in status["bus"]]
    assert [(f"tcp://{NAME}:{port}", f"{host}:{port}") for host in HOSTS] == sorted(places)
    for host in HOSTS:
        labels = f'{{address="{host}:{port}",endpoint="tcp://{NAME}:{port}"}}'
        assert f"neurograph_gateway_bus_peers{labels} 1.0" in page
    await client.close()


async def test_what_a_new_address_sent_before_is_replayed_from_that_address(
    start: Start, dns: Addresses, make: Make
) -> None:
    """Both publishers announce the same port, without a host."""
    replay = free_port()
    how = {"replay": 100, "replay_address": f"tcp://*:{replay}"}
    first = make(HOSTS[0], replay_endpoint=f"tcp://{HOSTS[0]}:{replay}", **how)
    second = make(HOSTS[1], replay_endpoint=f"tcp://{HOSTS[1]}:{replay}", **how)
    dns[NAME] = [HOSTS[0]]
    service = await start()
    await connected(service, HOSTS[0])
    client = await ws.connect(service.urls[0], "a", "b")
    assert first.wait_for_subscriber(60)
    first.publish("a", 1)
    assert [1] == await numbers(client, 1)
    for number in (2, 3):
        second.publish("b", number)
    dns[NAME] = [*HOSTS]

    assert [2, 3] == await numbers(client, 2)
    assert (0, 1) == (first.replayed, second.replayed)
    await client.close()


async def test_an_address_that_is_gone_is_left_when_its_publisher_has_ended(
    start: Start, dns: Addresses, make: Make
) -> None:
    first, second = make(HOSTS[0]), make(HOSTS[1])
    dns[NAME] = [*HOSTS]
    service = await start()
    await connected(service, *HOSTS)
    client = await ws.connect(service.urls[0], "numbers")
    dns[NAME] = [HOSTS[1]]
    await eventually(lambda: addresses(service, "leaving") == [HOSTS[0]])
    first.publish("numbers", 1)

    assert [1] == await numbers(client, 1)
    first.close()
    await eventually(lambda: [HOSTS[1]] == [one.address.partition(":")[0] for one in service.bus()])
    second.publish("numbers", 2)
    assert [2] == await numbers(client, 1)
    await client.close()


async def test_an_address_that_comes_back_is_not_left(start: Start, dns: Addresses, make: Make) -> None:
    make(HOSTS[0])
    dns[NAME] = [HOSTS[0]]
    service = await start()
    await connected(service, HOSTS[0])
    [link] = [one.link for one in service.bus()]
    dns[NAME] = []
    await eventually(lambda: addresses(service, "leaving") == [HOSTS[0]])
    dns[NAME] = [HOSTS[0]]

    await connected(service, HOSTS[0])
    assert [link] == [one.link for one in service.bus()]


async def test_a_gateway_starts_while_its_name_cannot_be_resolved_and_says_so(
    start: Start, dns: Addresses, make: Make
) -> None:
    del dns[NAME]
    service = await start()
    await eventually(lambda: "cannot be resolved: Temporary failure" in service.bus()[0].problem)
    await eventually(lambda: not service.unready())
    make(HOSTS[0])
    dns[NAME] = [HOSTS[0]]

    await connected(service, HOSTS[0])
    assert [""] == [one.problem for one in service.bus()]


async def test_a_reload_leaves_the_addresses_of_a_name_that_is_removed(
    start: Start, dns: Addresses, make: Make, port: int
) -> None:
    make(HOSTS[0])
    dns[NAME] = [HOSTS[0]]
    service = await start()
    await connected(service, HOSTS[0])
    direct = f"tcp://{HOSTS[0]}:{port}"
    service.reload(Config(port=0, connect=(direct,), bind="", figures_seconds=0.0, bus=service.config.bus))

    await eventually(lambda: [(direct, "", 1)] == [(one.endpoint, one.address, one.peers) for one in service.bus()])


def test_the_replay_of_a_source_is_at_the_address_of_its_events() -> None:
    source = Source(endpoint="tcp://vllm.test:5557", replay="tcp://vllm.test:5558")
    found = Endpoint("tcp://vllm.test:5557", "connect", source).at("fd00::1")

    assert "tcp://[fd00::1]:5557" == found.address
    assert found.source is not None
    assert "tcp://[fd00::1]:5558" == found.source.replay
