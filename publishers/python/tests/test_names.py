"""A publisher that connects to a DNS name connects to all gateways of the name, and follows its changes."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Protocol

import pytest
from neurograph_publisher import Publisher

from tests.conftest import Connect, Launch
from tests.support.addresses import free_port
from tests.support.waiting import eventually

from .bus import Bus


NAME = "gateways.test"
_NETWORK = f"127.{secrets.randbelow(254) + 1}.{secrets.randbelow(254) + 1}"
HOSTS = (f"{_NETWORK}.2", f"{_NETWORK}.3")
"""Addresses of this machine that no other program uses: any port there is free."""

Addresses = list[str]


class Make(Protocol):
    def __call__(self, **how: Any) -> Publisher: ...


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> Addresses:
    """The addresses of the name, in place of a DNS server; without addresses the name does not exist."""
    found: Addresses = []
    system = socket.getaddrinfo

    def getaddrinfo(name: Any, *more: Any, **options: Any) -> Any:
        if name != NAME:
            return system(name, *more, **options)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 0)) for one in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return found


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def make(port: int) -> Iterator[Make]:
    with ExitStack() as stack:

        def one(**how: Any) -> Publisher:
            return stack.enter_context(Publisher(connect=f"tcp://{NAME}:{port}", resolve_seconds=0.1, **how))

        yield one


@pytest.fixture
def buses(port: int) -> Iterator[list[Bus]]:
    """A subscriber at each address."""
    made = [Bus(bind=f"tcp://{host}:{port}") for host in HOSTS]
    yield made
    for one in made:
        one.close()


def test_every_gateway_of_a_name_gets_all_events_with_the_same_numbers(
    addresses: Addresses, make: Make, buses: list[Bus]
) -> None:
    addresses += HOSTS
    publisher = make()
    buses[0].await_publisher(publisher, *buses)
    for number in range(3):
        assert publisher.publish("a", number)

    read = [[bus.read() for _ in range(3)] for bus in buses]
    assert [(number, number + 1) for number in range(3)] == [(data, e[2]) for _, data, e in read[0]]
    assert read[0] == read[1]


def test_a_name_without_a_gateway_has_no_subscriber_and_the_problem_says_why(
    addresses: Addresses, make: Make, buses: list[Bus]
) -> None:
    publisher = make()
    assert not publisher.wait_for_subscriber(0.3)
    assert f"{NAME} cannot be resolved: Name or service not known" == publisher.problem
    addresses.append(HOSTS[0])
    buses[0].await_publisher(publisher)

    assert "" == publisher.problem
    assert f"tcp://{HOSTS[0]}" == publisher.endpoint.rpartition(":")[0]


async def test_a_gateway_removed_from_the_name_is_disconnected_when_it_has_gone(
    addresses: Addresses, make: Make, buses: list[Bus]
) -> None:
    addresses += HOSTS
    publisher = make()
    buses[0].await_publisher(publisher, *buses)
    addresses.remove(HOSTS[0])
    await eventually(lambda: publisher._names is not None and len(publisher._names.endpoints) == 1)
    publisher.publish("a", 1)
    assert 1 == buses[0].read()[1]

    buses[0].close()
    await eventually(lambda: len(publisher._endpoints) == 1)
    publisher.publish("a", 2)
    assert [1, 2] == [buses[1].read()[1] for _ in range(2)]


async def test_a_client_resumes_on_another_gateway_of_the_name(
    addresses: Addresses, make: Make, port: int, launch: Launch, connect: Connect
) -> None:
    one, other = [await launch(connect=[], bind=f"tcp://{host}:{port}") for host in HOSTS]
    addresses += HOSTS
    publisher = make(replay=10)
    assert publisher.wait_for_subscriber(60)
    client = await connect("a", to=one)
    publisher.publish("a", 1)
    event = await client.until("event")
    await client.close()
    publisher.publish("a", 2)
    subscribed = await one.get_json("/api/v1/websocket/channels/a")
    position = {"epoch": subscribed["position"]["epoch"], "offset": event["offset"]}
    await other.holds("a", 2)

    again = await connect("a", to=other, since=f'{{"a": {{"epoch": "{position["epoch"]}", "offset": 1}}}}')
    assert (2, 2) == ((found := await again.until("event"))["offset"], found["data"])
