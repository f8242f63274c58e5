"""One client's account of one channel: the numbers that were delivered or reported as missing.

The rule: for each incarnation, every number from the start to the end is delivered or in a gap, and
none is delivered twice or out of order. Only the exceptions of the protocol are excused: what was
published before the start, and, for a gap without a first offset, everything before the gap.
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
        """The same without conflated events, as some of these were delivered."""
        self.before: dict[int, set[int]] = {}
        """The numbers delivered before a position was refused."""
        self.excused: dict[int, int] = {}
        """By incarnation, up to which number nothing need be accounted for."""
        self.over: set[int] = set()
        """The incarnations whose end, or that they are not known, a gap has reported, and of which nothing came since."""
        self.ends: dict[int, int] = {}
        self.counted = 0
        """How many losses gaps have reported where the gateway numbers."""
        self.places: dict[tuple[str, int], tuple[int, int]] = {}
        self.unopened = True
        """Whether the channel had no event when the client subscribed."""
        self.numbered_by_gateway = False

    def begin(self, position: Position, truth: dict[int, int]) -> None:
        """Note where a first subscription starts; everything of other incarnations is before it."""
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
        assert not before or number > before[-1], f"{incarnation}:{number} came after {before[-1]}"
        if self._thorough:
            place = self.places.setdefault((epoch, offset), (incarnation, number))
            assert place == (incarnation, number), f"{epoch}:{offset} stands for two events"
        if epoch == f"{incarnation:016x}":
            assert offset == number, "a publisher's number is its offset"
        for first, last in self.lost.get(incarnation, ()):
            assert not first <= number <= last, f"{incarnation}:{number} was reported as missing"
        before.append(number)
        self.over.discard(incarnation)

    def gap(self, epoch: str, gap: dict[str, Any], truth: dict[int, int]) -> None:
        """Note a gap; `truth` has the newest number of each incarnation."""
        incarnation = incarnation_of(epoch)
        first, last, reason = gap["from"], gap["to"], gap["reason"]
        if reason == "epoch" and last is None:  # the source ended, or is not known here
            if incarnation is not None:
                self.over.add(incarnation)
            if incarnation is not None and gap["count"] != 0:
                self._excuse(incarnation, truth.get(incarnation, 0))
            return
        if reason == "epoch" and incarnation is None:
            if not self.unopened:  # else it only repeats that the position was refused
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
            if reason in {"conflated", "evicted"}:  # perhaps of several publishers' events
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
        if reason != "conflated":  # that one comes behind all that it is about, also behind the gap for an end
            self.over.discard(incarnation)

    def excuse_everything(self, truth: dict[int, int]) -> None:
        """Note that everything published until now may be missing."""
        for incarnation, newest in truth.items():
            self._excuse(incarnation, newest)

    def missing(self, incarnation: int, newest: int) -> list[int]:
        """Return the numbers that were neither delivered, nor reported, nor excused."""
        if self.unopened:  # nothing was received, so the publishers may be older
            return []
        accounted = set(self.delivered.get(incarnation, ())) | self.before.get(incarnation, set())
        for first, last in self.reported.get(incarnation, ()):
            accounted.update(range(first, last + 1))
        newest = min(newest, self.ends.get(incarnation, newest))
        is_lost = range(self.excused.get(incarnation, 0) + 1, newest + 1)
        return [n for n in is_lost if n not in accounted and not (self.odd_only and n % 2 == 0)]

    def knows(self, incarnation: int) -> bool:
        """Return whether the client has got anything of an incarnation, or a gap."""
        return incarnation in self.delivered or incarnation in self.reported

    def excuse_end(self, incarnation: int, living: set[int]) -> None:
        """Note that an incarnation has ended: its last messages may be lost.

        A gap reports that, at the latest before the first event of the next incarnation; what is lost behind the gap,
        and without such an event, is not reported. Nor is the end of one that was over before the client came.
        """
        reported = incarnation in self.over or not self.knows(incarnation)
        if reported or self.numbered_by_gateway or not (living & self.delivered.keys()) - self.over:
            self.ends[incarnation] = max(self.delivered.get(incarnation, [0]), default=0)

    def _open(self, incarnation: int, first: int, truth: dict[int, int]) -> None:
        """Note the first message of a channel; its publisher may be older than the gateway."""
        if self.unopened:
            self.unopened = False
            for other, newest in truth.items():
                self._excuse(other, first - 1 if other == incarnation else newest)

    def _excuse(self, incarnation: int, newest: int) -> None:
        self.excused[incarnation] = max(self.excused.get(incarnation, 0), newest)


def incarnation_of(epoch: str) -> int | None:
    """Return the incarnation that an epoch is reported after; None for a gateway's own epoch."""
    return int(epoch, 16) if len(epoch) == 16 else None
