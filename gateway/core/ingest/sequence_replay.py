"""Replay of publishers that number their messages themselves: from their answer to a reply as ingest takes it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.core.ingest.ingest import REPLAY
from gateway.core.ingest.publishers import ReplayRequest
from gateway.core.protocol.envelope import Envelope


BYTES_MAX = 16 * 1024 * 1024
"""Payloads of one answer that are kept; what is behind them is requested again."""


@dataclass(slots=True, eq=False, repr=False)
class Answer:
    """A publisher's answer to one request.

    `first` is the number of the publisher's first message, 0 or 1. `convert` makes JSON of a payload."""

    _request: ReplayRequest
    first: int
    convert: Callable[[bytes], bytes]
    _bytes: int = 0
    _frames: list[bytes] = field(default_factory=list)

    def add(self, number: bytes, payload: bytes) -> None:
        """Take one message; those that were not requested are left out."""
        sequence = int.from_bytes(number) - self.first + 1
        if not self._request.first <= sequence <= self._request.last or self._bytes > BYTES_MAX:
            return
        self._bytes += len(payload)
        self._frames += [self.convert(payload), Envelope(self._request.incarnation, sequence, 0).pack()]

    def reply(self) -> list[bytes]:
        """Return it as a reply to the request, as docs/protocol.md describes replies."""
        request = self._request
        return [REPLAY, request.number.to_bytes(8), request.incarnation.to_bytes(8), *self._frames]
