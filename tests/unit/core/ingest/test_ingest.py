"""Ingest: valid events keep their bytes, other messages are counted and kept with a reason."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ingest.ingest import Ingest
from gateway.core.ingest.recovery import Recovery
from gateway.core.ingest.rejections import Rejection
from gateway.core.ingest.starts import STARTUP_NS
from gateway.core.ingest.streams import NoRoom, Streams
from gateway.core.protocol.envelope import Envelope
from gateway.core.protocol.events import Event, timestamp


NOW = 1_795_435_200_123_456_789
METRICS = b'{"event_type":"system_metrics","data":{"cpu_percent":12.5,"gpu":[1,2]}}'


def make(*, payload_bytes_max: int = 10_000, kept: int = 3, room: bool = True, untyped: tuple[str, ...] = ()) -> Ingest:
    return Ingest(
        payload_bytes_max=payload_bytes_max,
        rejections_max=kept,
        admit=lambda _name: room,
        recovery=Recovery(streams=Streams(streams_max=10), started_ns=-STARTUP_NS, history=lambda _topic: 100),
        untyped=untyped,
    )


def fields(taken: Event | Rejection | None) -> dict[str, Any]:
    assert isinstance(taken, Event), taken
    read: dict[str, Any] = json.loads(b"{" + taken.fields + b"}")
    return read


def reason(taken: Event | Rejection | None) -> str:
    assert isinstance(taken, Rejection), taken
    return taken.reason


def test_an_event_without_a_timestamp_gets_the_time_of_its_receipt() -> None:
    taken = make().accept([b"metrics", METRICS], now_ns=NOW)

    assert fields(taken) == json.loads(METRICS) | {"timestamp": timestamp(NOW)}


def test_null_as_timestamp_counts_as_none() -> None:
    payload = METRICS.replace(b'"data"', b'"timestamp":null,"data"')

    assert fields(make().accept([b"metrics", payload], now_ns=NOW))["timestamp"] == timestamp(NOW)


def test_an_events_own_timestamp_and_further_fields_are_kept() -> None:
    event = {
        "source": {"host": "a"},
        "event_type": "signal.input.text",
        "timestamp": "2026-11-23T12:00:00.123456Z",
        "data": {"priority": 255, "is_novel": None, "mine": "ü"},
    }
    payload = b" " + json.dumps(event, ensure_ascii=False).encode() + b"\n"

    assert event == fields(make().accept([b"signals", payload], now_ns=NOW))


def test_the_envelope_has_the_time_when_an_event_was_sent() -> None:
    frame = Envelope(incarnation=1, sequence=1, sent_ns=77).pack()
    taken = make().accept([b"metrics", METRICS, frame], now_ns=NOW)

    assert isinstance(taken, Event)
    assert taken.sent_ns == 77


@pytest.mark.parametrize("payload", [b"12", b'"text"', b"[1,2]", b"null", b'{"a":1}', b'{"t":1}'])
def test_on_other_channels_a_payload_that_is_no_event_becomes_data(payload: bytes) -> None:
    expected = {"timestamp": timestamp(NOW), "data": json.loads(payload)}

    assert expected == fields(make().accept([b"robots.r2", payload], now_ns=NOW))


@pytest.mark.parametrize("payload", [b'{"event_type":5,"data":1}', b'{"event_type":"x"}', b'["event_type"]'])
def test_what_only_resembles_an_event_object_becomes_data_too(payload: bytes) -> None:
    taken = make().accept([b"robots", payload], now_ns=NOW)

    assert json.loads(payload) == fields(taken)["data"]


def test_on_other_channels_an_event_object_is_taken_as_one() -> None:
    payload = b'{"event_type":"moved","data":[1]}'
    taken = fields(make().accept([b"robots", payload], now_ns=NOW))

    assert taken == {"event_type": "moved", "data": [1], "timestamp": timestamp(NOW)}


@pytest.mark.parametrize(
    ("expected", "frames"),
    [
        ("frame_count", []),
        ("frame_count", [b"metrics"]),
        ("frame_count", [b"metrics", METRICS, b"", b""]),
        ("bad_topic", [b"", METRICS]),
        ("bad_topic", [b"a..b", METRICS]),
        ("bad_topic", [b"metrics\n", METRICS]),
        ("bad_topic", [b"$everyone", METRICS]),
        ("bad_topic", [b"\xff", METRICS]),
        ("bad_topic", [b"x" * 129, METRICS]),
        ("bad_envelope", [b"metrics", METRICS, b""]),
        ("bad_envelope", [b"metrics", METRICS, b"x" * 32]),
        ("bad_envelope", [b"metrics", METRICS, Envelope(1, 2**63, 0).pack()]),
        ("oversized", [b"metrics", b'"' + b"x" * 10_000 + b'"']),
        ("invalid_utf8", [b"metrics", METRICS.replace(b"system", b"\xff")]),
        ("invalid_utf8", [b"robots", b'"\xff"']),
        ("invalid_json", [b"metrics", b""]),
        ("invalid_json", [b"metrics", METRICS[:-1]]),
        ("invalid_json", [b"robots", b"{'a':1}"]),
        ("invalid_json", [b"robots", b"NaN"]),
        ("invalid_json", [b"robots", b"1 2"]),
        ("nested_too_deeply", [b"robots", b"[" * 4000 + b"]" * 4000]),
        ("nested_too_deeply", [b"robots", b'{"a":' * 129 + b"1" + b"}" * 129]),
        ("nested_too_deeply", [b"metrics", METRICS.replace(b"12.5", b"[" * 127 + b"]" * 127)]),
        ("number_out_of_range", [b"robots", b'{"x":1e999}']),
        ("number_out_of_range", [b"robots", b'{"x":-1E400}']),
        ("number_out_of_range", [b"robots", b'{"x":18446744073709551616}']),
        ("number_out_of_range", [b"robots", b'{"x":-9223372036854775809}']),
        ("number_out_of_range", [b"robots", b"1" * 5000]),
        ("number_out_of_range", [b"robots", b"1" * 400 + b".5"]),
        ("number_out_of_range", [b"metrics", METRICS.replace(b"}}", b'},"more":1e999}')]),
        ("invalid_event", [b"metrics", b"[]"]),
        ("invalid_event", [b"metrics", b"{}"]),
        ("invalid_event", [b"metrics", b'{"event_type":"system_metrics"}']),
        ("invalid_event", [b"metrics", METRICS.replace(b"12.5", b'"high"')]),
        ("invalid_event", [b"metrics", METRICS.replace(b"12.5", b"-1")]),
        ("invalid_event", [b"signals", b'{"event_type":"s","data":{"priority":256}}']),
        ("invalid_event", [b"logs", b'{"event_type":"log.info","data":{"level":"info"}}']),
        ("invalid_event", [b"status", b'{"event_type":"s","timestamp":"now","data":{"status":"x"}}']),
        ("reserved_field", [b"robots", METRICS.replace(b'"data"', b'"channel":"x","data"')]),
        ("reserved_field", [b"metrics", METRICS.replace(b'"data"', b'"channel":["metrics"],"data"')]),
        ("invalid_event", [b"metrics", METRICS.replace(b'"data"', b'"timestamp":-1,"data"')]),
        ("invalid_event", [b"metrics", METRICS.replace(b'"data"', b'"timestamp":1e300,"data"')]),
        ("invalid_event", [b"metrics", METRICS.replace(b'"data"', b'"timestamp":true,"data"')]),
    ],
)
def test_an_invalid_message_is_rejected_with_its_reason_and_the_next_is_accepted(
    expected: str, frames: list[bytes]
) -> None:
    ingest = make()

    assert expected == reason(ingest.accept(frames, now_ns=NOW))
    assert ingest.rejections.counts == {expected: 1}
    assert isinstance(ingest.accept([b"metrics", METRICS], now_ns=NOW), Event)


@pytest.mark.parametrize("channel", [b"robots", b"metrics"])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ('"2026-11-28T12:00:00"', "2026-11-28T12:00:00Z"),
        ('"2026-11-28 12:00:00.5"', "2026-11-28T12:00:00.5Z"),
        ('"2026-11-28t12:00:00z"', "2026-11-28T12:00:00Z"),
        ('"2026-11-28T12:00:00.123456789+00:00"', "2026-11-28T12:00:00.123456789Z"),
        ('"2026-11-28T00:30:00.25+0200"', "2026-11-27T22:30:00.25Z"),
        ('"2026-11-28T12:00:00.1234567891Z"', "2026-11-28T12:00:00.123456789Z"),
        ('"2016-12-31T23:59:60Z"', "2017-01-01T00:00:00Z"),
        ('"2017-01-01T00:59:60.5+01:00"', "2017-01-01T00:00:00.5Z"),
        ("1795435200", "2026-11-23T12:00:00.000000Z"),
        ("1795435200.25", "2026-11-23T12:00:00.250000Z"),
        ("1795435200250", "2026-11-23T12:00:00.250000Z"),
        ("1795435200250000", "2026-11-23T12:00:00.250000Z"),
        ("0", "1970-01-01T00:00:00.000000Z"),
    ],
)
def test_every_timestamp_gets_the_same_form(channel: bytes, given: str, expected: str) -> None:
    nested = b'"data":{"timestamp":"2026-11-28 12:00:00"}'
    for data in (b'"data":{}', nested):
        payload = b'{"event_type":"x", "timestamp" : %b, %b}' % (given.encode(), data)
        taken = fields(make().accept([channel, payload], now_ns=NOW))

        assert taken["timestamp"] == expected
        assert taken["data"] == json.loads(b"{" + data + b"}")["data"], "only the event's own"


@pytest.mark.parametrize("channel", [b"robots", b"metrics"])
@pytest.mark.parametrize("text", ["2026-02-30T12:00:00Z", "2026-11-28T25:00:00", "2026-11-28T12:00:00+99:00"])
def test_a_time_that_does_not_exist_is_rejected(channel: bytes, text: str) -> None:
    """No client could make a date of it."""
    payload = b'{"event_type":"x","data":{},"timestamp":"%b"}' % text.encode()
    taken = make().accept([channel, payload], now_ns=NOW)

    assert isinstance(taken, Rejection)
    assert (taken.reason, text in taken.detail) == ("invalid_event", True)


@pytest.mark.parametrize("channel", [b"robots", b"metrics"])
def test_an_event_that_was_received_from_the_gateway_can_be_published_again(channel: bytes) -> None:
    event = {"event_type": "x", "timestamp": "2026-11-28T12:00:00Z", "data": {"cpu_percent": 1}, "mine": 2}
    sent = {"type": "event", "channel": channel.decode(), "offset": 12, "epoch": "ab12cd34", **event}

    assert event == fields(make().accept([channel, json.dumps(sent).encode()], now_ns=NOW))


def test_an_event_of_the_first_neurograph_server_is_accepted() -> None:
    event = {"channel": "metrics", "event_type": "system_metrics", "data": {"cpu_percent": 1}}
    taken = fields(make().accept([b"metrics", json.dumps(event).encode()], now_ns=NOW))

    assert taken == {"event_type": "system_metrics", "data": {"cpu_percent": 1}, "timestamp": timestamp(NOW)}


def test_members_with_names_that_the_gateway_sets_move_aside() -> None:
    event = {"event_type": "x", "data": 1, "type": "car", "offset": 0.5, "epoch": None}
    taken = fields(make().accept([b"robots", json.dumps(event).encode()], now_ns=NOW))

    assert taken == {
        "event_type": "x",
        "data": 1,
        "_type": "car",
        "_offset": 0.5,
        "_epoch": None,
        "timestamp": timestamp(NOW),
    }


def test_a_standard_channel_can_be_untyped() -> None:
    ingest = make(untyped=("status",))

    assert fields(ingest.accept([b"status", b'{"ok":true}'], now_ns=NOW))["data"] == {"ok": True}
    assert reason(ingest.accept([b"metrics", b'{"ok":true}'], now_ns=NOW)) == "invalid_event"


def test_a_channel_beyond_the_limit_is_rejected() -> None:
    assert reason(make(room=False).accept([b"new", b"1"], now_ns=NOW)) == "too_many_channels"


def test_the_newest_rejections_are_kept_and_all_are_counted() -> None:
    ingest = make(kept=3)
    for number in range(5):
        ingest.accept([b"robots", b"x%d" % number], now_ns=NOW)

    assert ingest.rejections.counts == {"invalid_json": 5}
    assert [rejection.payload for rejection in ingest.rejections.newest] == [b"x4", b"x3", b"x2"]


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_payload_is_rejected_or_becomes_json(topic: bytes, payload: bytes) -> None:
    ingest = make()
    for name in (topic, b"metrics", b"robots"):
        taken = ingest.accept([name, payload], now_ns=NOW)
        if isinstance(taken, Event):
            json.loads(b"{" + taken.fields + b"}")


def test_a_loss_is_reported_with_the_next_valid_event_of_its_channel() -> None:
    """A rejected message has a number, too: it is reported as rejected, and not as lost."""
    ingest = make()
    stamps = [Envelope(incarnation=1, sequence=n, sent_ns=1).pack() for n in (1, 4, 5, 5, 6)]
    payloads = [b"1", b"{", b"2", b"2", b"3"]
    taken = [
        ingest.accept([b"robots", payload, stamp], now_ns=NOW) for payload, stamp in zip(payloads, stamps, strict=True)
    ]

    missing = [[tuple(hole) for hole in one.missing] for one in taken if isinstance(one, Event)]
    assert missing == [[], [(2, 3, "bus_loss"), (4, 4, "rejected")], []]
    assert reason(taken[1]) == "invalid_json"
    assert taken[3] is None, "a duplicate"


@given(st.lists(st.lists(st.binary(max_size=60), max_size=8), max_size=20))
def test_no_bytes_from_the_bus_can_raise(batch: list[list[bytes]]) -> None:
    """Any topics, envelopes, heartbeats and replies are accepted or rejected."""
    ingest = make()

    def accept(frames: list[bytes]) -> None:
        try:
            ingest.accept(frames, now_ns=NOW)
        except NoRoom:
            ingest.accept(frames, now_ns=NOW, again=True)

    for frames in batch:
        ingest.recovery.tick += 1
        accept(frames)
        accept([b"robots", b"1", *frames[:1]])
        accept([b"robots", b"1", b"NGE1" + b"".join(frames)[:28].ljust(28, b"\1")])
        accept([b"$heartbeat", *frames[:1]])
        ingest.receive_reply(frames, now_ns=NOW)
        ingest.receive_reply([b"NGR1", bytes(8), *frames], now_ns=NOW)
        list(ingest.released(now_ns=NOW))


@pytest.mark.parametrize(
    "heartbeat",
    [
        b"",
        b"[]",
        b"{}",
        b'{"incarnation":"7","interval":1}',
        b'{"incarnation":"000000000000000g","interval":1}',
        b'{"incarnation":"0000000000000007","interval":-1}',
        b'{"incarnation":"0000000000000007","interval":1,"sequences":{"a":-1}}',
        b'{"incarnation":"0000000000000007","interval":1,"sequences":{"a":1.5}}',
        b'{"incarnation":"0000000000000007","interval":1,"replay":7}',
    ],
)
def test_an_invalid_heartbeat_is_rejected(heartbeat: bytes) -> None:
    assert reason(make().accept([b"$heartbeat", heartbeat], now_ns=NOW)) == "bad_heartbeat"


def test_an_event_may_carry_bytes() -> None:
    payload = b'{"content_type":"image/jpeg","timestamp":null,"data_base64":"/9j/"}'

    taken = make().accept([b"camera", payload], now_ns=NOW)

    assert fields(taken) == {"data_base64": "/9j/", "content_type": "image/jpeg", "timestamp": timestamp(NOW)}


@pytest.mark.parametrize(
    ("channel", "payload", "expected"),
    [
        (b"camera", b'{"data_base64":"?"}', "invalid_event"),
        (b"camera", b'{"data_base64":"/9j/","data":1}', "reserved_field"),
        (b"camera", b'{"data_base64":"/9j/","data":1,"event_type":"x"}', "reserved_field"),
        (b"camera", b'{"data_base64":"/9j/","channel":"x"}', "reserved_field"),
        (b"metrics", b'{"data_base64":"/9j/","event_type":"x"}', "invalid_event"),
        (b"metrics", METRICS.replace(b'"data"', b'"data_base64":"","data"'), "reserved_field"),
    ],
)
def test_bytes_that_are_not_valid_are_rejected(channel: bytes, payload: bytes, expected: str) -> None:
    assert reason(make().accept([channel, payload], now_ns=NOW)) == expected


@pytest.mark.parametrize("channel", [b"robots", b"metrics"])
def test_a_payload_may_begin_with_a_byte_order_mark(channel: bytes) -> None:
    ingest = make()
    taken, same = (
        ingest.accept([channel, b"\xef\xbb\xbf" + METRICS], now_ns=NOW),
        ingest.accept([channel, METRICS], now_ns=NOW),
    )

    assert fields(taken) == fields(same)


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b'{"x":NaN}', "NaN is not JSON (byte 5)"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b"True", "True is not JSON"),
        (rb'"\ud800"', r"half of a surrogate pair, \ud800"),
        (b'{"x": 1,}', 'near `{"x": 1,}`'),
        (b'{"x": 1', "the JSON text ends too early"),
        (b"", "the payload is empty"),
    ],
)
def test_what_is_not_json_is_named(payload: bytes, said: str) -> None:
    taken = make().accept([b"a", payload], now_ns=NOW)

    assert isinstance(taken, Rejection)
    assert said in taken.detail


def test_a_rejection_shows_all_frames_and_its_publisher() -> None:
    taken = make().accept([b"a", b"\xff\x00", Envelope(7, 1, NOW).pack()], now_ns=NOW)

    assert isinstance(taken, Rejection)
    assert taken.frames == "3 frames: `a` (1 byte), hex ff 00 (2 bytes), an envelope (32 bytes)"
    assert taken.publisher == "0000000000000007"
