"""A client that answers no pings is closed, and all that it held is freed; one that only sends nothing stays."""

from __future__ import annotations

import asyncio
import select
import signal

import pytest

from tests.conftest import Connect, Launch, OpenRaw
from tests.support.raw import PING, PONG, TEXT
from tests.support.waiting import eventually


FAST = {"clients.heartbeat_seconds": 0.2, "clients.heartbeat_timeout_seconds": 0.2}
PATIENT = {"clients.heartbeat_seconds": 0.2, "clients.heartbeat_timeout_seconds": 1.0}


@pytest.mark.parametrize("settings", [FAST, PATIENT], ids=["short-grace", "long-grace"])
async def test_a_silent_peer_is_closed_and_released(
    launch: Launch, raw: OpenRaw, connect: Connect, settings: dict[str, float]
) -> None:
    """4001 with the advice to reconnect; also when the grace is longer than the interval."""
    gateway = await launch(settings=settings)
    watcher = await connect("connections", to=gateway)
    peer = await raw(to=gateway)
    peer.answers_pings = False
    ending = await peer.read_ending()
    gone = await watcher.until("event", event_type="client.disconnected")

    assert peer.pings >= 1
    assert 4001 == ending.code == gone["data"]["code"]
    assert ending.closing is not None
    assert (ending.closing["reason"], ending.closing["reconnect"]) == ("heartbeat_timeout", True)
    assert (await gateway.status())["connections"] == 1


async def test_a_peer_that_neither_answers_nor_reads_is_released(
    launch: Launch, raw: OpenRaw, connect: Connect
) -> None:
    """A half-open connection does not wait for a close that never comes."""
    gateway = await launch(settings=FAST)
    watcher = await connect("connections", to=gateway)
    peer = await raw("/ws?channels=metrics", to=gateway)
    gone = await watcher.until("event", event_type="client.disconnected")
    await peer.read_to_end()

    assert gone["data"]["code"] == 4001

    async def released() -> bool:
        return bool((await gateway.status())["connections"] == 1)

    await eventually(released)


async def test_a_quiet_client_that_answers_stays(launch: Launch, raw: OpenRaw) -> None:
    """A client that says nothing of its own, but answers each ping, is served for ever."""
    gateway = await launch(settings=FAST)
    peer = await raw(to=gateway)
    for _ in range(8):
        frame = await peer.read_frame()
        assert frame.opcode == PING
        await peer.send_frame(PONG, frame.payload)
    await peer.send_json({"type": "ping"})

    await peer.expect("pong")


async def test_a_long_grace_does_not_stretch_the_interval(launch: Launch, raw: OpenRaw) -> None:
    """A client that answers is pinged again after the interval in `connected`, not after the grace."""
    gateway = await launch(settings={"clients.heartbeat_seconds": 0.2, "clients.heartbeat_timeout_seconds": 60})
    peer = await raw(to=gateway)
    for _ in range(5):
        frame = await peer.read_frame()
        assert frame.opcode == PING
        await peer.send_frame(PONG, frame.payload)


async def test_anything_that_a_client_sends_counts_as_a_sign_of_it(launch: Launch, raw: OpenRaw) -> None:
    """A client that speaks need not pong: it is there."""
    gateway = await launch(settings=FAST)
    peer = await raw(to=gateway)
    pings = 0
    while pings < 8:
        frame = await peer.read_frame()
        if frame.opcode == PING:
            pings += 1
            await peer.send_json({"type": "ping"})
        else:
            assert frame.opcode == TEXT
            assert b"pong" in frame.payload


async def test_time_in_which_the_gateway_was_stopped_does_not_count(launch: Launch, raw: OpenRaw) -> None:
    """A pause of the machine stops its clients, too: they answer a little later than the gateway goes on."""
    gateway = await launch(settings={"clients.heartbeat_seconds": 0.2, "clients.heartbeat_timeout_seconds": 5})
    peer = await raw(to=gateway, receive_buffer=8192)  # with a larger one, the kernel may show that a ping was accepted
    ping = await peer.read_frame()
    await peer.send_frame(PONG, ping.payload)
    await eventually(lambda: select.select([peer.socket], [], [], 0)[0], saying="it is pinged again")
    gateway.kill(signal.SIGSTOP)
    await asyncio.sleep(6)  # longer than the deadline
    gateway.kill(signal.SIGCONT)
    await gateway.status()  # it has looked at its deadlines
    await peer.send_json({"type": "ping"})

    await peer.expect("pong")


async def test_the_interval_is_in_the_first_message(launch: Launch, connect: Connect) -> None:
    """`connected` carries the interval that is configured."""
    gateway = await launch(settings=FAST)

    assert (await connect(to=gateway)).hello["heartbeat_seconds"] == 0.2


async def test_a_client_under_load_answers_in_time(launch: Launch, connect: Connect) -> None:
    """Clients that pong stay through many rounds, all of them."""
    gateway = await launch(settings={**FAST, "clients.heartbeat_timeout_seconds": 1.0})
    clients = [await connect("metrics", to=gateway) for _ in range(50)]
    peer_rounds = await connect("connections", to=gateway)
    for n in range(20):
        await gateway.broadcast({"everyone": True, "event": {"n": n}})
        await clients[n].ping()
    await peer_rounds.events("$everyone", 20)

    assert (await gateway.status())["connections"] == 51
