"""The client of publishers that number their messages themselves: requests, answers, and what goes wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import zmq

from gateway.bus import sequence_replay
from gateway.bus.context import make_context
from gateway.bus.curve import Curve
from gateway.bus.framing import Frames
from gateway.bus.sequence_replay import SequenceReplayClient
from gateway.config.model import Bus
from gateway.core.ingest.publishers import ReplayRequest
from tests.support.addresses import ipc
from tests.support.waiting import eventually


END = (2**64 - 1).to_bytes(8)


class Publisher:
    """A publisher's ROUTER for replay."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        self.router = context.socket(zmq.ROUTER)
        self.router.bind(endpoint)
        self.identities: list[bytes] = []

    def asked(self) -> int | None:
        """The first number that was asked for, if there is another request."""
        if not self.router.poll(0):
            return None
        identity, _, number = self.router.recv_multipart()
        self.identities.append(identity)
        return int.from_bytes(number)

    def answer(self, *numbers: int) -> None:
        for number in numbers:
            self.router.send_multipart([self.identities[-1], b"", number.to_bytes(8), b"%d" % number])
        self.router.send_multipart([self.identities[-1], b"", END, b""])


class Client:
    """A client, and the last number and the payload of each answer that it got."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        self.replies: list[Frames] = []
        self.client = SequenceReplayClient(
            context,
            endpoint,
            Bus(),
            Curve(context, Bus()),
            first=0,
            convert=lambda payload: payload,
            on_reply=self.replies.append,
        )

    def ask(self, first: int, last: int) -> None:
        self.client.send_request(ReplayRequest(1, 7, "", None, "events", first, last))


ClientAt = Callable[[str], Client]


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    context = make_context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return ipc(tmp_path, "replay")


@pytest.fixture
def publisher(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> Iterator[Publisher]:
    publisher = Publisher(context, endpoint)
    yield publisher
    publisher.router.close(linger=0)


@pytest.fixture
def client_at(context: zmq.Context[zmq.Socket[bytes]]) -> Iterator[ClientAt]:
    with ExitStack() as stack:

        def make(endpoint: str) -> Client:
            client = Client(context, endpoint)
            stack.callback(client.client.close)
            return client

        yield make


async def test_an_answer_of_more_messages_than_one_read_takes_is_one_reply(
    publisher: Publisher, client_at: ClientAt, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequence_replay, "MESSAGES_PER_READ", 3)
    client = client_at(endpoint)
    client.ask(5, 14)
    assert 4 == await eventually(publisher.asked)
    publisher.answer(*range(4, 14))
    await eventually(lambda: client.replies)

    assert 1 == len(client.replies)
    assert [b"%d" % number for number in range(4, 14)] == [one for one in client.replies[0] if one.isdigit()]


async def test_a_message_without_a_number_is_ignored(publisher: Publisher, client_at: ClientAt, endpoint: str) -> None:
    client = client_at(endpoint)
    client.ask(1, 1)
    await eventually(lambda: publisher.asked() is not None)
    publisher.router.send_multipart([publisher.identities[-1], b""])
    publisher.answer(0)
    await eventually(lambda: client.replies)

    assert [b"0"] == [one for one in client.replies[0] if one.isdigit()]


async def test_after_a_request_without_an_answer_the_next_one_goes_by_another_connection(
    publisher: Publisher, client_at: ClientAt, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers do not say to which request they belong: one that comes late must not be taken for the next."""
    monkeypatch.setattr(sequence_replay, "ANSWER_SECONDS_MAX", -1.0)
    client = client_at(endpoint)
    client.ask(1, 1)
    await eventually(lambda: publisher.asked() is not None)
    client.ask(2, 2)
    assert 1 == await eventually(publisher.asked)
    late, current = publisher.identities
    publisher.router.send_multipart([current, b"", (1).to_bytes(8), b"1"])
    publisher.router.send_multipart([current, b"", END, b""])
    await eventually(lambda: client.replies)

    assert late != current
    assert [b"1"] == [one for one in client.replies[0] if one.isdigit()]


async def test_an_endpoint_that_cannot_be_used_has_no_answer_and_harms_nobody(client_at: ClientAt) -> None:
    client = client_at("tcp://no-port")
    client.ask(1, 1)
    client.client.poll()

    assert client.replies == []
