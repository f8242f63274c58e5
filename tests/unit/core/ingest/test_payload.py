"""Every reader can decode the events that ingest accepts."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.ingest.ingest import Ingest
from gateway.core.ingest.recovery import Recovery
from gateway.core.ingest.streams import Streams
from gateway.core.log.retention import Retention
from gateway.core.protocol.events import Event
from tests.support.core import Peer, make_hub


def make() -> Ingest:
    recovery = Recovery(streams=Streams(streams_max=10), started_ns=0, history=lambda _: 0)
    return Ingest(payload_bytes_max=100_000, rejections_max=10, admit=lambda _: True, recovery=recovery)


def accepted(payload: bytes) -> bool:
    return isinstance(make().accept([b"robots", payload], now_ns=0), Event)


def read_by_everyone(document: bytes) -> None:
    """Decode an event as filters, keys, workers and clients do."""
    found = msgspec.json.decode(document, type=dict[str, object])
    msgspec.msgpack.decode(msgspec.msgpack.encode(found))
    msgspec.json.encode(found)
    orjson.dumps(orjson.loads(document))
    json.loads(document, parse_constant=pytest.fail)
    datetime.fromisoformat(str(found["timestamp"]))


numbers = st.from_regex(rb"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,4})?", fullmatch=True)
anything = st.recursive(
    st.none() | st.booleans() | st.text() | st.integers() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    numbers
    | st.integers().map(lambda n: str(n).encode())
    | anything.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    | st.integers(1, 300).map(lambda n: b"[" * n + b"]" * n)
    | st.binary(),
    st.sampled_from([b"%b", b'{"x":%b}', b'{"event_type":"x","data":%b}']),
)
@example(b"1e999", b"%b")
@example(b"1" * 5000, b'{"x":%b}')
@example(b'"\\ud800"', b"%b")
@example(b"2026-02-30T12:00:00Z", b'{"event_type":"x","data":1,"timestamp":"%b"}')
@example(b"2016-12-31T23:59:60+01:00", b'{"event_type":"x","data":1,"timestamp":"%b"}')
def test_every_reader_can_decode_what_is_accepted(payload: bytes, around: bytes) -> None:
    taken = make().accept([b"robots", around % payload], now_ns=0)
    if isinstance(taken, Event):
        read_by_everyone(b"{%b}" % taken.fields)


@pytest.mark.parametrize(
    "payload",
    [
        b"18446744073709551615",
        b"-9223372036854775808",
        b"1.7976931348623157e308",
        b"1e-999",
        b"0." + b"1" * 400,
        b'"1e999"',
        b'"' + b"1" * 400 + b'"',
        b"[" * 128 + b"]" * 128,
        b"[[],[]," * 100 + b"1" + b"]" * 100,
        b'["' + b"[" * 500 + b'"]',
        b'["\\"' + b"[" * 500 + b'"]',
    ],
)
def test_numbers_and_nesting_up_to_the_limits_are_accepted(payload: bytes) -> None:
    assert accepted(payload)


def test_the_rejection_shows_the_number_that_is_out_of_range() -> None:
    ingest = make()
    ingest.accept([b"robots", b'{"x":1e999}'], now_ns=0)
    ingest.accept([b"robots", b"[" + b"7" * 5000 + b"]"], now_ns=0)
    second, first = ingest.rejections.newest

    assert first.detail == "the number 1e999 does not fit a double"
    assert second.detail == f"the number {'7' * 40}… (5000 characters) does not fit a 64-bit integer"


HOSTILE = [b'{"k":1e999}', b'{"k":%b}' % (b"1" * 5000), b'{"k":' * 970 + b"1" + b"}" * 970]


@pytest.mark.parametrize("hostile", HOSTILE, ids=["exponent", "digits", "nesting"])
def test_a_hostile_event_does_not_affect_other_publishers(hostile: bytes) -> None:
    """Clients with a filter, a key and a rate get the next events."""
    hub = make_hub(retentions={"robots": Retention(key=("data", "k"))})
    options: list[dict[str, Any]] = [{}, {"filter": "data.k > 0"}, {"rate": 1}, {"last": 1}]
    peers = [Peer(hub, f"p{number}") for number in range(len(options))]
    for peer, own in zip(peers, options, strict=True):
        peer.connect("metrics")
        peer.send(type="subscribe", channels=["robots"], **own)
        peer.take()
    innocent = b'{"event_type":"system_metrics","data":{}}'
    hub.tick([[b"metrics", innocent], [b"robots", hostile], [b"metrics", innocent]], now_ns=1)

    for peer in peers:
        assert [m["channel"] for m in peer.take() if m["type"] == "event"] == ["metrics"] * 2
