"""Events that carry bytes: what ingest makes of them, and the binary message."""

import json

import pytest

from gateway.core.protocol.binary import bytes_fields, with_bytes
from gateway.core.protocol.frames import text_frame, text_payload


def frame(fields: bytes) -> bytes:
    return text_frame(b'{"type":"event","channel":"camera","offset":12,%b}' % fields)


def test_the_fields_begin_with_the_bytes() -> None:
    found = bytes_fields(rb'{"event_type":"x","data_base64":"\/9j\/","content_type":"image/jpeg"}')

    assert found == b'"data_base64":"/9j/","event_type":"x","content_type":"image/jpeg"'


@pytest.mark.parametrize("text", ["/9j", "/9j/\\n", "_9j_", "ü", "="])
def test_other_alphabets_and_missing_padding_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="`data_base64` must be base64 with padding"):
        bytes_fields(json.dumps({"data_base64": text}).encode())


@pytest.mark.parametrize("epoch", [b"", b'"epoch":"e1",'])
def test_a_binary_message_is_a_header_and_the_bytes(epoch: bytes) -> None:
    made = with_bytes(frame(epoch + b'"data_base64":"/9j/","event_type":"x"'))

    payload = text_payload(made)
    size = int.from_bytes(payload[:4])
    header = json.loads(payload[4 : 4 + size])
    assert made[0] == 0x82
    assert payload[4 + size :] == b"\xff\xd8\xff"
    assert header == {
        "type": "event",
        "channel": "camera",
        "offset": 12,
        "event_type": "x",
        **({"epoch": "e1"} if epoch else {}),
    }


@pytest.mark.parametrize(
    "fields",
    [
        b'"timestamp":"t","data":{"data_base64":"/9j/"}',
        rb'"event_type":"\"data_base64\":\"/9j/\"","data":1',
        b'"timestamp":"t","data":1',
    ],
)
def test_events_without_bytes_stay_text(fields: bytes) -> None:
    assert with_bytes(frame(fields)) == frame(fields)
