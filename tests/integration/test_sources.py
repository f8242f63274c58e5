"""Publishers that nobody wrote for this gateway, over real sockets."""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from zmq.log.handlers import PUBHandler

from tests.conftest import Connect, Launch, NewPublisher
from tests.support.addresses import ipc
from tests.support.curve import Ring
from tests.support.gateway import Gateway
from tests.support.vllm import Vllm
from tests.support.waiting import eventually


@pytest.fixture
async def gateway(launch: Launch, tmp_path: Path) -> Gateway:
    """A gateway with a source of each kind; it binds `foreign` and `pull`, and connects to `log`."""
    sources = [
        {"endpoint": ipc(tmp_path, "foreign"), "mode": "bind", "preset": "bitcoin", "subscribe": ["hash"]},
        {"endpoint": ipc(tmp_path, "pull"), "mode": "bind", "socket": "pull", "separator": "/", "payload": "auto"},
        {"endpoint": ipc(tmp_path, "log"), "preset": "pyzmq-log"},
    ]
    return await launch(settings={"bus.sources": json.dumps(sources)})


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    found = logging.getLogger("a.foreign.program")
    found.propagate = False
    found.setLevel(logging.INFO)
    yield found
    for handler in list(found.handlers):
        found.removeHandler(handler)


def push_socket(endpoint: str) -> zmq.Socket[bytes]:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(endpoint)
    return socket


async def test_records_of_pyzmqs_log_handler_are_logs(
    gateway: Gateway, connect: Connect, publisher: NewPublisher, logger: logging.Logger, tmp_path: Path
) -> None:
    bus = await publisher(ipc(tmp_path, "log"), bind=True)
    handler = PUBHandler(bus.socket, root_topic="app")
    logger.addHandler(handler)
    client = await connect("logs", to=gateway)
    await client.expect("subscribed")
    logger.warning("disk %d%% full", 93)

    event = await client.expect("event")

    assert ("log.warning", "app") == (event["event_type"], event["data"]["service"])
    assert "disk 93% full" in event["data"]["message"]


async def test_a_publishers_own_numbers_show_a_loss_to_clients(
    gateway: Gateway, connect: Connect, publisher: NewPublisher, tmp_path: Path
) -> None:
    bus = await publisher(ipc(tmp_path, "foreign"))
    client = await connect("bitcoin.*", to=gateway)
    await client.expect("subscribed")
    for number in (5, 6, 9):
        bus.send_frames(b"hashtx", b"\xab\xcd", struct.pack("<I", number))
        bus.send_frames(b"rawtx", b"\x00", struct.pack("<I", number))

    gap = await client.expect("gap")

    assert ("bitcoin.hashtx", 2, "bus_loss") == (gap["channel"], gap["count"], gap["reason"])
    assert "abcd" == (await client.expect("event"))["data"]
    assert {b"hash"} == bus.topics, "it subscribes to the prefixes that are set"
    assert 2 == await gateway.metric("neurograph_gateway_bus_messages_lost_total")


async def test_a_pull_socket_is_an_input_and_its_rejections_are_counted(
    gateway: Gateway, connect: Connect, tmp_path: Path
) -> None:
    client = await connect("robot.>", to=gateway)
    await client.expect("subscribed")
    with push_socket(ipc(tmp_path, "pull")) as push:
        push.send_multipart([b"robot/1/pose", b"x=5"])
        push.send_multipart([b"robot/1/pose"])

        event = await client.expect("event")

        assert ("robot.1.pose", "x=5") == (event["channel"], event["data"])
        await eventually(lambda: gateway.metric("neurograph_gateway_events_rejected_total", reason="frame_count"))


@pytest.mark.parametrize("path", ["kv%40host.x", "kv@host.x", "kv%2540host.x"])
async def test_a_channel_with_escapes_is_found_by_its_address(gateway: Gateway, tmp_path: Path, path: str) -> None:
    with push_socket(ipc(tmp_path, "pull")) as push:
        push.send_multipart([b"kv@host/x", b"5"])
        await gateway.holds("kv%2540host.x", 1)

        answer = await gateway.get_json(f"/api/v1/websocket/channels/{path}/events")

        assert ("kv%40host.x", [5]) == (answer["channel"], [event["data"] for event in answer["events"]])


async def test_a_source_without_curve_is_read_although_the_bus_uses_it(
    launch: Launch, connect: Connect, publisher: NewPublisher, tmp_path: Path
) -> None:
    ring, endpoint = Ring(tmp_path), ipc(tmp_path, "plain")
    keys = {"bus.curve_key_file": ring.secret("gateway"), "bus.curve_client_keys_dir": ring.listing("trusted")}
    table = {"endpoint": endpoint, "mode": "bind", "curve": False, "separator": "/"}
    gateway = await launch(connect=[], settings={**keys, "bus.sources": json.dumps([table])})
    bus = await publisher(endpoint)
    client = await connect("a.b", to=gateway)
    await client.expect("subscribed")

    bus.send_frames(b"a/b", b"1")

    assert 1 == (await client.expect("event"))["data"]


async def test_what_vllm_sent_before_and_what_was_lost_is_requested_from_its_replay(
    launch: Launch, connect: Connect, vllm: Vllm
) -> None:
    for n in range(3):
        vllm.publish([n, []])  # nobody listens yet
    gateway = await launch(settings={"bus.sources": json.dumps([vllm.table])})
    await vllm.subscribed()
    vllm.publish([3, []])
    client = await connect("vllm.kv", to=gateway, last=10)
    await client.events("vllm.kv", 4)
    vllm.publish([4, [b"\x00"]], is_lost=True)
    vllm.publish([5, []])

    events = await client.events("vllm.kv", 6)

    assert [[0, []], [1, []], [2, []], [3, []], [4, [{"base64": "AA=="}]], [5, []]] == [one["data"] for one in events]
    assert [1, 2, 3, 4, 5, 6] == [one["offset"] for one in events]
    assert [0, 4] == vllm.asked
