"""A connection without a complete request is closed in time; one above the limit is closed with 1013."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.conftest import Connect, Launch, OpenRaw
from tests.support.gateway import Gateway
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def hasty() -> Iterator[Gateway]:
    """A gateway that waits half a second for a request."""
    with Gateway(settings={"clients.handshake_timeout_seconds": 0.5}) as gateway:
        yield gateway


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
BEGINNINGS = {
    "nothing": b"",
    "half a line": b"GET /ws HT",
    "half the headers": b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n",
}


@pytest.mark.parametrize("beginning", BEGINNINGS.values(), ids=BEGINNINGS)
async def test_an_unfinished_handshake_is_closed(hasty: Gateway, raw: OpenRaw, beginning: bytes) -> None:
    """A client that connects and sends nothing is disconnected."""
    peer = await raw(to=hasty, upgrade=False)
    await peer.send_bytes(beginning)

    await peer.read_to_end()


async def test_a_handshake_that_comes_too_slowly_is_closed(hasty: Gateway, raw: OpenRaw) -> None:
    """One header line after the other, for ever, does not keep a connection open."""
    peer = await raw(to=hasty, upgrade=False)
    await peer.send_bytes(b"GET /ws HTTP/1.1\r\nHost: localhost\r\n")
    ended = asyncio.create_task(peer.read_to_end())
    try:
        for n in range(100):
            await peer.send_bytes(b"X-%d: x\r\n" % n)
            done, _ = await asyncio.wait([ended], timeout=0.1)
            if done:
                break
    except (BrokenPipeError, ConnectionResetError):
        await asyncio.wait([ended])

    assert ended.done()
    await ended


async def test_an_idle_connection_is_kept_for_longer_than_a_handshake(hasty: Gateway, raw: OpenRaw) -> None:
    """A proxy that keeps connections for later requests meets no reset."""
    peer = await raw(to=hasty, upgrade=False)
    late = await raw(to=hasty, upgrade=False)
    await peer.send_bytes(HEALTH)
    await peer.read_answer()
    await late.read_to_end()  # the handshake's deadline has passed for this one
    await peer.send_bytes(HEALTH)

    assert await peer.read_answer() == 200


async def test_a_later_request_that_does_not_go_on_is_closed(hasty: Gateway, raw: OpenRaw) -> None:
    """Each head has the time of a handshake."""
    peer = await raw(to=hasty, upgrade=False)
    await peer.send_bytes(HEALTH)
    await peer.read_answer()
    await peer.send_bytes(HEALTH[:20])

    await peer.read_to_end()


async def test_an_idle_connection_is_closed_in_the_end(launch: Launch, raw: OpenRaw) -> None:
    """After its own time, whatever that of a handshake is."""
    gateway = await launch(settings={"clients.keepalive_timeout_seconds": 0.5})
    peer = await raw(to=gateway, upgrade=False)
    await peer.send_bytes(HEALTH)
    await peer.read_answer()

    await peer.read_to_end(within=9)


async def test_a_finished_handshake_is_not_closed(hasty: Gateway, connect: Connect, raw: OpenRaw) -> None:
    """The deadline ends with the handshake."""
    late = await raw(to=hasty, upgrade=False)
    client = await connect(to=hasty)
    await late.read_to_end()  # the deadline has passed for this one

    await client.ping()


async def test_one_connection_too_many_is_asked_to_try_later(launch: Launch, connect: Connect, raw: OpenRaw) -> None:
    """It is upgraded, so that browsers see the reason: closing, then 1013. Room that is made is given."""
    gateway = await launch(settings={"clients.connections_max": 2})
    one, _ = await connect(to=gateway), await connect(to=gateway)
    peer = await raw(to=gateway, upgrade=False)
    assert (await peer.upgrade())[0] == 101
    ending = await peer.read_ending()
    await one.close()

    assert ending.code == 1013
    assert ending.closing is not None
    assert ending.closing["reconnect"] is True
    assert ending.closing["after_ms"] >= 0
    assert [m["type"] for m in ending.messages] == ["closing"]

    async def room() -> bool:
        return bool((await gateway.status())["connections"] == 1)

    await eventually(room)
    await connect(to=gateway)


async def test_a_plain_get_of_the_websocket_address_is_asked_to_upgrade(gateway: Gateway) -> None:
    """426 with a problem document."""
    answer = await gateway.request("GET", "/ws")

    assert answer.status == 426
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.headers["Upgrade"].lower() == "websocket"


@pytest.mark.long
async def test_500_connections_at_once_are_accepted(launch: Launch, raw: OpenRaw) -> None:
    """500 clients at the same moment all get in: the listen backlog holds them."""
    gateway = await launch()

    async def one() -> None:
        peer = await raw(to=gateway, upgrade=False)
        await peer.upgrade()
        await peer.expect("connected")

    await asyncio.gather(*(one() for _ in range(500)))
    status = await gateway.status()

    assert status["connections"] == 500
