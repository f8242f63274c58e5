"""CURVE on the bus: only peers with the right keys connect, whoever binds; others are refused, counted and logged."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import zmq
from neurograph_publisher import Publisher

from gateway.bus.curve import Curve
from gateway.bus.subscriber import Subscriber
from gateway.config.model import Bus
from tests.conftest import Connect, Launch
from tests.support.addresses import free_tcp
from tests.support.command import run_here
from tests.support.curve import Ring, binding
from tests.support.gateway import Gateway
from tests.support.publisher import envelope
from tests.support.waiting import eventually


NewPublisher = Callable[..., Publisher]
Plain = Callable[[int], zmq.Socket[bytes]]

LAYOUTS = ("connects", "binds")
LIFE = """
import sys, time
from neurograph_publisher import Curve, Publisher
way, endpoint, key, gateways, life, count = sys.argv[1:]
publisher = Publisher(**{way: endpoint}, replay=100_000, curve=Curve(key, gateways))
publisher.wait_for_subscriber(60)
for n in range(int(count)):
    publisher.publish("life", {"n": n, "life": life})
    time.sleep(0.0005)
time.sleep(3600)
"""


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    return Ring(tmp_path)


@pytest.fixture
def core() -> Iterator[NewPublisher]:
    """Make a core's publisher, closed at the end: ``core(connect=…, curve=…)``."""
    with ExitStack() as stack:

        def make(**how: Any) -> Publisher:
            return stack.enter_context(Publisher(**{"linger_seconds": 0, "replay": 1000, **how}))

        yield make


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    """Where plain sockets come from."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def plain(context: zmq.Context[zmq.Socket[bytes]]) -> Iterator[Plain]:
    """Make a plain socket of a type, closed at the end."""
    with ExitStack() as stack:
        yield lambda kind: stack.enter_context(context.socket(kind))


def connecting(ring: Ring, server: str) -> dict[str, object]:
    """Settings of a gateway that connects to a publisher with this key."""
    return {"bus.curve_key_file": ring.secret("gateway"), "bus.curve_server_key_file": ring.public(server)}


async def refused(gateway: Gateway, endpoint: str, problem: str) -> None:
    """Wait until the gateway counts failed handshakes, and logs why."""

    async def told() -> bool:
        records = [r for r in gateway.records if r.get("change") == "refused"]
        said = any(endpoint == r["endpoint"] and problem in r["problem"] for r in records)
        return said and await gateway.metric("neurograph_gateway_bus_handshakes_failed_total", endpoint=endpoint) > 0

    await eventually(told, saying=lambda: f"{problem}\n{gateway.log_tail()}")


async def link(gateway: Gateway, endpoint: str) -> dict[str, Any]:
    [found] = [one for one in (await gateway.status())["bus"] if one["endpoint"] == endpoint]
    return dict(found)


async def arrives(gateway: Gateway, publisher: Publisher, connect: Connect) -> None:
    """An event gets through."""
    assert await asyncio.to_thread(publisher.wait_for_subscriber, 15), gateway.log_tail()
    client = await connect("probe", to=gateway)
    publisher.publish("probe", {"n": 1})
    await client.expect("event")


async def nothing_arrived(gateway: Gateway, publisher: Publisher) -> None:
    """Not even a subscription got through, and the gateway is fine."""
    assert not await asyncio.to_thread(publisher.wait_for_subscriber, 0)
    assert await gateway.metric("neurograph_gateway_events_received_total") == 0
    assert (await gateway.request("GET", "/healthz")).status == 200


def living(*arguments: object) -> subprocess.Popen[bytes]:
    """Start a publisher's process: its way, endpoint, key, gateways, name, and count of events."""
    return subprocess.Popen([sys.executable, "-c", LIFE, *map(str, arguments)])


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_events_arrive_and_what_was_missed_is_replayed(
    layout: str, ring: Ring, core: NewPublisher, launch: Launch, connect: Connect
) -> None:
    endpoint = free_tcp()
    if layout == "connects":
        publisher = core(connect=endpoint, curve=ring.curve("core", "gateway"))
        how = {"bind": endpoint, "connect": [], "settings": binding(ring, "core")}
    else:
        ring.listing("gateways", "gateway")
        publisher = core(bind=endpoint, curve=ring.curve("core", "gateways"))
        how = {"bind": "", "connect": [endpoint], "settings": connecting(ring, "core")}
    for n in range(200):
        publisher.publish("robots", {"n": n})  # there is no gateway yet
    gateway = await launch(**how)
    assert await asyncio.to_thread(publisher.wait_for_subscriber, 15), gateway.log_tail()

    async def replayed() -> bool:
        return await gateway.metric("neurograph_gateway_history_events", channel="robots") == 200

    await eventually(replayed, saying=gateway.log_tail)
    client = await connect("robots", to=gateway, last=1000)
    for n in range(200, 300):
        publisher.publish("robots", {"n": n})
    await client.events("robots", 300)

    assert client.channel("robots").numbers == list(range(300))
    assert client.channel("robots").gaps == []
    assert await gateway.metric("neurograph_gateway_bus_replay_requests_failed_total") == 0
    assert await gateway.metric("neurograph_gateway_bus_handshakes_failed_total") == 0
    assert publisher.refused == 0
    assert (await link(gateway, endpoint))["state"] == "connected"


async def test_a_key_that_is_not_on_the_list_is_refused_until_it_is(
    ring: Ring, core: NewPublisher, launch: Launch, connect: Connect
) -> None:
    """Once it is on the list, it connects; once it is off it again, its next connection is refused."""
    endpoint = free_tcp()
    gateway = await launch(bind=endpoint, connect=[], settings=binding(ring))
    publisher = core(connect=endpoint, curve=ring.curve("late", "gateway"))
    await refused(gateway, endpoint, "The peer's CURVE key is not in bus.curve_client_keys_dir")
    await nothing_arrived(gateway, publisher)
    await eventually(lambda: publisher.refused)
    ring.add("trusted", "late")
    await arrives(gateway, publisher, connect)
    ring.remove("trusted", "late")
    publisher.close()
    before = await gateway.metric("neurograph_gateway_bus_handshakes_failed_total")
    again = core(connect=endpoint, curve=ring.curve("late", "gateway"))

    async def once_more() -> bool:
        return await gateway.metric("neurograph_gateway_bus_handshakes_failed_total") > before

    await eventually(once_more, saying=gateway.log_tail)
    assert not await asyncio.to_thread(again.wait_for_subscriber, 0)
    assert (await link(gateway, endpoint))["peers"] == 0
    named = await gateway.logged("bus_client_refused")
    assert named[0]["public_key"] == ring.texts("late")[0][:8] + "…"
    assert [r["name"] for r in await gateway.logged("bus_client_accepted")] == ["late"]


async def test_a_file_that_becomes_invalid_is_logged_and_costs_the_others_nothing(
    ring: Ring, core: NewPublisher, launch: Launch, connect: Connect
) -> None:
    endpoint = free_tcp()
    gateway = await launch(bind=endpoint, connect=[], settings=binding(ring))
    (ring.folder / "trusted" / "broken.key").write_text("hush")
    (ring.folder / "trusted" / "dangling.key").symlink_to("nowhere")
    ring.add("trusted", "core")
    await arrives(gateway, core(connect=endpoint, curve=ring.curve("core", "gateway")), connect)

    [told] = await gateway.logged("bus_keys_unusable")
    assert (told["file"], told["reason"], told["count"]) == ("broken.key", "holds no CURVE key", 2)
    assert "hush" not in gateway.log_tail()


async def test_a_plain_socket_that_was_refused_tries_again_by_itself(ring: Ring, launch: Launch, plain: Plain) -> None:
    """Publishers in other languages need no code for that: libzmq does it."""
    endpoint = free_tcp()
    gateway = await launch(bind=endpoint, connect=[], settings=binding(ring))
    socket = plain(zmq.XPUB)
    ring.approach(socket, "late", "gateway")
    socket.connect(endpoint)
    await refused(gateway, endpoint, "The peer's CURVE key is not in bus.curve_client_keys_dir")
    ring.add("trusted", "late")

    await eventually(lambda: socket.poll(0), saying=gateway.log_tail)


async def test_nobody_is_admitted_while_zap_does_not_answer(
    ring: Ring, context: zmq.Context[zmq.Socket[bytes]], plain: Plain
) -> None:
    trusted = ring.listing("trusted", "core")
    config = Bus(curve_key_file=str(ring.secret("gateway")), curve_client_keys_dir=str(trusted))
    changes: list[str] = []
    curve = Curve(context, config)
    bound = Subscriber(
        context,
        free_tcp(),
        "bind",
        config,
        curve,
        on_messages=lambda _: None,
        on_change=lambda _, change: changes.append(change),
    )
    curve.close()
    bound.open()
    socket = plain(zmq.XPUB)
    ring.approach(socket, "core", "gateway")
    socket.connect(bound.endpoint)
    await eventually(lambda: changes)
    bound.close()

    assert set(changes) == {"refused"}


async def test_one_without_the_right_keys_takes_nothing_from_one_with(
    ring: Ring, core: NewPublisher, launch: Launch, connect: Connect
) -> None:
    """It is configured with a wrong key of the gateway."""
    endpoint = free_tcp()
    gateway = await launch(bind=endpoint, connect=[], settings=binding(ring, "core"))
    wrong = core(connect=endpoint, curve=ring.curve("core", "somebody"))
    await refused(gateway, endpoint, "The peer has another public key for the gateway")
    await nothing_arrived(gateway, wrong)
    await eventually(lambda: wrong.refused)

    await arrives(gateway, core(connect=endpoint, curve=ring.curve("core", "gateway")), connect)
    assert (await link(gateway, endpoint))["peers"] == 1


async def test_a_publisher_without_curve_is_refused(
    ring: Ring, core: NewPublisher, launch: Launch, connect: Connect
) -> None:
    endpoint = free_tcp()
    gateway = await launch(bind=endpoint, connect=[], settings=binding(ring, "core"))
    plain = core(connect=endpoint)
    await refused(gateway, endpoint, "The peer does not use CURVE")
    await nothing_arrived(gateway, plain)
    await eventually(lambda: plain.refused)

    await arrives(gateway, core(connect=endpoint, curve=ring.curve("core", "gateway")), connect)


async def test_a_publisher_with_curve_is_distinguished_from_a_plain_one(
    ring: Ring, core: NewPublisher, launch: Launch, connect: Connect
) -> None:
    """The gateway speaks no CURVE: a publisher that demands it stays away from it."""
    endpoint = free_tcp()
    gateway = await launch(bind=endpoint)
    careful = core(connect=endpoint, curve=ring.curve("core", "gateway"))
    await refused(gateway, endpoint, "The peer uses CURVE; set bus.curve_key_file")
    await nothing_arrived(gateway, careful)

    await arrives(gateway, core(connect=endpoint), connect)


@pytest.mark.parametrize(
    ("trusts", "server", "problem"),
    [("gateway", "another", "CURVE key is not the one"), ("another", "core", "does not accept the gateway's")],
)
async def test_keys_that_do_not_match_are_named_where_the_gateway_connects(
    trusts: str, server: str, problem: str, ring: Ring, core: NewPublisher, launch: Launch
) -> None:
    endpoint = free_tcp()
    ring.listing("gateways", trusts)
    publisher = core(bind=endpoint, curve=ring.curve("core", "gateways"))
    gateway = await launch(bind="", connect=[endpoint], settings=connecting(ring, server))
    await refused(gateway, endpoint, problem)

    await nothing_arrived(gateway, publisher)
    state = await link(gateway, endpoint)
    assert (state["state"], state["peers"]) == ("refused", 0)
    assert problem in state["problem"]


async def test_a_gateway_that_is_put_on_the_list_connects_by_itself(
    ring: Ring, core: NewPublisher, launch: Launch, connect: Connect
) -> None:
    """libzmq gives up for good after such a refusal; the gateway does not."""
    endpoint = free_tcp()
    ring.listing("gateways")
    publisher = core(bind=endpoint, curve=ring.curve("core", "gateways"))
    gateway = await launch(bind="", connect=[endpoint], settings=connecting(ring, "core"))
    await refused(gateway, endpoint, "The peer does not accept the gateway's CURVE key")
    await eventually(lambda: publisher.refused)
    ring.add("gateways", "gateway")

    await arrives(gateway, publisher, connect)
    state = await link(gateway, endpoint)
    assert (state["state"], state["problem"]) == ("connected", "")


@pytest.mark.parametrize("secured", ["gateway", "publisher"])
async def test_with_curve_at_one_end_alone_a_gateway_does_not_connect(
    secured: str, ring: Ring, core: NewPublisher, launch: Launch
) -> None:
    endpoint = free_tcp()
    ring.listing("gateways", "gateway")
    curve = ring.curve("core", "gateways") if secured == "publisher" else None
    publisher = core(bind=endpoint, curve=curve)
    settings = connecting(ring, "core") if secured == "gateway" else {}
    gateway = await launch(bind="", connect=[endpoint], settings=settings)
    await refused(gateway, endpoint, "CURVE")

    await nothing_arrived(gateway, publisher)
    assert (await link(gateway, endpoint))["state"] == "refused"


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_publisher_that_is_killed_and_comes_back_loses_nothing(
    layout: str, ring: Ring, launch: Launch, connect: Connect
) -> None:
    """The first events after its restart, which ZeroMQ loses while both connect again, are replayed."""
    endpoint = free_tcp()
    if layout == "connects":
        settings = binding(ring, "core")
        way = ["connect", endpoint, ring.secret("core"), ring.public("gateway")]
        gateway = await launch(bind=endpoint, connect=[], settings=settings)
    else:
        way = ["bind", endpoint, ring.secret("core"), ring.listing("gateways", "gateway")]
        gateway = await launch(bind="", connect=[endpoint], settings=connecting(ring, "core"))
    client = await connect("life", to=gateway)

    def came(epoch_number: str) -> list[int]:
        events = client.channel("life").events
        return [event["data"]["n"] for event in events if event["data"]["life"] == epoch_number]

    table = [living(*way, "first", 1_000_000)]
    try:
        await client.events("life", 300)
        table[0].kill()
        table[0].wait()
        table.append(living(*way, "second", 2000))
        await eventually(lambda: 1999 in came("second"), saying=gateway.log_tail)
    finally:
        for one in table:
            one.kill()
            one.wait()

    assert came("first") == list(range(len(came("first")))), "as far as it left the process"
    assert came("second") == list(range(2000))
    assert await gateway.metric("neurograph_gateway_bus_messages_lost_total") == 0


async def test_a_link_over_curve_that_only_seems_up_is_replaced(ring: Ring, launch: Launch, connect: Connect) -> None:
    """A publisher that stops for longer than its heartbeats allow; nothing is lost when it goes on."""
    endpoint = free_tcp()
    gateways = ring.listing("gateways", "gateway")
    gateway = await launch(bind="", connect=[endpoint], settings=connecting(ring, "core"))
    client = await connect("life", to=gateway)
    with living("bind", endpoint, ring.secret("core"), gateways, "only", 5000) as epoch_number:
        try:
            await client.events("life", 100)
            epoch_number.send_signal(signal.SIGSTOP)

            async def reopened() -> bool:
                return await gateway.metric("neurograph_gateway_bus_sockets_reopened_total", endpoint=endpoint) >= 1

            await eventually(reopened)
            epoch_number.send_signal(signal.SIGCONT)
            await client.events("life", 5000)
        finally:
            epoch_number.kill()

    assert client.channel("life").numbers == list(range(5000))


async def test_a_publisher_that_is_refused_takes_no_peer_away(
    ring: Ring, core: NewPublisher, launch: Launch, connect: Connect
) -> None:
    """Several at once, reported one after the other when they connect and disconnect."""
    endpoint = free_tcp()
    gateway = await launch(bind=endpoint, connect=[], settings=binding(ring, "core"))
    good = core(connect=endpoint, curve=ring.curve("core", "gateway"))
    await arrives(gateway, good, connect)
    wrong = [core(connect=endpoint, curve=ring.curve(f"no{n}", "gateway")) for n in range(3)]

    async def all_refused() -> bool:
        return await gateway.metric("neurograph_gateway_bus_handshakes_failed_total") >= len(wrong)

    await eventually(all_refused)
    for one in wrong:
        one.close()
    last = core(connect=endpoint, curve=ring.curve("core", "gateway"))
    await arrives(gateway, last, connect)

    async def settled() -> bool:
        return bool((await link(gateway, endpoint))["peers"] == 2)

    await eventually(settled, saying=gateway.log_tail)
    await arrives(gateway, good, connect)


async def test_a_link_over_curve_is_made_anew_after_a_message_beyond_the_limit(
    ring: Ring, core: NewPublisher, launch: Launch, connect: Connect
) -> None:
    endpoint = free_tcp()
    ring.listing("gateways", "gateway")
    publisher = core(bind=endpoint, curve=ring.curve("core", "gateways"))
    settings = {**connecting(ring, "core"), "bus.message_bytes_max": 10_000}
    gateway = await launch(bind="", connect=[endpoint], settings=settings)
    await arrives(gateway, publisher, connect)
    publisher.publish("large", "x" * 20_000)

    async def reopened() -> bool:
        return await gateway.metric("neurograph_gateway_bus_sockets_reopened_total", endpoint=endpoint) >= 1

    await eventually(reopened)
    client = await connect("after", to=gateway)

    def heard() -> bool:
        publisher.publish("after", {})
        return bool(client.channel("after").events)

    await eventually(heard, every=0.05, saying=gateway.log_tail)


async def test_a_replay_key_that_nobody_trusts_is_not_asked(ring: Ring, launch: Launch, plain: Plain) -> None:
    """A publisher on the list may announce the replay endpoint of one that is not."""
    endpoint = free_tcp()
    gateway = await launch(bind=endpoint, connect=[], settings=binding(ring, "core"))
    socket, asked = plain(zmq.PUB), plain(zmq.ROUTER)
    public, secret = ring.texts("stranger")
    asked.curve_server = 1
    asked.curve_secretkey = secret.encode()
    port = asked.bind_to_random_port("tcp://127.0.0.1")
    ring.approach(socket, "core", "gateway")
    socket.connect(endpoint)
    beat = {
        "incarnation": f"{7:016x}",
        "interval": 1.0,
        "replay": f"tcp://127.0.0.1:{port}",
        "replay_key": public,
        "sequences": {"robots": 5},
    }

    def warned() -> bool:
        socket.send_multipart([b"$heartbeat", json.dumps(beat).encode()])
        socket.send_multipart([b"robots", b"1", envelope(7, 5)])
        return any(r["message"] == "bus_key_untrusted" for r in gateway.records)

    await eventually(warned, every=0.05, saying=gateway.log_tail)

    async def missed() -> bool:
        return await gateway.metric("neurograph_gateway_bus_replay_requests_failed_total") >= 1

    await eventually(missed)
    assert not asked.poll(0)


async def test_no_secret_key_is_in_any_log_or_answer(
    ring: Ring, core: NewPublisher, launch: Launch, connect: Connect
) -> None:
    endpoint = free_tcp()
    ring.listing("gateways", "gateway")
    bound = core(bind="tcp://127.0.0.1:*", curve=ring.curve("core", "gateways"))
    settings = {
        "bus.curve_client_keys_dir": ring.listing("trusted", "core"),
        **connecting(ring, "core"),
        "logging.level": "debug",
    }
    gateway = await launch(bind=endpoint, connect=[bound.endpoint], settings=settings)
    core(connect=endpoint, curve=ring.curve("stranger", "gateway"))
    core(connect=endpoint, curve=ring.curve("core", "stranger"))
    await arrives(gateway, bound, connect)
    await arrives(gateway, core(connect=endpoint, curve=ring.curve("core", "gateway")), connect)
    await refused(gateway, endpoint, "")
    await gateway.logged("bus_client_refused")
    pages = ("/metrics", "/api/v1/websocket/status", "/api/v1/websocket/publishers")
    said = [(await gateway.request("GET", page)).text for page in pages]
    checked = run_here("check", *gateway.arguments[1:])
    everything = "\n".join([*gateway.lines, *said, checked.stdout, checked.stderr])

    assert '"debug"' in everything
    for name in ("gateway", "core", "stranger"):
        public, secret = ring.texts(name)
        assert secret not in everything
        assert secret[:8] not in everything
        assert public not in everything, "its beginning is enough"


async def test_keys_that_were_made_open_the_bus(
    tmp_path: Path, core: NewPublisher, launch: Launch, connect: Connect
) -> None:
    """As in the documents: two pairs of keys, one copied file, the lines that `gateway keys` printed."""
    for name in ("gateway", "core"):
        assert run_here("keys", tmp_path, "--name", name).returncode == 0
    ring, endpoint = Ring(tmp_path), free_tcp()
    gateway = await launch(bind=endpoint, connect=[], settings=binding(ring, "core"))

    await arrives(gateway, core(connect=endpoint, curve=ring.curve("core", "gateway")), connect)
