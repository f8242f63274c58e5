"""What the gateway publishes on the bus is what docs/protocol.md asks of a publisher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.core.ingest import publishers
from gateway.core.ingest.outlet import Outlet
from gateway.core.protocol.envelope import Envelope, unpack


VECTORS = Path(__file__).parents[4] / "publishers/conformance/vectors"


def vectors(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text())


def send(outlet: Outlet, channel: str, payload: bytes = b"{}") -> list[bytes]:
    frames = outlet.message(channel, payload, sent_ns=7)
    outlet.sent(frames)
    return frames


def replayed(outlet: Outlet, first: int, last: int, channel: str = "core") -> list[int]:
    """The numbers of the messages in a reply."""
    reply = outlet.reply([b"NGR1", bytes(8), channel.encode(), first.to_bytes(8) + last.to_bytes(8)])
    assert reply is not None
    return [unpack(frame).sequence for frame in reply[4::2]]


def test_messages_are_numbered_for_each_channel_once_they_are_sent() -> None:
    outlet = Outlet(incarnation=5)
    not_sent = outlet.message("core", b"{}", sent_ns=7)
    first, other = send(outlet, "core"), send(outlet, "chat")

    assert not_sent == first == [b"core", b"{}", Envelope(5, 1, 7, flags=1).pack()]
    assert 1 == unpack(other[2]).sequence
    assert 2 == unpack(send(outlet, "core")[2]).sequence


def test_a_heartbeat_names_the_newest_numbers_in_messages_that_a_gateway_reads() -> None:
    outlet = Outlet(incarnation=5, name="gateway:here")
    for number in range(1_001):
        send(outlet, f"c{number}")
    messages = outlet.heartbeat(interval=1.0, replay="tcp://127.0.0.1:1", replay_key=None)
    read = [publishers.parse(payload) for _, payload in messages]

    assert [publishers.TOPIC] * 2 == [topic for topic, _ in messages]
    assert [1_000, 1] == [len(one.sequences) for one in read]
    assert [True, False] == [json.loads(payload).get("more", False) for _, payload in messages]
    assert ("0000000000000005", "tcp://127.0.0.1:1") == (read[0].incarnation, read[0].replay)
    assert [0] == [
        publishers.parse(one).interval for _, one in Outlet(incarnation=5).heartbeat(interval=0, replay=None)
    ]


@pytest.mark.parametrize("exchange", vectors("replay")["exchanges"], ids=lambda one: one["name"])
def test_replay_replies_are_those_of_the_vectors(exchange: Any) -> None:
    document = vectors("replay")
    outlet = Outlet(incarnation=int(document["incarnation"], 16))
    kept = [(bytes.fromhex(one["payload"]), bytes.fromhex(one["envelope"])) for one in document["messages"]]
    for payload, envelope in kept:
        outlet._sequences["metrics"] = unpack(envelope).sequence - 1
        outlet.sent([b"metrics", payload, envelope])
    reply = outlet.reply([bytes.fromhex(frame) for frame in exchange["request"]])

    assert [bytes.fromhex(frame) for frame in exchange["reply"]] == reply


def test_what_is_no_request_gets_no_reply() -> None:
    outlet = Outlet(incarnation=5)
    for one in vectors("replay")["invalid"]:
        assert outlet.reply([bytes.fromhex(frame) for frame in one["request"]]) is None


def test_the_oldest_messages_of_all_channels_are_dropped_beyond_the_limits() -> None:
    outlet = Outlet(incarnation=5, messages_max=3, bytes_max=100)
    for channel in ("core", "chat", "core", "core"):
        send(outlet, channel)
    assert ([2, 3], [1]) == (replayed(outlet, 1, 9), replayed(outlet, 1, 9, "chat"))
    send(outlet, "core", bytes(99))

    assert ([4], []) == (replayed(outlet, 1, 9), replayed(outlet, 1, 9, "chat"))
    assert [] == replayed(outlet, 1, 3)


def test_a_reply_holds_so_many_messages_and_bytes() -> None:
    outlet = Outlet(incarnation=5)
    for _ in range(300):
        send(outlet, "core")
    for _ in range(2):
        send(outlet, "core", bytes(900_000))

    assert list(range(1, 257)) == replayed(outlet, 1, 400)
    assert list(range(257, 302)) == replayed(outlet, 257, 400)
    assert [302] == replayed(outlet, 302, 400)
