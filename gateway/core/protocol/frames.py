"""WebSocket frames (RFC 6455, section 5), encoded once for all clients that get them."""

import struct
from collections.abc import Iterator


_LENGTH_16, _LENGTH_64 = struct.Struct("!BBH"), struct.Struct("!BBQ")
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
_COMPRESSED = 0x40


def text_frame(payload: bytes, *, first: int = _TEXT) -> bytes:
    """Return an unfragmented, unmasked text frame; `payload` must be valid UTF-8. Other kinds of data have another
    `first` byte: one function, as each event needs a call of it."""
    length = len(payload)
    if length < 126:
        return bytes((first, length)) + payload
    if length < 65536:
        return _LENGTH_16.pack(first, 126, length) + payload
    return _LENGTH_64.pack(first, 127, length) + payload


def binary_frame(payload: bytes) -> bytes:
    """Return an unfragmented, unmasked binary frame."""
    return text_frame(payload, first=_BINARY)


def is_binary(frame: bytes) -> bool:
    return frame[0] == _BINARY


def compressed_frame(payload: bytes, frame: bytes) -> bytes:
    """Return a frame of the kind of another, whose payload is compressed already (RFC 7692, section 7.2.1)."""
    return text_frame(payload, first=frame[0] | _COMPRESSED)


def text_payload(frame: bytes) -> bytes:
    """Return the payload of one frame that `text_frame` or `binary_frame` made."""
    size = frame[1]
    return frame[2 if size < 126 else 4 if size == 126 else 10 :]


def each_frame(frames: bytes) -> Iterator[bytes]:
    """Yield each of several unmasked frames in a row."""
    at = 0
    while at < len(frames):
        size, head = frames[at + 1], 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, head = int.from_bytes(frames[at + 2 : at + 2 + width]), 2 + width
        yield frames[at : at + head + size]
        at += head + size


def text_payloads(frames: bytes) -> Iterator[bytes]:
    """Yield the payloads of several text frames in a row."""
    return map(text_payload, each_frame(frames))


def ping_frame(payload: bytes) -> bytes:
    """Return a ping; its payload, at most 125 bytes, comes back in the pong."""
    return bytes((_PING, len(payload))) + payload


def pong_frame(payload: bytes) -> bytes:
    """Return the reply to a ping with this payload."""
    return bytes((_PONG, len(payload))) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """Return a close frame; the reason has at most 123 bytes."""
    payload = code.to_bytes(2) + reason.encode()
    return bytes((_CLOSE, len(payload))) + payload


_REGISTERED_CLOSE_CODES = frozenset({*range(1000, 1004), *range(1007, 1015)})


def is_close_code(code: int) -> bool:
    """Return whether a peer may send this close code (RFC 6455, section 7.4, and IANA)."""
    return code in _REGISTERED_CLOSE_CODES or 3000 <= code <= 4999


class Violation(Exception):
    """A client violated RFC 6455 or 7692; the connection is to be closed with `code`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
