"""WebSocket frames (RFC 6455, section 5), built once and written as they are."""

import struct
from collections.abc import Iterator


_TEXT, _CLOSE, _PING, _PONG = 0x81, 0x88, 0x89, 0x8A


def text_frame(payload: bytes) -> bytes:
    """Return an unfragmented, unmasked text frame; `payload` must be valid UTF-8."""
    length = len(payload)
    if length < 126:
        return bytes((_TEXT, length)) + payload
    if length < 65536:
        return struct.pack("!BBH", _TEXT, 126, length) + payload
    return struct.pack("!BBQ", _TEXT, 127, length) + payload


def text_payload(frame: bytes) -> bytes:
    """Return what `text_frame` was given."""
    return frame[{126: 4, 127: 10}.get(frame[1], 2) :]


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


_CONTROL_MAX = 125
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


class Inspector:
    """Checks a client's frames where the parser behind it is too kind.

    Sees the same bytes as the parser, in the same pieces, and keeps only a frame's header and the
    first two bytes of a close frame's payload.
    """

    __slots__ = ("_close", "_header", "_left", "_mask")

    def __init__(self) -> None:
        self._header = bytearray()
        self._left = 0
        self._close: bytearray | None = None
        self._mask = b""

    def feed(self, data: bytes) -> None:
        """Look at the next bytes from the peer.

        Raises:
            Violation: Unmasked frame (section 5.1), reserved bit or opcode (5.2), fragmented or
                long control frame (5.5), close code that must not be sent (7.4).
        """
        at, end = 0, len(data)
        while at < end:
            if self._left:
                take = min(self._left, end - at)
                if self._close is not None:
                    self._collect_close(data[at : at + take])
                self._left -= take
                at += take
                continue
            at = self._read_header(data, at)

    def _read_header(self, data: bytes, at: int) -> int:
        """Take header bytes from `at` on; return where the payload, or the lack of more, begins."""
        header = self._header
        header.append(data[at])
        at += 1
        if len(header) == 1:
            _check_first(header[0])
            return at
        size = {126: 8, 127: 14}.get(header[1] & 0x7F, 6)
        if len(header) == 2:
            _check_second(header[0], header[1])
        take = min(size - len(header), len(data) - at)
        header += data[at : at + take]
        if len(header) == size:
            self._begin_payload(size)
        return at + take

    def _begin_payload(self, size: int) -> None:
        header = self._header
        length = header[1] & 0x7F
        self._left = length if length < 126 else int.from_bytes(header[2 : size - 4])
        if header[0] & 0x0F == 0x8:
            if self._left == 1:
                raise Violation(1002, "a close frame's payload is empty or has 2 bytes and more")
            self._close = bytearray()
            self._mask = bytes(header[size - 4 :])
        else:
            self._close = None
        header.clear()

    def _collect_close(self, data: bytes) -> None:
        close = self._close
        assert close is not None
        if len(close) >= 2:
            return
        close += data[: 2 - len(close)]
        if len(close) == 2:
            code = (close[0] ^ self._mask[0]) << 8 | (close[1] ^ self._mask[1])
            if not is_close_code(code):
                raise Violation(1002, f"close code {code} must not be sent")


def _check_first(byte: int) -> None:
    if byte & 0x70:
        raise Violation(1002, "a reserved bit is set and no extension was negotiated")
    opcode = byte & 0x0F
    if opcode not in {0x0, 0x1, 0x2, 0x8, 0x9, 0xA}:
        raise Violation(1002, f"opcode {opcode:#x} is reserved")
    if opcode >= 0x8 and not byte & 0x80:
        raise Violation(1002, "a control frame must not be fragmented")


def _check_second(first: int, second: int) -> None:
    if not second & 0x80:
        raise Violation(1002, "a client's frames must be masked")
    if first & 0x0F >= 0x8 and second & 0x7F > _CONTROL_MAX:
        raise Violation(1002, f"a control frame holds at most {_CONTROL_MAX} bytes")
