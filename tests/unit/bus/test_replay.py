"""The client of publishers' replay services: how many connections it holds, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import zmq

from gateway.bus import replay
from gateway.bus.context import make_context
from gateway.bus.curve import Curve
from gateway.bus.framing import Frames
from gateway.bus.replay import ENDPOINTS_MAX, ReplayClient
from gateway.config.model import Bus
from gateway.core.ingest.publishers import ReplayRequest
from tests.support.addresses import ipc
from tests.support.waiting import eventually


class Publisher:
    """A publisher's replay service, which records requests and lost connections."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        self.endpoint = endpoint
        self.router = context.socket(zmq.ROUTER)
        self._monitor = self.router.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self.router.bind(endpoint)

    def requests(self) -> list[bytes]:
        """The topics that were requested since the last call."""
        found = []
        while self.router.poll(0):
            identity, *request = self.router.recv_multipart()
            self.router.send_multipart([identity, b"reply", *request])
            found.append(request[2])
        return found

    def is_left(self) -> bool:
        return bool(self._monitor.poll(0))

    def close(self) -> None:
        self.router.disable_monitor()
        self._monitor.close(linger=0)
        self.router.close(linger=0)


Start = Callable[[str], Publisher]


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    context = make_context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def start(context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path) -> Iterator[Start]:
    """Start a publisher of a name."""
    started: list[Publisher] = []

    def start(name: str) -> Publisher:
        started.append(Publisher(context, ipc(tmp_path, name)))
        return started[-1]

    yield start
    for publisher in started:
        publisher.close()


@pytest.fixture
def replies() -> list[Frames]:
    return []


@pytest.fixture
async def client(context: zmq.Context[zmq.Socket[bytes]], replies: list[Frames]) -> AsyncIterator[ReplayClient]:
    client = ReplayClient(context, Bus(), Curve(context, Bus()), on_replies=replies.extend)
    yield client
    client.close()


def to(endpoint: str, topic: str = "robots") -> ReplayRequest:
    return ReplayRequest(1, 7, endpoint, None, topic, 1, 2)


async def test_the_publisher_that_was_not_asked_for_longest_makes_room_for_another(
    client: ReplayClient, start: Start, tmp_path: Path
) -> None:
    first, second = start("p0"), start("p1")
    for publisher in (first, second, first):
        client.send_request(to(publisher.endpoint))
        assert await eventually(publisher.requests)

    for number in range(2, ENDPOINTS_MAX + 1):
        client.send_request(to(ipc(tmp_path, f"p{number}")))  # nobody listens there

    await eventually(second.is_left)
    assert not first.is_left()


async def test_a_publisher_that_has_not_answered_yet_makes_no_room_while_another_has(
    client: ReplayClient, start: Start, replies: list[Frames]
) -> None:
    slow, quick = start("slow"), start("quick")
    client.send_request(to(slow.endpoint))
    for publisher in (quick, *(start(f"p{number}") for number in range(ENDPOINTS_MAX - 1))):
        client.send_request(to(publisher.endpoint))
        assert await eventually(publisher.requests)

    await eventually(quick.is_left)
    assert await eventually(slow.requests)
    await eventually(lambda: len(replies) == ENDPOINTS_MAX + 1)


async def test_a_connection_that_is_idle_ends(
    client: ReplayClient, start: Start, replies: list[Frames], monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = start("publisher")
    client.send_request(to(publisher.endpoint))
    assert await eventually(publisher.requests) == [b"robots"]
    await eventually(lambda: replies)
    client.poll()
    assert not publisher.is_left(), "30 s have not passed"

    monkeypatch.setattr(replay, "IDLE_SECONDS", 0.0)
    await asyncio.sleep(0)
    client.poll()

    await eventually(publisher.is_left)


async def test_after_a_request_without_an_answer_the_next_one_has_a_new_connection(
    client: ReplayClient, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "DEAD_SECONDS", 0.0)
    publisher = start("publisher")
    client.send_request(to(publisher.endpoint, "first"))
    await eventually(lambda: publisher.router.poll(0))  # it has arrived, and is not answered

    client.send_request(to(publisher.endpoint, "second"))

    await eventually(publisher.is_left)
    await eventually(lambda: b"second" in publisher.requests())


@pytest.mark.parametrize("endpoint", ["robots", "tcp://127.0.0.1", "tcp://no such host:5", "smoke://signals"])
async def test_an_address_that_is_no_endpoint_harms_nothing(client: ReplayClient, start: Start, endpoint: str) -> None:
    publisher = start("publisher")

    client.send_request(to(endpoint))
    client.send_request(to(publisher.endpoint))

    assert await eventually(publisher.requests) == [b"robots"]


async def test_without_free_sockets_a_request_has_no_answer_and_no_other_effect(start: Start) -> None:
    small: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    small.set(zmq.MAX_SOCKETS, 1)
    client = ReplayClient(small, Bus(), Curve(small, Bus()), on_replies=lambda _: None)
    publisher, other = start("publisher"), start("other")

    client.send_request(to(publisher.endpoint))
    client.send_request(to(other.endpoint))

    assert await eventually(publisher.requests) == [b"robots"]
    assert not other.requests()
    client.close()
    small.destroy(linger=0)
