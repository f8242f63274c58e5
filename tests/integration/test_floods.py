"""Floods of connections, requests and messages: memory stays within limits, and other clients get everything in time.

With TEST_FULL=1 each flood has its full size.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import aiohttp
import psutil
import pytest

from tests.conftest import Connect, Launch, NewPublisher, OpenRaw
from tests.support.addresses import free_tcp
from tests.support.gateway import Gateway
from tests.support.issuer import es256
from tests.support.keyserver import KeyServer, hangs, has
from tests.support.raw import CONTINUATION, TEXT, RawPeer, encode_frame
from tests.support.sizes import full
from tests.support.tokens import bearer
from tests.support.waiting import DEADLINE_SECONDS, eventually, scaled
from tests.support.witness import undisturbed


MB = 1024 * 1024


def _memory(gateway: Gateway) -> int:
    return psutil.Process(gateway.process.pid).memory_info().rss


@pytest.fixture(scope="module")
def flooded() -> Iterator[Gateway]:
    """One gateway for all floods that need no settings of their own."""
    with Gateway() as gateway:
        yield gateway


# -- sockets --------------------------------------------------------------------------------------


async def test_handshakes_that_come_too_slowly_are_closed_and_delay_nobody(launch: Launch, connect: Connect) -> None:
    """A byte now and then does not extend the deadline; meanwhile others connect and get their events."""
    count, seconds = full(2000, 300), full(10, 2)
    gateway = await launch(settings={"clients.handshake_timeout_seconds": seconds})

    async def dribble(peer: RawPeer) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            await peer.send_bytes(b"GET /ws HTTP/1.1\r\nHost: localhost\r\n")
            while True:
                await peer.send_bytes(b"X")
                await asyncio.sleep(0.5)

    async with undisturbed(gateway, "a"), asyncio.timeout(scaled(DEADLINE_SECONDS)):
        peers = [RawPeer(gateway.port) for _ in range(count)]
        dribbling = [asyncio.create_task(dribble(peer)) for peer in peers]
        try:
            for _ in range(10):
                other = await connect("a", to=gateway)
                await other.until("event", channel="a")
            await asyncio.gather(*(peer.read_to_end() for peer in peers))
        finally:
            for task in dribbling:
                task.cancel()
            await asyncio.gather(*dribbling, return_exceptions=True)
            for peer in peers:
                peer.close()

    refused = await gateway.metric("neurograph_gateway_connections_refused_total", reason="handshake")
    assert refused == count


async def test_one_address_takes_no_more_places_than_it_may(launch: Launch) -> None:
    """Further ones from there are closed with 1013, and all other addresses can connect."""
    count, most = full(1000, 200), 50
    gateway = await launch(settings={"trusted_proxies": "127.0.0.1", "clients.connections_per_address_max": most})
    peers = [RawPeer(gateway.port) for _ in range(count)]
    try:
        await asyncio.gather(*(peer.upgrade(X_Forwarded_For="203.0.113.7") for peer in peers))
        first = await asyncio.gather(*(peer.read_message() for peer in peers))
        other = RawPeer(gateway.port)
        peers.append(other)
        await other.upgrade(X_Forwarded_For="203.0.113.8")
        welcome = await other.read_message()
    finally:
        for peer in peers:
            peer.close()

    assert [m["type"] for m in first].count("connected") == most
    assert [m.get("code") for m in first].count(1013) == count - most
    assert welcome["type"] == "connected"


async def test_with_all_places_taken_the_gateway_still_answers(launch: Launch, raw: OpenRaw, connect: Connect) -> None:
    """Sockets that wait for nothing make room for one more: health, metrics, and clients."""
    one = ["--workers", "1"]  # each process has places of its own
    gateway = await launch(flags=one, settings={"clients.connections_max": 20})
    for _ in range(19):
        await raw(to=gateway)
    idle = [await raw(to=gateway, upgrade=False) for _ in range(400)]
    for path in ("/healthz", "/metrics", "/api/v1/websocket/status"):
        assert (await gateway.request("GET", path)).status == 200
    client = await connect(to=gateway)
    full_now = await gateway.request("GET", "/readyz")
    one_more = await raw(to=gateway, upgrade=False)
    assert (await one_more.upgrade())[0] == 101

    assert full_now.status == 503
    assert (await one_more.read_ending()).code == 1013
    await client.ping()
    assert (await gateway.status())["connections"] == 20
    await idle[0].read_to_end()  # it has waited longest
    assert await gateway.metric("neurograph_gateway_connections_refused_total", reason="sockets") > 0


async def test_a_process_without_files_lets_them_wait_and_recovers(launch: Launch) -> None:
    """Connected clients notice nothing; others are accepted once there are free descriptors."""
    gateway = await launch()
    process = psutil.Process(gateway.process.pid)
    limit = process.rlimit(psutil.RLIMIT_NOFILE)
    async with undisturbed(gateway):
        highest = max(int(name) for name in os.listdir(f"/proc/{gateway.process.pid}/fd"))
        process.rlimit(psutil.RLIMIT_NOFILE, (highest + 1, limit[1]))
        peers = [RawPeer(gateway.port) for _ in range(50)]
        await gateway.logged("cannot_accept")
        process.rlimit(psutil.RLIMIT_NOFILE, limit)
        for peer in peers:
            assert (await peer.upgrade())[0] == 101
            peer.close()

    assert await gateway.metric("neurograph_gateway_connections_refused_total", reason="files") > 0


async def test_connections_to_the_bus_that_say_nothing_take_no_files_from_others(
    launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    """All at once: health answers, publishers are heard and new ones come in, and there are no more files than stated."""
    most, count = 50, 400
    gateway = await launch(bind=free_tcp(), settings={"bus.connections_max": most})
    process = psutil.Process(gateway.process.pid)
    port = int(gateway.bus_in.rpartition(":")[2])
    async with undisturbed(gateway):
        before = process.num_fds()
        with ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            assert (await gateway.request("GET", "/healthz")).status == 200
            late = await publisher(gateway.bus_in)
            other = await connect("b", to=gateway)
            late.send("b", {"n": 1})
            await other.until("event", channel="b")
            await eventually(lambda: process.num_fds() <= before + most + 10)  # those of the two newcomers, and ours
    failed = await gateway.metric("neurograph_gateway_bus_handshakes_failed_total", endpoint=gateway.bus_in)

    assert failed >= count - most
    changes = await gateway.logged("bus_endpoint_changed")
    assert any("bus.connections_max" in change.get("problem", "") for change in changes)


async def test_answers_that_nobody_reads_do_not_pile_up(launch: Launch) -> None:
    """Large ones, asked for again and again: those that wait longest are given up."""
    gateway = await launch(settings={"channels.big.bytes_max": 8 * MB})
    for _ in range(8):
        await gateway.broadcast({"channel": "big", "event": "x" * 500_000})
    before = _memory(gateway)
    peers = [RawPeer(gateway.port, receive_buffer=4096) for _ in range(full(200, 60))]
    try:
        for peer in peers:
            await peer.send_bytes(b"GET /api/v1/websocket/channels/big/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await gateway.request("GET", "/healthz")).status == 200
        assert _memory(gateway) - before < 96 * MB
    finally:
        for peer in peers:
            peer.close()


async def test_an_answer_that_nobody_reads_ends_in_time(launch: Launch) -> None:
    """Also if the peer goes on asking."""
    gateway = await launch(settings={"clients.stall_timeout_seconds": 0.5})
    await gateway.broadcast({"channel": "big", "event": "x" * 1_000_000})
    peer = RawPeer(gateway.port, receive_buffer=4096)
    ask = b"GET /api/v1/websocket/channels/big/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    try:
        for _ in range(5):
            await peer.send_bytes(ask)

        async def cut() -> bool:
            try:
                await peer.send_bytes(ask)
            except (ConnectionResetError, BrokenPipeError):
                return True
            return False

        await eventually(cut, every=0.1)
    finally:
        peer.close()


# -- requests -------------------------------------------------------------------------------------

TARGET = b"/api/v1/websocket/broadcast?channel=honest"
POST = b"POST " + TARGET + b" HTTP/1.1\r\nHost: localhost\r\n"
HIDDEN = b'POST /api/v1/websocket/broadcast?channel=hidden HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n"x"'
SIZE = b"%d" % len(HIDDEN)
TE = POST + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n" + HIDDEN
WS = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)

SMUGGLED = {
    "length and chunked": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + END,
    "chunked and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + END,
    "length 0 and chunked": POST + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n" + END,
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: %b\r\n\r\n" % SIZE + HIDDEN,
    "the same twice": POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n" + HIDDEN,
    "list of lengths": POST + b"Content-Length: 0, %b\r\n\r\n" % SIZE + HIDDEN,
    "length +0": POST + b"Content-Length: +0\r\n\r\n" + HIDDEN,
    "length -1": POST + b"Content-Length: -1\r\n\r\n" + HIDDEN,
    "length 0x0": POST + b"Content-Length: 0x0\r\n\r\n" + HIDDEN,
    "length 0_0": POST + b"Content-Length: 0_0\r\n\r\n" + HIDDEN,
    "length 0 7": POST + b"Content-Length: 0 7\r\n\r\n" + HIDDEN,
    "length of nothing": POST + b"Content-Length:\r\n\r\n" + HIDDEN,
    "length of 2^64": POST + b"Content-Length: 18446744073709551616\r\n\r\n" + HIDDEN,
    "length in quotes": POST + b'Content-Length: "0"\r\n\r\n' + HIDDEN,
    "length in other digits": POST + "Content-Length: \u0660\r\n\r\n".encode() + HIDDEN,
    "space before the colon": POST + b"Content-Length : 0\r\n\r\n" + HIDDEN,
    "space before chunked's colon": POST + b"Transfer-Encoding : chunked\r\n\r\n" + END,
    "tab before the colon": POST + b"Transfer-Encoding\t: chunked\r\n\r\n" + END,
    "space before the name": POST + b" Transfer-Encoding: chunked\r\n\r\n" + END,
    "folded": POST + b"X: a\r\n Transfer-Encoding: chunked\r\n\r\n" + END,
    "folded value": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + END,
    "folded by a tab": POST + b"Transfer-Encoding:\r\n\tchunked\r\n\r\n" + END,
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + END,
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n" + END,
    "chunked, identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + END,
    "gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + END,
    "chunked twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + END,
    "two codings": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + END,
    "chunked in quotes": POST + b'Transfer-Encoding: "chunked"\r\n\r\n' + END,
    "chunked;q=1": POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n" + END,
    "vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + END,
    "no coding": POST + b"Transfer-Encoding:\r\n\r\n" + END,
    "chunked in HTTP/1.0": TE.replace(b"1.1\r\n", b"1.0\r\nConnection: keep-alive\r\n") + END,
    "bare LF": POST.replace(b"\r\n", b"\n") + b"Content-Length: 0\n\n" + HIDDEN,
    "bare LF in a header": POST + b"X: a\nTransfer-Encoding: chunked\r\n\r\n" + END,
    "bare CR in a header": POST + b"X: a\rTransfer-Encoding: chunked\r\n\r\n" + END,
    "bare LF at the end": POST + b"Content-Length: 0\r\n\n" + HIDDEN,
    "CR CR LF": POST + b"Content-Length: 0\r\r\n\r\n" + HIDDEN,
    "NUL in a name": POST + b"Content-Le\x00ngth: 0\r\n\r\n" + HIDDEN,
    "a header without a colon": POST + b"Content-Length\r\n\r\n" + HIDDEN,
    "a header without a name": POST + b": 0\r\n\r\n" + HIDDEN,
    "two hosts": POST + b"Host: localhost\r\nContent-Length: 0\r\n\r\n" + HIDDEN,
    "LF in a chunk's extension": TE + b"0;\n\r\n" + HIDDEN,
    "LF in another": TE + b'3;a\nb\r\n"a"\r\n' + END,
    "chunk of 0x0": TE + b"0x0\r\n\r\n" + HIDDEN,
    "chunk of 0 and a space": TE + b"0 \r\n\r\n" + HIDDEN,
    "chunk of -1": TE + b"-1\r\n\r\n" + HIDDEN,
    "chunk of +0": TE + b"+0\r\n\r\n" + HIDDEN,
    "chunk of 2^64": TE + b"10000000000000000\r\n\r\n" + HIDDEN,
    "chunk without a size": TE + b"\r\n\r\n" + HIDDEN,
    "chunk ended by LF": TE + b"0\n\n" + HIDDEN,
    "chunk ended by CR": TE + b"0\r\r" + HIDDEN,
    "chunk that is too long": TE + b'3\r\n"a"xx\r\n' + END,
    "length in a trailer": TE + b"0\r\nContent-Length: 5\r\n\r\n" + HIDDEN,
    "space in a trailer": TE + b"0\r\n X: y\r\n\r\n" + HIDDEN,
    "space before the method": b" " + POST + b"Content-Length: 0\r\n\r\n" + HIDDEN,
    "tab after the method": POST.replace(b" ", b"\t", 1) + b"Content-Length: 0\r\n\r\n" + HIDDEN,
    "space in the address": POST.replace(b"hon", b"h n") + b"Content-Length: 0\r\n\r\n" + HIDDEN,
    "post": POST.replace(b"POST", b"post") + b"Content-Length: 0\r\n\r\n" + HIDDEN,
    "POSTPOST": POST.replace(b"POST", b"POSTPOST") + b"Content-Length: 0\r\n\r\n" + HIDDEN,
    "no version": POST.replace(b" HTTP/1.1", b"") + b"Content-Length: 0\r\n\r\n" + HIDDEN,
    "HTTP/0.9": POST.replace(b"1.1", b"0.9") + b"Content-Length: 0\r\n\r\n" + HIDDEN,
    "HTTP/2.0": POST.replace(b"1.1", b"2.0") + b"Content-Length: 0\r\n\r\n" + HIDDEN,
    "HTTP/1.1x": POST.replace(b"1.1", b"1.1x") + b"Content-Length: 0\r\n\r\n" + HIDDEN,
    "http/1.1": POST.replace(b"HTTP", b"http") + b"Content-Length: 0\r\n\r\n" + HIDDEN,
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
    "CONNECT": b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n" + HIDDEN,
    "upgrade with a body": WS + b"Sec-WebSocket-Version: 13\r\nContent-Length: %b\r\n\r\n" % SIZE + HIDDEN,
    "upgrade with chunks": WS + b"Sec-WebSocket-Version: 13\r\nTransfer-Encoding: chunked\r\n\r\n" + END,
    "upgrade to no version": WS + b"Sec-WebSocket-Version: 1337\r\n\r\n" + HIDDEN,
    "upgrade to HTTP/2": WS.replace(b"websocket", b"h2c") + b"\r\n" + HIDDEN,
    "upgrade of what has none": WS.replace(b"/ws", b"/healthz") + b"\r\n" + HIDDEN,
}


@pytest.mark.parametrize("request_bytes", SMUGGLED.values(), ids=SMUGGLED)
async def test_requests_whose_end_is_ambiguous_are_answered_once_at_most(
    flooded: Gateway, request_bytes: bytes
) -> None:
    """What one parser may take for one request and another for two; the connection is closed then."""
    reader, writer = await asyncio.open_connection("127.0.0.1", flooded.port)
    try:
        writer.write(request_bytes)
        async with asyncio.timeout(scaled(DEADLINE_SECONDS)):
            answer = await reader.read()
    except ConnectionResetError:
        answer = b""
    finally:
        writer.close()
    hidden = await flooded.request("GET", "/api/v1/websocket/channels/hidden")

    assert hidden.status == 404
    assert sum(line.startswith(b"HTTP/1.") for line in answer.splitlines()) <= 1
    served = b"upgrade" in request_bytes.lower() and b"Content-Length: 3" in request_bytes
    assert answer == b"" or b" 400 " in answer[:14] or served


# -- messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 2048])
async def test_a_huge_message_is_refused_and_not_kept(flooded: Gateway, raw: OpenRaw, parts: int) -> None:
    """64 MiB, whether it comes in one frame or in many."""
    before = peak = _memory(flooded)
    peer = await raw(to=flooded)
    size = 64 * MB // parts
    with suppress(ConnectionResetError, BrokenPipeError):
        for n in range(parts):
            await peer.send_bytes(
                encode_frame(CONTINUATION if n else TEXT, fin=n == parts - 1, length=size, key=bytes(4))
            )
            for _ in range(0, size, 32768):
                await peer.send_bytes(bytes(32768))
            peak = max(peak, _memory(flooded))

    assert (await peer.read_ending()).code == 1009
    assert peak - before < 16 * MB


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 2**63 - 1, 2**32, 65_537])
async def test_a_length_beyond_measure_is_refused_at_once(flooded: Gateway, raw: OpenRaw, length: int) -> None:
    """Before a byte of it has come."""
    peer = await raw(to=flooded)
    await peer.send_bytes(encode_frame(TEXT, length=length))
    ending = await peer.read_ending()

    assert ending.code == 1009


async def test_endless_fragments_come_to_an_end(launch: Launch, raw: OpenRaw) -> None:
    """A million pieces of one byte are one message, and too large; here so many may come at once."""
    flooded = await launch(settings={"clients.messages_burst": 2000})
    before = _memory(flooded)
    peer = await raw(to=flooded)
    many = b"".join([encode_frame(CONTINUATION, b"x", fin=False) for _ in range(1000)])
    with suppress(ConnectionResetError, BrokenPipeError):
        await peer.send_frame(TEXT, b"x", fin=False)
        for _ in range(1000):
            await peer.send_bytes(many)
    ending = await peer.read_ending()

    assert ending.code == 1009
    assert _memory(flooded) - before < 16 * MB


async def test_a_compressed_frame_without_an_agreement_ends_the_connection(flooded: Gateway, raw: OpenRaw) -> None:
    """The first such frame ends the connection; nothing is inflated."""
    before = _memory(flooded)
    for _ in range(full(20, 5)):
        peer = await raw(to=flooded)
        with suppress(ConnectionResetError, BrokenPipeError):
            for _ in range(50):
                await peer.send_frame(TEXT, b"\xec\xc1\x01" + bytes(1000), reserved=4)
        assert (await peer.read_ending()).code == 1002

    assert _memory(flooded) - before < 16 * MB


async def test_offered_compression_is_not_agreed_on(flooded: Gateway, raw: OpenRaw) -> None:
    peer = await raw(to=flooded, upgrade=False)
    status, headers = await peer.upgrade(Sec_WebSocket_Extensions="permessage-deflate")

    assert status == 101
    assert "sec-websocket-extensions" not in headers


# -- tokens ---------------------------------------------------------------------------------------


async def test_a_key_server_that_hangs_holds_up_nobody(launch: Launch, connect: Connect) -> None:
    """Whatever key ids strangers name: it is asked once in 10 s, and others come in and get their events."""
    issuer, count, began = es256(kid="ours"), full(10_000, 2_000), time.monotonic()
    async with KeyServer(hangs) as server:
        settings = {"auth.jwks_url": server.url, "auth.insecure_jwks": "true"}
        gateway = await launch(settings={**settings, "roles.anonymous.subscribe": "a"})
        pool = aiohttp.TCPConnector(limit=2_000)
        async with aiohttp.ClientSession(gateway.url, connector=pool) as http:

            async def ask(n: int) -> int:
                value = issuer.token_under(kid=f"unknown-{n}")
                async with http.get("/api/v1/websocket/channels", headers=bearer(value)) as answer:
                    return answer.status

            async with undisturbed(gateway, "a"):
                asked = asyncio.gather(*map(ask, range(count)))
                other = await connect("a", to=gateway)
                await other.until("event", channel="a")
                statuses = set(await asked)

        assert statuses == {503}
        assert 1 <= server.requests <= 1 + (time.monotonic() - began) // 10


async def test_a_client_that_disconnects_while_its_token_is_verified_leaves_nothing_behind(
    launch: Launch, raw: OpenRaw
) -> None:
    """It would be counted for ever, and take a place from others."""
    issuer = es256(kid="ours")
    go_on = asyncio.Event()

    async def answers_late(writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        await has([issuer.jwk])(writer)

    async with KeyServer(answers_late) as server:
        settings = {"auth.jwks_url": server.url, "auth.insecure_jwks": "true"}
        gateway = await launch(settings=settings)
        peers = [await raw(to=gateway, upgrade=False) for _ in range(5)]
        for peer in peers:
            protocols = f"neurograph, bearer.{issuer.token()}"
            status, _ = await peer.upgrade("/ws?channels=a", **{"Sec-WebSocket-Protocol": protocols})
            assert status == 101
        await eventually(lambda: server.requests)
        for peer in peers:
            peer.close()
        process = psutil.Process(gateway.process.pid)

        def noticed() -> bool:
            return not any(len(one.raddr) and one.laddr[1] == gateway.port for one in process.net_connections("tcp"))

        await eventually(noticed)
        go_on.set()

        async def nobody() -> bool:
            async with aiohttp.ClientSession(headers=bearer(issuer.token())) as http:
                answer = await http.get(f"{gateway.url}/api/v1/websocket/status")
                return bool((await answer.json())["connections"] == 0)

        await eventually(nobody)


# -- clients --------------------------------------------------------------------------------------


async def test_clients_that_never_read_cost_little(launch: Launch, publisher: NewPublisher, connect: Connect) -> None:
    """Their sockets fill up, their events stay in the one log, and the others get theirs in time."""
    count, events = full(1000, 200), full(2000, 1000)
    gateway = await launch()
    bus = await publisher(gateway.bus_in)
    witness = await connect("a", to=gateway)
    peers = [RawPeer(gateway.port, receive_buffer=4096) for _ in range(count)]
    try:
        await asyncio.gather(*(peer.upgrade("/ws?channels=a") for peer in peers))

        async def there() -> bool:
            return bool((await gateway.status())["connections"] == count + 1)

        await eventually(there)
        before = peak = _memory(gateway)
        for n in range(1, events + 1):
            bus.send("a", {"n": n, "padding": "x" * 1000})
            if n % 10 == 0:
                await witness.until("event", channel="a", offset=n)
            peak = max(peak, _memory(gateway))
    finally:
        for peer in peers:
            peer.close()

    assert list(range(1, events + 1)) == witness.channel("a").numbers
    assert peak - before < 64 * MB


async def test_a_hundred_thousand_names_leave_no_trace(launch: Launch, publisher: NewPublisher, raw: OpenRaw) -> None:
    """In subscriptions and in topics: the number of series and the memory stay within their limits."""
    gateway = await launch(settings={"ingest.channels_max": 300})
    bus = await publisher(gateway.bus_in)
    count = full(100_000, 20_000)
    for n in range(400):  # up to every limit
        bus.send(f"first.c{n}", {"n": n})

    async def bounded() -> bool:
        return len((await gateway.get_json("/api/v1/websocket/channels"))["channels"]) >= 300

    await eventually(bounded)
    await gateway.rejections()  # has a series of its own, as each address and status
    peer = await raw(to=gateway)
    before, memory = await _series(gateway), _memory(gateway)
    for n in range(count):
        bus.send(f"more.c{n}", {"n": n})
        if n % 500 == 0:
            await asyncio.sleep(0)
    for start in range(0, count, 4000):
        names = [f"other.c{n}" for n in range(start, start + 4000)]
        await peer.send_json({"type": "subscribe", "channels": names})
        assert (await peer.read_message())["type"] == "error"

    async def taken() -> bool:
        rejected = (await gateway.rejections())["counts"]
        return bool(sum(rejected.values()) >= count)

    await eventually(taken)
    assert await _series(gateway) - before == set()
    assert _memory(gateway) - memory < 64 * MB  # what was sent waits at the gateway for its turn


async def _series(gateway: Gateway) -> set[str]:
    answer = await gateway.request("GET", "/metrics")
    return {line.rpartition(" ")[0] for line in answer.text.splitlines() if not line.startswith("#")}
