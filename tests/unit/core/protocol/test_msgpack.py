"""The protocol in MessagePack: the same messages as in JSON, and bytes as they are."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.core.protocol.deflate import Compressor
from gateway.core.protocol.errors import RequestError
from gateway.core.protocol.frames import binary_frame, each_frame, text_frame, text_payload
from gateway.core.protocol.msgpack import MsgpackEncoders, from_frame, message_to_json


VECTORS = Path(__file__).parents[4] / "clients" / "conformance" / "msgpack.json"


def vectors(direction: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(VECTORS.read_text())[direction]
    return found


def encoders(bytes_min: int = 1) -> MsgpackEncoders:
    return MsgpackEncoders(Compressor(bytes_min, on_compressed=int).frame)


def unpacked(frame: bytes) -> Any:
    return msgspec.msgpack.decode(text_payload(frame))


@pytest.mark.parametrize("vector", vectors("from_gateway"), ids=lambda one: one["name"])
def test_a_message_has_the_bytes_of_the_vector(vector: dict[str, str]) -> None:
    frame, _ = from_frame(text_frame(vector["json"].encode()))

    assert vector["msgpack"] == text_payload(frame).hex()
    assert frame[0] == 0x82


@pytest.mark.parametrize("vector", vectors("to_gateway"), ids=lambda one: one["name"])
def test_a_clients_message_is_read_as_its_json(vector: dict[str, str]) -> None:
    assert json.loads(vector["json"]) == json.loads(message_to_json(bytes.fromhex(vector["msgpack"])))


@pytest.mark.parametrize("vector", vectors("refused"), ids=lambda one: one["name"])
def test_what_json_cannot_hold_is_refused(vector: dict[str, str]) -> None:
    with pytest.raises(RequestError) as refused:
        message_to_json(bytes.fromhex(vector["msgpack"]))

    assert refused.value.code.word == "invalid_msgpack"


def test_a_deeply_nested_message_is_refused() -> None:
    with pytest.raises(RequestError, match="nested too deeply"):
        message_to_json(b"\x91" * 60_000 + b"\xc0")


def test_a_binary_frame_is_the_same_message_as_its_text_frame() -> None:
    """A reader's view may ask for events that carry bytes as binary messages."""
    header = b'{"type":"event","channel":"c","offset":1}'
    binary = binary_frame(len(header).to_bytes(4) + header + b"\x00\xff")
    text = text_frame(b'{"type":"event","channel":"c","offset":1,"data_base64":"AP8="}')

    assert from_frame(binary) == from_frame(text)
    assert unpacked(from_frame(text)[0])["data"] == b"\x00\xff"


def test_an_event_whose_text_looks_like_bytes_keeps_it() -> None:
    event = {"type": "event", "channel": "c", "offset": 1, "data": {"data_base64": "AP8="}}

    assert unpacked(from_frame(text_frame(msgspec.json.encode(event)))[0]) == event


def test_an_event_is_encoded_once_for_all_views_and_windows() -> None:
    made = encoders()
    one, two = (text_frame(b'{"type":"event","channel":"c","offset":%d}' % n) for n in (1, 2))
    both = made.encoder(None)(one + two)

    again, _ = made._cache.get(two) or (b"", False)

    assert list(each_frame(both))[1] is not again  # a part of the joined frames
    assert made.encoder(None)(two) == again
    assert len(made._cache) == 2


def test_the_same_bytes_object_is_not_encoded_again() -> None:
    encode = encoders().encoder(None)
    frames = text_frame(b"{}") + text_frame(b"[]")

    assert encode(frames) is encode(frames)


def test_messages_are_compressed_but_not_those_that_carry_bytes() -> None:
    encode = encoders().encoder(15)
    text = text_frame(b'{"data":"%b"}' % (b"x" * 1000))
    image = text_frame(b'{"type":"event","channel":"c","offset":1,"data_base64":"%b"}' % (b"AAAA" * 300))

    packed, plain = each_frame(encode(text + image))

    assert packed[0] == 0xC2
    assert len(packed) < 100
    assert plain[0] == 0x82


def test_the_bytes_in_the_document_are_those_of_the_vectors() -> None:
    text = (VECTORS.parents[2] / "docs" / "protocol.md").read_text()
    found = {one["name"]: one["msgpack"] for one in vectors("from_gateway") + vectors("to_gateway")}

    assert found["ping"] in text
    assert found["bytes"] in text.replace("\n    ", "")
