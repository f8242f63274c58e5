"""The sockets on which clients' events are published, while they cannot be opened."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import structlog
import zmq

from gateway.bus import outlet as bus_outlet
from gateway.bus.connection_limit import ConnectionLimit
from gateway.bus.context import make_context
from gateway.bus.curve import Curve
from gateway.bus.outlet import BusOutlet
from gateway.config.model import Bus
from gateway.core.protocol.envelope import unpack
from tests.support.waiting import DEADLINE_SECONDS, eventually


Context = zmq.Context[zmq.Socket[bytes]]


@pytest.fixture
def context() -> Iterator[Context]:
    context = make_context()
    yield context
    context.destroy(linger=0)


async def test_an_address_that_cannot_be_used_is_logged_once_and_opened_when_it_can(context: Context) -> None:
    with tempfile.TemporaryDirectory(prefix="ng-") as folder, structlog.testing.capture_logs() as logged:
        endpoint = f"ipc://{folder}/later/out"
        config, limit = Bus(publish=endpoint), ConnectionLimit(10)
        outlet = BusOutlet(context, config, Curve(context, config), unix_ns=lambda: 0, limit=limit, incarnation=1)
        outlet.reopen()
        await eventually(lambda: outlet.reopen_failures > 2)
        (Path(folder) / "later").mkdir()
        subscriber = context.socket(zmq.SUB)
        subscriber.subscribe("core")
        subscriber.connect(endpoint)
        await eventually(lambda: b"core" in outlet.subscribed)
        outlet.close()
        subscriber.close(linger=0)

    assert ["bus_publish_unavailable", "bus_publish_reopened"] == [one["event"] for one in logged]


async def test_prefixes_beyond_the_limit_get_events_and_do_not_count(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_outlet, "SUBSCRIPTIONS_MAX", 2)
    with tempfile.TemporaryDirectory(prefix="ng-") as folder:
        config, limit = Bus(publish=f"ipc://{folder}/out"), ConnectionLimit(10)
        outlet = BusOutlet(context, config, Curve(context, config), unix_ns=lambda: 0, limit=limit, incarnation=1)
        outlet.open()
        subscriber = context.socket(zmq.SUB)
        for prefix in ("one", "two"):
            subscriber.subscribe(prefix)
        subscriber.connect(config.publish)
        await eventually(lambda: len(outlet.subscribed) == 2)
        third = context.socket(zmq.SUB)
        third.subscribe("three")
        third.connect(config.publish)

        def arrives() -> bool:
            outlet.send("three", b"1", mandatory=False)
            return bool(third.poll(0))

        await eventually(arrives)
        counted = set(outlet.subscribed)
        outlet.close()
        subscriber.close(linger=0)
        third.close(linger=0)

    assert {b"one", b"two"} == counted


async def test_a_subscriber_that_reads_nothing_is_not_reached_once_its_queue_is_full(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then a mandatory event is not sent, and has no number. Others have one, and can be asked for later."""
    monkeypatch.setattr(bus_outlet, "HIGH_WATER_MARK", 2)
    with tempfile.TemporaryDirectory(prefix="ng-") as folder:
        config, limit = Bus(publish=f"ipc://{folder}/out"), ConnectionLimit(10)
        outlet = BusOutlet(context, config, Curve(context, config), unix_ns=lambda: 0, limit=limit, incarnation=1)
        outlet.open()
        subscriber = context.socket(zmq.SUB)
        subscriber.rcvhwm = 1
        subscriber.subscribe("core")
        subscriber.connect(config.publish)
        await eventually(lambda: outlet.reaches("core"))
        sent = 0
        while outlet.send("core", bytes(100_000), mandatory=True):
            sent += 1
        assert not outlet.send("core", b"kept", mandatory=False)
        numbers: list[int] = []

        def goes_on() -> bool:
            while subscriber.poll(0):
                frames = subscriber.recv_multipart()
                numbers.extend([unpack(frames[2]).sequence] if frames[0] == b"core" else [])
            return outlet.send("core", b"next", mandatory=True)

        await eventually(goes_on)
        await eventually(lambda: goes_on() and len(numbers) > sent)
        outlet.close()
        subscriber.close(linger=0)

    assert [*range(1, sent + 1), sent + 2] == numbers[: sent + 1]


async def test_a_process_that_unsubscribes_is_reached_no_more(context: Context) -> None:
    with tempfile.TemporaryDirectory(prefix="ng-") as folder:
        config, limit = Bus(publish=f"ipc://{folder}/out"), ConnectionLimit(10)
        outlet = BusOutlet(context, config, Curve(context, config), unix_ns=lambda: 0, limit=limit, incarnation=1)
        outlet.open()
        subscriber = context.socket(zmq.SUB)
        subscriber.subscribe("core")
        subscriber.connect(config.publish)
        await eventually(lambda: outlet.reaches("core"))
        subscriber.unsubscribe("core")
        await eventually(lambda: not outlet.reaches("core"))
        sent = outlet.send("core", b"1", mandatory=True)
        outlet.close()
        subscriber.close(linger=0)

    assert not sent


async def test_what_does_not_speak_zmtp_2_is_refused_and_subscribes_to_nothing(context: Context) -> None:
    """libzmq makes a subscription for it, and aborts the process if the socket is just being closed."""
    with tempfile.TemporaryDirectory(prefix="ng-") as folder:
        config, limit = Bus(publish=f"ipc://{folder}/out"), ConnectionLimit(10)
        outlet = BusOutlet(context, config, Curve(context, config), unix_ns=lambda: 0, limit=limit, incarnation=1)
        outlet.open()
        reader, writer = await asyncio.open_unix_connection(f"{folder}/out")
        writer.write(b"\1\0" * 50)
        with suppress(ConnectionResetError):
            await asyncio.wait_for(reader.read(), DEADLINE_SECONDS)  # until it is closed
        writer.close()
        outlet.poll()
        outlet.close()

    assert set() == outlet.subscribed
