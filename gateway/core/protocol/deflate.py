"""Compressed messages (permessage-deflate, RFC 7692), each compressed once for all clients.

The gateway always negotiates that no message refers to earlier ones, in either direction. So a
compressed event is the same for all clients, and no connection has its own compressor."""

import re
import zlib
from collections.abc import Callable

from gateway.core.protocol.encoders import Encoder, NewestCache
from gateway.core.protocol.frames import Violation, compressed_frame, is_binary, text_payload


_NAME = "permessage-deflate"
_TAIL = b"\x00\x00\xff\xff"
_LEVEL = 6
_BITS_MIN, _BITS_MAX = 9, 15
_PARAMETER = re.compile(r'\s*([\w-]+)\s*(?:=\s*(?:"?(\d{1,2})"?))?\s*', re.ASCII)
_BITS = {str(bits) for bits in range(_BITS_MIN, _BITS_MAX + 1)}
_VALUES: dict[str, set[str | None]] = {
    "server_no_context_takeover": {None},
    "client_no_context_takeover": {None},
    "client_max_window_bits": {None, "8", *_BITS},
    "server_max_window_bits": {*_BITS},  # zlib cannot write a raw stream for a window of 8 bits
}


def negotiate(offered: str) -> tuple[int, str] | None:
    """Choose among the offers of a ``Sec-WebSocket-Extensions`` header (RFC 7692, section 7.1).

    Returns the base-2 logarithm of the client's window, and the header of the response; None if no
    offer is acceptable."""
    for offer in offered.split(","):
        name, *parameters = offer.split(";")
        if name.strip() != _NAME:
            continue
        found = _parameters(parameters)
        if found is not None:
            bits = found.get("server_max_window_bits")
            accepted = f"{_NAME}; server_no_context_takeover; client_no_context_takeover"
            if bits is None:
                return _BITS_MAX, accepted
            return int(bits), f"{accepted}; server_max_window_bits={bits}"
    return None


def _parameters(texts: list[str]) -> dict[str, str | None] | None:
    """Return an offer's parameters; None if one is not acceptable."""
    found: dict[str, str | None] = {}
    for text in texts:
        parameter = _PARAMETER.fullmatch(text)
        if parameter is None or parameter[1] in found:
            return None
        if parameter[2] not in _VALUES.get(parameter[1], ()):
            return None
        found[parameter[1]] = parameter[2]
    return found


def inflate(data: bytes, bytes_max: int) -> bytes:
    """Return a client's message decompressed (section 7.2.2).
    Raises Violation: the data is not valid, or has more than `bytes_max` bytes when decompressed; it is not
    decompressed further than that."""
    try:
        inflated = zlib.decompressobj(-_BITS_MAX).decompress(data + _TAIL, bytes_max + 1)
    except zlib.error:
        raise Violation(1007, "a message's compressed data is not valid") from None
    if len(inflated) > bytes_max:
        raise Violation(1009, f"a message must have at most {bytes_max} bytes when decompressed")
    return inflated


class Compressor:
    """Compresses messages of at least `bytes_min` bytes, and caches the newest.

    `on_compressed` is called for each message, with the number of bytes saved."""

    def __init__(self, bytes_min: int, *, on_compressed: Callable[[int], object]) -> None:
        self._on_compressed = on_compressed
        self._bytes_min = bytes_min
        self._encoders: dict[int, Encoder] = {}
        self.cache: NewestCache[tuple[bytes, int], bytes] = NewestCache()

    def encoder(self, bits: int) -> Encoder:
        """Return the encoder for all connections whose clients have a window of so many bits."""
        if bits not in self._encoders:
            self._encoders[bits] = Encoder(lambda frame: self._text(frame, bits))
        return self._encoders[bits]

    def _text(self, frame: bytes, bits: int) -> bytes:
        # Bytes in binary frames are images and the like, which are compressed already.
        return frame if is_binary(frame) else self.frame(frame, bits)

    def frame(self, frame: bytes, bits: int) -> bytes:
        """Return the frame of the same message, compressed if that makes it shorter."""
        size = len(text_payload(frame))
        if size < self._bytes_min:
            return frame
        # A window larger than the message saves nothing: so most clients share the same bytes.
        bits = min(bits, max(_BITS_MIN, (size - 1).bit_length()))
        key = frame, bits
        found = self.cache.get(key)
        if found is None:
            made = self._compressed(frame, bits)
            found = self.cache.add(key, made, len(frame) + len(made))
        return found

    def _compressed(self, frame: bytes, bits: int) -> bytes:
        payload = text_payload(frame)
        deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -bits)
        data = deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)
        data = data.removesuffix(_TAIL)
        self._on_compressed(max(len(payload) - len(data), 0))
        return compressed_frame(data, frame) if len(data) < len(payload) else frame
