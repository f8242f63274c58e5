"""The third frame of a message: the publisher's incarnation, the message's number, and the time.

32 bytes, big-endian: magic ``NGE1`` | flags u32 | incarnation u64 | sequence u64 | unix time ns u64.
With it the gateway recognises loss, duplicates, reordering and restarts.
"""

import struct


HEARTBEATS = 1
"""The flag of a publisher that sends heartbeats: a gateway that receives its first message may wait for one."""

_LAYOUT = struct.Struct(">4sIQQQ")


def pack(*, incarnation: int, sequence: int, time_ns: int, flags: int = 0) -> bytes:
    """Return an envelope.

    `incarnation` is random per start of a publisher; `sequence` counts from 1 per incarnation and
    topic; `time_ns` is unix time.
    """
    return _LAYOUT.pack(b"NGE1", flags, incarnation, sequence, time_ns)


def unpack(frame: bytes) -> tuple[int, int] | None:
    """Return the incarnation and sequence of an envelope; None if the frame is not an envelope."""
    if len(frame) != _LAYOUT.size:
        return None
    magic, _, incarnation, sequence, _ = _LAYOUT.unpack(frame)
    return (incarnation, sequence) if magic == b"NGE1" and sequence else None
