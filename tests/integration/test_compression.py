"""permessage-deflate (RFC 7692): the same messages for all, each compressed once."""

from __future__ import annotations

import json
import zlib

import psutil
import pytest
import websockets

from tests.conftest import Connect, Launch, NewPublisher, OpenRaw
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.raw import TEXT, RawPeer


MB = 1024 * 1024
PAD = "all work and no play makes jack a dull boy " * 40


@pytest.fixture
async def bus(packing: Gateway, publisher: NewPublisher) -> Publisher:
    return await publisher(packing.bus_in)


def deflated(data: bytes, *, level: int = 6) -> bytes:
    packer = zlib.compressobj(level, wbits=-15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


async def open_packing(raw: OpenRaw, gateway: Gateway) -> RawPeer:
    peer = await raw(to=gateway, upgrade=False)
    status, headers = await peer.upgrade(Sec_WebSocket_Extensions="permessage-deflate")
    assert status == 101
    assert headers["sec-websocket-extensions"].startswith("permessage-deflate;")
    return peer


async def test_compressed_and_plain_clients_get_the_same(
    packing: Gateway, bus: Publisher, connect: Connect, channel: str
) -> None:
    """Small messages and large ones, live and from the log, whatever window a client has."""
    plain = await connect(channel, to=packing)
    clients = [await connect(channel, to=packing, compress=bits) for bits in (15, 10)]
    assert all(client.compressed for client in clients)
    for n in range(1, 51):
        bus.send(channel, {"n": n, "pad": PAD * (n % 2)})
    late = await connect(channel, to=packing, compress=15, last=50)
    for client in (plain, late, *clients):
        await client.events(channel, 50)
        assert client.channel(channel).events == plain.channel(channel).events

    assert plain.channel(channel).numbers == list(range(1, 51))


async def test_an_event_is_compressed_once_for_all(
    packing: Gateway, bus: Publisher, connect: Connect, channel: str
) -> None:
    """However many clients take it so, and whatever else they follow."""
    clients = [await connect(channel, to=packing, compress=15) for _ in range(20)]
    clients += [await connect(channel, f"{channel}.b", to=packing, compress=15) for _ in range(20)]
    before = await packing.metric("neurograph_gateway_messages_compressed_total")
    saved = await packing.metric("neurograph_gateway_compression_saved_bytes_total")
    for n in range(1, 11):
        bus.send(channel, {"n": n, "pad": PAD})
    for client in clients:
        await client.events(channel, 10)

    assert await packing.metric("neurograph_gateway_messages_compressed_total") - before == 10
    assert await packing.metric("neurograph_gateway_compression_saved_bytes_total") - saved > 5 * len(PAD)


async def test_another_library_understands_it(packing: Gateway, bus: Publisher, channel: str) -> None:
    """It offers compression by itself, and compresses what it sends."""
    address = packing.url.replace("http", "ws") + "/ws"
    async with websockets.connect(address, compression="deflate") as client:
        assert client.response is not None
        assert "permessage-deflate" in client.response.headers["Sec-WebSocket-Extensions"]
        filling = [f"{channel}.{n}" for n in range(100)]
        await client.send(json.dumps({"type": "subscribe", "channels": [channel, *filling]}))
        while json.loads(await client.recv())["type"] != "subscribed":
            pass
        bus.send(channel, {"pad": PAD})
        event = json.loads(await client.recv())

    assert event["data"] == {"pad": PAD}


async def test_a_client_that_resumes_gets_compressed_messages(
    packing: Gateway, bus: Publisher, connect: Connect, channel: str
) -> None:
    one = await connect(channel, to=packing, compress=15)
    bus.send_numbered(channel, range(5))
    await one.events(channel, 5)
    position = (await one.ping())["positions"][channel]
    await one.lose()
    for n in range(5, 10):
        bus.send(channel, {"n": n, "pad": PAD})
    again = await connect(to=packing, compress=15, session=one.session, since={channel: position})
    await again.events(channel, 5)

    assert again.hello["resumed"] is True
    assert again.channel(channel).numbers == [5, 6, 7, 8, 9]


@pytest.mark.parametrize(
    ("offer", "agreed"),
    [
        ("permessage-deflate; client_max_window_bits", "server_no_context_takeover"),
        ("permessage-deflate; server_max_window_bits=9", "server_max_window_bits=9"),
        ("permessage-deflate; server_max_window_bits=8", None),
        ("permessage-deflate; nonsense", None),
        ("x-webkit-deflate-frame", None),
    ],
)
async def test_only_what_can_be_kept_is_agreed_on(
    packing: Gateway, raw: OpenRaw, offer: str, agreed: str | None
) -> None:
    peer = await raw(to=packing, upgrade=False)
    status, headers = await peer.upgrade(Sec_WebSocket_Extensions=offer)
    await peer.expect("connected")
    answer = headers.get("sec-websocket-extensions")

    assert status == 101
    assert answer is None if agreed is None else agreed in (answer or "")


@pytest.mark.long
async def test_messages_that_would_expand_to_64_mib_are_not_expanded(
    packing: Gateway, raw: OpenRaw, connect: Connect
) -> None:
    """A thousand messages that would unpack to 64 MiB each: none does, and nobody else notices."""
    witness = await connect(to=packing)
    bomb = deflated(bytes(64 * MB), level=9)
    assert len(bomb) < 65_536
    before = psutil.Process(packing.process.pid).memory_info().rss
    for _ in range(50):
        peers = [await open_packing(raw, packing) for _ in range(20)]
        for peer in peers:
            await peer.send_frame(TEXT, bomb, reserved=4)
        for peer in peers:
            assert (await peer.read_ending()).code == 1009
            peer.close()
        await witness.ping()

    assert psutil.Process(packing.process.pid).memory_info().rss - before < 32 * MB


async def test_what_is_not_compressed_as_it_should_be_ends_with_its_code(packing: Gateway, raw: OpenRaw) -> None:
    for code, data in [(1007, b"\xff\xff\xff\xff"), (1007, deflated(b"\xff\xfe"))]:
        peer = await open_packing(raw, packing)
        await peer.send_frame(TEXT, data, reserved=4)

        assert (await peer.read_ending()).code == code


async def test_it_is_off_unless_it_is_switched_on(launch: Launch, connect: Connect) -> None:
    gateway = await launch()
    client = await connect(to=gateway, compress=15)

    assert not client.compressed
    assert await client.ping()
