"""MessagePack in this client, compared with the test vectors of all clients."""

from __future__ import annotations

import json
import sys
from base64 import b64decode
from pathlib import Path

import pytest
from neurograph_client import Client
from neurograph_client.encoding import from_msgpack, to_json, to_msgpack


VECTORS = json.loads((Path(__file__).parents[2] / "conformance" / "msgpack.json").read_text())


@pytest.mark.parametrize("vector", VECTORS["from_gateway"], ids=lambda one: one["name"])
def test_a_messagepack_message_equals_its_json(vector: dict[str, str]) -> None:
    expected = json.loads(vector["json"])
    if "data_base64" in expected:
        expected["data"] = b64decode(expected.pop("data_base64"))

    assert from_msgpack(bytes.fromhex(vector["msgpack"])) == expected


@pytest.mark.parametrize("vector", VECTORS["to_gateway"][:3], ids=lambda one: one["name"])
def test_a_request_has_the_bytes_of_the_vector(vector: dict[str, str]) -> None:
    assert vector["msgpack"] == to_msgpack(json.loads(vector["json"])).hex()


def test_an_event_that_is_bytes_is_base64_in_json() -> None:
    assert {"event": {"data_base64": "/9j/"}} == json.loads(to_json({"event": b"\xff\xd8\xff"}))
    assert {"event": {"event_type": "x", "data_base64": "/9j/"}} == json.loads(
        to_json({"event": {"event_type": "x", "data": b"\xff\xd8\xff"}})
    )
    assert {"event": [1]} == json.loads(to_json({"event": [1]}))
    assert {"type": "ping"} == json.loads(to_json({"type": "ping"}))


def test_without_msgspec_the_client_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "msgspec.msgpack", None)

    with pytest.raises(ImportError, match="neurograph-client\\[msgpack\\]"):
        Client("http://127.0.0.1:1", encoding="msgpack")
