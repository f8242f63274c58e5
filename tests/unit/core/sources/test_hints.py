"""What to set for a message that a source would read."""

from __future__ import annotations

import gzip
import zlib

import pytest

from gateway.core.sources.hints import hint


TEXT = b'{"a": 1}'


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (gzip.compress(TEXT), 'compression = "gzip"'),
        (zlib.compress(TEXT), 'compression = "zlib"'),
        (b"\x81\xa1x\x01\xff", 'payload = "msgpack", else "raw"'),
        (b'{"a": NaN}', 'nan = "null"'),
        (b'{"a": 1}\n{"a": 2}', 'documents = "several"'),
        (b"x=5", 'payload = "text" or "auto"'),
    ],
    ids=["gzip", "zlib", "bytes", "NaN", "several", "text"],
)
def test_a_payload_that_is_no_json_gets_the_setting_that_would_read_it(payload: bytes, expected: str) -> None:
    found = hint("invalid_json", [b"topic", payload])

    assert expected in found
    assert found.endswith("for this endpoint in [[bus.sources]]")


@pytest.mark.parametrize(
    "payload",
    [b"", b" ", b'{"a": 1', b'{"a": 1}\n{"a"', b"x" * 100_000],
    ids=["empty", "blank", "cut", "lines", "long"],
)
def test_what_no_setting_would_help_with_gets_none(payload: bytes) -> None:
    assert hint("invalid_json", [b"topic", payload]) == ""


@pytest.mark.parametrize(
    ("reason", "frames", "expected"),
    [
        ("frame_count", [b"topic {}"], 'framing = "single"'),
        ("frame_count", [b"topic"] * 5, "`frames`"),
        ("bad_topic", [b"", TEXT], "`empty_topic`"),
        ("bad_topic", [b"robot/1", TEXT], 'separator = "/"'),
        ("bad_topic", [b"robot 1", TEXT], "maps any topic"),
        ("bad_envelope", [b"topic", TEXT, b"?"], 'frames = ["topic", "payload", "-"]'),
    ],
)
def test_frames_that_do_not_fit_get_the_setting_that_names_them(
    reason: str, frames: list[bytes], expected: str
) -> None:
    assert expected in hint(reason, frames)


def test_a_reason_that_is_no_matter_of_format_gets_no_hint() -> None:
    assert hint("too_large", [b"topic", b"x=5"]) == ""
