"""What to change about a message, from its frames and the reason why it was rejected."""

from __future__ import annotations

import pytest

from gateway.core.ingest.advice import advice, remedy
from gateway.core.protocol.envelope import Envelope


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([b"weather 10 {}"], "separated by a space"),
        ([b'frigate/x{"a":1}'], "separated by the begin of the JSON"),
        ([b"\x78\x9c\x00"], "one frame of zlib"),
        ([b'{"a": 1}'], "one frame without a topic"),
        ([b"json-full:[1]"], "separated by a colon"),
        ([b"nothing"], "one frame without a topic"),
        ([b"", b"{}"], "the topic is empty"),
        ([b"a/b", b"{}"], "'/'"),
        ([b"a", b"\x82\xa1a\x01"], "MessagePack"),
        ([b"a", b"\xff\xd8\xff\xe0"], "JPEG"),
        ([b"a", b"True"], "text that is not JSON"),
        ([b"a", b"{}", b"\0\0\0\1"], "third frame is no envelope but hex 00 00 00 01 (4 bytes)"),
        ([b"a", b"{}", b"", b""], "more frames"),
    ],
)
def test_advice_names_what_a_message_seems_to_be(frames: list[bytes], said: str) -> None:
    assert said in advice(frames)


@pytest.mark.parametrize(
    ("reason", "frames", "said"),
    [
        ("invalid_event", [b"metrics", b"{}"], "metrics is a typed channel"),
        ("invalid_event", [b"own", b"{}"], "docs/protocol.md"),
        ("oversized", [b"a", b"1"], "ingest.payload_bytes_max"),
        ("too_many_streams", [b"a", b"1"], "ingest.streams_max"),
        ("bad_heartbeat", [b"$heartbeat", b"{}"], "heartbeats as docs/protocol.md"),
        ("bad_envelope", [b"a", b"1", Envelope(1, 2**63, 3).pack()], "from 1"),
        ("bad_envelope", [b"a", b"1", b"x"], "the third frame is no envelope"),
        ("invalid_json", [b"a", b'{"n": NaN}'], "JSON library"),
        ("invalid_utf8", [b"a", b"\x82\xa1a\x01"], "MessagePack"),
        ("decoder_failed", [b"a"], "docs/decoders.md"),
        ("bad_sequence", [], "docs/decoders.md"),
        ("frame_count", [], "without frames"),
    ],
)
def test_a_remedy_fits_the_reason(reason: str, frames: list[bytes], said: str) -> None:
    assert said in remedy(reason, frames)
