"""One client's account of one channel: what it was given, what was named, what it may do without.

The rule: for each incarnation, what was delivered and what was named by a gap is every number from
the start to the end, and nothing was delivered twice or out of order. The excuses are those that the
protocol makes, and no others: before the start; and where a gap cannot say how much (`epoch`, or one
that began in an earlier epoch), what had been published until then.
"""

from __future__ import annotations

from typing import Any

from gateway.core.protocol.messages import Position


class Account:
    """Numbers by incarnation."""

    def __init__(self, options: dict[str, Any], *, thorough: bool = True) -> None:
        self._thorough = thorough
        self.odd_only = "filter" in options
        self.delivered: dict[int, list[int]] = {}
        self.named: dict[int, list[tuple[int, int]]] = {}
        self.lost: dict[int, list[tuple[int, int]]] = {}
        """The same without what newer events stand for: some of those ranges came."""
        self.before: dict[int, set[int]] = {}
        """What was delivered before a position was refused."""
        self.excused: dict[int, int] = {}
        """By incarnation, up to which number nothing is owed."""
        self.ends: dict[int, int] = {}
        self.counted = 0
        """Losses that were named by their count alone, where the gateway numbers."""
        self.places: dict[tuple[str, int], tuple[int, int]] = {}
        self.unopened = True
        """Whether nothing had come on the channel when it was subscribed to."""
        self.numbered_by_gateway = False

    def begin(self, position: Position, truth: dict[int, int]) -> None:
        """Note where a first subscription begins; what was published in other lives is behind it."""
        incarnation = incarnation_of(position.epoch)
        self.unopened = incarnation is None and position.offset == 0
        if not self.unopened:
            self.excuse_everything(truth)
        if incarnation is not None:
            self.excused[incarnation] = position.offset

    def deliver(self, epoch: str, offset: int, data: dict[str, int], truth: dict[int, int]) -> None:
        """Take in an event."""
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
            assert not first <= number <= last, f"{incarnation}:{number} was named as missing"
        before.append(number)

    def gap(self, epoch: str, gap: dict[str, Any], truth: dict[int, int]) -> None:
        """Take in a gap; `truth` is the newest number of each incarnation."""
        incarnation = incarnation_of(epoch)
        first, last, reason = gap["from"], gap["to"], gap["reason"]
        if reason == "epoch" and incarnation is None:
            if not self.unopened:  # else it only says again that the position was refused
                self.refuse(Position(epoch, 1), truth)
            return
        if first is None:
            for other, newest in truth.items():
                if other != incarnation:
                    self._excuse(other, newest)
            if last is not None and incarnation is not None:
                self._excuse(incarnation, last)
            return
        if incarnation is None:
            if reason in {"conflated", "evicted"}:  # of several publishers' events, perhaps
                for other, newest in truth.items():
                    self._excuse(other, newest)
            else:
                self.counted += gap["count"]
            return
        if reason != "conflated":
            assert gap["count"] == last - first + 1
            self.lost.setdefault(incarnation, []).append((first, last))
        self._open(incarnation, first, truth)
        self.named.setdefault(incarnation, []).append((first, last))

    def refuse(self, position: Position, truth: dict[int, int]) -> None:
        """Note that a position was refused: what had been published until then may be missing, or
        come again, as other offsets of another epoch."""
        for incarnation, numbers in self.delivered.items():
            self.before.setdefault(incarnation, set()).update(numbers)
        self.delivered.clear()
        self.lost.clear()
        epoch_number = incarnation_of(position.epoch)
        self.unopened = epoch_number is None and position.offset == 0
        if not self.unopened:
            for other, newest in truth.items():
                self._excuse(other, position.offset if other == epoch_number else newest)

    def excuse_everything(self, truth: dict[int, int]) -> None:
        """Note that what has been published until now may be missing."""
        for incarnation, newest in truth.items():
            self._excuse(incarnation, newest)

    def missing(self, incarnation: int, newest: int) -> list[int]:
        """Numbers that were neither delivered nor named nor excused."""
        if self.unopened:  # nothing came: for all that is known, the publishers are older
            return []
        accounted = set(self.delivered.get(incarnation, ())) | self.before.get(incarnation, set())
        for first, last in self.named.get(incarnation, ()):
            accounted.update(range(first, last + 1))
        newest = min(newest, self.ends.get(incarnation, newest))
        is_lost = range(self.excused.get(incarnation, 0) + 1, newest + 1)
        return [n for n in is_lost if n not in accounted and not (self.odd_only and n % 2 == 0)]

    def excuse_end(self, incarnation: int, living: set[int], *, shared: bool) -> None:
        """Note that a publisher's life is over: what it published last may have been lost with it.

        The first event of its next life tells so, with a gap. Without one, and where several
        publish, nothing can.
        """
        if shared or self.numbered_by_gateway or not living & self.delivered.keys():
            self.ends[incarnation] = max(self.delivered.get(incarnation, [0]), default=0)

    def _open(self, incarnation: int, first: int, truth: dict[int, int]) -> None:
        """Note the first that came on a channel: its publisher may be older than the gateway, and of
        those before it nobody heard."""
        if self.unopened:
            self.unopened = False
            for other, newest in truth.items():
                self._excuse(other, first - 1 if other == incarnation else newest)

    def _excuse(self, incarnation: int, newest: int) -> None:
        self.excused[incarnation] = max(self.excused.get(incarnation, 0), newest)


def incarnation_of(epoch: str) -> int | None:
    """The incarnation that an epoch is taken from; None if it is a gateway's own."""
    return int(epoch, 16) if len(epoch) == 16 else None
