"""The store of the newest messages of each topic, and the format of replay requests and replies.

It keeps the newest messages of a topic, up to a number and to 16 MiB, and at most 10,000 topics and
128 MiB in all. Beyond that, the least recently used topic is dropped first.
"""

import struct
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple


_MIB = 1024 * 1024
_TOPIC_BYTES_MAX = 16 * _MIB
_BYTES_MAX = 128 * _MIB
_TOPICS_MAX = 10_000
_OVERHEAD_BYTES = 256
"""The memory of a message besides its payload: its envelope, its key, and Python's objects."""

MAGIC = b"NGR1"
_NUMBER_BYTES = 8
_RANGE = struct.Struct(">QQ")
_INCARNATION = struct.Struct(">Q")
_PAIRS_PER_REPLY = 256
_PAYLOAD_BYTES_PER_REPLY = _MIB


class _Topic:
    """One topic's messages by sequence, the oldest first."""

    __slots__ = ("bytes", "messages", "newest", "oldest")

    def __init__(self, sequence: int) -> None:
        self.messages: dict[int, tuple[bytes, bytes]] = {}
        self.oldest = self.newest = sequence
        self.bytes = 0


class Store:
    """Keeps up to `messages` of each topic, within the limits above."""

    def __init__(
        self,
        messages: int,
        *,
        topic_bytes_max: int = _TOPIC_BYTES_MAX,
        bytes_max: int = _BYTES_MAX,
        topics_max: int = _TOPICS_MAX,
    ) -> None:
        self._messages_max = messages
        self._topic_bytes_max = topic_bytes_max
        self._bytes_max = bytes_max
        self._topics_max = topics_max
        self._topics: OrderedDict[bytes, _Topic] = OrderedDict()  # least recently published first
        self.bytes = 0
        """Bytes kept, with 256 for each message beside its payload."""

    def append(self, topic: bytes, sequence: int, payload: bytes, envelope: bytes) -> None:
        """Keep a message; its sequence is above those before it on this topic."""
        kept = self._topics.get(topic)
        if kept is None:
            kept = self._topics[topic] = _Topic(sequence)
        else:
            self._topics.move_to_end(topic)
        kept.messages[sequence] = payload, envelope
        kept.newest = sequence
        size = len(payload) + _OVERHEAD_BYTES
        kept.bytes += size
        self.bytes += size
        while len(kept.messages) > self._messages_max or kept.bytes > self._topic_bytes_max:
            self._drop_oldest(kept)
        while len(self._topics) > self._topics_max or self.bytes > self._bytes_max:
            _, dropped = self._topics.popitem(last=False)
            self.bytes -= dropped.bytes

    def read(self, topic: bytes, first: int, last: int) -> list[bytes]:
        """Return payload, envelope, payload, envelope… of the kept messages from `first` to `last`.

        They are in ascending order, and as many as fit into one reply: 256 messages, and 1 MiB of payloads
        unless the first alone is larger.
        """
        found: list[bytes] = []
        kept = self._topics.get(topic)
        if kept is None:
            return found
        left = _PAYLOAD_BYTES_PER_REPLY
        for sequence in range(max(first, kept.oldest), min(last, kept.newest) + 1):
            message = kept.messages.get(sequence)
            if message is None:  # the number was used without a message
                continue
            left -= len(message[0])
            if found and left < 0:
                break
            found += message
            if len(found) == 2 * _PAIRS_PER_REPLY:
                break
        return found

    def _drop_oldest(self, kept: _Topic) -> None:
        message = kept.messages.pop(kept.oldest, None)
        kept.oldest += 1
        if message is not None:
            size = len(message[0]) + _OVERHEAD_BYTES
            kept.bytes -= size
            self.bytes -= size


class Request(NamedTuple):
    """A gateway's request for the messages `first` to `last` of a topic; `number` identifies the request."""

    number: bytes
    topic: bytes
    first: int
    last: int


def parse(frames: Sequence[bytes]) -> Request | None:
    """Return the request in these frames, or None if they are not a request."""
    if len(frames) != 4 or frames[0] != MAGIC:
        return None
    _, number, topic, wanted = frames
    if len(number) != _NUMBER_BYTES or len(wanted) != _RANGE.size:
        return None
    return Request(number, topic, *_RANGE.unpack(wanted))


def reply(request: Request, incarnation: int, pairs: Sequence[bytes]) -> list[bytes]:
    """Return the frames that answer a request with what `Store.read` found."""
    return [MAGIC, request.number, _INCARNATION.pack(incarnation), *pairs]


def request(number: int, topic: str, first: int, last: int) -> list[bytes]:
    """Return the frames that request the messages `first` to `last` of a topic."""
    return [MAGIC, number.to_bytes(_NUMBER_BYTES), topic.encode(), _RANGE.pack(first, last)]
