"""Malformed requests: they are answered with problems, and cause no error in the log."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.conftest import Launch
from tests.support.gateway import Gateway
from tests.support.waiting import DEADLINE_SECONDS, scaled


BROADCAST = "/api/v1/websocket/broadcast"


@pytest.mark.parametrize("body", [b"", b"{", b'{"user_id":"\xff","event":1}', b"\xff", b"[" * 5000, b"\x1f\x8b junk"])
async def test_a_body_that_is_no_json_is_the_senders_fault(gateway: Gateway, body: bytes) -> None:
    """The gateway fixture also checks that nothing of it was logged as an error."""
    answer = await gateway.request("POST", BROADCAST, raw=body)

    assert answer.status == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"


async def test_a_compressed_body_is_not_inflated(gateway: Gateway) -> None:
    """It cannot expand without limit: the body is taken as it is, and is not JSON."""
    headers = {"Content-Encoding": "gzip"}
    answer = await gateway.request("POST", BROADCAST, raw=b"\x1f\x8b\x08junk", headers=headers)

    assert answer.status == 400
    assert answer.json["code"] == "invalid_json"


async def test_no_client_may_publish_on_the_gateways_own_channels(gateway: Gateway) -> None:
    """`everyone` is a target of its own, not a channel by that name."""
    for name in ("$everyone", "$personal"):
        by_body = await gateway.request("POST", BROADCAST, body={"channel": name, "event": 1})
        by_query = await gateway.request("POST", f"{BROADCAST}?channel={name}", raw=b"1")

        assert [by_body.status, by_query.status] == [400, 400]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_refused_without_naming_a_library(gateway: Gateway, request_bytes: bytes) -> None:
    """Neither the answer nor the log makes anything of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request_bytes)
    answer = await asyncio.wait_for(reader.read(), scaled(DEADLINE_SECONDS))
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")

    assert b" 400 " in head.splitlines()[0]
    assert b"aiohttp" not in head
    assert json.loads(body)["status"] == 400


async def test_a_body_that_comes_too_slowly_is_given_up(launch: Launch) -> None:
    """The same deadline as for a head; a client that sends too slowly is disconnected."""
    gateway = await launch(settings={"clients.handshake_timeout_seconds": 0.5})
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = f"POST {BROADCAST} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
    writer.write(head.encode() + b'{"channel"')
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n"), scaled(DEADLINE_SECONDS))
    writer.close()

    assert b" 408 " in answer


async def test_a_violation_in_one_segment_with_the_handshake_leaves_nothing_behind(gateway: Gateway) -> None:
    """An unmasked frame right behind the request: closed, and no session is remembered."""
    before = await gateway.status()
    for _ in range(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            b"\x81\x05hello"
        )
        answer = await asyncio.wait_for(reader.read(), scaled(DEADLINE_SECONDS))
        writer.close()
        assert b"\x03\xeaprotocol_error" in answer

    after = await gateway.status()
    assert after["connections"] == before["connections"]
    assert after["sessions_remembered"] == before["sessions_remembered"]
    assert await gateway.metric("neurograph_gateway_connections") == after["connections"]


async def test_a_body_that_breaks_off_is_no_failure_of_ours(gateway: Gateway) -> None:
    """The sender is gone; the next one is served."""
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = f"POST {BROADCAST} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
    writer.write(head.encode() + b'{"channel"')
    await writer.drain()
    writer.transport.abort()

    assert (await gateway.request("GET", "/healthz")).status == 200
