"""A source's steps together, up to the events and the losses that the pipeline reports."""

from __future__ import annotations

import itertools
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.ingest.pipeline import Tick
from gateway.core.ingest.sequence_replay import Answer
from gateway.core.sources.errors import Unreadable
from gateway.core.sources.presets import PRESETS
from gateway.core.sources.source import Source, Steps
from gateway.core.sources.spec import Spec, problems
from tests.support.core import Core, Peer, make_hub


def spec(**settings: object) -> Spec:
    found = Spec(**settings)  # type: ignore[arg-type]  # settings of any kind
    assert [] == list(problems(found))
    return found


class Bus:
    """A gateway's core with one source, and a client that is subscribed to everything."""

    def __init__(self, **settings: object) -> None:
        incarnations = itertools.count(1)
        self.hub: Core = make_hub()
        self.source = Source(spec(**settings), bytes_max=1000, new_incarnation=lambda: next(incarnations))
        self.client = Peer(self.hub, "c")
        self.client.connect(">")
        self.client.take()

    def send(self, *messages: Sequence[bytes]) -> Tick:
        return self.hub.pipeline.receive_from(self.source, messages, now_ns=1)

    def received(self) -> list[dict[str, Any]]:
        return self.client.take()


def data(**settings: object) -> Any:
    frames = settings.pop("message")
    [decoded] = Steps(spec(**settings), bytes_max=1000).decode(frames)  # type: ignore[arg-type]  # a list of frames
    [payload] = decoded.payloads
    return json.loads(payload)


def test_members_and_further_frames_make_an_object() -> None:
    found = data(
        message=[b"t", b'{"h":1}', b"1", b"\x00", b"x"], frames=("topic", "header", "payload"), more_frames="members"
    )

    assert {"payload": 1, "header": {"h": 1}, "frames": [{"base64": "AA=="}, "x"]} == found


def test_members_are_beside_the_bytes_of_an_event_that_carries_bytes() -> None:
    bus = Bus(frames=("about", "payload"), topic="camera", payload="raw")
    bus.send([b'{"msg":"cam1"}', b"\xff\xd8"])

    [event] = bus.received()
    assert ("/9g=", {"msg": "cam1"}) == (event["data_base64"], event["about"])
    assert "data" not in event


def test_without_further_frames_data_is_the_payload() -> None:
    assert 1 == data(message=[b"t", b"1"], more_frames="members")


def test_a_payload_cannot_break_out_of_its_object() -> None:
    with pytest.raises(Unreadable, match="'payload' is no JSON"):
        data(message=[b"t", b'1,"x":2', b"3"], more_frames="members")


def test_members_without_payload_are_all_of_the_object() -> None:
    assert {"a": 1, "b": "x"} == data(message=[b"t", b"1", b"x"], frames=("topic", "a", "b"))


def test_all_frames_together_have_the_limit_of_a_payload() -> None:
    with pytest.raises(Unreadable) as caught:
        data(message=[b"t", b"1", bytes(600), bytes(600)], more_frames="members")

    assert "oversized" == caught.value.reason


@pytest.mark.parametrize(
    ("topic", "level", "service"),
    [
        (b"root.WARN", "warning", "root"),
        (b"INFO", "info", None),
        (b"app.ERROR.db", "error", "app.db"),
        (b"other", "info", "other"),
    ],
)
def test_texts_become_log_records_with_the_level_of_the_topic(topic: bytes, level: str, service: str | None) -> None:
    bus = Bus(payload="text", event="log")
    bus.send([topic, b"it is full\n"])

    [event] = bus.received()
    expected = {"level": level, "message": "it is full", **({"service": service} if service else {})}
    assert ("logs", f"log.{level}", expected) == (event["channel"], event["event_type"], event["data"])


def test_events_go_to_channels_with_escaped_names() -> None:
    bus = Bus(separator="/")
    bus.send([b"kv@host:80/x", b"1"], [b"k" * 200, b"2"])

    assert ["kv%40host%3A80.x", "k" * 200] == [event["channel"] for event in bus.received()]


def test_several_documents_are_several_events_in_order() -> None:
    bus = Bus(documents="several")
    bus.send([b"t", b"1\n2"], [b"t", b"3"])

    assert [1, 2, 3] == [event["data"] for event in bus.received()]


def test_an_unreadable_message_is_counted_and_the_others_arrive() -> None:
    bus = Bus(payload="text")
    tick = bus.send([b"t", b"a"], [b"t", b"\xff"], [b"t"], [b"t", b"b"])

    assert ["a", "b"] == [event["data"] for event in bus.received()]
    assert ["invalid_utf8", "frame_count"] == [rejection.reason for rejection in tick.rejections]
    assert {"invalid_utf8": 1, "frame_count": 1} == bus.hub.pipeline.ingest.rejections.counts
    assert ("t", b"\xff") == (tick.rejections[0].topic, tick.rejections[0].payload)
    assert 7 == tick.bytes


odd = st.sampled_from(
    [
        *(b"", b"{", b"[", b"NaN", b"t {", b"\xff", b"\x1f\x8b", b"\x78\x9c", b"<IDS|MSG>", bytes(4), bytes(8)),
        *(
            b"[" * 5000,
            b"t " + b"[" * 100_000,
            b'{"a":' * 5000,
            b"\x91" * 5000,
            b"\x81\x91\x90\x01",
            b"9" * 5000,
            b"1e999",
        ),
        *(
            zlib.compress(b"[" * 5000),
            b"\xd6\xff\xff\xff\xff\xff",
            b"\xc7\x0c\xff" + b"\xff" * 12,
            b"\xca\x7f\xc0\x00\x00",
        ),
    ]
)
TABLES: list[Mapping[str, object]] = [
    *PRESETS.values(),
    *({"payload": kind, "more_frames": "members"} for kind in ("json", "text", "msgpack", "raw", "hex", "auto")),
    {"documents": "several", "nan": "null"},
]


@pytest.mark.parametrize("table", TABLES, ids=str)
@settings(max_examples=30)
@given(frames=st.lists(odd | st.binary(max_size=20), max_size=8))
@example(frames=[b"t " + b"[" * 100_000])
def test_no_message_raises_anything_but_that_it_is_unreadable(table: Mapping[str, Any], frames: list[bytes]) -> None:
    source = Source(Spec(**table), bytes_max=200_000, new_incarnation=lambda: 1)
    with suppress(Unreadable):
        for message in source.read(frames):
            assert all(type(frame) is bytes for frame in message)


def test_a_decoded_payload_is_validated_like_any_other() -> None:
    tick = Bus().send([b"metrics", b"{}"])

    assert ["invalid_event"] == [rejection.reason for rejection in tick.rejections]


def numbered(*numbers: int, payload: bytes = b"1") -> list[list[bytes]]:
    return [[b"t", struct.pack(">Q", number), payload] for number in numbers]


SEQUENCE = {"frames": ("topic", "sequence", "payload"), "sequence": "be64"}


def test_a_hole_in_the_publishers_numbers_is_a_gap_before_the_next_event() -> None:
    bus = Bus(**SEQUENCE)
    bus.send(*numbered(7, 8, 11))

    found = [(one["type"], one.get("reason"), one.get("count")) for one in bus.received()]
    assert [("event", None, None)] * 2 + [("gap", "bus_loss", 2), ("event", None, None)] == found
    assert 2 == bus.hub.pipeline.ingest.recovery.streams.lost


def test_a_numbered_message_that_is_unreadable_is_a_gap_of_its_own() -> None:
    bus = Bus(payload="text", **SEQUENCE)
    bus.send(*numbered(0), *numbered(1, payload=b"\xff"), *numbered(2))

    found = [(one["type"], one.get("reason"), one.get("count")) for one in bus.received()]
    assert [("event", None, None), ("gap", "rejected", 1), ("event", None, None)] == found
    assert 0 == bus.hub.pipeline.ingest.recovery.streams.lost


def test_what_a_publisher_sent_between_its_new_start_and_the_first_message_is_missing() -> None:
    bus = Bus(**SEQUENCE)
    bus.send(*numbered(0, 1))
    bus.received()
    bus.send(*numbered(0))
    bus.send(*numbered(1, 2))
    bus.send(*numbered(1))

    assert 1 == bus.hub.pipeline.ingest.recovery.streams.lost
    assert 4 == sum(one["type"] == "event" for one in bus.received())


def test_what_was_made_before_an_unreadable_part_is_kept() -> None:
    hub = make_hub()
    spec = Spec(decoder="x", payload="text")
    source = Source(
        spec, bytes_max=99, new_incarnation=lambda: 1, decoder=lambda _: [("a", b"1"), ("b", b"\xff"), ("c", b"2")]
    )

    tick = hub.pipeline.receive_from(source, [[b""]], now_ns=1)

    assert (["a"], ["invalid_utf8"]) == ([one.channel for one in tick.events], [one.reason for one in tick.rejections])


REPLAY: dict[str, object] = {**SEQUENCE, "sequence_scope": "publisher", "replay": "tcp://127.0.0.1:5558"}


def test_a_publisher_with_replay_is_asked_for_what_is_missing() -> None:
    bus = Bus(**REPLAY)
    bus.send(*numbered(0, 1, 4))
    [request] = bus.hub.pipeline.ingest.recovery.take_requests()

    assert ("tcp://127.0.0.1:5558", 1, 3, 4) == (request.endpoint, request.incarnation, request.first, request.last)
    answer = Answer(request, first=0, convert=bus.source.convert_replayed)
    for number in range(1, 6):
        answer.add(struct.pack(">Q", number), b"%d" % number)
    bus.hub.pipeline.receive_replies([answer.reply()], now_ns=2)

    data = [one["data"] for one in bus.received() if one.get("channel") == "t"]
    assert [1, 1, 2, 3, 1] == data


def test_a_replayed_payload_that_is_unreadable_is_rejected() -> None:
    bus = Bus(payload="text", **REPLAY)
    bus.send(*numbered(0, 2))
    [request] = bus.hub.pipeline.ingest.recovery.take_requests()
    answer = Answer(request, first=0, convert=bus.source.convert_replayed)
    answer.add(struct.pack(">Q", 1), b"\xff")
    bus.hub.pipeline.receive_replies([answer.reply()], now_ns=2)

    assert ["rejected"] == [one["reason"] for one in bus.received() if one["type"] == "gap"]


def test_a_new_start_of_a_publisher_with_replay_ends_the_last_one() -> None:
    bus = Bus(**REPLAY)
    bus.send(*numbered(0, 1))
    bus.send(*numbered(0))

    known = [publisher.incarnation for publisher in bus.hub.pipeline.ingest.recovery.publishers.known]
    assert [2] == known


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"frames": ("topic",)}, "frames"),
        ({"frames": ("topic", "payload", "payload")}, "frames"),
        ({"frames": ("payload",)}, "topic"),
        ({"framing": "single"}, "topic"),
        ({"split": ":"}, "split"),
        ({"separator": ""}, "separator"),
        ({"sequence": "be64"}, "sequence"),
        ({"frames": ("topic", "payload", "sequence")}, "sequence"),
        ({**SEQUENCE, "documents": "several"}, "documents"),
        ({**SEQUENCE, "replay": "tcp://127.0.0.1:1"}, "replay"),
        ({"prefix": "a b"}, "prefix"),
        ({"rename": {"a": "b c"}}, "rename"),
    ],
)
def test_settings_that_cannot_be_meant_are_named(settings: dict[str, Any], named: str) -> None:
    assert [named] == [key for key, _, _ in problems(Spec(**settings))]
