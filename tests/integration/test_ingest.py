"""What clients could not read is rejected, counted, and kept for operators; the next event is unaffected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest

from tests.conftest import Connect, Launch, NewPublisher
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher, envelope
from tests.support.waiting import eventually


EVENT = orjson.dumps({"event_type": "t", "data": {}})


def _event(**fields: object) -> bytes:
    return orjson.dumps({"event_type": "t", "data": {}, **fields})


REJECTED = [
    ("frame_count", [b"one.frame"]),
    ("frame_count", [b"t", EVENT, envelope(1, 1), b"fourth"]),
    ("frame_count", [b"t"] * 300),
    ("bad_topic", [b"", EVENT]),
    ("bad_topic", [b"with space", EVENT]),
    ("bad_topic", [b"double..dot", EVENT]),
    ("bad_topic", [b".first", EVENT]),
    ("bad_topic", [b"last.", EVENT]),
    ("bad_topic", [b"wild.*", EVENT]),
    ("bad_topic", [b"wild.>", EVENT]),
    ("bad_topic", [b"$everyone", EVENT]),
    ("invalid_event", [b"$personal", EVENT]),
    ("bad_topic", [b"newline\n", EVENT]),
    ("bad_topic", ["umläut".encode(), EVENT]),
    ("bad_topic", [b"\xff\xfe", EVENT]),
    ("bad_topic", [b"x" * 129, EVENT]),
    ("bad_envelope", [b"t", EVENT, b""]),
    ("bad_envelope", [b"t", EVENT, b"short"]),
    ("bad_envelope", [b"t", EVENT, envelope(1, 1) + b"x"]),
    ("bad_envelope", [b"t", EVENT, envelope(1, 1, magic=b"NGE9")]),
    ("oversized", [b"t", b'"' + b"x" * 1_048_576 + b'"']),
    ("invalid_utf8", [b"t", b'{"a": "\xff"}']),
    ("invalid_utf8", [b"t", b'"\xed\xa0\x80"']),
    ("invalid_json", [b"t", b""]),
    ("invalid_json", [b"t", b"{"]),
    ("invalid_json", [b"t", b"{} {}"]),
    ("invalid_json", [b"t", b"NaN"]),
    ("invalid_json", [b"t", b'{"a": Infinity}']),
    ("invalid_json", [b"t", b'{"a": "line\nbreak"}']),
    ("nested_too_deeply", [b"t", b"[" * 100_000]),
    ("invalid_json", [b"t", b"[1,]"]),
    ("invalid_json", [b"metrics", b"{'single': 1}"]),
    ("invalid_event", [b"metrics", b"17"]),
    ("invalid_event", [b"metrics", b"[]"]),
    ("invalid_event", [b"metrics", b'{"data": {}}']),
    ("invalid_event", [b"metrics", b'{"event_type": "system_metrics"}']),
    ("invalid_event", [b"metrics", _event(data=[])]),
    ("invalid_event", [b"metrics", _event(data={"cpu_percent": "high"})]),
    ("invalid_event", [b"signals", _event(data={"priority": 256})]),
    ("invalid_event", [b"signals", _event(data={"is_novel": "yes"})]),
    ("invalid_event", [b"actions", _event(data={"execution_time_ms": "3"})]),
    ("invalid_event", [b"logs", _event(data={"level": "info"})]),
    ("invalid_event", [b"logs", _event(data={"message": "no level"})]),
    ("invalid_event", [b"status", _event(data={"version": "1"})]),
    ("invalid_event", [b"status", _event(data={"status": 3})]),
    ("invalid_event", [b"connections", _event(data={"user_id": "u"})]),
    ("invalid_event", [b"metrics", _event(timestamp="yesterday")]),
    ("invalid_event", [b"metrics", _event(timestamp=-17)]),
    ("invalid_event", [b"metrics", _event(event_type=3)]),
    ("reserved_field", [b"t", _event(channel="other")]),
    ("reserved_field", [b"metrics", _event(channel="other")]),
    ("reserved_field", [b"t", b'{"event_type": "t", "data": {}, "\\u0063hannel": "other"}']),
]


@pytest.fixture(scope="module")
def own() -> object:
    """A gateway that is given nothing but what it must reject."""
    with Gateway() as gateway:
        yield gateway


@pytest.fixture
async def bad(own: Gateway) -> AsyncIterator[Publisher]:
    publisher = Publisher(own.bus_in)
    yield await publisher.subscribed()
    publisher.close()


@pytest.mark.parametrize(("reason", "frames"), REJECTED, ids=[f"{r}-{i}" for i, (r, _) in enumerate(REJECTED)])
async def test_a_bad_message_is_rejected_and_the_next_one_unaffected(
    own: Gateway, bad: Publisher, connect: Connect, reason: str, frames: list[bytes]
) -> None:
    """It is counted under its reason and no client sees it; the good event after it arrives."""
    before = (await own.rejections())["counts"].get(reason, 0)
    client = await connect(">", "good", to=own)
    await client.expect("subscribed")
    bad.send_frames(*frames)
    bad.send("good", {"n": 1})

    event = await client.until("event")
    while event["channel"] == "connections" and event["event_type"].startswith("client."):
        event = await client.until("event")

    assert event["channel"] == "good"
    counts = (await own.rejections())["counts"]
    assert before + 1 == counts[reason]
    assert counts == {k: v for k, v in (await own.status())["rejected"].items() if v}
    newest = (await own.rejections())["rejections"][0]
    assert reason == newest["reason"]
    assert newest["detail"]


async def test_rejections_are_counted_in_metrics(own: Gateway, bad: Publisher) -> None:
    """The Prometheus counter agrees with the status, reason by reason."""
    bad.send_frames(b"t", b"{")

    async def agrees() -> bool:
        counts = (await own.rejections())["counts"]
        found = await own.samples("neurograph_gateway_events_rejected_total")
        return bool(counts) and counts == {s["reason"]: v for s, v in found if v}

    await eventually(agrees, saying="status and metrics agree")


async def test_the_last_rejections_can_be_looked_at(launch: Launch, publisher: NewPublisher) -> None:
    """Time, reason, detail, topic and the payload's first KiB are kept of the last 100, newest first."""
    gateway = await launch()
    bad = await publisher(gateway.bus_in)
    for n in range(150):
        bad.send_payload(f"bad.{n}", b"{" + b"\xff" * 5000)
    bad.send_payload("bad.last", b"not json")

    async def all_counted() -> bool:
        return bool(sum((await gateway.rejections())["counts"].values()) == 151)

    await eventually(all_counted)
    kept = (await gateway.rejections())["rejections"]

    assert len(kept) == 100
    assert {"time", "reason", "detail", "topic", "payload"} <= set(kept[0])
    assert (kept[0]["topic"], kept[0]["payload"], kept[0]["reason"]) == ("bad.last", "not json", "invalid_json")
    assert [f"bad.{n}" for n in range(149, 50, -1)] == [r["topic"] for r in kept[1:]]
    assert all(len(r["payload"]) <= 1024 for r in kept)


async def test_thousands_of_rejections_leave_a_bounded_log(launch: Launch, publisher: NewPublisher) -> None:
    """A broken publisher fills neither the log nor the memory; the count is exact all the same."""
    gateway = await launch()
    bad = await publisher(gateway.bus_in)
    lines = len(gateway.lines)
    for n in range(20_000):
        bad.send_payload("bad", b"no json %d" % n)
        if n % 1000 == 0:
            await asyncio.sleep(0)

    async def all_counted() -> bool:
        return int((await gateway.rejections())["counts"].get("invalid_json", 0)) == 20_000

    await eventually(all_counted)
    assert len(gateway.lines) - lines < 200
    assert len(gateway.lines) > lines


async def test_log_lines_cannot_be_forged_by_a_topic(launch: Launch, publisher: NewPublisher) -> None:
    """What a publisher sends reaches the log escaped: one record per line, no control characters."""
    gateway = await launch()
    bad = await publisher(gateway.bus_in)
    bad.send_frames(b'x\n{"level":"error","message":"forged"}\x1b[31m', b"{")

    async def counted() -> bool:
        return bool((await gateway.rejections())["counts"])

    await eventually(counted)
    assert not any(r.get("message") == "forged" for r in gateway.records)
    assert not any("\x1b" in line for line in gateway.lines)


async def test_the_number_of_channels_is_limited(launch: Launch, connect: Connect, publisher: NewPublisher) -> None:
    """A topic beyond the limit is rejected; channels that exist go on, the standard ones too."""
    gateway = await launch(settings={"ingest.channels_max": 20})
    one = await publisher(gateway.bus_in)
    client = await connect("own.0", "logs", to=gateway)
    await client.expect("subscribed")
    for n in range(200):
        one.send(f"own.{n}", {"n": n})
    one.send("logs", {"level": "info", "message": "m"}, event_type="log.info")
    one.send("own.0", {"n": -1})
    await client.events("own.0", 2)
    await client.events("logs", 1)

    counts = (await gateway.rejections())["counts"]
    assert set(counts) == {"too_many_channels"}
    names = {c["name"] for c in (await gateway.get_json("/api/v1/websocket/channels"))["channels"]}
    own = {name for name in names if name.startswith("own.")}
    assert 200 - len(own) == counts["too_many_channels"]
    assert 10 <= len(own) <= 20


async def test_an_invalid_event_does_not_open_a_channel(launch: Launch, publisher: NewPublisher) -> None:
    """Only what passes makes a channel, so garbage cannot use up the limit."""
    gateway = await launch(settings={"ingest.channels_max": 20})
    one = await publisher(gateway.bus_in)
    for n in range(50):
        one.send_payload(f"garbage.{n}", b"{")
    one.send("good", {})

    async def opened() -> bool:
        found = (await gateway.get_json("/api/v1/websocket/channels"))["channels"]
        return any(c["name"] == "good" for c in found)

    await eventually(opened)
    assert (await gateway.rejections())["counts"] == {"invalid_json": 50}


@pytest.mark.parametrize(
    ("channel", "event_type", "data"),
    [
        ("metrics", "system_metrics", {"cpu_percent": 12.5, "memory_mb": 100, "extra": {"a": 1}}),
        ("metrics", "system_metrics", {}),
        ("signals", "signal.input.text", {"event_id": "1", "priority": 255, "is_novel": None}),
        ("actions", "action.done", {"action_id": "a", "result": {"deep": [1]}, "error": None}),
        ("logs", "log.info", {"level": "info", "message": "hello", "service": "s"}),
        ("status", "status.running", {"status": "running", "uptime_seconds": 1.5}),
        ("connections", "client.connected", {"client_id": "of another gateway"}),
    ],
)
async def test_standard_events_arrive_with_their_extra_fields(
    own: Gateway, bad: Publisher, connect: Connect, channel: str, event_type: str, data: dict[str, object]
) -> None:
    """Optional fields may be missing or null, unknown ones are kept."""
    client = await connect(channel, to=own)
    await client.expect("subscribed")
    bad.send(channel, data, event_type=event_type, source="test")

    event = await client.until("event", source="test")

    assert data == event["data"]
    assert event_type == event["event_type"]


async def test_a_null_timestamp_is_replaced_by_the_time_of_arrival(
    bus: Publisher, connect: Connect, channel: str
) -> None:
    """A timestamp is always there, even if the publisher said null."""
    client = await connect(channel)
    await client.expect("subscribed")
    bus.send(channel, {}, timestamp=None)

    assert isinstance((await client.expect("event"))["timestamp"], str)
