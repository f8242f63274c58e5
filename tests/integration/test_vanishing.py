"""Clients that vanish right behind what they ask for leave nothing behind, and cost nobody anything."""

from __future__ import annotations

import json

import pytest

from tests.conftest import Connect, Launch, NewPublisher, OpenRaw
from tests.support.gateway import Gateway
from tests.support.raw import PING, TEXT, encode_frame
from tests.support.waiting import eventually


VISITS = 60

SUBSCRIBE = encode_frame(TEXT, json.dumps({"type": "subscribe", "channels": ["load"]}).encode())
SAID = {"subscribe": SUBSCRIBE, "subscribe often": SUBSCRIBE * 8, "ping": encode_frame(PING) * 3 + SUBSCRIBE}


@pytest.fixture(params=[[], ["--workers", "2"]], ids=["one process", "two workers"])
async def launched(request: pytest.FixtureRequest, launch: Launch) -> Gateway:
    return await launch(flags=request.param, settings={"clients.subscribes_burst": 2})


@pytest.mark.parametrize("said", SAID.values(), ids=SAID.keys())
async def test_clients_that_vanish_behind_a_message_leave_nothing_behind(
    said: bytes, launched: Gateway, publisher: NewPublisher, raw: OpenRaw, connect: Connect
) -> None:
    """Neither places, nor errors in the log (see `Gateway.stop`), nor a hole for the others."""
    bus = await publisher(launched.bus_in)
    witness = await connect("load", to=launched)
    for number in range(VISITS):
        peer = await raw(to=launched)
        await peer.send_bytes(said)
        if number % 2:
            peer.reset()
        else:
            peer.close()  # with what it was sent unread, which is a reset one round trip later
        bus.send("load", {"n": number})

    events = await witness.events("load", VISITS)
    assert [event["data"]["n"] for event in events] == list(range(VISITS))

    async def alone() -> bool:
        return bool((await launched.status())["connections"] == 1)

    await eventually(alone)
