"""Events come over the bus from any publisher, whoever binds, whoever was there first."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

from tests.conftest import Connect, Launch, NewPublisher
from tests.support.addresses import free_tcp, ipc
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher, envelope
from tests.support.waiting import eventually


THREE_LINES = """
import json, time, zmq
socket = zmq.Context().socket(zmq.PUB); socket.{method}("{endpoint}")
while True: time.sleep(0.02); socket.send_multipart([b"three.lines", json.dumps({{"a": 1}}).encode()])
"""


async def test_an_event_of_two_frames_arrives(bus: Publisher, connect: Connect, channel: str) -> None:
    """Topic and payload are enough; the event comes with channel, offset and a timestamp."""
    client = await connect(channel)
    await client.expect("subscribed")
    bus.send(channel, {"n": 1}, event_type="my.type")

    event = await client.expect("event")

    assert event.pop("timestamp").endswith("Z")
    assert event.pop("epoch"), "the first event of an epoch names it"
    assert event == {"type": "event", "channel": channel, "offset": 1, "event_type": "my.type", "data": {"n": 1}}


async def test_an_event_of_three_frames_arrives(bus: Publisher, connect: Connect, channel: str) -> None:
    """The envelope is read by the gateway and not shown to clients."""
    client = await connect(channel)
    await client.expect("subscribed")
    for n in range(3):
        bus.send(channel, {"n": n}, enveloped=True)

    events = await client.events(channel, 3)

    assert client.channel(channel).numbers == [0, 1, 2]
    assert {"type", "channel", "offset", "event_type", "timestamp", "data"} == set(events[1])


async def test_an_events_own_timestamp_and_extra_fields_are_kept(
    bus: Publisher, connect: Connect, channel: str
) -> None:
    """What a publisher says beside event_type and data is forwarded untouched."""
    client = await connect(channel)
    await client.expect("subscribed")
    stamp = "2026-11-23T12:00:00.123456Z"
    bus.send(channel, [1, "é", None], timestamp=stamp, trace={"id": "ü"}, priority=1.50)

    event = await client.expect("event")

    assert stamp == event["timestamp"]
    assert event["trace"] == {"id": "ü"}
    assert event["priority"] == 1.5
    assert event["data"] == [1, "é", None]


@pytest.mark.parametrize("payload", [b"17", b'"text"', b"null", b"[1, 2]", b'{"a": 1}', b" {} "])
async def test_any_json_on_an_own_channel_is_taken_whole_as_data(
    bus: Publisher, connect: Connect, channel: str, payload: bytes
) -> None:
    """A payload that is no event object becomes `data`, without an event_type."""
    client = await connect(channel)
    await client.expect("subscribed")
    bus.send_payload(channel, payload)

    event = await client.expect("event")

    assert json.loads(payload) == event["data"]
    assert "event_type" not in event
    assert "timestamp" in event


@pytest.mark.parametrize("method", ["bind", "connect"])
async def test_a_publisher_of_three_lines_works(launch: Launch, connect: Connect, tmp_path: Path, method: str) -> None:
    """Plain pyzmq, two frames, no support of ours: its events reach a client."""
    endpoint = free_tcp()
    how = {"connect": [endpoint]} if method == "bind" else {"connect": [], "bind": endpoint}
    if method == "connect":
        how["connect"] = [ipc(Path("/tmp"), "ng-nobody-there")]
    gateway = await launch(**how)
    client = await connect("three.lines", to=gateway)
    script = THREE_LINES.format(method=method, endpoint=endpoint)

    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    try:
        await client.events("three.lines", 3)
    finally:
        process.kill()
        await process.wait()

    assert client.channel("three.lines").faults(after=0) == []
    assert client.channel("three.lines").events[0]["data"] == {"a": 1}


@pytest.mark.parametrize("make", [lambda: free_tcp(), lambda: ""], ids=["tcp", "ipc"])
async def test_a_publisher_may_be_there_before_the_gateway(
    launch: Launch, connect: Connect, publisher: NewPublisher, tmp_path: Path, make: Callable[[], str]
) -> None:
    """The gateway finds a publisher that is bound already, over tcp and over ipc."""
    endpoint = make() or "ipc:///tmp/" + f"ng-{tmp_path.name}-{id(tmp_path)}"[-60:]
    waiting = await publisher(endpoint, bind=True, wait=False)
    gateway = await launch(connect=[endpoint])
    await waiting.subscribed()
    client = await connect("early", to=gateway)
    await client.expect("subscribed")

    waiting.send("early", {"n": 1})

    assert (await client.expect("event"))["data"] == {"n": 1}


async def test_a_publisher_may_come_after_the_gateway(
    launch: Launch, connect: Connect, publisher: NewPublisher
) -> None:
    """The gateway waits for a publisher that binds later, and says so in its status."""
    gateway = await launch()
    client = await connect("late", to=gateway)
    await client.expect("subscribed")

    late = await publisher(gateway.bus_out, bind=True)
    late.send("late", {"n": 1})

    assert (await client.expect("event"))["data"] == {"n": 1}

    async def connected() -> bool:
        bus = (await gateway.status())["bus"]
        return any(e["endpoint"] == gateway.bus_out and e["state"] == "connected" for e in bus)

    await eventually(connected, saying="the status says connected")


async def test_a_publisher_may_be_restarted_beside_the_gateway(
    launch: Launch, connect: Connect, publisher: NewPublisher
) -> None:
    """Whichever side binds, a publisher that was restarted is received again; offsets go on."""
    gateway = await launch()
    client = await connect("again", to=gateway)
    await client.expect("subscribed")
    number = 0
    for bind in (True, False):
        endpoint = gateway.bus_out if bind else gateway.bus_in
        for _ in range(3):
            one = await publisher(endpoint, bind=bind)
            one.send("again", {"n": number})
            number += 1
            await client.events("again", number)
            one.close()

    assert list(range(6)) == client.channel("again").numbers
    assert list(range(1, 7)) == client.channel("again").offsets


async def test_a_gateway_may_be_restarted_beside_a_publisher(
    launch: Launch, connect: Connect, publisher: NewPublisher
) -> None:
    """A publisher that stays is subscribed to anew by the next gateway, which has a new epoch."""
    gateway = await launch()
    one = await publisher(gateway.bus_out, bind=True)
    first = await connect("stays", to=gateway)
    one.send("stays", {"n": 1})
    await first.events("stays", 1)
    before = await first.ping()

    gateway.kill(signal.SIGTERM)
    await gateway.exited()
    await one.unsubscribed()
    await gateway.restart()
    await one.subscribed()
    second = await connect("stays", to=gateway)
    await second.expect("subscribed")
    one.send("stays", {"n": 2})
    await second.events("stays", 1)
    after = await second.ping()

    assert second.channel("stays").offsets == [1]
    assert before["positions"]["stays"]["epoch"] != after["positions"]["stays"]["epoch"]


async def test_topics_are_matched_exactly(bus: Publisher, connect: Connect) -> None:
    """ZeroMQ matches prefixes; a client of `prefix` never sees an event of `prefix2`."""
    client = await connect("prefix")
    await client.expect("subscribed")
    bus.send("prefix2", {"n": 1})
    bus.send("prefix.deeper", {"n": 2})
    bus.send("pre", {"n": 3})
    bus.send("prefix", {"n": 4})

    event = await client.expect("event")

    assert event["channel"] == "prefix"
    assert event["data"]["n"] == 4


async def test_many_endpoints_and_a_bound_one_are_heard_at_once(
    launch: Launch, connect: Connect, publisher: NewPublisher
) -> None:
    """Publishers at three endpoints, tcp and ipc, bound and connected, feed one channel."""
    gateway = Gateway()
    tcp, bound = free_tcp(), free_tcp()
    ipc_out = gateway.bus_out
    gateway = await launch(connect=[tcp, ipc_out], bind=bound)
    publishers = [await publisher(tcp, bind=True), await publisher(ipc_out, bind=True), await publisher(bound)]
    client = await connect("many", to=gateway)
    await client.expect("subscribed")

    for n, one in enumerate(publishers):
        one.send("many", {"n": n})
    await client.events("many", 3)

    assert {0, 1, 2} == set(client.channel("many").numbers)
    modes = {e["endpoint"]: e["mode"] for e in (await gateway.status())["bus"]}
    assert {tcp: "connect", ipc_out: "connect", bound: "bind"} == modes


@pytest.mark.parametrize("bind", [False, True], ids=["gateway-connects", "gateway-binds"])
async def test_an_oversize_message_does_not_silence_its_publisher(
    launch: Launch, connect: Connect, publisher: NewPublisher, bind: bool
) -> None:
    """libzmq closes the connection for good after a message that is too large; the gateway opens it again."""
    gateway = await launch(settings={"bus.message_bytes_max": 65536})
    endpoint = gateway.bus_in if bind else gateway.bus_out
    one = await publisher(endpoint, bind=not bind)
    client = await connect("size", to=gateway)
    await client.expect("subscribed")
    one.send("size", {"n": 0})
    await client.events("size", 1)

    for number in range(1, 4):
        seen = len(client.channel("size").events)
        one.send_payload("size", b'"' + b"x" * 100_000 + b'"')

        def heard(number: int = number, seen: int = seen) -> bool:
            one.send("size", {"n": number})
            return len(client.channel("size").events) > seen

        await eventually(heard, every=0.05, saying="data flows again")

    assert all(isinstance(e["data"], dict) for e in client.channel("size").events)


async def test_one_publishers_oversize_message_leaves_the_others_alone(
    launch: Launch, connect: Connect, publisher: NewPublisher
) -> None:
    """While one publisher is cut off for its message, every event of another arrives."""
    gateway = await launch(settings={"bus.message_bytes_max": 65536})
    loud, quiet = await publisher(gateway.bus_out, bind=True), await publisher(gateway.bus_in)
    client = await connect("quiet", to=gateway)
    await client.expect("subscribed")
    for n in range(500):
        if n % 100 == 50:
            loud.send_payload("loud", b'"' + b"x" * 100_000 + b'"')
        quiet.send("quiet", {"n": n})
    await client.events("quiet", 500)

    assert list(range(500)) == client.channel("quiet").numbers


async def test_a_single_event_after_a_flood_arrives(launch: Launch, connect: Connect, publisher: NewPublisher) -> None:
    """The bus socket's descriptor is edge-triggered: nothing may stay behind, and one more must wake it."""
    gateway = await launch(settings={"history.events_max": 60_000, "history.bytes_max": 1 << 28})
    one = await publisher(gateway.bus_in)
    client = await connect("flood", to=gateway)
    await client.expect("subscribed")

    one.send_numbered("flood", range(50_000))
    await client.events("flood", 50_000)
    for n in range(50_000, 50_005):
        one.send("flood", {"n": n})
        await client.events("flood", n + 1)

    assert list(range(50_005)) == client.channel("flood").numbers
    assert list(range(1, 50_006)) == client.channel("flood").offsets


async def test_events_of_several_publishers_keep_each_ones_order(
    launch: Launch, connect: Connect, publisher: NewPublisher
) -> None:
    """Four publishers on one channel are interleaved in any way, but the events of each are in order.

    The gateway takes the second one for a restart at first, and numbers itself once the first is back.
    """
    gateway = await launch(settings={"history.events_max": 10_000})
    publishers = [await publisher(gateway.bus_in) for _ in range(4)]
    client = await connect("four", to=gateway)
    await client.expect("subscribed")
    for n in range(1000):
        for p, one in enumerate(publishers):
            one.send("four", {"p": p, "n": n}, enveloped=True)
    events = await client.events("four", 4000)

    for p in range(4):
        assert list(range(1000)) == [e["data"]["n"] for e in events if e["data"]["p"] == p]
    record = client.channel("four")
    assert record.faults() == []
    assert len(record.events) == 4000
    assert {gap["reason"] for gap in record.gaps} <= {"epoch"}


async def test_a_plain_pub_socket_is_enough(gateway: Gateway, connect: Connect, channel: str) -> None:
    """A PUB (not XPUB) socket with an envelope of its own making is heard."""
    client = await connect(channel)
    await client.expect("subscribed")
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUB)
    try:
        socket.linger = 0
        socket.connect(gateway.bus_in)
        sequence = 0

        def heard() -> bool:
            nonlocal sequence
            sequence += 1
            socket.send_multipart([channel.encode(), b'{"a": 1}', envelope(7, sequence)])
            return bool(client.channel(channel).events)

        await eventually(heard, every=0.02, saying="an event of the PUB")
    finally:
        socket.close()


async def test_connections_that_are_not_zeromq_take_no_peer_away(launch: Launch, publisher: NewPublisher) -> None:
    """A health check or a port scan is no publisher: neither when it comes nor when it goes."""
    endpoint = free_tcp()
    gateway = await launch(bind=endpoint)
    bus = await publisher(endpoint)
    host, port = endpoint.removeprefix("tcp://").split(":")
    for welcome in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\xff" * 64):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(welcome)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    bus.send("after", {"n": 1})

    async def arrived() -> bool:
        [link] = [one for one in (await gateway.status())["bus"] if one["mode"] == "bind"]
        return bool((link["received"], link["peers"], link["state"]) == (1, 1, "connected"))

    await eventually(arrived)


def policies(pid: int) -> dict[str, int]:
    """Return how each thread of a process is scheduled, by its name."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return {(one / "comm").read_text().strip(): os.sched_getscheduler(int(one.name)) for one in threads}


@pytest.mark.skipif(sys.platform != "linux", reason="threads have other policies elsewhere")
async def test_what_reads_the_bus_waits_for_its_turn_on_a_busy_cpu() -> None:
    async with Gateway() as gateway:
        pid = gateway.process.pid
        # The thread takes its name and policy once it has the CPU for the first time.
        await eventually(lambda: policies(pid).get("ZMQbg/IO/0") == os.SCHED_BATCH)

        assert os.sched_getscheduler(gateway.process.pid) == os.SCHED_OTHER
