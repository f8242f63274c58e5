"""From payloads of each kind to JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.sources.errors import Unreadable
from gateway.core.sources.payload import DOCUMENTS_MAX, is_json, make_payload, without_nan
from gateway.core.sources.spec import Payload, Spec


pack = msgspec.msgpack.encode


def texts(message: bytes, **settings: object) -> list[bytes]:
    return make_payload(Spec(**settings))(message)  # type: ignore[arg-type]  # settings of any kind


def value(message: bytes, kind: Payload, **settings: object) -> object:
    [text] = texts(message, payload=kind, **settings)
    return json.loads(text)


def unreadable(message: bytes, **settings: object) -> str:
    with pytest.raises(Unreadable) as caught:
        texts(message, **settings)
    return f"{caught.value.reason}: {caught.value.detail}"


def test_json_keeps_its_bytes() -> None:
    assert [b'{"a": 1.0}'] == texts(b'{"a": 1.0}')


def test_text_is_a_string() -> None:
    assert "grün\n\x07" == value("grün\n\x07".encode(), "text")


def test_text_that_is_not_utf8_names_the_setting_for_bytes() -> None:
    assert 'payload = "raw"' in unreadable(b"\xff", payload="text")


def test_bytes_are_base64_or_hexadecimal() -> None:
    assert {"data_base64": "AP8="} == value(b"\x00\xff", "raw")
    assert "00ff" == value(b"\x00\xff", "hex")


@pytest.mark.parametrize(
    ("packed", "expected"),
    [
        (pack({"a": [1, 2.5, None, True], "b": "ü"}), {"a": [1, 2.5, None, True], "b": "ü"}),
        (pack({"x": {"y": b"\x00"}}), {"x": {"y": {"base64": "AA=="}}}),
        (pack({1: 1, -2.5: 2}), {"1": 1, "-2.5": 2}),
        (pack({3: 1, False: 2, None: 3}), {"3": 1, "false": 2, "null": 3}),
        (b"\x81\xc4\x01k\x01", {"k": 1}),
        (b"\x81\xc4\x01\xff\x01", {"ff": 1}),
        (b"\x81\x92\x01\x02\x03", {"[1,2]": 3}),
        (pack(msgspec.msgpack.Ext(5, b"\x01")), {"ext": 5, "base64": "AQ=="}),
        (pack(datetime(2026, 1, 2, tzinfo=UTC)), "2026-01-02T00:00:00Z"),
        (pack(2**64 - 1), 2**64 - 1),
    ],
)
def test_messagepack_becomes_json_by_stated_rules(packed: bytes, expected: object) -> None:
    assert expected == value(packed, "msgpack")


@pytest.mark.parametrize("payload", [b"", b"\xc1", pack([1])[:-1] + b"\xc1", pack({}) + b"\x00", b"\x81\x80\x01"])
def test_what_is_no_messagepack_is_refused(payload: bytes) -> None:
    assert unreadable(payload, payload="msgpack").startswith("invalid_msgpack: ")


def test_keys_that_become_the_same_are_refused() -> None:
    assert "two keys" in unreadable(pack({1: 1, "1": 2}), payload="msgpack")


def test_messagepack_that_is_nested_too_deeply_is_refused() -> None:
    assert unreadable(b"\x91" * 100_000 + b"\x01", payload="msgpack").startswith("nested_too_deeply")


def test_not_a_number_in_messagepack_is_refused_or_null_by_choice() -> None:
    packed = pack([float("nan"), float("-inf")])

    assert 'nan = "null"' in unreadable(packed, payload="msgpack")
    assert [None, None] == value(packed, "msgpack", nan="null")


def test_not_a_number_in_json_becomes_null_but_not_in_strings() -> None:
    payload = b'{"a":NaN,"b":[-Infinity,Infinity],"NaN":"NaN, \\"Infinity"}'

    assert {"a": None, "b": [None, None], "NaN": 'NaN, "Infinity'} == value(payload, "json", nan="null")


numbers = st.floats() | st.text() | st.sampled_from(["NaN", "-Infinity", '"NaN'])


@given(st.recursive(numbers, lambda one: st.lists(one) | st.dictionaries(st.text(), one)))
def test_whatever_python_writes_is_json_without_nan(value: object) -> None:
    assert is_json(without_nan(json.dumps(value).encode()))


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"a":1}', {"a": 1}),
        (b"21.5", 21.5),
        (b"True", "True"),
        (b"", None),
        (b"10001 72", "10001 72"),
        (b"\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        (pack({"a": 1}), {"a": 1}),
        (pack([b"\xff"]), [{"base64": "/w=="}]),
        (b"\xff\xd8\xff", {"data_base64": "/9j/"}),
        (b"\x00", {"data_base64": "AA=="}),
    ],
)
def test_auto_takes_each_payload_by_its_look(payload: bytes, expected: object) -> None:
    assert expected == value(payload, "auto")


@given(st.binary())
def test_auto_takes_anything(payload: bytes) -> None:
    assert is_json(texts(payload, payload="auto")[0])


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"a":1}\n{"a":2}\n', [b'{"a":1}', b'{"a":2}']),
        (b' [1][2]\r\n\t"x" 3', [b"[1]", b"[2]", b'"x"', b"3"]),
        ('1\n"ü"'.encode(), [b"1", '"ü"'.encode()]),
    ],
)
def test_several_documents_are_several_events(payload: bytes, expected: list[bytes]) -> None:
    assert expected == texts(payload, documents="several")


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", "invalid_json: the payload has no JSON text"),
        (b"1\n{", "invalid_json: in JSON text 2: "),
        (b"\xff", "invalid_utf8: "),
        (b"1 " * (DOCUMENTS_MAX + 1), "too_many_documents: "),
        (b"[" * 100_000, "nested_too_deeply: "),
    ],
)
def test_documents_that_cannot_be_split_are_refused(payload: bytes, expected: str) -> None:
    assert unreadable(payload, documents="several").startswith(expected)


def test_the_nan_behind_a_string_that_does_not_end_takes_one_search() -> None:
    """Once for each quote in the string, it would take hours."""
    payload = b'"' + b'\\"' * 500_000 + b"NaN"
    assert without_nan(payload) == payload
