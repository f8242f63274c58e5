"""What the bus loses is replayed; positions stay valid after a restart of the gateway; silent publishers are noticed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable

import pytest

from tests.conftest import Connect, Launch
from tests.support.gateway import Gateway
from tests.support.keeper import Keeper
from tests.support.waiting import eventually


NewKeeper = Callable[..., Keeper]


@pytest.fixture
async def keeper() -> AsyncIterator[NewKeeper]:
    """Make a publisher that replays: ``keeper(endpoint)``."""
    made: list[Keeper] = []

    def make(endpoint: str, **how: object) -> Keeper:
        made.append(Keeper(endpoint, **how))  # type: ignore[arg-type]  # as given
        return made[-1]

    yield make
    for one in made:
        one.close()


async def known(gateway: Gateway, keeper: Keeper) -> None:
    """Wait until the gateway has heard a publisher."""

    async def found() -> bool:
        answer = await gateway.get_json("/api/v1/websocket/publishers")
        names = [one["incarnation"] for one in answer["publishers"]]
        return f"{keeper.incarnation:016x}" in names

    await eventually(found)


async def test_what_the_bus_lost_is_replayed_in_its_place(launch: Launch, keeper: NewKeeper, connect: Connect) -> None:
    gateway = await launch()
    bus = keeper(gateway.bus_in)
    await known(gateway, bus)
    client = await connect("robots", to=gateway)
    for n in range(2000):
        bus.lose = n % 7 in {2, 3} or n == 1999  # the last one shows only in a heartbeat
        bus.send("robots", {"n": n})
    await client.events("robots", 2000)

    record = client.channel("robots")
    assert record.numbers == list(range(2000))
    assert record.offsets == list(range(1, 2001))
    assert record.gaps == []
    assert await gateway.metric("neurograph_gateway_bus_messages_lost_total") == 0
    lost = sum(n % 7 in {2, 3} or n == 1999 for n in range(2000))
    assert await gateway.metric("neurograph_gateway_bus_messages_recovered_total") == lost


async def test_a_late_gateway_has_all_that_its_log_keeps_before_it_is_ready(
    launch: Launch, keeper: NewKeeper, connect: Connect, tmp_path: object
) -> None:
    """No slow joiner: what was published before the gateway came is asked for at its start."""
    first = await launch(settings={"history.events_max": 500})
    bus = keeper(f"ipc://{first.folder}/pub", bind=True)
    for topic in range(30):
        for n in range(700):
            bus.send(f"topic.t{topic}", {"n": n})
    gateway = await launch(connect=[bus.endpoint], settings={"history.events_max": 500, "bus.discovery_seconds": 1})
    bus.send("topic.t0", {"n": 700})
    client = await connect("topic.*", last=1000, to=gateway)
    await eventually(lambda: client.channel("topic.t0").numbers[-1:] == [700])
    await client.events("topic.t29", 500)

    # The last one may have come before this client or behind it.
    assert client.channel("topic.t0").numbers[-500:] == list(range(201, 701))
    assert client.channel("topic.t29").offsets == list(range(201, 701))
    assert client.channel("topic.t29").gaps == []


async def test_a_client_goes_on_after_the_gateway_was_killed(
    launch: Launch, keeper: NewKeeper, connect: Connect
) -> None:
    """Its position is the publisher's own number, so it means the same after the gateway's restart."""
    gateway = await launch(settings={"bus.discovery_seconds": 0.5})
    bus = keeper(gateway.bus_in)
    await known(gateway, bus)
    client = await connect("robots", to=gateway)
    bus.send_numbered("robots", range(10))
    await client.events("robots", 10)
    since = (await client.ping())["positions"]
    gateway.kill(signal.SIGKILL)
    await gateway.exited()
    bus.send_numbered("robots", range(10, 20))
    await gateway.restart()
    bus.send_numbered("robots", range(20, 30))
    later = await connect("robots", to=gateway, since={"robots": since["robots"]})
    subscribed = await later.expect("subscribed")
    await later.events("robots", 20)

    assert subscribed["recovered"] == {"robots": True}
    assert later.channel("robots").numbers == list(range(10, 30))
    assert later.channel("robots").gaps == []
    assert since["robots"]["epoch"] == f"{bus.incarnation:016x}"


async def test_an_unanswered_request_becomes_a_gap_and_holds_nobody_up(
    launch: Launch, keeper: NewKeeper, connect: Connect
) -> None:
    gateway = await launch()
    bus = keeper(gateway.bus_in)
    await known(gateway, bus)
    bus.mute = True
    client = await connect("robots", "other", to=gateway)
    bus.send_numbered("robots", range(3))
    bus.lose = True
    bus.send_numbered("robots", range(3, 8))
    bus.lose = False
    bus.send_numbered("robots", range(8, 12))
    bus.send_numbered("other", range(4))
    await client.events("other", 4)
    assert len(client.channel("robots").events) == 3, "held until the answer is overdue"
    await client.events("robots", 7)

    record = client.channel("robots")
    assert record.numbers == [0, 1, 2, 8, 9, 10, 11]
    assert [(gap["reason"], gap["from"], gap["to"]) for gap in record.gaps] == [("bus_loss", 4, 8)]
    assert await gateway.metric("neurograph_gateway_bus_replay_requests_failed_total") == 1
    assert await gateway.metric("neurograph_gateway_bus_messages_held") == 0


async def test_what_a_publisher_no_longer_keeps_is_named_exactly(
    launch: Launch, keeper: NewKeeper, connect: Connect
) -> None:
    gateway = await launch()
    bus = keeper(gateway.bus_in, keep=100)
    await known(gateway, bus)
    client = await connect("robots", to=gateway)
    bus.send("robots", {"n": 0})
    bus.lose = True
    bus.send_numbered("robots", range(1, 400))
    bus.lose = False
    bus.send("robots", {"n": 400})
    await client.events("robots", 101)

    record = client.channel("robots")
    assert record.numbers == [0, *range(301, 401)]
    assert [(gap["from"], gap["to"]) for gap in record.gaps] == [(2, 301)]
    assert record.faults(after=0, until=401) == []


async def test_a_restart_is_an_epoch_and_its_lost_beginning_is_replayed(
    launch: Launch, keeper: NewKeeper, connect: Connect
) -> None:
    gateway = await launch()
    first = keeper(gateway.bus_in)
    await known(gateway, first)
    client = await connect("robots", to=gateway)
    first.send_numbered("robots", range(5))
    await client.events("robots", 5)
    first.close()
    second = keeper(gateway.bus_in)
    second.lose = True  # as while ZeroMQ reconnects
    second.send_numbered("robots", range(5, 50))
    second.lose = False
    second.send_numbered("robots", range(50, 60))
    await client.events("robots", 60)

    record = client.channel("robots")
    assert record.numbers == list(range(60))
    assert [(gap["reason"], gap["epoch"]) for gap in record.gaps] == [("epoch", f"{second.incarnation:016x}")]


async def test_after_a_farewell_that_is_complete_a_restart_is_no_gap(
    launch: Launch, keeper: NewKeeper, connect: Connect
) -> None:
    gateway = await launch()
    first = keeper(gateway.bus_in)
    await known(gateway, first)
    client = await connect("robots", "connections", to=gateway)
    first.send_numbered("robots", range(5))
    first.beat(interval=0)
    await client.until("event", channel="connections", event_type="publisher.disconnected")
    first.close()
    second = keeper(gateway.bus_in)
    second.send_numbered("robots", range(5, 10))
    await client.events("robots", 10)

    assert client.channel("robots").gaps == []
    assert client.channel("robots").numbers == list(range(10))


async def test_a_silent_publisher_is_reported_and_its_return_too(
    launch: Launch, keeper: NewKeeper, connect: Connect
) -> None:
    gateway = await launch()
    before = await connect("metrics", to=gateway)
    assert (await before.expect("subscribed"))["bus"] == "waiting"
    bus = keeper(gateway.bus_in, interval=0.1)
    await known(gateway, bus)
    client = await connect("status", "connections", to=gateway)
    assert (await client.expect("subscribed"))["bus"] == "live"
    bus.interval = 0.0  # it stops to send heartbeats
    stale = await client.until("event", event_type="status.stale")
    told = await (await connect("metrics", to=gateway)).expect("subscribed")
    bus.interval = 0.1
    live = await client.until("event", event_type="status.live")

    assert stale["data"] == {"status": "stale", "service": "keeper"}
    assert told["bus"] == "stale"
    assert live["data"]["status"] == "live"


async def test_a_link_that_only_seems_up_is_replaced(launch: Launch, keeper: NewKeeper) -> None:
    """A silence of three heartbeats on a connection that TCP holds for good."""
    gateway = await launch()
    bus = keeper(f"ipc://{gateway.folder}/pub", bind=True, interval=0.1)
    late = await launch(connect=[bus.endpoint])
    await known(late, bus)
    bus.interval = 0.0

    async def reopened() -> bool:
        return bool(await late.metric("neurograph_gateway_bus_sockets_reopened_total", endpoint=bus.endpoint) >= 1)

    await eventually(reopened)


async def test_on_demand_a_publisher_sees_whether_a_topic_is_watched(
    launch: Launch, keeper: NewKeeper, connect: Connect
) -> None:
    gateway = await launch(
        settings={"history.on_demand": True, "bus.on_demand_idle_seconds": 0.2, "sessions.ttl_seconds": 0.1},
        flags=["--set", "channels.metrics.on_demand=false"],
    )
    bus = keeper(gateway.bus_in)
    await eventually(lambda: bus.topics >= {b"$", b"metrics"})
    await known(gateway, bus)
    bus.send_numbered("camera", range(5))
    client = await connect("camera", "logs.*", to=gateway)
    await eventually(lambda: bus.topics >= {b"camera", b"logs."})
    bus.send_numbered("camera", range(5, 8))
    await client.events("camera", 3)
    await client.close()
    await eventually(lambda: b"camera" not in bus.topics)
    bus.send_numbered("camera", range(8, 20))
    again = await connect("camera", to=gateway)
    await eventually(lambda: b"camera" in bus.topics)
    bus.send_numbered("camera", range(20, 22))
    await again.events("camera", 2)

    assert client.channel("camera").numbers == [5, 6, 7]
    assert again.channel("camera").numbers == [20, 21]
    gaps = [(gap["reason"], gap["from"], gap["to"]) for gap in again.channel("camera").gaps]
    assert gaps == [("unwatched", 9, 20)]
    assert await gateway.metric("neurograph_gateway_bus_messages_lost_total") == 0


async def test_replies_that_nobody_asked_for_or_that_are_broken_do_no_harm(
    launch: Launch, keeper: NewKeeper, connect: Connect
) -> None:
    gateway = await launch()
    bus = keeper(gateway.bus_in)
    await known(gateway, bus)
    client = await connect("robots", to=gateway)
    answer = bus._answer

    def lie(frames: list[bytes]) -> None:
        peer = frames[0]
        for garbage in ([b""], [b"NGR1"], [b"NGR1", b"x", b"y"], [b"NGR1", bytes(8), b"", b"p", b"e"]):
            bus.router.send_multipart([peer, *garbage])
        answer(frames)

    bus._answer = lie  # type: ignore[method-assign]  # it lies first, and then answers
    bus.send("robots", {"n": 0})
    bus.lose = True
    bus.send("robots", {"n": 1})
    bus.lose = False
    bus.send("robots", {"n": 2})
    await client.events("robots", 3)

    assert client.channel("robots").numbers == [0, 1, 2]
    await asyncio.sleep(0)
