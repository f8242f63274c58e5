"""Decompression with a limit on what comes out."""

import zlib
from collections.abc import Callable

from gateway.core.sources.errors import Unreadable
from gateway.core.sources.spec import Compression


_WINDOW_BITS = {"zlib": 15, "gzip": 31}
_LOOKS = {b"\x1f\x8b": "gzip", b"\x78": "zlib"}


def make_decompress(compression: Compression, *, bytes_max: int) -> Callable[[bytes], bytes]:
    """Return a function that decompresses a payload to at most `bytes_max` bytes; it raises `Unreadable`."""
    if compression == "none":
        return lambda payload: payload
    bits = _WINDOW_BITS[compression]

    def decompress(payload: bytes) -> bytes:
        parts: list[bytes] = []
        size, rest = 0, payload
        while rest or not parts:
            stream = zlib.decompressobj(bits)
            try:
                parts.append(stream.decompress(rest, bytes_max + 1 - size))
            except zlib.error as error:
                raise Unreadable("bad_compression", f"no valid {compression}: {error}{_remedy(payload)}") from error
            size += len(parts[-1])
            if size > bytes_max:
                raise Unreadable(
                    "oversized",
                    f"the decompressed payload has more than the {bytes_max} bytes of `ingest.payload_bytes_max`",
                )
            if not stream.eof:
                raise Unreadable("bad_compression", f"no valid {compression}: it ends early")
            rest = stream.unused_data  # gzip may have several members
        return b"".join(parts)

    def _remedy(payload: bytes) -> str:
        look = next((name for start, name in _LOOKS.items() if payload.startswith(start)), "none")
        return "" if look == compression else f'; its first bytes look like compression = "{look}"'

    return decompress
