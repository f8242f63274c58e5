"""One client's account of a channel whose publisher numbers nothing: the gateway with the lease has its events numbered.

The publisher says in each event which one it is, so the world knows. The rule: none is missing, unless a gap came behind
the event before it; none comes twice from one source, and there they come in order; an offset is left out only by a gap.
"""

from __future__ import annotations

from typing import Any

from gateway.core.protocol.messages import Position


class RawAccount:
    def __init__(self, places: dict[tuple[str, int], dict[str, int]]) -> None:
        self._places = places
        """What each event is, by source and offset; of what a gateway numbered, only what a client has got."""
        self.unopened = True
        self.has_rate = False
        """Whether a gap may come behind the event before which something is left out."""
        self.owed = ""
        """What such a gap has to report."""
        self.newest = 0
        """The newest of the publisher's events that came."""
        self._accounted: set[int] = set()
        self._before: dict[str, int] = {}
        """Where it subscribed, by source."""
        self._begun = 0
        """The first that has to come: that behind its subscription, or, if its position does not say which, the first that came."""
        self._reached: dict[str, int] = {}
        """The offset that was delivered or reported last, by source."""
        self._last: dict[str, int] = {}
        """The publisher's newest event, by source."""
        self._gapped: set[str] = set()
        """The sources in which a gap came behind their newest event."""
        self._is_gap = False
        """Whether a gap came behind the newest event."""

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
            return  # older than its subscription
        reached = self._reached.get(epoch, 0)
        may_go_on = len(epoch) != 16 and epoch not in self._reached  # the gateway itself, from before the subscription
        if self._begun and not may_go_on:
            self._demand(offset == reached + 1, f"{epoch}:{offset} came behind {reached}")
        self._reached[epoch] = offset
        if "r" in data:  # what a client published says nothing of what the publisher's gaps cover
            self._take(epoch, data["r"])
            self._gapped.discard(epoch)
            self._is_gap = False

    def _take(self, epoch: str, number: int) -> None:
        self._begun = self._begun or number
        missing = set(range(self._begun, number)) - self._accounted
        is_reported = self._is_gap or epoch in self._gapped
        if missing and not is_reported:
            self._demand(False, f"{missing} are missing before {number}")
        last = self._last.get(epoch, 0)
        assert number > last, f"{epoch} brings {number} behind {last}"
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
