"""What a connection took up is freed as soon as it is not needed, and not when the garbage collector runs, which is rare."""

from __future__ import annotations

import _asyncio
import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp.web import Request
from msgspec.structs import replace
from multidict import CIMultiDict

from gateway.config.model import ROLES, Auth, Bus, Cluster, Config, Tls
from gateway.core.protocol.parser import Message
from gateway.process.service import running
from gateway.web.sockets import http
from gateway.web.sockets.connection import Connection
from gateway.web.sockets.http import HttpProtocol
from gateway.web.sockets.websocket import Received
from tests.support import tls
from tests.support.raw import TEXT, RawPeer, encode_frame
from tests.support.redis import RedisServer
from tests.support.tokens import SECRET
from tests.support.waiting import eventually


CONNECTIONS = 20
UPGRADE = b"Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
HANDSHAKE = UPGRADE + b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"

BROADCAST = b"POST /api/v1/websocket/broadcast HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
LOST = {
    "head": (b"GET / HTTP/1.1\r\nHost:", b"", b""),
    "body": (BROADCAST + b"Expect: 100-continue\r\n\r\n", b"100 Continue", b"x" * 100_000),
    "body that is not read": (b"POST /no/such HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n", b"404", b"x"),
    "answer": (b"GET /embed.js HTTP/1.1\r\nHost: localhost\r\n\r\n", b"200 OK", b""),
    "after an answer": (
        b"GET /api/v1/websocket/status?no=such HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"no such parameter",
        b"",
    ),
    "event stream": (b"GET /events?channels=logs HTTP/1.1\r\nHost: localhost\r\n\r\n", b"connected", b""),
    "WebSocket": (b"GET /ws HTTP/1.1\r\n" + HANDSHAKE, b"connected", b""),
    "frame": (b"GET /ws HTTP/1.1\r\n" + HANDSHAKE, b"connected", b'\x81\x8f\0\0\0\0{"type":'),
}
"""What a client sends, what it hears, and what it sends before its connection is lost."""


def config(folder: Path) -> Config:
    """Return the settings of a gateway that accepts clients as soon as it runs."""
    return Config(port=0, connect=(), bind=f"ipc://{folder}/bus", bus=Bus(discovery_seconds=0))


@pytest.fixture(autouse=True)
async def _usual_tasks() -> AsyncIterator[None]:
    """Run the tasks that users have: those that coverage can follow (`tests/support/resumed.py`) keep what they awaited."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(lambda loop, coroutine, **options: _asyncio.Task(coroutine, loop=loop, **options))
    yield
    loop.set_task_factory(None)


def left() -> int:
    return sum(type(one) in {Connection, HttpProtocol, Request} for one in gc.get_objects())


@asynccontextmanager
async def without_collector(settings: Config) -> AsyncIterator[tuple[int, int]]:
    """Run a gateway without the garbage collector; its port, and what is `left` before anyone connects."""
    async with running(settings) as service:
        gc.collect()
        gc.disable()
        try:
            yield int(service.urls[0].rpartition(":")[2]), left()
        finally:
            gc.enable()


@pytest.mark.parametrize("waits", [True, False], ids=["answered", "left at once"])
@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"NO HTTP\r\n\r\n", b"invalid_field"),
        (b"GET /ws?since=nonsense&last=x HTTP/1.1\r\n" + HANDSHAKE, b"invalid_field"),
        (b"GET /ws HTTP/1.1\r\n" + HANDSHAKE + b"\x81\x85\0\0\0\0nope!", b"invalid_json"),
        (b"GET /ws HTTP/1.1\r\n" + HANDSHAKE + b"\xff\xff", b"protocol_error"),
    ],
    ids=["malformed HTTP", "invalid query", "invalid message", "malformed frame"],
)
async def test_a_malformed_connection_leaves_no_reference_cycle(
    said: bytes, answer: bytes, waits: bool, tmp_path: Path
) -> None:
    async with without_collector(config(tmp_path)) as (port, before):
        for _ in range(CONNECTIONS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(said)
            if waits:
                await reader.readuntil(answer)
            writer.write_eof()
            await reader.read()
            writer.close()
        await eventually(lambda: left() - before <= 2, saying=lambda: f"{left() - before} are left")


async def lose_connections(settings: Config, said: bytes, heard: bytes, then: bytes) -> None:
    """Reset some connections to a gateway; none of them may be left."""
    async with without_collector(settings) as (port, before):
        peers = [RawPeer(port, receive_buffer=2048) for _ in range(CONNECTIONS)]
        try:
            for peer in peers:
                await peer.send_bytes(said)
                while heard not in peer.buffer:
                    peer.buffer += await peer.read_some()
                await peer.send_bytes(then)
            await eventually(lambda: left() - before >= CONNECTIONS)
            for peer in peers:
                peer.reset()
            await eventually(lambda: left() <= before, saying=lambda: f"{left() - before} are left")
        finally:
            for peer in peers:
                peer.close()


@pytest.mark.parametrize(("said", "heard", "then"), LOST.values(), ids=LOST)
async def test_a_connection_that_is_reset_leaves_no_reference_cycle(
    said: bytes, heard: bytes, then: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the reset comes, also with tokens to verify; and nothing waits for the rest of a body."""
    monkeypatch.setattr(http, "CLOSE_SECONDS", 3600.0)
    auth, roles = Auth(secret=SECRET), ROLES | {"anonymous": ROLES["admin"]}
    await lose_connections(replace(config(tmp_path), auth=auth, roles=roles), said, heard, then)


async def test_an_event_that_a_cluster_refuses_leaves_no_reference_cycle(
    redis: RedisServer, prefix: str, tmp_path: Path
) -> None:
    event = encode_frame(TEXT, b'{"type":"publish","channel":"logs","event":1}')
    settings = replace(config(tmp_path), cluster=Cluster(url=redis.url, prefix=prefix))
    await lose_connections(settings, b"GET /ws HTTP/1.1\r\n" + HANDSHAKE + event, b'"type":"error"', b"")


async def test_a_tls_handshake_that_fails_leaves_no_reference_cycle(tmp_path: Path) -> None:
    files = tls.make(tmp_path)
    served = Tls(cert_file=str(files.cert), key_file=str(files.key))
    async with without_collector(replace(config(tmp_path), tls=served)) as (port, before):
        for _ in range(CONNECTIONS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"NO TLS\r\n\r\n")
            await reader.read()
            writer.close()
        await eventually(lambda: left() <= before, saying=lambda: f"{left() - before} are left")


def of_answered() -> int:
    """How many messages and headers are in memory, the gateway's and those of clients."""
    found = [one for one in gc.get_objects() if type(one) in {Message, Received} or (type(one) is CIMultiDict and one)]
    return len(found)


async def test_an_idle_client_takes_no_memory_for_its_request_or_its_last_message(tmp_path: Path) -> None:
    """Each client would take 15 KiB instead of 12."""
    async with running(config(tmp_path)) as service:
        port = int(service.urls[0].rpartition(":")[2])
        before, writers = of_answered(), []
        for _ in range(CONNECTIONS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /ws HTTP/1.1\r\n" + HANDSHAKE + b'\x81\x8f\0\0\0\0{"type":"ping"}')
            await reader.readuntil(b'"pong"')
            writers.append(writer)
        await eventually(lambda: of_answered() - before <= 2, saying=lambda: f"{of_answered() - before} are left")
        for writer in writers:
            writer.close()
