"""Frames that the gateway sends."""

import pytest

from gateway.core.protocol.frames import is_close_code, ping_frame, pong_frame, text_frame, text_payload


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_a_text_frame_holds_its_payload_behind_the_shortest_header(size: int) -> None:
    payload = b"x" * size
    frame = text_frame(payload)

    assert payload == text_payload(frame)
    assert len(frame) == size + (2 if size < 126 else 4 if size < 65536 else 10)


def test_control_frames_are_final_and_unmasked() -> None:
    assert ping_frame(b"ab") == b"\x89\x02ab"
    assert pong_frame(b"ab") == b"\x8a\x02ab"


def test_close_codes_are_those_of_the_rfc_the_registry_and_the_free_ranges() -> None:
    allowed = {code for code in range(5001) if is_close_code(code) and code < 3000}

    assert allowed == {1000, 1001, 1002, 1003, *range(1007, 1015)}
    assert all(is_close_code(code) for code in range(3000, 5000))
