"""One client's account of a channel whose publisher sends no envelopes: the gateway with the lease has its events numbered.

The publisher puts a number into each event's data, by which the world identifies it. The rule: an event is missing only if
a gap arrived after the event before it; each source delivers its events in order and once; only gaps skip an offset.
"""

from __future__ import annotations

from typing import Any

from gateway.core.protocol.messages import Position


class RawAccount:
    def __init__(self, places: dict[tuple[str, int], dict[str, int]]) -> None:
        self._places = places
        """The data of each event, by source and offset; if a gateway numbered it, only once a client received it."""
        self.unopened = True
        self.has_rate = False
        """Whether a gap may follow the first event after those that it reports."""
        self.owed = ""
        """The problem that the next gap must report; empty if there is none."""
        self.newest = 0
        """The newest number of the publisher that was delivered."""
        self._accounted: set[int] = set()
        self._before: dict[str, int] = {}
        """The offset of each source at the subscription."""
        self._begun = 0
        """The first number that must arrive: the next after the subscription's position, or, if the position does not tell
        which that is, the first that arrived."""
        self._reached: dict[str, int] = {}
        """The newest offset of each source that was delivered or reported."""
        self._last: dict[str, int] = {}
        """The newest number of the publisher that each source delivered."""
        self._gapped: set[str] = set()
        """The sources with a gap after their newest event."""
        self._is_gap = False
        """Whether a gap arrived after the newest event."""

    def begin(self, position: Position, _truth: dict[int, int]) -> None:
        self._before = position.offsets
        self._reached |= position.offsets
        if all(place in self._places for place in position.offsets.items() if place[1]):
            before = [data for (epoch, at), data in self._places.items() if at <= position.offsets.get(epoch, 0)]
            newest = max((data.get("r", 0) for data in before), default=0)
            self._begun = newest + 1 if newest else 0

    def deliver(self, epoch: str, offset: int, data: dict[str, int], _truth: dict[int, int]) -> None:
        assert not self.owed, self.owed
        if offset <= self._before.get(epoch, 0):
            return  # published before the subscription
        reached = self._reached.get(epoch, 0)
        # The gateway itself may have numbered events before the subscription.
        may_go_on = len(epoch) != 16 and epoch not in self._reached
        if self._begun and not may_go_on:
            self._demand(offset == reached + 1, f"{epoch}:{offset} was delivered after {reached}, and no gap between")
        self._reached[epoch] = offset
        if "r" in data:  # an event of the publisher, not of a client
            self._take(epoch, data["r"])
            self._gapped.discard(epoch)
            self._is_gap = False

    def _take(self, epoch: str, number: int) -> None:
        self._begun = self._begun or number
        missing = set(range(self._begun, number)) - self._accounted
        is_reported = self._is_gap or epoch in self._gapped
        if missing and not is_reported:
            self._demand(False, f"{missing} are missing before {number}, and no gap reports them")
        last = self._last.get(epoch, 0)
        assert number > last, f"source {epoch} delivered event {number} after {last}: twice or out of order"
        self._accounted |= {*missing, number}
        self._last[epoch] = number
        self.newest = max(self.newest, number)

    def _demand(self, is_right: bool, problem: str) -> None:
        assert is_right or self.has_rate, problem
        self.owed = "" if is_right else problem

    def gap(self, epoch: str, gap: dict[str, Any], _truth: dict[int, int]) -> None:
        self.owed = ""
        self._is_gap = True
        self._gapped.add(epoch)
        if gap["to"] is not None:
            self._reached[epoch] = max(gap["to"], self._reached.get(epoch, 0))
