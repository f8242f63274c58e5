"""Limits of the bus that many publishers and subscribers press on at the same moment, beside a client that notices nothing."""

from __future__ import annotations

import asyncio
import json
import secrets
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import zmq

from tests.conftest import Connect, Launch, NewPublisher
from tests.support.addresses import free_tcp
from tests.support.publisher import Publisher, envelope
from tests.support.waiting import eventually
from tests.support.witness import undisturbed
from tests.support.ws import Client


REST = "/api/v1/websocket"
REQUESTS_PER_PUBLISHER, PUBLISHERS_ASKED = 8, 64
PREFIXES, PREFIX_BYTES = 10_000, 64 * 1024
SOURCES, TOPICS = 64, 10_000
MANY = 20

NewSubscriber = Callable[..., "zmq.Socket[bytes]"]


@pytest.fixture
def subscriber() -> Iterator[NewSubscriber]:
    made: list[zmq.Socket[bytes]] = []

    def make(endpoint: str, *prefixes: str) -> zmq.Socket[bytes]:
        made.append(zmq.Context.instance().socket(zmq.SUB))
        for prefix in prefixes:
            made[-1].subscribe(prefix)
        made[-1].connect(endpoint)
        return made[-1]

    yield make
    for one in made:
        one.close(linger=0)


class Replays:
    """Publishers on one connection that each offer replay at an endpoint of their own."""

    def __init__(self, bus: Publisher, *, count: int) -> None:
        self.bus = bus
        self.sockets: dict[zmq.Socket[bytes], int] = {}
        self.most_asked = 0
        """The most publishers that had requests at the same moment."""
        self.most_requests: Counter[int] = Counter()
        """The most requests that each publisher had at the same moment."""
        for _ in range(count):
            socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
            socket.bind("tcp://127.0.0.1:*")
            self.sockets[socket] = secrets.randbits(63)

    def beat(self) -> None:
        for socket, incarnation in self.sockets.items():
            replay = socket.getsockopt_string(zmq.LAST_ENDPOINT)
            text = {"incarnation": f"{incarnation:016x}", "interval": 60, "replay": replay, "sequences": {}}
            self.bus.send_frames(b"$heartbeat", json.dumps(text).encode())

    def send(self, number: int, *, topics: int) -> None:
        """Send a message with this number on each topic of each publisher."""
        for at, incarnation in enumerate(self.sockets.values()):
            for topic in range(topics):
                self.bus.send_frames(f"lost.p{at}.t{topic}".encode(), b"%d" % number, envelope(incarnation, number))

    async def answer(self) -> None:
        """Answer the requests that are there, all at once, again and again."""
        while True:
            found = [(one, one.recv_multipart()) for one in self.sockets for _ in iter(partial(one.poll, 0), 0)]
            requests = Counter(self.sockets[one] for one, _ in found)
            self.most_asked = max(self.most_asked, len(requests))
            self.most_requests |= requests
            for socket, (peer, magic, request, _topic, wanted) in found:
                incarnation = self.sockets[socket]
                first, last = struct.unpack(">QQ", wanted)
                pairs = [part for n in range(first, last + 1) for part in (b"%d" % n, envelope(incarnation, n))]
                socket.send_multipart([peer, magic, request, incarnation.to_bytes(8), *pairs])
            await asyncio.sleep(0.005)

    def close(self) -> None:
        for socket in self.sockets:
            socket.close(linger=0)


async def test_replay_requests_to_many_publishers_at_once_wait_and_lose_nothing(
    launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    """Of more publishers than are asked at once each loses one message on more topics than are asked for at once."""
    gateway = await launch()
    bus = await publisher(gateway.bus_in)
    client = await connect("lost.>", to=gateway)
    await client.expect("subscribed")
    count, topics = PUBLISHERS_ASKED + 16, REQUESTS_PER_PUBLISHER + 2
    replays = Replays(bus, count=count)
    replays.beat()
    replays.send(1, topics=topics)
    answering = asyncio.create_task(replays.answer())
    try:
        async with undisturbed(gateway):
            replays.send(3, topics=topics)
            names = [f"lost.p{at}.t{topic}" for at in range(count) for topic in range(topics)]
            for name in names:
                await client.events(name, 3)
    finally:
        answering.cancel()
        replays.close()

    assert {name: [1, 2, 3] for name in names} == {
        name: [event["data"] for event in client.channel(name).events] for name in names
    }
    assert await gateway.metric("neurograph_gateway_bus_messages_lost_total") == 0
    assert replays.most_asked <= PUBLISHERS_ASKED
    assert max(replays.most_requests.values()) <= REQUESTS_PER_PUBLISHER


async def test_more_prefixes_at_once_than_are_counted_get_their_events_all_the_same(
    launch: Launch, connect: Connect, subscriber: NewSubscriber
) -> None:
    """One that is too long costs its subscriber the connection, and the others nothing."""
    endpoint = free_tcp()
    gateway = await launch(
        settings={
            "bus.publish": endpoint,
            "bus.publish_channels": ">",
            "clients.publishes_burst": 1000,
            "clients.messages_burst": 1000,
        }
    )
    client = await connect(to=gateway)
    each = PREFIXES * 5 // 4 // MANY
    async with undisturbed(gateway):
        subscriber(endpoint, "x" * 2 * PREFIX_BYTES)
        crowd = [subscriber(endpoint, "ready", *(f"c{n}.p{m}" for m in range(each))) for n in range(MANY)]
        for one in crowd:
            await eventually(partial(reaches, client, one, "ready"), every=0.05)
        before = gateway.rss()
        answers = Counter[bool]()
        for n, one in enumerate(crowd):
            for m in range(0, each, 100):
                answers[(await client.ask(publish(f"c{n}.p{m}"), "published"))["bus"]] += 1
                await eventually(partial(came, one, f"c{n}.p{m}"))

    assert answers[True]
    assert answers[False]
    assert gateway.rss() - before < 16 * 1024 * 1024


def publish(channel: str) -> dict[str, object]:
    return {"type": "publish", "channel": channel, "event": {"event_type": "t", "data": 1}}


async def reaches(client: Client, socket: zmq.Socket[bytes], channel: str) -> bool:
    """Publish, and return whether the event has come."""
    await client.ask(publish(channel), "published")
    return came(socket, channel)


def came(socket: zmq.Socket[bytes], channel: str) -> bool:
    """Take what has come; return whether an event on the channel is among it."""
    topics = [socket.recv_multipart()[0] for _ in iter(partial(socket.poll, 0), 0)]
    return channel.encode() in topics


async def test_more_sources_of_a_channel_at_once_than_are_remembered_lose_nothing_live(
    launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    """All live, each with its own numbers. A position in one that is forgotten, or that may lack what one has sent, is not
    recovered, and a gap says so."""
    gateway = await launch()
    client = await connect("many", to=gateway)
    await client.expect("subscribed")
    bus = await publisher(gateway.bus_in)
    crowd = [secrets.randbits(63) for _ in range(2 * SOURCES)]
    async with undisturbed(gateway):
        for one in crowd:
            beat = {"incarnation": f"{one:016x}", "interval": 60, "sequences": {}}
            bus.send_frames(b"$heartbeat", json.dumps(beat).encode())
        for sequence in (1, 2, 3):
            for number, one in enumerate(crowd):
                event = {"n": number + len(crowd) * sequence}
                bus.send_frames(b"many", json.dumps(event).encode(), envelope(one, sequence))
        await client.events("many", 3 * len(crowd))
    position = (await gateway.get_json(f"{REST}/channels/many"))["position"]
    later = await connect(to=gateway)
    subscribed = await later.subscribe("many", since={"epoch": f"{crowd[0]:016x}", "offset": 3})
    await later.ping()
    partly = await connect(to=gateway)
    doubtful = await partly.subscribe("many", since={"epoch": f"{crowd[-1]:016x}", "offset": 3})
    await partly.ping()
    [gap] = [gap for gap in partly.channel("many").gaps if gap["reason"] == "epoch"]

    assert not client.channel("many").gaps
    assert client.channel("many").numbers == list(range(len(crowd), 4 * len(crowd)))
    assert len(position["others"]) == SOURCES - 1
    assert subscribed["recovered"] == {"many": False}
    assert [gap["reason"] for gap in later.channel("many").gaps] == ["epoch"]
    assert doubtful["recovered"] == {"many": False}
    assert gap["epoch"] in {f"{one:016x}" for one in crowd} - {position["epoch"], *position["others"]}


async def test_heartbeats_at_once_with_more_topics_than_there_may_be_are_rejected_alone(
    launch: Launch, publisher: NewPublisher
) -> None:
    most = 40
    gateway = await launch(settings={"ingest.channels_max": most, "ingest.streams_max": 60})
    crowd = [await publisher(gateway.bus_in) for _ in range(MANY)]
    async with undisturbed(gateway):
        before = gateway.rss()
        for number, one in enumerate(crowd):
            topics = TOPICS + number % 2
            beat = {"incarnation": one.epoch, "interval": 60, "sequences": {f"t{n}": 1 for n in range(topics)}}
            one.send_frames(b"$heartbeat", json.dumps(beat).encode())
        for one in crowd[::2]:
            await eventually(partial(gateway.has_heard, one.incarnation))

        async def rejected() -> bool:
            return bool((await gateway.rejections())["counts"].get("bad_heartbeat", 0) == MANY // 2)

        await eventually(rejected)
    found = (await gateway.get_json(f"{REST}/channels"))["channels"]

    assert len([one for one in found if not one["standard"]]) <= most
    assert not any([await gateway.has_heard(one.incarnation) for one in crowd[1::2]])
    assert gateway.rss() - before < 64 * 1024 * 1024
