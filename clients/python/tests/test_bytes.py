"""Bytes of publishers that do not use the gateway's format, read by `sources`, at clients with and without `binary`."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from neurograph_client import Client, Event

from tests.conftest import Connect, Launch, NewPublisher
from tests.support.addresses import ipc
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher


PICTURE = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 300 + b"\xff\xd9"
TEXT = b64encode(PICTURE).decode()


@dataclass
class Foreign:
    """A gateway and its publishers of raw bytes and of MessagePack."""

    gateway: Gateway
    raw: Publisher
    packed: Publisher


@pytest.fixture
async def foreign(launch: Launch, publisher: NewPublisher, tmp_path: Path) -> Foreign:
    raw, packed = ipc(tmp_path, "raw"), ipc(tmp_path, "packed")
    sources = [{"endpoint": raw, "payload": "raw"}, {"endpoint": packed, "payload": "msgpack"}]
    gateway = await launch(settings={"bus.sources": json.dumps(sources)})
    return Foreign(gateway, await publisher(raw, bind=True), await publisher(packed, bind=True))


async def test_a_raw_payload_is_bytes_to_this_client_and_base64_to_one_without_binary(
    foreign: Foreign, connect: Connect
) -> None:
    plain = await connect("camera", to=foreign.gateway)
    async with Client(foreign.gateway.url) as client, client.subscribe("camera") as events:
        await events.confirmed()
        for payload in (PICTURE, b""):
            foreign.raw.send_frames(b"camera", payload)
        found = [await anext(events), await anext(events)]

    assert [PICTURE, b""] == [event.data for event in found if isinstance(event, Event)]
    assert [TEXT, ""] == [event["data_base64"] for event in await plain.events("camera", 2)]
    assert [False, False] == ["data" in event for event in plain.channel("camera").events]


async def test_bytes_within_messagepack_are_base64_to_every_client(foreign: Foreign, connect: Connect) -> None:
    plain = await connect("camera", to=foreign.gateway)
    async with Client(foreign.gateway.url) as client, client.subscribe("camera") as events:
        await events.confirmed()
        foreign.packed.send_frames(b"camera", msgspec.msgpack.encode({"jpeg": PICTURE, "n": 1}))
        event = await anext(events)

    assert isinstance(event, Event)
    assert event.data == {"jpeg": {"base64": TEXT}, "n": 1}
    assert [event.data] == [one["data"] for one in await plain.events("camera", 1)]
