"""The whole protocol in MessagePack: `?encoding=msgpack`, or the subprotocol `neurograph.msgpack`."""

from __future__ import annotations

from base64 import b64encode

import aiohttp
import pytest
from neurograph_client import Client, Event
from neurograph_client.encoding import Encoding

from tests.conftest import Connect, Launch, NewPublisher
from tests.support import ws
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.tokens import SETTINGS, token
from tests.support.workers import elsewhere, holder


BYTES = bytes(range(256)) * 8


@pytest.fixture
async def bus(packing: Gateway, publisher: NewPublisher) -> Publisher:
    return await publisher(packing.bus_in)


async def test_both_encodings_say_the_same_live_and_from_the_log(
    packing: Gateway, bus: Publisher, connect: Connect, channel: str
) -> None:
    """With a filter or without, compressed or not."""
    conditions = {"filter": "data.n != 7"}
    plain = await connect(channel, to=packing, **conditions)
    packed = await connect(channel, to=packing, encoding="msgpack", **conditions)
    small = await connect(channel, to=packing, encoding="msgpack", compress=15, **conditions)
    for n in range(1, 41):
        bus.send(channel, {"n": n, "half": n / 2, "pad": "all work and no play " * 100 * (n % 2)})
    late = await connect(channel, to=packing, encoding="msgpack", last=40, **conditions)
    for client in (plain, packed, small, late):
        await client.events(channel, 39)

    assert small.compressed
    for client in (packed, small, late):
        assert client.channel(channel).events == plain.channel(channel).events


async def test_bytes_come_as_they_are_whether_asked_for_as_binary_messages_or_not(
    packing: Gateway, bus: Publisher, connect: Connect, channel: str
) -> None:
    plain = await connect(channel, to=packing)
    clients = [await connect(channel, to=packing, encoding="msgpack", compress=15) for _ in range(2)]
    await clients[1].subscribe(channel, binary=True)
    bus.send_payload(channel, b'{"data_base64":"%b","content_type":"x/y"}' % b64encode(BYTES))
    [expected] = await plain.events(channel, 1)

    for client in clients:
        [event] = await client.events(channel, 1)
        assert event["data"] == BYTES
        del event["data"]
        assert event == {key: value for key, value in expected.items() if key != "data_base64"}


async def test_requests_and_errors_are_messagepack(packing: Gateway, connect: Connect, channel: str) -> None:
    client = await connect(to=packing, encoding="msgpack")
    subscribed = await client.subscribe(channel, id=1)
    pong = await client.ask({"type": "ping", "id": 2}, "pong")
    await client.send_bytes(b"\xc1")
    broken = await client.expect("error")
    unknown = await client.refused({"type": "subscribe", "channels": [b"\xff"], "id": 3})

    assert (subscribed["id"], pong["id"], unknown["id"]) == (1, 2, 3)
    assert (broken["code"], unknown["code"]) == ("invalid_msgpack", "invalid_field")


async def test_a_close_is_announced_in_messagepack(packing: Gateway, connect: Connect) -> None:
    client = await connect(to=packing, encoding="msgpack")
    other = await connect(to=packing, session=client.session)

    assert await client.closed() == 4500
    assert client.closing is not None
    assert client.closing["reason"] == "session_taken_over"
    assert other.hello["resumed"]


async def test_an_unknown_encoding_is_named(packing: Gateway, connect: Connect) -> None:
    client = await connect(to=packing, encoding="cbor")

    assert "encoding: 'cbor' is not one of json, msgpack" in (await client.expect("error"))["message"]


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["neurograph.msgpack", "neurograph"], "neurograph.msgpack"),
        (["neurograph", "neurograph.msgpack"], "neurograph"),
        (["neurograph.msgpack"], "neurograph.msgpack"),
    ],
)
async def test_the_subprotocol_that_the_client_prefers_decides(
    packing: Gateway, connect: Connect, offered: list[str], chosen: str
) -> None:
    client = await connect(to=packing, protocols=offered)

    assert client.protocol == chosen
    await client.ping()


async def test_a_token_goes_beside_the_subprotocol(launch: Launch) -> None:
    gateway = await launch(settings=SETTINGS)
    offered = ["neurograph.msgpack", "neurograph", f"bearer.{token('viewer')}"]
    client = await ws.connect(gateway.url, protocols=offered)

    assert client.protocol == "neurograph.msgpack"
    assert client.hello["roles"] == ["viewer"]
    await client.close()

    refused = [*offered[:2], "bearer.no-token"]
    async with aiohttp.ClientSession() as http, http.ws_connect(f"{gateway.url}/ws", protocols=refused) as socket:
        first = await socket.receive()
        assert first.type is aiohttp.WSMsgType.BINARY


async def test_clients_of_workers_publish_and_get_bytes(launch: Launch, connect: Connect, channel: str) -> None:
    gateway = await launch(flags=["--workers", "2"])
    plain = await connect(channel, to=gateway)
    packed = await elsewhere(gateway, connect, holder(gateway, plain), channel, encoding="msgpack")
    published = await packed.ask(
        {"type": "publish", "channel": channel, "event": {"event_type": "x", "data": BYTES}, "id": 1}, "published"
    )
    [event] = await plain.events(channel, 1)
    [same] = await packed.events(channel, 1)

    assert event["data_base64"] == b64encode(BYTES).decode()
    assert same["data"] == BYTES
    assert published["position"]["offset"] == event["offset"] == same["offset"]


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_the_client_publishes_bytes_in_either_encoding(
    packing: Gateway, channel: str, encoding: Encoding
) -> None:
    async with Client(packing.url, encoding=encoding) as client:
        subscription = client.subscribe(channel)
        await subscription.confirmed()
        await client.publish(channel, BYTES)
        await client.publish(channel, BYTES * 100, "image")  # too large for a message: over HTTP
        items = [await anext(subscription) for _ in range(2)]

    assert [one.data for one in items if isinstance(one, Event)] == [BYTES, BYTES * 100]
