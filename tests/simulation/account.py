"""One client's account of one channel: the numbers that were delivered or reported as missing.

The rule: for each incarnation, every number from the start to the end is delivered or in a gap, and
none is delivered twice or out of order. Only the exceptions of the protocol are excused: events
published before the start, and, for a gap without a first offset, all events before the gap.
"""

from __future__ import annotations

from typing import Any

from gateway.core.protocol.messages import Position


class Account:
    def __init__(self, options: dict[str, Any], *, thorough: bool = True) -> None:
        self._thorough = thorough
        self.odd_only = "filter" in options
        self.delivered: dict[int, list[int]] = {}
        self.reported: dict[int, list[tuple[int, int]]] = {}
        self.lost: dict[int, list[tuple[int, int]]] = {}
        """The ranges of `reported` without those of conflated gaps, in which some events were delivered."""
        self.before: dict[int, set[int]] = {}
        """The numbers delivered before a position was refused."""
        self.excused: dict[int, int] = {}
        """By incarnation, the number up to which every event is excused."""
        self.over: set[int] = set()
        """Incarnations that a gap has reported as ended or unknown, and of which no event arrived since."""
        self.ends: dict[int, int] = {}
        self.counted = 0
        """How many lost events gaps have reported while the gateway numbered the channel."""
        self.places: dict[tuple[str, int], tuple[int, int]] = {}
        self.unopened = True
        """Whether the channel had no event when the client subscribed, and none arrived since."""
        self.numbered_by_gateway = False

    def begin(self, position: Position, truth: dict[int, int]) -> None:
        """Record where the first subscription starts; all events of incarnations not in the position are before it."""
        self.unopened = set(position.offsets.values()) == {0} and incarnation_of(position.epoch) is None
        if not self.unopened:
            self.excuse_everything(truth)
        for epoch, offset in position.offsets.items():
            incarnation = incarnation_of(epoch)
            if incarnation is not None:
                self.excused[incarnation] = offset

    def deliver(self, epoch: str, offset: int, data: dict[str, int], truth: dict[int, int]) -> None:
        incarnation, number = data["p"], data["n"]
        self._open(incarnation, number, truth)
        self.numbered_by_gateway = incarnation_of(epoch) is None
        before = self.delivered.setdefault(incarnation, [])
        assert not before or number > before[-1], f"event {incarnation}:{number} was delivered after {before[-1]}"
        if self._thorough:
            place = self.places.setdefault((epoch, offset), (incarnation, number))
            assert place == (incarnation, number), (
                f"{epoch}:{offset} is {incarnation}:{number} here, and {place} before"
            )
        if epoch == f"{incarnation:016x}":
            assert offset == number, f"event {number} of publisher {incarnation} has another offset: {offset}"
        for first, last in self.lost.get(incarnation, ()):
            assert not first <= number <= last, (
                f"{incarnation}:{number} was delivered, and had been reported as missing"
            )
        before.append(number)
        self.over.discard(incarnation)

    def gap(self, epoch: str, gap: dict[str, Any], truth: dict[int, int]) -> None:
        """Record a gap; `truth` has the newest published number of each incarnation."""
        incarnation = incarnation_of(epoch)
        first, last, reason = gap["from"], gap["to"], gap["reason"]
        if reason == "epoch" and last is None:  # the source ended, or this gateway does not know it
            if incarnation is not None:
                self.over.add(incarnation)
            if incarnation is not None and gap["count"] != 0:
                self._excuse(incarnation, truth.get(incarnation, 0))
            return
        if reason == "epoch" and incarnation is None:
            if not self.unopened:  # otherwise the gap only repeats that the position was refused
                self.excuse_everything(truth)
                self.over |= truth.keys()
            return
        if first is None:
            for other, newest in truth.items():
                if other != incarnation:
                    self._excuse(other, newest)
                    self.over.add(other)
            if last is not None and incarnation is not None:
                self._excuse(incarnation, last)
            return
        if incarnation is None:
            if reason in {"conflated", "evicted"}:  # these may cover events of several publishers
                for other, newest in truth.items():
                    self._excuse(other, newest)
            else:
                self.counted += gap["count"]
            return
        if reason != "conflated":
            assert gap["count"] == last - first + 1
            self.lost.setdefault(incarnation, []).append((first, last))
        self._open(incarnation, first, truth)
        self.reported.setdefault(incarnation, []).append((first, last))
        if reason != "conflated":  # a conflated gap follows all events that it covers, also the gap for a source's end
            self.over.discard(incarnation)

    def excuse_everything(self, truth: dict[int, int]) -> None:
        """Record that everything published until now may be missing."""
        for incarnation, newest in truth.items():
            self._excuse(incarnation, newest)

    def missing(self, incarnation: int, newest: int) -> list[int]:
        """Return the numbers that were neither delivered, nor reported, nor excused."""
        if self.unopened:  # nothing was received: the publishers may have started earlier
            return []
        accounted = set(self.delivered.get(incarnation, ())) | self.before.get(incarnation, set())
        for first, last in self.reported.get(incarnation, ()):
            accounted.update(range(first, last + 1))
        newest = min(newest, self.ends.get(incarnation, newest))
        is_lost = range(self.excused.get(incarnation, 0) + 1, newest + 1)
        return [n for n in is_lost if n not in accounted and not (self.odd_only and n % 2 == 0)]

    def knows(self, incarnation: int) -> bool:
        """Return whether the client has received an event or a gap of an incarnation."""
        return incarnation in self.delivered or incarnation in self.reported

    def excuse_end(self, incarnation: int, running: set[int]) -> None:
        """Record that an incarnation has ended: its last messages may be lost.

        A gap reports the end before the first event of the next incarnation. Losses after the gap are not reported; nor
        is the end if no such event follows, or if the incarnation ended before the client subscribed.
        """
        reported = incarnation in self.over or not self.knows(incarnation)
        if reported or self.numbered_by_gateway or not (running & self.delivered.keys()) - self.over:
            self.ends[incarnation] = max(self.delivered.get(incarnation, [0]), default=0)

    def _open(self, incarnation: int, first: int, truth: dict[int, int]) -> None:
        """Record the first message of a channel; its publisher may have started before the gateway."""
        if self.unopened:
            self.unopened = False
            for other, newest in truth.items():
                self._excuse(other, first - 1 if other == incarnation else newest)

    def _excuse(self, incarnation: int, newest: int) -> None:
        self.excused[incarnation] = max(self.excused.get(incarnation, 0), newest)


def incarnation_of(epoch: str) -> int | None:
    """Return the incarnation that an epoch names; None if it is a gateway's own epoch."""
    return int(epoch, 16) if len(epoch) == 16 else None
