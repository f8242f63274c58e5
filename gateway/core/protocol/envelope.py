"""The optional third frame of a bus message: its publisher, its number, and when it was sent.

32 bytes, big-endian (docs/protocol.md, part 1):
magic ``NGE1`` | flags u32 | publisher incarnation u64 | sequence u64 | unix time ns u64."""

import struct

from msgspec import Struct


MAGIC = b"NGE1"
_LAYOUT = struct.Struct(">4sIQQQ")
SIZE = _LAYOUT.size
SEQUENCE_MAX = 2**63 - 1
"""The highest number that the gateway accepts."""
GROUP_BITS = 32
"""An incarnation of a gateway is the number of its cluster, shifted by so many bits, and a random number."""


class Envelope(Struct, frozen=True, gc=False):
    """One message's place in its publisher's stream.

    `incarnation` is a random number for each start of the publisher; `sequence` counts from 1 per
    incarnation and topic; `sent_ns` is unix time in nanoseconds."""

    incarnation: int
    sequence: int
    sent_ns: int
    flags: int = 0

    def pack(self) -> bytes:
        return _LAYOUT.pack(MAGIC, self.flags, self.incarnation, self.sequence, self.sent_ns)


def is_envelope(frame: bytes) -> bool:
    """Return whether a frame is an envelope; topics and JSON have no zero byte."""
    return len(frame) == SIZE and frame.startswith(MAGIC) and b"\0" in frame


def unpack(frame: bytes) -> Envelope:
    """Decode an envelope.
    Raises ValueError: the frame does not have 32 bytes, or has another magic or a sequence of 0."""
    if len(frame) != SIZE:
        raise ValueError(f"an envelope has {SIZE} bytes, this frame has {len(frame)}")
    magic, flags, incarnation, sequence, sent_ns = _LAYOUT.unpack(frame)
    if magic != MAGIC:
        raise ValueError(f"an envelope begins with {MAGIC!r}, this frame with {magic!r}")
    if sequence == 0:
        raise ValueError("an envelope's sequence counts from 1, this one has 0")
    return Envelope(incarnation, sequence, sent_ns, flags)
