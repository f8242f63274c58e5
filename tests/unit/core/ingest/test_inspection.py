"""Frames are shown to people as what they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ingest.inspection import describe_frame, describe_frames
from gateway.core.protocol.envelope import Envelope


@pytest.mark.parametrize(
    ("frame", "shown"),
    [
        (b"", "empty (0 bytes)"),
        (b"logs", "`logs` (4 bytes)"),
        ("Zürich".encode(), "`Zürich` (7 bytes)"),
        (b"a\nb", r"`a\nb` (3 bytes)"),
        (b"\x00\x01\xfe", "hex 00 01 fe (3 bytes)"),
        (b"\x1f\x8b\x08\x00", "gzip, hex 1f 8b 08 00 (4 bytes)"),
        (b"\x1b[31m", "hex 1b 5b 33 31 6d (5 bytes)"),
        (b"x" * 5000, f"`{'x' * 100}…` (5000 bytes)"),
        (b"\xff" * 5000, f"hex {' '.join(['ff'] * 24)} … (5000 bytes)"),
        (Envelope(1, 2, 3).pack(), "an envelope (32 bytes)"),
    ],
)
def test_a_frame_is_shown_with_its_size(frame: bytes, shown: str) -> None:
    assert shown == describe_frame(frame)


def test_all_frames_are_shown() -> None:
    assert describe_frames([b"a", b"{}", b"\0"]) == "3 frames: `a` (1 byte), `{}` (2 bytes), hex 00 (1 byte)"


@given(st.lists(st.binary(max_size=600), max_size=20))
def test_what_is_shown_is_short_and_printable(frames: list[bytes]) -> None:
    text = describe_frames(frames)

    assert text.isprintable()
    assert len(text) < 8 * 250
