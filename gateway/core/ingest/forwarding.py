"""Replay through a proxy: which publisher a gateway's request is for, and which gateway an answer is for.

A request to a proxy has one frame more than one to a publisher, the publisher's incarnation: topics are not of one
publisher alone. The publishers' own heartbeats say where each of them answers."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from gateway.core.ingest.ingest import REPLAY
from gateway.core.ingest.publishers import Heartbeat, Publishers, ReplayRequest


WAITING_MAX = 10_000
"""Requests without an answer yet; beyond that the oldest are given up."""
WAITING_NS_MAX = 5_000_000_000


@dataclass(frozen=True, slots=True)
class _Asked:
    asker: bytes
    number: bytes
    """The asker's mark on its request."""
    until_ns: int


class Forwarding:
    """Passes on requests and answers."""

    def __init__(self) -> None:
        self.publishers = Publishers()
        self.requests = 0
        """Requests passed on."""
        self.unanswered = 0
        """Requests that were malformed, for a publisher that is not known or offers no replay, or got no answer."""
        self._waiting: OrderedDict[int, _Asked] = OrderedDict()
        self._numbers = count(1)

    def hear(self, heartbeat: Heartbeat, *, now_ns: int) -> None:
        """Take a publisher's heartbeat."""
        self.publishers.on_heartbeat(heartbeat, now_ns=now_ns)
        self.publishers.take_changes()

    def ask(self, frames: Sequence[bytes], *, now_ns: int) -> ReplayRequest | None:
        """Take a gateway's request; return what is to be asked of the publisher, None if nothing is."""
        if len(frames) != 6 or frames[1] != REPLAY or [len(frames[at]) for at in (2, 4, 5)] != [8, 16, 8]:
            self.unanswered += 1
            return None
        asker, _, number, topic, wanted, incarnation = frames
        publisher = self.publishers.get(int.from_bytes(incarnation))
        if publisher is None or not publisher.replay or not topic.isascii():
            self.unanswered += 1
            return None
        self.requests += 1
        own = next(self._numbers)
        self._waiting[own] = _Asked(asker, number, now_ns + WAITING_NS_MAX)
        if len(self._waiting) > WAITING_MAX:
            self._give_up_oldest()
        first, last = int.from_bytes(wanted[:8]), int.from_bytes(wanted[8:])
        address = publisher.replay, publisher.replay_key
        return ReplayRequest(own, publisher.incarnation, *address, topic.decode(), first, last)

    def answer(self, reply: Sequence[bytes]) -> list[bytes] | None:
        """Return a publisher's reply as it goes to the gateway that asked, with its address first; None if it is gone."""
        asked = self._waiting.pop(int.from_bytes(reply[1]), None) if len(reply) > 1 else None
        return None if asked is None else [asked.asker, reply[0], asked.number, *reply[2:]]

    def expire(self, *, now_ns: int) -> None:
        """Give up requests without an answer, and forget publishers that are silent for long."""
        self.publishers.find_stale(now_ns=now_ns)
        self.publishers.take_changes()
        while self._waiting and next(iter(self._waiting.values())).until_ns <= now_ns:
            self._give_up_oldest()

    def _give_up_oldest(self) -> None:
        self._waiting.popitem(last=False)
        self.unanswered += 1
