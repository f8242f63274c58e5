"""Which events of one source one client received, and which are missing without an excuse.

A number is accounted for if it was delivered, once and in order, or if a gap names it. A gap that does not say how much is
missing excuses only events that no gateway is sure to have received: those of a publisher without replay, and those that
a publisher published shortly before it was killed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


Range = tuple[int, int]
ALL = 2**53


@dataclass(slots=True)
class Lack:
    """How many events of a source are missing and reported, and the numbers that are missing and not reported."""

    reported: int = 0
    reported_though_held: int = 0
    """How many of the reported events the publisher could still replay: its reply came too late."""
    unaccounted: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Source:
    """The numbers of one source at one client; `last` is the newest that was delivered or reported."""

    last: int = 0
    begun: int = 0
    """The newest number that was published before the client subscribed: it and older ones need not arrive."""
    count: int = 0
    missing: list[Range] = field(default_factory=list)
    """The ranges up to `last` that were not delivered."""
    reported: list[Range] = field(default_factory=list)
    """The ranges that gaps name."""
    unknown: list[tuple[int, int, int]] = field(default_factory=list)
    """For each gap that does not say how much is missing: the range that it may cover, and up to which number the client
    had had time to receive everything before the gap."""

    def deliver(self, number: int) -> None:
        """Record an event, which must be newer than the last one."""
        assert number > self.last, f"event {number} was delivered after {self.last}: twice or out of order"
        self.pass_over(number - 1)
        self.last = number
        self.count += 1

    def report(self, first: int, last: int) -> None:
        """Record a gap that names its numbers."""
        self.reported.append((first, last))
        self.pass_over(last)

    def report_unknown(self, newest: int, *, due: int = ALL) -> None:
        """Record a gap that does not say how much is missing; `newest` is the newest number published so far.

        If no event follows, the gap also covers later events: nothing shows that the source continued. It excuses no
        number up to `due`, which the client had had time to receive when it last received anything of the channel."""
        self.unknown.append((self.last + 1, newest, due))

    def is_missing(self, number: int) -> bool:
        return number > self.last or any(first <= number <= last for first, last in self.missing)

    def lacks(self, newest: int, *, held: int) -> Lack:
        """Return what is missing up to `newest`.

        Every gateway could have received all numbers up to `held`: a gap that does not say how much is missing excuses
        none of them."""
        found = Lack()
        unknown = list(self.unknown)
        if unknown and unknown[-1][0] == self.last + 1:
            unknown.append((self.last + 1, newest, unknown[-1][2]))
        for first, last in (*self.missing, (self.last + 1, newest)):
            for number in range(max(first, self.begun + 1), min(last, newest) + 1):
                if any(low <= number <= high for low, high in self.reported):
                    found.reported += 1
                    found.reported_though_held += number <= held
                elif any(low <= number <= high and number > min(held, due) for low, high, due in unknown):
                    found.reported += 1
                else:
                    found.unaccounted.append(number)
        return found

    def pass_over(self, last: int) -> None:
        """Record that no further number up to `last` will arrive."""
        if last > self.last:
            self.missing.append((self.last + 1, last))
            self.last = last


@dataclass(slots=True)
class Sent:
    """A message that a gateway has acknowledged; times are of the monotonic clock."""

    number: int
    began: float
    """When it was first sent; `answered` is when the acknowledgement arrived."""
    answered: float
    attempts: int
    client_id: str = ""
    epoch: str = ""
    offset: int = 0


@dataclass(slots=True)
class Messages:
    """The messages that one client received on one channel whose messages the engine numbers."""

    delivered: dict[int, str] = field(default_factory=dict)
    """The epoch in which each message arrived, by the number that its sender gave it."""
    again: list[int] = field(default_factory=list)
    """Messages that arrived a second time, in another epoch: the engine lost the first write and its idempotency key."""
    epoch_gaps: list[tuple[float, str]] = field(default_factory=list)
    """When each gap of reason `epoch` arrived, and the source that it names."""
    reported: int = 0
    """How many events the other gaps report."""

    def deliver(self, number: int, epoch: str) -> None:
        before = self.delivered.get(number)
        assert before != epoch, f"message {number} was delivered twice in epoch {epoch}"
        if before is None:
            self.delivered[number] = epoch
        else:
            self.again.append(number)

    def lacks(
        self, sent: list[Sent], *, engine_failed: list[float], new_sessions: list[float]
    ) -> tuple[int, list[Sent]]:
        """Return how many missing messages are excused, and those that are not.

        A message is excused if the engine failed shortly before or after the acknowledgement, and the client was notified:
        by a gap of reason `epoch` for the message's source, or, since the message was sent, by such a gap for any source
        or by a new session."""
        excused, left = 0, []
        for one in sent:
            if one.number in self.delivered:
                continue
            reported = any(at >= one.began or epoch == one.epoch for at, epoch in self.epoch_gaps)
            reported = reported or any(at >= one.began for at in new_sessions)
            failed = any(one.began - FAILED_SECONDS < at < one.answered + FAILED_SECONDS for at in engine_failed)
            if reported and failed:
                excused += 1
            else:
                left.append(one)
        by_count = min(self.reported, len(left))
        return excused + by_count, left[by_count:]


@dataclass(slots=True)
class Plain:
    """The messages without envelopes that one client received, by the number in their data.

    Only these numbers show what is missing: where one is skipped, a gap must have arrived since the message before."""

    delivered: dict[int, str] = field(default_factory=dict)
    """The epoch in which each message arrived last."""
    again: list[int] = field(default_factory=list)
    """Messages that arrived a second time, from another source."""
    _first: int | None = None
    _newest: int = 0
    _is_reported: bool = False
    """Whether a gap arrived since the newest message."""
    _unreported: set[int] = field(default_factory=set)

    def begin(self, newest: int) -> None:
        """Record that from the number after this one on, the client must receive every message."""
        if self._first is None:
            self._first, self._newest = newest + 1, newest

    def report(self) -> None:
        """Record a gap, whatever it covers."""
        self._is_reported = True

    def deliver(self, number: int, epoch: str) -> None:
        before = self.delivered.get(number)
        assert before != epoch, f"message {number} was delivered twice in epoch {epoch}"
        self.delivered[number] = epoch
        if before is not None:
            self.again.append(number)
        elif number > self._newest:
            if not self._is_reported:
                self._unreported.update(range(self._newest + 1, number))
            self._newest, self._is_reported = number, False

    def lacks(self, newest: int) -> tuple[list[int], list[int]]:
        """Return the numbers missing up to `newest`: first those that gaps have reported, then the others."""
        if self._first is None:
            return [], []
        missing = [number for number in range(self._first, newest + 1) if number not in self.delivered]
        left = [number for number in missing if number > self._newest or number in self._unreported]
        return [number for number in missing if number not in {*left}], left


def is_near(at: float, changes: Iterable[float]) -> bool:
    """Whether one of the changes happened at most `FAILED_SECONDS` before or after a time."""
    return any(abs(at - change) < FAILED_SECONDS for change in changes)


FAILED_SECONDS = 15.0
"""For how long after an outage the engine may lose writes that it confirmed: until the Sentinels have replaced it."""
