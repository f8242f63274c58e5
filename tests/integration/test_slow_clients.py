"""A client that does not read delays nobody, and gets a gap for exactly what it missed."""

from __future__ import annotations

import asyncio
import json
import select
import signal
import sys
from pathlib import Path

from tests.conftest import Connect, Launch, NewPublisher, OpenRaw
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.raw import TEXT, RawPeer, encode_frame
from tests.support.record import Record
from tests.support.waiting import DEADLINE_SECONDS, eventually, scaled
from tests.support.ws import Client


ROOT = Path(__file__).resolve().parents[2]
PADDING = "x" * 1000
SMALL = {"clients.send_buffer_bytes": 32768, "clients.write_buffer_bytes_max": 32768}
HOLDS_500 = {"history.events_max": 500, **SMALL}


async def _publish(bus: Publisher, channel: str, numbers: range, *witnesses: Client) -> None:
    """Publish numbered events of 1 KB no faster than the witnesses read them."""
    for n in numbers:
        bus.send(channel, {"n": n, "padding": PADDING})
        if n % 100 == 0 or n == numbers[-1]:
            for witness in witnesses:
                await witness.until("event", channel=channel, offset=n)


async def _read_up_to(peer: RawPeer, offset: int) -> Record:
    record = Record()
    while not record.offsets or record.offsets[-1] < offset:
        message = await peer.read_message()
        if message["type"] in {"event", "gap"}:
            record.add(message)
    return record


async def _lagging(gateway: Gateway) -> int:
    return sum(bool(client["lagging"]) for client in (await gateway.status())["clients"])


async def test_a_client_that_stopped_reading_gets_a_gap_for_what_it_missed(
    launch: Launch, publisher: NewPublisher, connect: Connect, raw: OpenRaw
) -> None:
    """It lags while others go on; then it gets every offset, or a gap that names it, in order."""
    gateway = await launch(settings=HOLDS_500)
    bus = await publisher(gateway.bus_in)
    peer = await raw("/ws?channels=slow", to=gateway, receive_buffer=8192)
    await peer.expect("subscribed")
    witness = await connect("slow", to=gateway)
    await witness.expect("subscribed")
    await _publish(bus, "slow", range(1, 5001), witness)

    assert await _lagging(gateway) == 1
    record = await _read_up_to(peer, 5000)
    assert record.faults(after=0, until=5000) == []
    assert ["evicted"] * len(record.gaps) == [gap["reason"] for gap in record.gaps]
    assert record.gaps
    assert list(range(1, 5001)) == witness.channel("slow").numbers
    await eventually(lambda: _caught_up(gateway), saying="the peer is live again")


async def _caught_up(gateway: Gateway) -> bool:
    return await _lagging(gateway) == 0


async def test_a_client_within_the_log_catches_up_without_a_gap(
    launch: Launch, publisher: NewPublisher, connect: Connect, raw: OpenRaw
) -> None:
    """Catching up comes from the log: while that holds everything, nothing is missed."""
    gateway = await launch(settings={"history.events_max": 10_000, **SMALL})
    bus = await publisher(gateway.bus_in)
    peer = await raw("/ws?channels=slow", to=gateway, receive_buffer=8192)
    await peer.expect("subscribed")
    witness = await connect("slow", to=gateway)
    await witness.expect("subscribed")
    await _publish(bus, "slow", range(1, 3001), witness)
    assert await _lagging(gateway) == 1
    record = await _read_up_to(peer, 3000)
    bus.send("slow", {"n": 3001})
    live = await peer.expect("event")

    assert record.gaps == []
    assert list(range(1, 3001)) == record.numbers
    assert live["offset"] == 3001


async def test_a_client_may_stop_and_go_on_many_times(
    launch: Launch, publisher: NewPublisher, connect: Connect, raw: OpenRaw
) -> None:
    """Each time it lags it leaves the others and returns to them; the account stays exact."""
    gateway = await launch(settings=HOLDS_500)
    bus = await publisher(gateway.bus_in)
    peer = await raw("/ws?channels=slow", to=gateway, receive_buffer=8192)
    await peer.expect("subscribed")
    witness = await connect("slow", to=gateway)
    await witness.expect("subscribed")
    known, end = 0, 0
    for _ in range(5):
        await _publish(bus, "slow", range(end + 1, end + 1301), witness)
        end += 1300
        record = await _read_up_to(peer, end)
        assert record.faults(after=known, until=end) == []
        known = end


async def test_stalled_clients_do_not_grow_the_memory(
    launch: Launch, publisher: NewPublisher, connect: Connect, raw: OpenRaw
) -> None:
    """30 clients stall while 30 MB go by: what is held does not depend on them."""
    gateway = await launch(settings=HOLDS_500)
    bus = await publisher(gateway.bus_in)
    for _ in range(30):
        peer = await raw("/ws?channels=slow", to=gateway, receive_buffer=8192)
        await peer.expect("subscribed")
    witness = await connect("slow", to=gateway)
    await witness.expect("subscribed")
    await _publish(bus, "slow", range(1, 2001), witness)
    before = gateway.rss()
    await _publish(bus, "slow", range(2001, 30_001), witness)

    assert await _lagging(gateway) == 30
    assert gateway.rss() - before < 20 * 1024 * 1024
    assert witness.channel("slow").faults(after=0, until=30_000) == []


async def test_a_client_that_asks_and_never_reads_does_not_grow_the_memory(
    launch: Launch, raw: OpenRaw, connect: Connect
) -> None:
    """Answers are bounded too: who does not read them is not listened to any more."""
    many = {"clients.messages_burst": 1_000_000, "clients.pings_burst": 1000}
    gateway = await launch(settings=many)
    peer = await raw(to=gateway, receive_buffer=8192)
    names = [f"a.long.name.of.a.channel.for.a.long.answer.{n}" for n in range(100)]
    await peer.send_json({"type": "subscribe", "channels": names})
    await peer.expect("subscribed")
    before = gateway.rss()
    flood = asyncio.create_task(_ask_forever(peer))
    other = await connect(to=gateway)
    for _ in range(200):
        await other.ping()
    await eventually(lambda: flood.done() or _stuck(peer), saying="not listened to")
    await other.ping()
    flood.cancel()
    await asyncio.gather(flood, return_exceptions=True)

    assert gateway.rss() - before < 20 * 1024 * 1024


async def _ask_forever(peer: RawPeer) -> None:
    loop = asyncio.get_running_loop()
    question = encode_frame(TEXT, b'{"type": "get_subscriptions"}') * 100
    for _ in range(1000):  # 100,000 answers of 5 KB
        await loop.sock_sendall(peer.socket, question)


def _stuck(peer: RawPeer) -> bool:
    """Whether the gateway has stopped taking what the peer sends."""
    return not select.select([], [peer.socket], [], 0.5)[1]


async def test_a_client_that_stalls_for_too_long_is_closed(
    launch: Launch, publisher: NewPublisher, connect: Connect, raw: OpenRaw
) -> None:
    """After clients.stall_timeout_seconds it is closed as slow_consumer (4000) and all that it held is released."""
    gateway = await launch(settings={**HOLDS_500, "clients.stall_timeout_seconds": 0.5})
    bus = await publisher(gateway.bus_in)
    peer = await raw("/ws?channels=slow", to=gateway, receive_buffer=8192)
    await peer.expect("subscribed")
    witness = await connect("slow", "connections", to=gateway)
    await witness.expect("subscribed")
    await _publish(bus, "slow", range(1, 2001), witness)
    gone = await _disconnected(witness)
    data = await peer.read_to_end()

    assert gone["code"] == 4000
    assert data
    assert (await gateway.status())["connections"] == 1
    assert await _lagging(gateway) == 0


async def _disconnected(watcher: Client) -> dict[str, object]:
    record = watcher.channel("connections")

    def found() -> list[dict[str, object]]:
        return [e["data"] for e in record.events if e["event_type"] == "client.disconnected"]

    return (await eventually(found))[0]


async def test_a_slow_client_that_reads_on_is_not_closed(
    launch: Launch, publisher: NewPublisher, connect: Connect, raw: OpenRaw
) -> None:
    """Catching up never counts as being slow: what counts is that the socket takes something."""
    gateway = await launch(settings={"history.events_max": 10_000, **SMALL, "clients.stall_timeout_seconds": 4.0})
    bus = await publisher(gateway.bus_in)
    peer = await raw("/ws?channels=slow", to=gateway, receive_buffer=8192)
    await peer.expect("subscribed")
    witness = await connect("slow", to=gateway)
    await witness.expect("subscribed")
    await _publish(bus, "slow", range(1, 3001), witness)
    record = Record()
    loop = asyncio.get_running_loop()
    for start in range(1, 3001, 100):  # 30 pauses of 0.2 s are longer than the limit
        while not record.offsets or record.offsets[-1] < start + 99:
            record.add(await peer.expect("event"))
        ready = loop.create_future()
        loop.call_later(0.2, ready.set_result, None)
        await ready

    assert list(range(1, 3001)) == record.offsets


async def test_a_slow_client_whose_pong_waits_behind_events_is_not_closed(
    launch: Launch, publisher: NewPublisher, raw: OpenRaw
) -> None:
    """All fits into the kernel's buffers, and takes longer to read than many heartbeats."""
    often = {"clients.heartbeat_seconds": 0.2, "clients.heartbeat_timeout_seconds": 0.5}
    gateway = await launch(settings={**often, "clients.stall_timeout_seconds": 5.0})
    bus = await publisher(gateway.bus_in)
    peer = await raw("/ws?channels=slow", to=gateway, receive_buffer=8192)
    await peer.expect("subscribed")
    for n in range(1, 251):
        bus.send("slow", {"n": n, "padding": PADDING})
    record = Record()
    loop = asyncio.get_running_loop()
    while len(record.events) < 250:
        record.add(await peer.expect("event"))
        ready = loop.create_future()
        loop.call_later(0.01, ready.set_result, None)
        await ready

    assert list(range(1, 251)) == record.offsets
    await peer.send_json({"type": "ping"})
    await peer.expect("pong")


async def test_a_client_that_lags_too_far_is_closed(
    launch: Launch, publisher: NewPublisher, connect: Connect, raw: OpenRaw
) -> None:
    """With lag_events_max set, the number of events decides."""
    gateway = await launch(settings={**HOLDS_500, "clients.lag_events_max": 1000})
    bus = await publisher(gateway.bus_in)
    peer = await raw("/ws?channels=slow", to=gateway, receive_buffer=8192)
    await peer.expect("subscribed")
    witness = await connect("slow", "connections", to=gateway)
    await witness.expect("subscribed")
    await _publish(bus, "slow", range(1, 3001), witness)

    assert (await _disconnected(witness))["code"] == 4000
    await peer.read_to_end()


async def test_a_lagging_client_is_still_answered(
    launch: Launch, publisher: NewPublisher, connect: Connect, raw: OpenRaw
) -> None:
    """Its messages wait no longer than its socket: once it reads, it is answered."""
    gateway = await launch(settings=HOLDS_500)
    bus = await publisher(gateway.bus_in)
    peer = await raw("/ws?channels=slow", to=gateway, receive_buffer=8192)
    await peer.expect("subscribed")
    witness = await connect("slow", to=gateway)
    await witness.expect("subscribed")
    await _publish(bus, "slow", range(1, 2001), witness)
    await peer.send_json({"type": "subscribe", "channels": ["other"], "id": "while lagging"})
    record = Record()
    while True:
        message = await peer.read_message()
        if message["type"] == "subscribed":
            break
        record.add(message)
    while record.offsets[-1] < 2000:
        record.add(await peer.read_message())

    assert message["id"] == "while lagging"
    assert record.faults(after=0, until=2000) == []


async def test_a_stopped_process_misses_nothing_unnamed(
    launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    """SIGSTOP one of many clients under load: the others do not notice; after SIGCONT it has an exact account."""
    gateway = await launch(settings=HOLDS_500)
    bus = await publisher(gateway.bus_in)
    witnesses = [await connect("stop", to=gateway) for _ in range(10)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.reader", gateway.url, "stop", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(scaled(DEADLINE_SECONDS)):
            assert json.loads(await process.stdout.readline()) == {"subscribed": 0}
            for witness in witnesses:
                await witness.expect("subscribed")
            await _publish(bus, "stop", range(1, 1001), *witnesses)
            process.send_signal(signal.SIGSTOP)
            await _publish(bus, "stop", range(1001, 15_001), *witnesses)
            lagging = await _lagging(gateway)
            process.send_signal(signal.SIGCONT)
            await eventually(lambda: _caught_up(gateway))
            bus.send("stop", {"n": 15_001, "last": True})
            account = json.loads(await process.stdout.readline())
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()

    assert lagging == 1
    assert (account["faults"], account["end"], account["close_code"]) == ([], 15_001, None)
    for witness in witnesses:
        await witness.until("event", offset=15_001)
        assert list(range(1, 15_002)) == witness.channel("stop").numbers


async def test_a_cut_while_lagging_releases_everything(
    launch: Launch, publisher: NewPublisher, connect: Connect, raw: OpenRaw
) -> None:
    """A lagging client that vanishes leaves no reader, no buffer, no connection behind."""
    gateway = await launch(settings=HOLDS_500)
    bus = await publisher(gateway.bus_in)
    witness = await connect("slow", to=gateway)
    peers = [await raw("/ws?channels=slow", to=gateway, receive_buffer=8192) for _ in range(5)]
    for peer in peers:
        await peer.expect("subscribed")
    await _publish(bus, "slow", range(1, 2001), witness)
    assert await _lagging(gateway) == 5
    for peer in peers:
        peer.close()

    async def released() -> bool:
        status = await gateway.status()
        return bool((status["connections"], status["subscriptions"]) == (1, 1))

    await eventually(released)
    assert await _lagging(gateway) == 0
    await witness.ping()
