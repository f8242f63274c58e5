"""What every publisher must do, whatever its language; each case raises AssertionError if it does not.

A case is a function of a `Setting`; its name is its column in the table, its docstring says what it shows.
"""

import json
import struct
import time
from base64 import b64decode
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import zmq
from zmq.auth import create_certificates, load_certificate

from publishers.conformance.processes import WITHIN_SECONDS, Driver, Gateway, Setting, Subscriber, until
from publishers.conformance.readmes import readme
from tests.support.addresses import free_tcp


VECTORS = Path(__file__).parent / "vectors"
PAYLOAD_BYTES_MAX = 1_048_576

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
"""What every language's JSON holds."""

TEXTS = [
    "18446744073709551615",
    "-9223372036854775808",
    '{ "a" : 1.0e0 , "b":[ ] }',
    '"\\ud83d\\ude00 \\u0000"',
    "[1,2,3]",
    "  7  ",
]
"""JSON that is passed on as the text that it is."""


FOREIGN_ANSWERS = [
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
    b"hello there, this is not zeromq at all\r\n" * 3,
    b"",
]
"""What programs that do not speak ZeroMQ say before they close a connection."""


def _vectors(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text())


def _u64(value: int) -> bytes:
    return value.to_bytes(8)


def _connected(setting: Setting, **options: Any) -> tuple[Gateway, Driver]:
    """A gateway that binds, and a publisher that connects to it."""
    endpoint = free_tcp()
    gateway = setting.gateway("connect = []", f'bind = "{endpoint}"')
    driver = setting.driver(connect=endpoint, **options)
    assert driver.ask("wait", seconds=20), "wait_for_subscribers: no subscriber within 20 s"
    return gateway, driver


def _bound(setting: Setting, **options: Any) -> tuple[Gateway, Driver]:
    """A publisher that binds, and a gateway that connects to it."""
    driver = setting.driver(bind="tcp://127.0.0.1:*", **options)
    gateway = setting.gateway(f'connect = ["{driver.opened["endpoint"]}"]', 'bind = ""')
    assert driver.ask("wait", seconds=20), "wait_for_subscribers: no subscriber within 20 s"
    return gateway, driver


def _seen(setting: Setting, **options: Any) -> tuple[Subscriber, Driver]:
    """A publisher and a plain SUB that sees its frames."""
    driver = setting.driver(bind="tcp://127.0.0.1:*", **options)
    subscriber = setting.subscriber(connect=driver.opened["endpoint"])
    subscriber.await_publisher(driver)
    return subscriber, driver


def _all_kinds_are_received(gateway: Gateway, driver: Driver) -> None:
    before = time.time()
    for kind, fields, *_ in KINDS:
        assert driver.ask("kind", kind=kind, fields=fields) is True, kind
    for kind, _, channel, event_type, data in KINDS:
        # On `connections` the gateway itself speaks, too.
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
    _all_kinds_are_received(*_connected(setting))


def bind(setting: Setting) -> None:
    """A publisher that binds: each of the six typed kinds arrives as it was published."""
    _all_kinds_are_received(*_bound(setting))


def example(setting: Setting) -> None:
    """The package's example, run as it stands: its three events arrive."""
    endpoint = free_tcp()
    gateway = setting.gateway("connect = []", f'bind = "{endpoint}"')
    setting.run_example(endpoint)
    for channel in ("metrics", "logs", "robots.r2"):
        gateway.events(channel, 1)


def values(setting: Setting) -> None:
    """Numbers at their limits, Unicode, nesting, JSON text, 1 MiB: all arrive as they were."""
    gateway, driver = _connected(setting)
    for value in VALUES:
        assert driver.ask("publish", topic="values", data=value)
    for text in TEXTS:
        assert driver.ask("raw", topic="texts", json=text)
    assert driver.ask("publish", topic="typed", data={"a": [1]}, event_type="a.b")
    assert driver.ask("burst", topic="large", count=2, bytes=PAYLOAD_BYTES_MAX)["published"] == 2
    events = gateway.events("values", len(VALUES))
    for value, event in zip(VALUES, events, strict=True):
        assert event["data"] == value, f"{event['data']!r} instead of {value!r}"
        assert type(event["data"]) is type(value) or isinstance(value, float), event
    assert [one["data"] for one in gateway.events("texts", len(TEXTS))] == [json.loads(text) for text in TEXTS]
    [typed] = gateway.events("typed", 1)
    assert (typed["event_type"], typed["data"]) == ("a.b", {"a": [1]})
    assert [one["data"]["n"] for one in gateway.events("large", 2)] == [0, 1]
    assert gateway.get("rejections")["rejections"] == []


def binary(setting: Setting) -> None:
    """Bytes of any kind arrive as they were, with their content type; none go to a standard channel."""
    gateway, driver = _connected(setting)
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
    """What the gateway would reject is refused with a reason, sent nowhere, and uses no number."""
    subscriber, driver = _seen(setting)
    for topic in _vectors("topics")["invalid"]:
        assert "topic" in driver.refusal("publish", topic=topic, data=1).lower(), topic
    assert driver.refusal("unencodable", topic="limits")
    reason = driver.refusal("burst", topic="limits", count=1, bytes=PAYLOAD_BYTES_MAX + 1)
    assert str(PAYLOAD_BYTES_MAX) in reason.replace(",", "").replace("_", ""), reason
    for event_type in ("", "x" * 129):
        reason = driver.refusal("publish", topic="limits", data=1, event_type=event_type)
        assert "event_type" in reason, reason
    assert driver.ask("publish", topic="limits", data=1, event_type="x" * 128)
    for topic in _vectors("topics")["valid"]:
        assert driver.ask("publish", topic=topic, data=2)
    first, _, envelope = subscriber.event()
    assert (first, envelope[16:24]) == (b"limits", _u64(1)), "a refusal used a number"
    for topic in _vectors("topics")["valid"]:
        assert [topic.encode(), b"2"] == subscriber.event()[:2]


def envelopes(setting: Setting) -> None:
    """The envelope's bytes are those of the vectors; numbers count from 1 per topic, without holes."""
    subscriber, driver = _seen(setting)
    for vector in _vectors("envelope")["valid"]:
        numbers = {name: vector[name] for name in ("flags", "incarnation", "sequence", "time_ns")}
        assert driver.ask("pack", **numbers) == vector["hex"], vector["name"]
    before = time.time_ns() - 5_000_000  # some clocks tell milliseconds
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
    silent, quiet = _seen(setting, heartbeat_seconds=0)
    quiet.ask("publish", topic="a", data=1)
    assert silent.event()[2][:8] == b"NGE1\0\0\0\0", "flags without heartbeats"
    assert driver.opened["incarnation"] != quiet.opened["incarnation"]


def heartbeats(setting: Setting) -> None:
    """Heartbeats: at once to each new subscriber, every interval, a farewell behind the last event."""
    subscriber, driver = _seen(setting, heartbeat_seconds=0.2, name="core", replay=10)
    first = subscriber.heartbeat()
    assert first == {
        "incarnation": driver.opened["incarnation"],
        "name": "core",
        "interval": 0.2,
        "replay": driver.opened["replay"],
        "sequences": {},
    }, first
    driver.ask("burst", topic="b", count=3, bytes=30)
    driver.ask("raw", topic="a", json="1")
    expected = {"b": 3, "a": 1}
    until(lambda: subscriber.heartbeat()["sequences"] == expected, "the numbers in a heartbeat")
    began = time.monotonic()
    for _ in range(10):
        assert subscriber.heartbeat()["interval"] == 0.2
    assert time.monotonic() - began < 30, "ten heartbeats of 0.2 s"

    slow, greeter = _seen(setting, heartbeat_seconds=3600, name="slow")
    assert slow.heartbeat()["sequences"] == {}
    greeter.ask("raw", topic="a", json="1")
    second = setting.subscriber(connect=greeter.opened["endpoint"])
    assert second.heartbeat()["sequences"] == {"a": 1}, "the second subscriber is greeted"
    greeter.ask("raw", topic="a", json="2")
    greeter.ask("close")
    assert slow.event()[1] == b"1"
    while slow.frames()[0] != b"a":
        pass
    farewell = slow.heartbeat()
    assert (farewell["interval"], farewell["sequences"]) == (0, {"a": 2}), farewell


def topics_in_heartbeats(setting: Setting) -> None:
    """1,001 topics take two heartbeat messages."""
    subscriber, driver = _seen(setting, heartbeat_seconds=3600)
    subscriber.heartbeat()
    names = [f"t.{n}" for n in range(1001)]
    for name in names:
        driver.ask("raw", topic=name, json="1")
    driver.ask("close")
    for name in names:
        assert subscriber.event()[0] == name.encode()
    first, last = subscriber.heartbeat(), subscriber.heartbeat()
    assert len(first["sequences"]) == 1000
    assert first["more"] is True
    assert not last.get("more")
    assert {**first["sequences"], **last["sequences"]} == dict.fromkeys(names, 1)


def welcome(setting: Setting) -> None:
    """Waiting for a subscriber: false while there is none, true once there is; nothing is lost then."""
    endpoint = free_tcp()
    driver = setting.driver(connect=endpoint)
    assert driver.ask("wait", seconds=0.2) is False
    gateway = setting.gateway("connect = []", f'bind = "{endpoint}"')
    assert driver.ask("wait", seconds=30) is True
    for n in range(100):
        driver.ask("publish", topic="w", data=n)
    assert [one["data"] for one in gateway.events("w", 100)] == list(range(100))


def _asker(setting: Setting, endpoint: str) -> "zmq.Socket[bytes]":
    socket = setting.context.socket(zmq.DEALER)
    socket.linger = 0
    socket.connect(endpoint)
    return socket


def _ask(socket: "zmq.Socket[bytes]", topic: bytes, first: int, last: int, *, number: int = 7) -> list[bytes]:
    socket.send_multipart([b"NGR1", _u64(number), topic, _u64(first) + _u64(last)])
    assert socket.poll(30_000), "no reply"
    reply = socket.recv_multipart()
    assert reply[:2] == [b"NGR1", _u64(number)], reply[:2]
    return reply[2:]


def replay(setting: Setting) -> None:
    """Replies are the bytes that were sent: ranges, limits of a reply, what is no request."""
    subscriber, driver = _seen(setting, replay=1000)
    socket = _asker(setting, driver.opened["replay"])
    incarnation = bytes.fromhex(driver.opened["incarnation"])
    driver.ask("burst", topic="many", count=600, bytes=100)
    driver.ask("burst", topic="large", count=4, bytes=400_000)
    driver.ask("burst", topic="single", count=2, bytes=PAYLOAD_BYTES_MAX)
    sent: dict[bytes, list[bytes]] = {}
    for _ in range(606):
        topic, *pair = subscriber.event()
        sent.setdefault(topic, []).extend(pair)
    top = 2**64 - 1
    for topic, first, last, begin, end in (
        (b"many", 1, top, 0, 256),
        (b"many", 257, top, 256, 512),
        (b"many", 513, 600, 512, 600),
        (b"many", 10, 10, 9, 10),
        (b"many", 0, 3, 0, 3),
        (b"many", 601, top, 0, 0),
        (b"many", 5, 4, 0, 0),
        (b"nothing", 1, top, 0, 0),
        (b"large", 1, top, 0, 2),
        (b"single", 1, top, 0, 1),
    ):
        expected = [incarnation, *sent.get(topic, [])[2 * begin : 2 * end]]
        assert _ask(socket, topic, first, last, number=top) == expected, (topic, first, last)
    for invalid in _vectors("replay")["invalid"]:
        if invalid["request"]:
            socket.send_multipart([bytes.fromhex(frame) for frame in invalid["request"]])
    assert _ask(socket, b"many", 1, 1) == [incarnation, *sent[b"many"][:2]]
    others = [_asker(setting, driver.opened["replay"]) for _ in range(3)]
    for n, other in enumerate(others):
        assert _ask(other, b"many", n + 1, n + 1, number=n)[1:] == sent[b"many"][2 * n : 2 * n + 2]
    socket.close()


def replay_is_bounded(setting: Setting) -> None:
    """Of each topic the newest messages are kept, up to the number asked for and to 16 MiB."""
    driver = setting.driver(bind="tcp://127.0.0.1:*", replay=20)
    socket = _asker(setting, driver.opened["replay"])
    driver.ask("burst", topic="a", count=50, bytes=20)
    numbers = [int.from_bytes(one[16:24]) for one in _ask(socket, b"a", 1, 100)[2::2]]
    assert numbers == list(range(31, 51)), numbers
    driver.ask("burst", topic="b", count=20, bytes=PAYLOAD_BYTES_MAX)
    oldest = int.from_bytes(_ask(socket, b"b", 1, 100)[2][16:24])
    assert 5 <= oldest <= 6, f"the oldest kept of 20 MiB is {oldest}"
    socket.close()


def _restarted(setting: Setting, gateway: Gateway, driver: Driver) -> None:
    def publish(numbers: range) -> None:
        for n in numbers:
            driver.ask("publish", topic="r", data=n)

    publish(range(300))
    gateway.events("r", 300)
    gateway.kill()
    publish(range(300, 600))
    gateway.start()
    publish(range(600, 700))
    events = gateway.events("r", 700)
    assert [(one["type"], one["offset"], one["data"]) for one in events] == [("event", n + 1, n) for n in range(700)], (
        "a gap, or another order"
    )
    assert {one["epoch"] for one in events if "epoch" in one} == {driver.opened["incarnation"]}
    assert gateway.get("publishers")["lost"] == 0


def gateway_restarts(setting: Setting) -> None:
    """The gateway is killed and comes back: a publisher that connects loses nothing."""
    _restarted(setting, *_connected(setting, replay=1000))


def gateway_restarts_bind(setting: Setting) -> None:
    """The gateway is killed and comes back: a publisher that binds loses nothing."""
    _restarted(setting, *_bound(setting, replay=1000))


def _has_events(gateway: Gateway, channel: str, count: int) -> bool:
    return len([one for one in gateway.history(channel) if one["type"] == "event"]) == count


def publisher_restarts(setting: Setting) -> None:
    """A killed publisher comes back as a new incarnation that counts from 1."""
    endpoint = free_tcp()
    gateway = setting.gateway(f'connect = ["{endpoint}"]', 'bind = ""')
    seen = []
    for n in range(2):
        driver = setting.driver(bind=endpoint, replay=100)
        assert driver.ask("wait", seconds=30)
        driver.ask("burst", topic="r", count=5, bytes=30)
        seen.append(driver.opened["incarnation"])
        until(partial(_has_events, gateway, "r", 5 * (n + 1)), f"the events of start {n + 1}")
        driver.kill()
    events = [one for one in gateway.history("r") if one["type"] == "event"]
    assert [(one["offset"], one["data"]["n"]) for one in events] == [(n + 1, n) for n in (*range(5), *range(5))]
    assert seen[0] != seen[1]
    assert {one["epoch"] for one in events if "epoch" in one} == set(seen)


def high_water_mark(setting: Setting) -> None:
    """A subscriber that does not read: what is dropped is counted, uses numbers, and can be replayed."""
    driver = setting.driver(bind="tcp://127.0.0.1:*", high_water_mark=20, replay=5000, heartbeat_seconds=3600)
    subscriber = setting.subscriber(connect=driver.opened["endpoint"], queue_max=1, buffer_bytes=4096)
    subscriber.await_publisher(driver)
    report = driver.ask("burst", topic="h", count=2000, bytes=5_000)
    assert report["published"] + report["dropped"] == 2000, report
    assert report["dropped"] > 0, report
    counts = driver.ask("counts")
    assert (counts["published"], counts["dropped"]) == (report["published"], report["dropped"])
    got = [int.from_bytes(subscriber.event()[2][16:24]) for _ in range(report["published"])]
    assert got == sorted(set(got)), "out of order, or twice"
    # There is room again: the next one comes, with the number behind the last.
    until(lambda: driver.ask("raw", topic="h", json="1"), "room again")
    *_, envelope = subscriber.event()
    assert int.from_bytes(envelope[16:24]) > 2000
    socket = _asker(setting, driver.opened["replay"])
    missing = min(set(range(1, 2001)) - set(got))
    [_, payload, _] = _ask(socket, b"h", missing, missing)
    assert json.loads(payload)["n"] == missing - 1
    socket.close()


def _keys(setting: Setting) -> Path:
    folder = setting.scratch / "keys"
    folder.mkdir()
    for name in ("gateway", "core", "stranger"):
        create_certificates(folder, name)  # as `gateway keys` makes them
    for name in ("gateway", "core"):
        (folder / f"known-{name}").mkdir()
        (folder / f"known-{name}/{name}.key").write_bytes((folder / f"{name}.key").read_bytes())
    return folder


def _curve(folder: Path, own: str, gateways: str) -> dict[str, Any]:
    public, secret = load_certificate(folder / f"{own}.key_secret")
    gateway, _ = load_certificate(folder / "gateway.key")
    assert secret is not None
    return {
        "key_file": str(folder / f"{own}.key_secret"),
        "gateways_file": str(folder / gateways),
        "public": public.decode(),
        "secret": secret.decode(),
        "gateway": gateway.decode(),
    }


def curve_connect(setting: Setting) -> None:
    """CURVE, connecting: events and replay are encrypted; a key that is not known stays out."""
    keys = _keys(setting)
    endpoint = free_tcp()
    gateway = setting.gateway(
        "connect = []",
        f'bind = "{endpoint}"',
        "[bus]",
        f'curve_key_file = "{keys}/gateway.key_secret"',
        f'curve_client_keys_dir = "{keys}/known-core"',
    )
    driver = setting.driver(connect=endpoint, replay=1000, curve=_curve(keys, "core", "gateway.key"))
    assert driver.ask("wait", seconds=20), "no subscriber over CURVE"
    driver.opened["endpoint"] = endpoint
    _restarted(setting, gateway, driver)
    stranger = setting.driver(connect=endpoint, curve=_curve(keys, "stranger", "gateway.key"))
    assert stranger.ask("wait", seconds=2) is False, "a stranger's key was let in"


def curve_bind(setting: Setting) -> None:
    """CURVE, binding: events and replay are encrypted; a gateway that is not known stays out."""
    keys = _keys(setting)
    driver = setting.driver(bind="tcp://127.0.0.1:*", replay=1000, curve=_curve(keys, "core", "known-gateway"))
    settings = (f'connect = ["{driver.opened["endpoint"]}"]', 'bind = ""', "[bus]")
    server = f'curve_server_key_file = "{keys}/core.key"'
    setting.gateway(*settings, server, f'curve_key_file = "{keys}/stranger.key_secret"')
    assert driver.ask("wait", seconds=2) is False, "a stranger's key was let in"
    gateway = setting.gateway(*settings, server, f'curve_key_file = "{keys}/gateway.key_secret"')
    assert driver.ask("wait", seconds=20), "no subscriber over CURVE"
    _restarted(setting, gateway, driver)


def curve_mismatch(setting: Setting) -> None:
    """A gateway with CURVE refuses a publisher without; once there is one without, they meet by themselves."""
    keys = _keys(setting)
    endpoint = free_tcp()
    strict = setting.gateway(
        "connect = []",
        f'bind = "{endpoint}"',
        "[bus]",
        f'curve_key_file = "{keys}/gateway.key_secret"',
        f'curve_client_keys_dir = "{keys}/known-core"',
    )
    driver = setting.driver(connect=endpoint)
    assert driver.ask("wait", seconds=2) is False
    assert until(lambda: strict.get("status")["bus"][0]["refused"], "the gateway refuses")
    strict.kill()
    gateway = setting.gateway("connect = []", f'bind = "{endpoint}"')
    assert driver.ask("wait", seconds=30), "not connected again"
    driver.ask("publish", topic="m", data=1)
    gateway.events("m", 1)


def shutdown(setting: Setting) -> None:
    """Closing sends what is queued, ends in time whoever does not read, and the process ends with 0."""
    subscriber, driver = _seen(setting, linger_seconds=30, heartbeat_seconds=3600)
    driver.ask("burst", topic="s", count=3000, bytes=1000)
    driver.ask("close")
    assert driver.end() == 0
    for n in range(3000):
        assert json.loads(subscriber.event()[1])["n"] == n
    assert subscriber.heartbeat()["interval"] == 0, "no farewell"

    alone = setting.driver(connect=free_tcp(), linger_seconds=0.5, replay=10)
    alone.ask("burst", topic="s", count=10, bytes=100)
    assert alone.end() == 0, "the end of its input, without `close`"

    stalled = setting.driver(bind="tcp://127.0.0.1:*", linger_seconds=0.5)
    deaf = setting.subscriber(connect=stalled.opened["endpoint"], queue_max=1, buffer_bytes=4096)
    deaf.await_publisher(stalled)
    stalled.ask("burst", topic="s", count=1000, bytes=10_000)
    stalled.ask("close", within=30)
    reason = stalled.refusal("publish", topic="s", data=1)
    assert "closed" in reason, reason
    assert stalled.end() == 0


def foreign_port(setting: Setting) -> None:
    """At a port of another program a publisher drops, counts and closes in time; its process lives on."""
    for answer in FOREIGN_ANSWERS * 2:
        port = setting.foreign_port(answer)
        driver = setting.driver(connect=port.endpoint, heartbeat_seconds=0.05)
        port.await_visits(2)
        driver.ask("burst", topic="a", count=20, bytes=100)
        port.await_visits(1)
        driver.ask("close")
        assert driver.end() == 0, f"the process ended with {driver.process.returncode} behind {answer[:20]!r}"


def foreign_answer_while_closing(setting: Setting) -> None:
    """A program that does not speak ZeroMQ answers just when the publisher closes: its process lives on, 100 times."""
    driver = setting.driver()
    for n in range(100):
        # Of each, libzmq without a ZAP domain makes a subscription: a short and a long identity, as ZMTP 1 sends them.
        port = setting.foreign_port((b"\1\0" * 50, FOREIGN_ANSWERS[1])[n % 2], waits=True)
        driver.ask("open", connect=port.endpoint, heartbeat_seconds=0.01)
        driver.ask("burst", topic="a", count=20, bytes=100)
        port.await_visits(1)
        driver.begin("close")
        time.sleep(n % 20 / 10_000)
        port.answer_newest()
        driver.finish("close")
    assert driver.end() == 0, f"the process ended with {driver.process.returncode}"


CASES: list[Callable[[Setting], None]] = [
    connect,
    bind,
    example,
    readme,
    values,
    binary,
    refusals,
    envelopes,
    heartbeats,
    topics_in_heartbeats,
    welcome,
    replay,
    replay_is_bounded,
    gateway_restarts,
    gateway_restarts_bind,
    publisher_restarts,
    high_water_mark,
    curve_connect,
    curve_bind,
    curve_mismatch,
    shutdown,
    foreign_port,
    foreign_answer_while_closing,
]
