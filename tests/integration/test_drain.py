"""SIGTERM: clients get a time to reconnect, everything ends in time, the exit status is 0."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.conftest import Connect, Launch, NewPublisher, OpenRaw
from tests.support.gateway import Gateway
from tests.support.raw import Ended
from tests.support.waiting import eventually


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_clients_are_asked_to_reconnect(launch: Launch, connect: Connect, number: int) -> None:
    """`closing` with a delay, then 1012; each client gets a delay of its own; exit status 0."""
    gateway = await launch()
    clients = [await connect("metrics", to=gateway) for _ in range(8)]
    gateway.kill(number)
    codes = [await client.closed() for client in clients]
    farewells = [client.closing for client in clients]

    assert codes == [1012] * 8
    assert all(f is not None for f in farewells)
    told = [f for f in farewells if f is not None]
    assert {(1012, True, "restart")} == {(f["code"], f["reconnect"], f["reason"]) for f in told}
    assert all(0 <= f["after_ms"] <= 5000 for f in told)
    assert len({f["after_ms"] for f in told}) > 1
    assert all(client.everything[-1]["type"] == "closing" for client in clients)
    assert await gateway.exited() == 0


async def test_the_delay_is_drawn_from_the_configured_range(launch: Launch, connect: Connect) -> None:
    """shutdown.reconnect_spread_seconds spreads those who come back."""
    gateway = await launch(settings={"shutdown.reconnect_spread_seconds": 60})
    clients = [await connect(to=gateway) for _ in range(10)]
    gateway.kill(signal.SIGTERM)
    for client in clients:
        await client.closed()

    delays = [client.closing["after_ms"] for client in clients if client.closing]
    assert max(delays) > 5000
    assert max(delays) <= 60_000


async def test_readiness_turns_false_while_clients_leave(launch: Launch, raw: OpenRaw) -> None:
    """While the drain lasts /readyz says 503 and why, /healthz is fine, and who comes is sent on."""
    gateway = await launch()
    peer = await raw(to=gateway)
    gateway.kill(signal.SIGTERM)
    await peer.read_message()  # closing: the drain has begun, and this peer holds it up
    ready = await gateway.request("GET", "/readyz")
    health = await gateway.request("GET", "/healthz")
    late = await raw(to=gateway, upgrade=False)
    await late.upgrade("/ws")
    ending = await late.read_ending()
    peer.close()

    assert (ready.status, health.status) == (503, 200)
    assert ready.json["reasons"] == ["draining"]
    assert "Retry-After" in ready.headers
    assert ending.code == 1012
    assert await gateway.exited() == 0


async def test_a_peer_that_does_not_answer_does_not_hold_it_up(launch: Launch, raw: OpenRaw) -> None:
    """Neither silent peers, nor such that do not read, nor idle HTTP connections."""
    gateway = await launch(settings={"shutdown.timeout_seconds": 3})
    silent = [await raw(to=gateway) for _ in range(5)]
    idle = await raw(to=gateway, upgrade=False)
    gateway.kill(signal.SIGTERM)

    assert await gateway.exited() == 0
    assert b"restart" in await silent[0].read_to_end()
    await idle.read_to_end()


async def test_a_second_signal_ends_it_at_once(launch: Launch, raw: OpenRaw) -> None:
    """It does not wait for peers."""
    gateway = await launch(settings={"shutdown.timeout_seconds": 60})
    gateway.expected_exit = None
    peers = [await raw(to=gateway) for _ in range(3)]
    gateway.kill(signal.SIGTERM)
    assert (await peers[0].read_message())["type"] == "closing"
    gateway.kill(signal.SIGTERM)

    await gateway.exited()
    assert gateway.alarms() == []


async def test_a_drain_under_load_ends_well(
    launch: Launch, connect: Connect, publisher: NewPublisher, raw: OpenRaw
) -> None:
    """With many events and a lagging client, too, the exit status is 0, and no error is logged."""
    gateway = await launch()
    bus = await publisher(gateway.bus_in)
    client = await connect("load", to=gateway)
    await raw("/ws?channels=load", to=gateway, receive_buffer=8192)
    sent, stop = 0, False

    async def pour() -> None:
        nonlocal sent
        while not stop:
            bus.send_numbered("load", range(sent, sent + 20))
            sent += 20
            await asyncio.sleep(0.001)

    pouring = asyncio.create_task(pour())
    await client.events("load", 2000)
    gateway.kill(signal.SIGTERM)
    code = await client.closed()
    stop = True
    await pouring

    assert await gateway.exited() == 0
    assert code == 1012
    assert client.channel("load").faults() == []


async def test_no_new_client_is_served_during_a_drain(launch: Launch, raw: OpenRaw) -> None:
    """A client that connects then is refused, or asked to connect again; none gets `connected` and nothing after it."""
    gateway = await launch()
    peer = await raw(to=gateway)
    gateway.kill(signal.SIGTERM)
    await peer.read_message()
    try:
        late = await raw(to=gateway, upgrade=False)
        status, _ = await late.upgrade()
    except (OSError, Ended):
        return  # refused: the listener is closed
    if status == 101:
        assert (await late.read_ending()).code in {1012, 1013}
    else:
        assert status == 503


async def test_the_bus_is_left(launch: Launch, publisher: NewPublisher) -> None:
    """Publishers see the subscription go."""
    gateway: Gateway = await launch()
    bus = await publisher(gateway.bus_out, bind=True)
    gateway.kill(signal.SIGTERM)

    await gateway.exited()
    await bus.unsubscribed()


async def test_what_happened_is_logged(launch: Launch, connect: Connect) -> None:
    """From the start to the end: JSON lines, one record each."""
    gateway = await launch()
    client = await connect(to=gateway)
    gateway.kill(signal.SIGTERM)
    await client.closed()
    await gateway.exited()
    await eventually(lambda: len(gateway.records) >= 2)

    assert len(gateway.lines) == len(gateway.records)
    assert any("listening" in str(record) for record in gateway.records)
