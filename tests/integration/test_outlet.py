"""Processes on the bus get what clients publish, and answer them."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from neurograph_publisher import Inbox, Message

from tests.conftest import Connect, Launch, NewPublisher
from tests.support.curve import Ring
from tests.support.gateway import Gateway
from tests.support.waiting import DEADLINE_SECONDS, eventually
from tests.support.ws import Client


NewSocket = Callable[[int], "zmq.Socket[bytes]"]


@pytest.fixture
def new_socket() -> Iterator[NewSocket]:
    made: list[zmq.Socket[bytes]] = []
    with zmq.Context() as context:

        def make(kind: int) -> zmq.Socket[bytes]:
            made.append(context.socket(kind))
            return made[-1]

        yield make
        for one in made:
            one.close(linger=0)


@pytest.fixture
def endpoint() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="ng-") as folder:  # a short path, as a socket's has to be
        yield f"ipc://{folder}/out"


def settings(endpoint: str, *channels: str) -> dict[str, object]:
    return {"bus.publish": endpoint, "bus.publish_channels": ",".join(channels or (">",))}


def publish(channel: str, data: object, **more: object) -> dict[str, object]:
    return {"type": "publish", "channel": channel, "event": {"event_type": "t", "data": data}, **more}


async def subscribed(client: Client, channel: str) -> int:
    """Publish until a process on the bus gets it; how many it did not get."""
    missed = 0

    async def reaches() -> bool:
        nonlocal missed
        answer = await client.ask(publish(channel, "probe"), "published")
        missed += not answer["bus"]
        return answer["bus"] is True

    await eventually(reaches, every=0.1)
    return missed


def event(socket: zmq.Socket[bytes], *, probe: bool = False) -> list[bytes]:
    """The next event; heartbeats are passed over, and those that were sent until one reached a process."""
    while True:
        assert socket.poll(60_000), "nothing came"
        frames = socket.recv_multipart()
        if frames[0] != b"$heartbeat" and (b'"probe"' in frames[1]) is probe:
            return frames


async def test_plain_zeromq_gets_what_clients_publish_with_who_it_was(
    launch: Launch, connect: Connect, new_socket: NewSocket, endpoint: str
) -> None:
    gateway = await launch(settings=settings(endpoint, "core.>"))
    client = await connect(to=gateway, user_id="ada")
    nobody = await client.ask(publish("core.commands", 0), "published")
    elsewhere = await client.ask(publish("chat", 0), "published")
    socket = new_socket(zmq.SUB)
    socket.subscribe("core.commands")
    socket.connect(endpoint)
    await subscribed(client, "core.commands")
    forged = {"event_type": "t", "data": 1, "user_id": "root", "reply_to": {"client_id": "x"}}
    answer = await client.ask({"type": "publish", "channel": "core.commands", "event": forged}, "published")
    topic, payload, envelope = event(socket)
    found = json.loads(payload)

    assert (False, None, True) == (nobody["bus"], elsewhere["bus"], answer["bus"])
    assert (b"core.commands", 32) == (topic, len(envelope))
    assert ("t", 1, client.client_id, "ada") == tuple(found[k] for k in ("event_type", "data", "client_id", "user_id"))
    assert "reply_to" not in found
    assert 1 == await gateway.metric("neurograph_gateway_client_events_total", bus="none")


async def test_a_mandatory_event_that_nobody_gets_is_refused_and_not_published(
    launch: Launch, connect: Connect, endpoint: str
) -> None:
    gateway = await launch(settings=settings(endpoint, "core.>"))
    client = await connect("core.commands", "chat", to=gateway)
    on_bus = await client.refused(publish("core.commands", 1, mandatory=True))
    other = await (await connect(to=gateway)).refused(publish("other", 1, mandatory=True))
    reached = await client.ask(publish("chat", 1, mandatory=True), "published")

    assert ("no_subscribers", 503, True) == (on_bus["code"], on_bus["status"], on_bus["temporary"])
    assert "no process on the bus subscribes to 'core.commands'" in on_bus["message"]
    assert "no client subscribes to 'other'" in other["message"]
    assert 1 == reached["recipients"]
    assert [] == client.channel("core.commands").events


async def test_with_curve_processes_with_a_known_key_get_what_clients_publish(
    launch: Launch, connect: Connect, new_socket: NewSocket, endpoint: str, tmp_path: Path
) -> None:
    ring = Ring(tmp_path)
    keys = {
        "connect": "",
        "bus.curve_key_file": ring.secret("gateway"),
        "bus.curve_client_keys_dir": ring.listing("trusted", "core"),
    }
    gateway = await launch(settings={**settings(endpoint), **keys}, bind=f"{endpoint}.in", connect=[])
    client = await connect(to=gateway)
    strangers = new_socket(zmq.SUB), new_socket(zmq.SUB)
    ring.approach(strangers[0], "stranger", "gateway")
    for stranger in strangers:
        stranger.subscribe("")
        stranger.connect(endpoint)
    curve = ring.curve("core", "gateway")
    received = []
    with Inbox(endpoint, "core", curve=curve) as inbox:
        assert await asyncio.to_thread(inbox.wait_for_gateway, DEADLINE_SECONDS)
        live = await client.ask(publish("core", 1), "published")
        received.append(await asyncio.to_thread(inbox.receive, DEADLINE_SECONDS))
    answers = [live]

    async def reaches_nobody() -> bool:
        answers.append(await client.ask(publish("core", 2), "published"))
        return not answers[-1]["bus"]

    await eventually(reaches_nobody, every=0.1)
    with Inbox(endpoint, "core", curve=curve, since=inbox.positions) as again:
        while len(received) < len(answers):
            received.append(await asyncio.to_thread(again.receive, DEADLINE_SECONDS))

    assert live["bus"] is True
    assert [1, *[2] * (len(received) - 1)] == [one.data for one in received if isinstance(one, Message)]
    assert [0, 0] == [stranger.poll(0) for stranger in strangers]


async def test_events_that_come_back_are_not_received_again(
    launch: Launch, connect: Connect, new_socket: NewSocket, endpoint: str
) -> None:
    """As from a proxy on the bus that sends all that it gets to everybody."""
    gateway = await launch(settings=settings(endpoint))
    client = await connect("chat", to=gateway)
    socket, back = new_socket(zmq.SUB), new_socket(zmq.XPUB)
    socket.subscribe("")
    socket.connect(endpoint)
    back.connect(gateway.bus_in)
    back.recv()
    await subscribed(client, "chat")
    back.send_multipart(event(socket, probe=True))
    back.send_multipart([b"chat", b'"from elsewhere"'])
    await eventually(lambda: "from elsewhere" in [one["data"] for one in client.channel("chat").events])

    own_data = [one["data"] for one in client.channel("chat").events if one["data"] == "probe"]
    answer = await client.ask(publish("chat", "last"), "published")
    assert len(own_data) + 2 == answer["position"]["offset"]
    assert [] == (await gateway.get_json("/api/v1/websocket/publishers"))["topics"]


async def test_a_process_answers_a_client_on_the_bus(
    launch: Launch, connect: Connect, publisher: NewPublisher, new_socket: NewSocket, endpoint: str
) -> None:
    await answered(await launch(settings=settings(endpoint)), connect, publisher, new_socket, endpoint)


async def test_with_workers_a_process_answers_a_client_on_the_bus(
    launch: Launch, connect: Connect, publisher: NewPublisher, new_socket: NewSocket, endpoint: str
) -> None:
    gateway = await launch(settings=settings(endpoint), flags=["--workers", "2"])
    await answered(gateway, connect, publisher, new_socket, endpoint)


async def answered(
    gateway: Gateway, connect: Connect, publisher: NewPublisher, new_socket: NewSocket, endpoint: str
) -> None:
    bus = await publisher(gateway.bus_in)
    client, other = await connect(to=gateway, user_id="ada"), await connect(to=gateway)
    socket = new_socket(zmq.SUB)
    socket.subscribe("core")
    socket.connect(endpoint)
    await subscribed(client, "core")
    await client.ask(publish("core", "ping", request_id="r1", mandatory=True), "published")
    _, payload, _ = event(socket)
    reply_to = json.loads(payload)["reply_to"]
    for personal in (
        {"event_type": "reply", "data": "pong", **reply_to},
        {"event_type": "note", "data": "to ada", "user_id": "ada"},
        {"event_type": "note", "data": "lost", "client_id": "nobody"},
        {"event_type": "note", "data": "no address"},
    ):
        bus.send_frames(b"$personal", json.dumps(personal).encode())
    replies = await client.events("$personal", 2)

    async def refused() -> Any:
        return (await gateway.rejections())["rejections"]

    [rejection] = await eventually(refused)
    assert {"client_id": client.client_id, "request_id": "r1"} == reply_to
    assert ["pong", "to ada"] == [one["data"] for one in replies]
    assert "r1" == replies[0]["request_id"]
    assert [] == other.channel("$personal").events
    assert "either `client_id` or `user_id`" in rejection["detail"]
