"""Limits of the bus that many publishers and subscribers press on at the same moment, beside a client that notices nothing."""

from __future__ import annotations

import asyncio
import json
import secrets
import struct
from collections import Counter
from functools import partial

import zmq

from tests.conftest import Connect, Launch, NewPublisher
from tests.support.publisher import Publisher, envelope
from tests.support.witness import undisturbed


REST = "/api/v1/websocket"
REQUESTS_PER_PUBLISHER, PUBLISHERS_ASKED = 8, 64
PREFIXES, PREFIX_BYTES = 10_000, 64 * 1024
SOURCES, TOPICS = 64, 10_000


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
    witness, bus = await connect("beside", to=gateway), await publisher(gateway.bus_in)
    client = await connect("lost.>", to=gateway)
    await client.expect("subscribed")
    count, topics = PUBLISHERS_ASKED + 16, REQUESTS_PER_PUBLISHER + 2
    replays = Replays(bus, count=count)
    replays.beat()
    replays.send(1, topics=topics)
    answering = asyncio.create_task(replays.answer())
    try:
        async with undisturbed(await publisher(gateway.bus_in), witness, "beside"):
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
