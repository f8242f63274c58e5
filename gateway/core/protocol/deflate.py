"""Compressed messages (permessage-deflate, RFC 7692), each compressed once for all who get it.

What is agreed on always says that no message refers to those before it, in either direction. So a
compressed event is the same for everybody, and no connection has a compressor of its own.
"""

import re
import zlib
from collections.abc import Callable, Mapping

from gateway.core.protocol.frames import Violation, packed_frame, text_frame, text_payloads


_NAME = "permessage-deflate"
_TAIL = b"\x00\x00\xff\xff"
_LEVEL = 6
_BITS_MIN, _BITS_MAX = 9, 15
_KEPT_BYTES_MAX = 4 * 1024 * 1024
_PARAMETER = re.compile(r'\s*([\w-]+)\s*(?:=\s*(?:"?(\d{1,2})"?))?\s*', re.ASCII)
_BITS = re.compile(r"8|9|1[0-5]")


def negotiate(offered: str) -> tuple[int, str] | None:
    """Choose among the offers of a ``Sec-WebSocket-Extensions`` header (RFC 7692, section 7.1).

    Returns the base-2 logarithm of the window that the client can hold, and what to answer; None if
    nothing that is offered can be agreed on.
    """
    for offer in offered.split(","):
        name, *parameters = offer.split(";")
        if name.strip() != _NAME:
            continue
        found = _parameters(parameters)
        if found is not None and _is_acceptable(found):
            bits = found.get("server_max_window_bits")
            answer = f"{_NAME}; server_no_context_takeover; client_no_context_takeover"
            if bits is None:
                return _BITS_MAX, answer
            return int(bits), f"{answer}; server_max_window_bits={bits}"
    return None


def _parameters(texts: list[str]) -> dict[str, str | None] | None:
    """Return what an offer says; None if it is not well formed."""
    found: dict[str, str | None] = {}
    for text in texts:
        parameter = _PARAMETER.fullmatch(text)
        if parameter is None or parameter[1] in found:
            return None
        found[parameter[1]] = parameter[2]
    return found


def _is_acceptable(parameters: Mapping[str, str | None]) -> bool:
    for name, value in parameters.items():
        match name:
            case "server_no_context_takeover" | "client_no_context_takeover":
                acceptable = value is None
            case "client_max_window_bits":
                acceptable = value is None or bool(_BITS.fullmatch(value))
            case "server_max_window_bits":  # zlib writes no raw stream for a window of 8 bits
                acceptable = value is not None and value != "8" and bool(_BITS.fullmatch(value))
            case _:
                acceptable = False
        if not acceptable:
            return False
    return True


def inflate(data: bytes, bytes_max: int) -> bytes:
    """Return what a client's message holds (section 7.2.2).

    Raises:
        Violation: It is not compressed as it should be, or holds more than `bytes_max`, of which no
            more than that is ever unpacked.
    """
    try:
        unpacked = zlib.decompressobj(-_BITS_MAX).decompress(data + _TAIL, bytes_max + 1)
    except zlib.error:
        raise Violation(1007, "a message is not compressed as it should be") from None
    if len(unpacked) > bytes_max:
        raise Violation(1009, f"a message has at most {bytes_max} bytes, unpacked")
    return unpacked


class Compressor:
    """Compresses messages of `bytes_min` bytes and more; remembers the newest, for whoever is next.

    `on_packed` is called for each message, with the number of bytes by which it became shorter.
    """

    def __init__(self, bytes_min: int, *, on_packed: Callable[[int], object]) -> None:
        self._on_packed = on_packed
        self._bytes_min = bytes_min
        self._encoders: dict[int, Encoder] = {}
        self._kept: dict[tuple[bytes, int], bytes] = {}
        self._kept_bytes = 0

    def encoder(self, bits: int) -> "Encoder":
        """Return what all connections share whose clients hold a window of so many bits."""
        if bits not in self._encoders:
            self._encoders[bits] = Encoder(self, bits)
        return self._encoders[bits]

    def frame(self, payload: bytes, bits: int) -> bytes:
        """Return the frame of a message, compressed if that makes it shorter."""
        if len(payload) < self._bytes_min:
            return text_frame(payload)
        # A window larger than the message is of no use: most clients share the same bytes.
        bits = min(bits, max(_BITS_MIN, (len(payload) - 1).bit_length()))
        key = payload, bits
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = self._packed(payload, bits)
            self._kept_bytes += len(payload) + len(found)
            while self._kept_bytes > _KEPT_BYTES_MAX:
                oldest = next(iter(self._kept))
                self._kept_bytes -= len(oldest[0]) + len(self._kept.pop(oldest))
        return found

    def _packed(self, payload: bytes, bits: int) -> bytes:
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -bits)
        packed = packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH)
        packed = packed.removesuffix(_TAIL)
        self._on_packed(max(len(payload) - len(packed), 0))
        return packed_frame(packed) if len(packed) < len(payload) else text_frame(payload)


class Encoder:
    """Turns text frames into compressed ones."""

    def __init__(self, compressor: Compressor, bits: int) -> None:
        self._compressor = compressor
        self._bits = bits
        self._last = self._encoded = b""

    def __call__(self, frames: bytes) -> bytes:
        """Return the same messages; for the very same bytes right after, the very same ones."""
        if frames is not self._last:
            parts = [self._compressor.frame(one, self._bits) for one in text_payloads(frames)]
            self._last, self._encoded = frames, b"".join(parts)
        return self._encoded
