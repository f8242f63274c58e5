"""Frames out, and the inspection of frames in."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.frames import (
    Inspector,
    Violation,
    is_close_code,
    ping_frame,
    pong_frame,
    text_frame,
    text_payload,
)


def masked(first: int, payload: bytes = b"", *, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    """Return a frame as a client sends it."""
    size = len(payload)
    if size < 126:
        header = bytes((first, 0x80 | size))
    elif size < 65536:
        header = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        header = struct.pack("!BBQ", first, 0x80 | 127, size)
    return header + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_a_text_frame_holds_its_payload_behind_the_shortest_header(size: int) -> None:
    payload = b"x" * size
    frame = text_frame(payload)

    assert payload == text_payload(frame)
    assert len(frame) == size + (2 if size < 126 else 4 if size < 65536 else 10)


def test_control_frames_are_final_and_unmasked() -> None:
    assert ping_frame(b"ab") == b"\x89\x02ab"
    assert pong_frame(b"ab") == b"\x8a\x02ab"


_good = st.one_of(
    st.builds(masked, st.sampled_from([0x81, 0x82, 0x01, 0x00, 0x80]), st.binary(max_size=70_000)),
    st.builds(masked, st.sampled_from([0x89, 0x8A]), st.binary(max_size=125)),
    st.just(masked(0x88)),
    st.sampled_from([1000, 1001, 3000, 4999]).map(
        lambda code: masked(0x88, code.to_bytes(2) + b"bye")
    ),
)


@given(st.lists(_good, max_size=4), st.lists(st.integers(1, 400), max_size=8))
def test_proper_frames_pass_however_they_are_cut(frames: list[bytes], cuts: list[int]) -> None:
    inspector, data = Inspector(), b"".join(frames)
    for cut in cuts:
        inspector.feed(data[:cut])
        data = data[cut:]
    inspector.feed(data)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"\x81\x02hi", id="unmasked"),
        pytest.param(masked(0xC1, b"hi"), id="reserved bit 1"),
        pytest.param(masked(0x91, b"hi"), id="reserved bit 3"),
        pytest.param(masked(0x83, b"hi"), id="reserved data opcode"),
        pytest.param(masked(0x8B), id="reserved control opcode"),
        pytest.param(masked(0x09, b"hi"), id="fragmented ping"),
        pytest.param(masked(0x89, b"x" * 126), id="long ping"),
        pytest.param(masked(0x88, b"x"), id="close with one byte"),
        *(
            pytest.param(masked(0x88, code.to_bytes(2)), id=f"close {code}")
            for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
        ),
    ],
)
@pytest.mark.parametrize("step", [1, 2, 1000])
def test_what_rfc_6455_forbids_is_a_violation(frame: bytes, step: int) -> None:
    inspector = Inspector()
    inspector.feed(masked(0x81, b"fine before"))

    pieces = [frame[at : at + step] for at in range(0, len(frame), step)]
    with pytest.raises(Violation) as caught:
        list(map(inspector.feed, pieces))

    assert caught.value.code == 1002


def test_close_codes_are_those_of_the_rfc_the_registry_and_the_free_ranges() -> None:
    allowed = {code for code in range(5001) if is_close_code(code) and code < 3000}

    assert allowed == {1000, 1001, 1002, 1003, *range(1007, 1015)}
    assert all(is_close_code(code) for code in range(3000, 5000))
