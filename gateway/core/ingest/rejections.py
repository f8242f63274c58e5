"""Messages that are not valid: all are counted by reason, and the newest of each endpoint kept for people."""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.core.ingest.advice import remedy
from gateway.core.ingest.inspection import describe_frames
from gateway.core.protocol.channels import NAME_BYTES_MAX
from gateway.core.sources.errors import SourceReason


Reason = Literal[
    SourceReason,
    "bad_envelope",
    "bad_heartbeat",
    "failed",
    "invalid_event",
    "reserved_field",
    "too_many_channels",
    "too_many_streams",
]

_PAYLOAD_BYTES_MAX = 1024
_FRAMES_MAX = 8
_FRAME_BYTES_MAX = 256
_LINKS_MAX = 256
"""Endpoints whose rejections are kept; those of the one that began first are dropped."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A message that is not valid."""

    number: int
    """How many were rejected up to this one."""
    reason: Reason
    detail: str
    advice: str
    """What to change about such messages."""
    topic: str
    payload: bytes
    """Its first KiB."""
    frames: str
    """All frames with their sizes, as text."""
    begins: tuple[bytes, ...]
    """The first 256 bytes of the first eight frames."""
    link: int
    """The endpoint of the bus at which it arrived."""
    publisher: str
    """The name or incarnation of its publisher; empty without an envelope."""
    received_ns: int


class Rejections:
    """All rejections. Of each endpoint the newest `kept_max` are kept: a flood at one hides none of another."""

    def __init__(self, *, kept_max: int) -> None:
        self.counts: Counter[str] = Counter()
        self._kept_max = kept_max
        self._kept: dict[int, deque[Rejection]] = {}

    @property
    def newest(self) -> list[Rejection]:
        """Those that are kept, newest first."""
        kept = [one for of_endpoint in self._kept.values() for one in of_endpoint]
        return sorted(kept, key=lambda one: one.number, reverse=True)

    def add(
        self,
        reason: Reason,
        detail: str,
        frames: Sequence[bytes],
        *,
        link: int,
        publisher: str,
        has_topic: bool,
        now_ns: int,
    ) -> Rejection:
        topic, payload = (*frames, b"", b"")[:2] if has_topic else (b"", *frames)[:2]
        self.counts[reason] += 1
        rejection = Rejection(
            number=self.counts.total(),
            reason=reason,
            detail=detail,
            advice=remedy(reason, frames),
            topic=topic[:NAME_BYTES_MAX].decode(errors="replace"),
            payload=payload[:_PAYLOAD_BYTES_MAX],
            frames=describe_frames(frames),
            begins=tuple(frame[:_FRAME_BYTES_MAX] for frame in frames[:_FRAMES_MAX]),
            link=link,
            publisher=publisher,
            received_ns=now_ns,
        )
        if link not in self._kept:
            self._kept[link] = deque(maxlen=self._kept_max)
            if len(self._kept) > _LINKS_MAX:  # addresses of names come and go
                del self._kept[next(iter(self._kept))]
        self._kept[link].append(rejection)
        return rejection
