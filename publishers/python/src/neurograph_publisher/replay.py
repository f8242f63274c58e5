"""What was published lately, for gateways that missed it: the Clone pattern of the ZeroMQ guide.

Request and reply are described in the gateway's docs/protocol.md, part 1.
"""

import struct
from collections import OrderedDict, deque
from itertools import islice
from typing import NamedTuple

import zmq


MAGIC = b"NGR1"
REPLY_MESSAGES_MAX = 256
REPLY_BYTES_MAX = 1024 * 1024
_REQUESTS_PER_CALL = 16

_RANGE = struct.Struct(">QQ")


class Kept(NamedTuple):
    """One message: its number, its payload and its envelope as they were sent."""

    sequence: int
    payload: bytes
    envelope: bytes


class Store:
    """The newest messages of each topic.

    At most `messages_max` per topic and `bytes_max` of payloads in all: beyond that the oldest of the
    topic that was published on longest ago go first.
    """

    def __init__(self, *, messages_max: int, bytes_max: int) -> None:
        self.bytes = 0
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._topics: OrderedDict[str, deque[Kept]] = OrderedDict()

    def keep(self, topic: str, message: Kept) -> None:
        """Keep a message; sequences of a topic are contiguous and ascend."""
        kept = self._topics.get(topic)
        if kept is None:
            kept = self._topics[topic] = deque()
        self._topics.move_to_end(topic)
        kept.append(message)
        self.bytes += len(message.payload)
        if len(kept) > self._messages_max:
            self.bytes -= len(kept.popleft().payload)
        while self.bytes > self._bytes_max:
            self._drop()

    def read(self, topic: str, first: int, last: int) -> list[Kept]:
        """Return what is kept of a range, ascending, as much as fits into one reply."""
        kept = self._topics.get(topic)
        if not kept:
            return []
        at = max(first - kept[0].sequence, 0)
        found: list[Kept] = []
        size = 0
        for message in islice(kept, at, at + REPLY_MESSAGES_MAX):
            size += len(message.payload)
            if message.sequence > last or (found and size > REPLY_BYTES_MAX):
                break
            found.append(message)
        return found

    def _drop(self) -> None:
        topic, kept = next(iter(self._topics.items()))
        self.bytes -= len(kept.popleft().payload)
        if not kept:
            del self._topics[topic]


def answer(store: Store, request: list[bytes], *, incarnation: int) -> list[bytes] | None:
    """Return the reply to a request, both without the asker's identity; None if it is not one."""
    if len(request) != 4:
        return None
    magic, number, topic, wanted = request
    if magic != MAGIC or len(number) != 8 or len(wanted) != _RANGE.size:
        return None
    first, last = _RANGE.unpack(wanted)
    reply = [MAGIC, number, incarnation.to_bytes(8, "big")]
    for message in store.read(topic.decode(errors="replace"), first, last):
        reply += (message.payload, message.envelope)
    return reply


class Served(NamedTuple):
    """What became of requests: messages given out, and requests that were none or whose asker was
    gone."""

    replayed: int
    bad: int


def serve(router: "zmq.Socket[bytes]", store: Store, *, incarnation: int) -> Served:
    """Answer some of the requests that have come."""
    replayed = bad = 0
    for _ in range(_REQUESTS_PER_CALL):
        try:
            peer, *request = router.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            break
        reply = answer(store, request, incarnation=incarnation)
        try:
            if reply is None:
                bad += 1
            else:
                router.send_multipart([peer, *reply], zmq.NOBLOCK)
                replayed += (len(reply) - 3) // 2
        except zmq.ZMQError:  # gone, or so far behind that it will ask again
            bad += 1
    return Served(replayed, bad)
