"""CURVE: a publisher proves its identity, and sends nothing to peers without a known key."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import zmq
from neurograph_publisher import Curve, Publisher, PublisherError
from zmq.auth.thread import ThreadAuthenticator

from tests.support.addresses import free_tcp
from tests.support.curve import Ring
from tests.support.waiting import DEADLINE_SECONDS, eventually, scaled

from .bus import Bus
from .test_replay import EVERYTHING, Asker


Prepare = Callable[[zmq.Socket[bytes]], None]


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    return Ring(tmp_path)


@contextmanager
def gateway(**how: object) -> Iterator[Bus]:
    bus = Bus(**how)  # type: ignore[arg-type]  # as given
    try:
        yield bus
    finally:
        bus.close()


def server(ring: Ring, name: str) -> Prepare:
    """Return a function that makes a socket a CURVE server with this key, which accepts every client."""

    def prepare(socket: zmq.Socket[bytes]) -> None:
        socket.curve_server = 1
        socket.curve_secretkey = ring.texts(name)[1].encode()

    return prepare


def client(ring: Ring, name: str, to: str = "core") -> Prepare:
    return lambda socket: ring.approach(socket, name, to)


def heard(bus: Bus, publisher: Publisher) -> bool:
    """Whether an event arrives."""
    bus.await_publisher(publisher)
    publisher.publish("robots", {"n": 1})
    return bus.read()[1] == {"n": 1}


def test_a_publisher_that_connects_is_heard_and_says_with_which_key_it_replays(ring: Ring) -> None:
    with (
        gateway(prepare=server(ring, "gateway")) as bus,
        Publisher(bus.endpoint, replay=10, curve=ring.curve("core", "gateway")) as publisher,
    ):
        assert heard(bus, publisher)
        publisher.close()
        beat = bus.heartbeat()
        assert beat["replay_key"] == ring.texts("core")[0]
        assert publisher.refused == 0


async def test_a_gateway_with_another_key_does_not_count_as_a_subscriber(ring: Ring) -> None:
    with (
        gateway(prepare=server(ring, "impostor")) as bus,
        Publisher(bus.endpoint, curve=ring.curve("core", "gateway")) as publisher,
    ):
        await eventually(lambda: publisher.refused)
        publisher.publish("robots", {"n": 1})
        assert not bus.socket.poll(0)
        assert not publisher.wait_for_subscriber(0)


@pytest.mark.parametrize("careful", ["publisher", "gateway"])
async def test_it_connects_once_both_ends_use_curve(careful: str, ring: Ring) -> None:
    """libzmq alone does not reconnect after one end uses CURVE and the other does not."""
    endpoint = free_tcp()
    curve = ring.curve("core", "gateway") if careful == "publisher" else None
    secured = server(ring, "gateway")
    before = {} if curve else {"prepare": secured}
    after = {"prepare": secured} if curve else {}
    with Publisher(endpoint, curve=curve) as publisher:
        with gateway(bind=endpoint, **before):
            await eventually(lambda: publisher.refused >= 2)
        with gateway(bind=endpoint, **after) as bus:
            assert heard(bus, publisher)


async def test_it_reconnects_after_a_status_at_which_libzmq_stops(ring: Ring) -> None:
    """libzmq alone does not reconnect after another implementation has answered the handshake with 400."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    authenticator = ThreadAuthenticator(context)
    authenticator.start()
    try:
        trusted = ring.listing("trusted", "somebody")
        authenticator.configure_curve(location=str(trusted))
        socket = context.socket(zmq.SUB)
        server(ring, "gateway")(socket)
        socket.subscribe(b"")
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        with Publisher(f"tcp://127.0.0.1:{port}", curve=ring.curve("core", "gateway")) as publisher:
            await eventually(lambda: publisher.refused)
            ring.add("trusted", "core")
            authenticator.configure_curve(location=str(trusted))
            await eventually(lambda: (socket.get(zmq.EVENTS), publisher.wait_for_subscriber(0))[1])
            publisher.publish("robots", {"n": 1})
            assert socket.poll(10_000)
    finally:
        authenticator.stop()
        context.destroy(linger=0)


async def test_a_publisher_that_binds_accepts_the_keys_on_its_list(ring: Ring) -> None:
    ring.listing("gateways", "gateway")
    with Publisher(bind="tcp://127.0.0.1:*", curve=ring.curve("core", "gateways")) as publisher:
        with gateway(connect=publisher.endpoint, prepare=client(ring, "stranger")):
            await eventually(lambda: publisher.refused)
            assert not publisher.wait_for_subscriber(0)
        with gateway(connect=publisher.endpoint, prepare=client(ring, "gateway")) as bus:
            assert heard(bus, publisher)
        with gateway(connect=publisher.endpoint) as bus:
            bus.socket.get(zmq.EVENTS)
            publisher.publish("robots", {"n": 1})
            assert not bus.socket.poll(200)


async def test_the_list_of_keys_may_change_at_run_time(ring: Ring) -> None:
    ring.listing("gateways")
    with Publisher(bind="tcp://127.0.0.1:*", curve=ring.curve("core", "gateways")) as publisher:
        with gateway(connect=publisher.endpoint, prepare=client(ring, "gateway")):
            await eventually(lambda: publisher.refused)
        ring.add("gateways", "gateway")

        def let_in() -> bool:
            with gateway(connect=publisher.endpoint, prepare=client(ring, "gateway")) as bus:
                bus.socket.get(zmq.EVENTS)
                return publisher.wait_for_subscriber(0.3)

        await eventually(let_in)
        ring.remove("gateways", "gateway")
        refused = publisher.refused
        with gateway(connect=publisher.endpoint, prepare=client(ring, "gateway")):
            await eventually(lambda: publisher.refused > refused)


@pytest.mark.parametrize("layout", ["connects", "binds"])
async def test_replay_is_for_those_who_have_the_key(layout: str, ring: Ring) -> None:
    ring.listing("gateways", "gateway")
    endpoint = {"bind": "tcp://127.0.0.1:*"} if layout == "binds" else {"connect": free_tcp()}
    curve = ring.curve("core", "gateways" if layout == "binds" else "gateway")
    with Publisher(**endpoint, replay=10, linger_seconds=0, curve=curve) as publisher:
        publisher.publish("robots", {"n": 1})
        stranger = Asker(publisher, prepare=client(ring, "stranger"))
        plain = Asker(publisher)
        asker = Asker(publisher, prepare=client(ring, "gateway"))
        try:
            for one in (stranger, plain):
                with suppress(zmq.Again):  # already refused: then there is no peer to send to
                    one.socket.sndtimeo = 0
                    one.request("robots", *EVERYTHING)
            await eventually(lambda: publisher.refused)
            assert asker.numbers("robots", *EVERYTHING) == [1]
            assert publisher.replayed == 1
            assert not stranger.socket.poll(0)
            assert not plain.socket.poll(0)
        finally:
            for one in (stranger, plain, asker):
                one.close()


def test_system_metrics_come_encrypted(ring: Ring) -> None:
    command = [sys.executable, "-m", "neurograph_publisher.system_metrics", "--count", "1"]
    with gateway(prepare=server(ring, "gateway")) as bus:
        keys = [str(ring.secret("core")), str(ring.public("gateway"))]
        with subprocess.Popen([*command, "--connect", bus.endpoint, "--curve", *keys]) as one:
            assert bus.read()[0] == "metrics"
            assert one.wait(scaled(DEADLINE_SECONDS)) == 0


def test_an_invalid_key_file_is_named_in_the_error(ring: Ring) -> None:
    garbage = ring.folder / "garbage"
    garbage.write_text("public-key = 'hush'\nsecret-key = 'hush'\n")
    own, other = ring.secret("core"), ring.public("gateway")
    folder = ring.listing("gateways")
    for curve, wrong in (
        (Curve(ring.folder / "nowhere", other), "nowhere holds no CURVE key"),
        (Curve(garbage, other), "garbage holds no CURVE key"),
        (Curve(ring.public("core"), other), "core.key has a public key alone"),
        (Curve(own, garbage), "garbage holds no CURVE key"),
        (Curve(own, ring.folder / "nowhere"), "nowhere holds no CURVE key"),
        (Curve(own, folder), "gateways is a folder: to connect, name one gateway's .key"),
    ):
        with pytest.raises(PublisherError, match=wrong) as raised:
            Publisher("tcp://127.0.0.1:1", curve=curve)
        assert "hush" not in str(raised.value)


def test_a_failed_open_with_curve_closes_all_sockets(ring: Ring) -> None:
    """They include the socket that answers ZAP requests."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(PublisherError):
            Publisher("no address", curve=ring.curve("core", "gateway"))

    assert len(os.listdir("/proc/self/fd")) <= before
