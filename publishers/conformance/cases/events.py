"""Cases about single events: how values, bytes, kinds and envelopes arrive, and what a publisher refuses."""

import json
import struct
import time
from base64 import b64decode
from datetime import datetime
from functools import partial
from typing import Any

from publishers.conformance.cases.support import PAYLOAD_BYTES_MAX, bound, connected, seen, u64, vectors
from publishers.conformance.processes import WITHIN_SECONDS, Driver, Gateway, Setting, until
from tests.support.addresses import free_tcp


KINDS: list[tuple[str, dict[str, Any], str, str, dict[str, Any]]] = [
    # kind, fields, channel, event_type, data
    (
        "metrics",
        {"cpu_percent": 12.5, "memory_mb": 2048, "total_tokens": 7},
        "metrics",
        "system_metrics",
        {"cpu_percent": 12.5, "memory_mb": 2048, "total_tokens": 7},
    ),
    (
        "signal",
        {"kind": "input", "event_id": "e1", "is_novel": True, "priority": 200, "neighbors_count": 3},
        "signals",
        "signal.input",
        {"event_id": "e1", "event_type": "signal.input", "is_novel": True, "priority": 200, "neighbors_count": 3},
    ),
    (
        "action",
        {"kind": "speak", "action_id": "a1", "status": "done", "execution_time_ms": 1.5},
        "actions",
        "action.executed",
        {"action_id": "a1", "action_type": "speak", "status": "done", "execution_time_ms": 1.5},
    ),
    (
        "log",
        {"level": "INFO", "message": 'grüße "x"\n\u2028 😀', "service": "core"},
        "logs",
        "log.info",
        {"level": "INFO", "message": 'grüße "x"\n\u2028 😀', "service": "core"},
    ),
    (
        "status",
        {"state": "ready", "uptime_seconds": 3.5, "version": "1.2"},
        "status",
        "status.ready",
        {"status": "ready", "uptime_seconds": 3.5, "version": "1.2"},
    ),
    (
        "connection",
        {"change": "joined", "client_id": "c1", "total_connections": 4},
        "connections",
        "client.joined",
        {"client_id": "c1", "total_connections": 4},
    ),
]


VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    2**53 - 1,
    -(2**53) + 1,
    0.1,
    1.7976931348623157e308,
    5e-324,
    "",
    'quotes " and \\ and / and \b\f\n\r\t and \u0000\u001f\u007f',
    "ä ß € 😀 \u2028 \u2029 \ufeff \ue000 e\u0301",
    [],
    {},
    [[], [{}], {"": {"a.b": None}}],
    {"event": "without a type", "offset": 3},
]
"""Values that JSON can represent in every language."""


TEXTS = [
    "18446744073709551615",
    "-9223372036854775808",
    '{ "a" : 1.0e0 , "b":[ ] }',
    '"\\ud83d\\ude00 \\u0000"',
    "[1,2,3]",
    "  7  ",
]
"""JSON texts that arrive unchanged."""


def _all_kinds_are_received(gateway: Gateway, driver: Driver) -> None:
    before = time.time()
    for kind, fields, *_ in KINDS:
        assert driver.ask("kind", kind=kind, fields=fields) is True, kind
    for kind, _, channel, event_type, data in KINDS:
        # On `connections` the gateway itself publishes, too.
        event = until(partial(_find, gateway, channel, event_type), f"{kind} arrives")
        assert event["data"] == data, f"{kind}: {event['data']}"
        assert before - 2 < _unix(event["timestamp"]) < time.time() + 2, event["timestamp"]
        if channel not in ("connections", "status"):
            assert event["epoch"] == driver.opened["incarnation"], event
            assert event["offset"] == 1, event
    assert gateway.get("rejections")["rejections"] == []


def _find(gateway: Gateway, channel: str, event_type: str) -> Any:
    return next((one for one in gateway.history(channel) if one.get("event_type") == event_type), None)


def _unix(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def connect(setting: Setting) -> None:
    """A publisher that connects: each of the six typed kinds arrives as it was published."""
    _all_kinds_are_received(*connected(setting))


def bind(setting: Setting) -> None:
    """A publisher that binds: each of the six typed kinds arrives as it was published."""
    _all_kinds_are_received(*bound(setting))


def example(setting: Setting) -> None:
    """The package's example runs unchanged: its three events arrive."""
    endpoint = free_tcp()
    gateway = setting.gateway("connect = []", f'bind = "{endpoint}"')
    setting.run_example(endpoint)
    for channel in ("metrics", "logs", "robots.r2"):
        gateway.events(channel, 1)


def values(setting: Setting) -> None:
    """Numbers at their limits, Unicode, nesting, JSON text, 1 MiB: all arrive unchanged."""
    gateway, driver = connected(setting)
    for value in VALUES:
        assert driver.ask("publish", topic="values", data=value)
    for text in TEXTS:
        assert driver.ask("raw", topic="texts", json=text)
    assert driver.ask("publish", topic="typed", data={"a": [1]}, event_type="a.b")
    assert driver.ask("burst", topic="large", count=2, bytes=PAYLOAD_BYTES_MAX)["published"] == 2
    events = gateway.events("values", len(VALUES))
    for value, event in zip(VALUES, events, strict=True):
        assert event["data"] == value, f"published {value!r}, received {event['data']!r}"
        assert type(event["data"]) is type(value) or isinstance(value, float), event
    assert [one["data"] for one in gateway.events("texts", len(TEXTS))] == [json.loads(text) for text in TEXTS]
    [typed] = gateway.events("typed", 1)
    assert (typed["event_type"], typed["data"]) == ("a.b", {"a": [1]})
    assert [one["data"]["n"] for one in gateway.events("large", 2)] == [0, 1]
    assert gateway.get("rejections")["rejections"] == []


def binary(setting: Setting) -> None:
    """Bytes of any kind arrive unchanged, with their content type; standard channels refuse them."""
    gateway, driver = connected(setting)
    payloads = [bytes(range(256)), b"", b"\xff", b"\xff\xd8", bytes(700_000)]
    for payload in payloads:
        assert driver.ask("bytes", topic="camera", hex=payload.hex(), content_type='image/x-"\u00e9"')
    assert driver.ask("bytes", topic="camera", hex="00")
    assert "standard" in driver.refusal("bytes", topic="metrics", hex="00")
    assert str(PAYLOAD_BYTES_MAX) in driver.refusal("bytes", topic="camera", hex="00" * 800_000)
    *typed, last = gateway.events("camera", len(payloads) + 1)
    for payload, event in zip(payloads, typed, strict=True):
        assert b64decode(event["data_base64"], validate=True) == payload, event["data_base64"][:100]
        assert event["content_type"] == 'image/x-"\u00e9"', event["content_type"]
        assert abs(_unix(event["timestamp"]) - time.time()) < WITHIN_SECONDS, event["timestamp"]
    assert (last["data_base64"], "content_type" in last) == ("AA==", False)
    assert gateway.get("rejections")["rejections"] == []


def refusals(setting: Setting) -> None:
    """Events that the gateway would reject are refused with a reason, not sent, and use no number."""
    subscriber, driver = seen(setting)
    for topic in vectors("topics")["invalid"]:
        assert "topic" in driver.refusal("publish", topic=topic, data=1).lower(), topic
    assert driver.refusal("unencodable", topic="limits")
    reason = driver.refusal("burst", topic="limits", count=1, bytes=PAYLOAD_BYTES_MAX + 1)
    assert str(PAYLOAD_BYTES_MAX) in reason.replace(",", "").replace("_", ""), reason
    for event_type in ("", "x" * 129):
        reason = driver.refusal("publish", topic="limits", data=1, event_type=event_type)
        assert "event_type" in reason, reason
    assert driver.ask("publish", topic="limits", data=1, event_type="x" * 128)
    for topic in vectors("topics")["valid"]:
        assert driver.ask("publish", topic=topic, data=2)
    first, _, envelope = subscriber.event()
    assert (first, envelope[16:24]) == (b"limits", u64(1)), "a refused event used a number"
    for topic in vectors("topics")["valid"]:
        assert [topic.encode(), b"2"] == subscriber.event()[:2]


def envelopes(setting: Setting) -> None:
    """The envelope's bytes equal the vectors; each topic is numbered from 1 without holes."""
    subscriber, driver = seen(setting)
    for vector in vectors("envelope")["valid"]:
        numbers = {name: vector[name] for name in ("flags", "incarnation", "sequence", "time_ns")}
        assert driver.ask("pack", **numbers) == vector["hex"], vector["name"]
    before = time.time_ns() - 5_000_000  # some clocks have a resolution of milliseconds
    for _ in range(300):
        for topic in ("a", "b.c"):
            driver.ask("raw", topic=topic, json=' {"x": 1} ')
    for sequence in range(1, 301):
        for expected in (b"a", b"b.c"):
            name, payload, envelope = subscriber.event()
            assert (name, payload) == (expected, b' {"x": 1} ')
            time_ns = int.from_bytes(envelope[24:])
            incarnation = int(driver.opened["incarnation"], 16)
            assert envelope == struct.pack(">4sIQQQ", b"NGE1", 1, incarnation, sequence, time_ns)
            assert before <= time_ns <= time.time_ns()
            before = time_ns
    silent, quiet = seen(setting, heartbeat_seconds=0)
    quiet.ask("publish", topic="a", data=1)
    assert silent.event()[2][:8] == b"NGE1\0\0\0\0", "without heartbeats the envelope's flags must be 0"
    assert driver.opened["incarnation"] != quiet.opened["incarnation"]
