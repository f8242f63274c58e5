"""WebSocket frames (RFC 6455, section 5), built once and written as they are."""

import struct
from collections.abc import Iterator


_MIDDLING, _LARGE = struct.Struct("!BBH"), struct.Struct("!BBQ")
_TEXT, _PACKED_TEXT, _CLOSE, _PING, _PONG = 0x81, 0xC1, 0x88, 0x89, 0x8A


def text_frame(payload: bytes) -> bytes:
    """Return an unfragmented, unmasked text frame; `payload` must be valid UTF-8."""
    return _data_frame(_TEXT, payload)


def packed_frame(payload: bytes) -> bytes:
    """Return one whose payload is compressed (RFC 7692, section 7.2.1)."""
    return _data_frame(_PACKED_TEXT, payload)


def _data_frame(first: int, payload: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        return bytes((first, length)) + payload
    if length < 65536:
        return _MIDDLING.pack(first, 126, length) + payload
    return _LARGE.pack(first, 127, length) + payload


def text_payload(frame: bytes) -> bytes:
    """Return what `text_frame` was given."""
    size = frame[1]
    return frame[2 if size < 126 else 4 if size == 126 else 10 :]


def text_payloads(frames: bytes) -> Iterator[bytes]:
    """Return what each of several text frames in a row was given."""
    at = 0
    while at < len(frames):
        size = frames[at + 1]
        at += 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size = int.from_bytes(frames[at : at + width])
            at += width
        yield frames[at : at + size]
        at += size


def ping_frame(payload: bytes) -> bytes:
    """Return a ping; its payload, at most 125 bytes, comes back in the pong."""
    return bytes((_PING, len(payload))) + payload


def pong_frame(payload: bytes) -> bytes:
    """Return the answer to a ping with this payload."""
    return bytes((_PONG, len(payload))) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """Return a close frame; the reason, at most 123 bytes, is for people."""
    payload = code.to_bytes(2) + reason.encode()
    return bytes((_CLOSE, len(payload))) + payload


_CLOSE_CODES_REGISTERED = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011})
_CLOSE_CODES_IANA = frozenset({1012, 1013, 1014})


def is_close_code(code: int) -> bool:
    """Tell whether a peer may send this close code (RFC 6455, section 7.4, and IANA)."""
    return code in _CLOSE_CODES_REGISTERED or code in _CLOSE_CODES_IANA or 3000 <= code <= 4999


class Violation(Exception):
    """A peer broke RFC 6455; `code` is the close code that answers it."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
