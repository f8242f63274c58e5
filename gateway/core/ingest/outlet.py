"""What the gateway publishes on the bus itself, as a publisher does: numbers, heartbeats and replay.

Numbers count from 1 for each channel. The newest messages of all channels are kept for replay (docs/protocol.md,
part 1), up to `MESSAGES_MAX` and `BYTES_MAX`; the oldest are dropped first."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from gateway.core.ingest.ingest import REPLAY
from gateway.core.ingest.publishers import TOPIC, TOPICS_MAX
from gateway.core.protocol.envelope import Envelope


MESSAGES_MAX = 10_000
BYTES_MAX = 64 * 1024 * 1024

_HEARTBEATS = 1
"""The flag of a publisher that sends heartbeats."""
_TOPICS_PER_HEARTBEAT = 1_000
_REPLY_MESSAGES_MAX = 256
_REPLY_BYTES_MAX = 1024 * 1024
_NUMBER_BYTES, _RANGE_BYTES = 8, 16

Kept = tuple[int, bytes, bytes]  # sequence, payload, envelope


@dataclass(slots=True, eq=False, repr=False, kw_only=True)
class Outlet:
    incarnation: int
    name: str = ""
    messages_max: int = MESSAGES_MAX
    bytes_max: int = BYTES_MAX
    _sequences: dict[str, int] = field(default_factory=dict)
    _kept: dict[str, deque[Kept]] = field(default_factory=dict)
    _order: deque[str] = field(default_factory=deque)
    """The channels of the messages that are kept, the oldest first."""
    _bytes: int = 0

    def has_room(self, channel: str) -> bool:
        """Return whether messages on a channel can be numbered."""
        return channel in self._sequences or len(self._sequences) < TOPICS_MAX

    def message(self, channel: str, payload: bytes, *, sent_ns: int) -> list[bytes]:
        """Return the frames of the next message on a channel. It is numbered when it is `sent`."""
        sequence = self._sequences.get(channel, 0) + 1
        return [channel.encode(), payload, Envelope(self.incarnation, sequence, sent_ns, _HEARTBEATS).pack()]

    def sent(self, frames: Sequence[bytes]) -> None:
        """Number a message, and keep it for replay."""
        channel, payload, envelope = frames[0].decode(), frames[1], frames[2]
        sequence = self._sequences[channel] = self._sequences.get(channel, 0) + 1
        self._kept.setdefault(channel, deque()).append((sequence, payload, envelope))
        self._order.append(channel)
        self._bytes += len(payload)
        while len(self._order) > self.messages_max or self._bytes > self.bytes_max:
            oldest = self._order.popleft()
            kept = self._kept[oldest]
            self._bytes -= len(kept.popleft()[1])
            if not kept:
                del self._kept[oldest]

    def heartbeat(self, *, interval: float, replay: str | None, replay_key: str | None = None) -> list[list[bytes]]:
        """Return the messages of one heartbeat; an `interval` of 0 says that it is the last one."""
        topics, left = iter(self._sequences.items()), len(self._sequences)
        messages: list[list[bytes]] = []
        while left > 0 or not messages:
            left -= _TOPICS_PER_HEARTBEAT
            content: dict[str, object] = {
                "incarnation": f"{self.incarnation:016x}",
                "name": self.name,
                "interval": interval,
                "replay": replay,
                "sequences": dict(islice(topics, _TOPICS_PER_HEARTBEAT)),
            }
            if replay_key is not None:
                content["replay_key"] = replay_key
            if left > 0:
                content["more"] = True
            messages.append([TOPIC, msgspec.json.encode(content)])
        return messages

    def reply(self, request: Sequence[bytes]) -> list[bytes] | None:
        """Return the reply to a replay request, without the asker's identity; None if the frames are no request."""
        if len(request) != 4 or request[0] != REPLAY:
            return None
        _, number, topic, wanted = request
        if len(number) != _NUMBER_BYTES or len(wanted) != _RANGE_BYTES:
            return None
        first, last = int.from_bytes(wanted[:8]), int.from_bytes(wanted[8:])
        found: list[bytes] = []
        left = _REPLY_BYTES_MAX
        for sequence, payload, envelope in self._kept.get(topic.decode(errors="replace"), ()):
            if not first <= sequence <= last:
                continue
            left -= len(payload)
            if (found and left < 0) or len(found) == 2 * _REPLY_MESSAGES_MAX:
                break
            found += [payload, envelope]
        return [REPLAY, number, self.incarnation.to_bytes(8), *found]
