"""What one client got of one source, and what of that is missing; without excuses for what the gateways could have had.

A number counts as accounted for if it was delivered, once and in order, or if a gap names it. A gap that does not say how
much is missing excuses only what no gateway needed to have: of a publisher without replay, or what one published shortly
before it was killed, while no gateway may have heard it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


Range = tuple[int, int]
ALL = 2**53


@dataclass(slots=True)
class Lack:
    """What is missing of a source."""

    reported: int = 0
    reported_though_held: int = 0
    """How many of these a publisher still had: its answer came too late."""
    unaccounted: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Source:
    """The numbers of one source, as they came to one client; `last` is the newest delivered or reported."""

    last: int = 0
    begun: int = 0
    """What was published up to here before the client began: it need not come."""
    count: int = 0
    missing: list[Range] = field(default_factory=list)
    """What was passed over up to `last`."""
    reported: list[Range] = field(default_factory=list)
    """What gaps name."""
    unknown: list[tuple[int, int, int]] = field(default_factory=list)
    """What gaps cover that do not say how much is missing, and up to where the client had had time to get it before."""

    def deliver(self, number: int) -> None:
        """Note an event behind the last one."""
        assert number > self.last, f"{number} came after {self.last}"
        self.pass_over(number - 1)
        self.last = number
        self.count += 1

    def report(self, first: int, last: int) -> None:
        """Note a gap, whose numbers will not come."""
        self.reported.append((first, last))
        self.pass_over(last)

    def report_unknown(self, newest: int, *, due: int = ALL) -> None:
        """Note a gap that does not say how much is missing; `newest` is what was published until now.

        If nothing comes after it, it also covers what follows: nothing shows that the source went on. It does not excuse
        what was `due` before, when the client last heard of the channel."""
        self.unknown.append((self.last + 1, newest, due))

    def is_missing(self, number: int) -> bool:
        return number > self.last or any(first <= number <= last for first, last in self.missing)

    def lacks(self, newest: int, *, held: int) -> Lack:
        """Return what is missing up to `newest`.

        All up to `held` every gateway could have had: a gap that does not say how much is missing does not excuse it."""
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
        """Note that nothing up to `last` comes any more."""
        if last > self.last:
            self.missing.append((self.last + 1, last))
            self.last = last


@dataclass(slots=True)
class Sent:
    """A message that a gateway has acknowledged."""

    number: int
    began: float
    """When it was first sent, and when the answer came."""
    answered: float
    attempts: int
    client_id: str = ""
    epoch: str = ""
    offset: int = 0


@dataclass(slots=True)
class Messages:
    """What one client got of messages that the engine numbers, on one channel."""

    delivered: dict[int, str] = field(default_factory=dict)
    """By the number that their sender gave them, in which epoch they came."""
    again: list[int] = field(default_factory=list)
    """Those that came a second time, in another epoch: their first write was lost, and their key with it."""
    epoch_gaps: list[tuple[float, str]] = field(default_factory=list)
    """When a gap of reason `epoch` came, and of which source."""
    reported: int = 0
    """How many further gaps have reported."""

    def deliver(self, number: int, epoch: str) -> None:
        before = self.delivered.get(number)
        assert before != epoch, f"message {number} came twice in epoch {epoch}"
        if before is None:
            self.delivered[number] = epoch
        else:
            self.again.append(number)

    def lacks(
        self, sent: list[Sent], *, engine_failed: list[float], new_sessions: list[float]
    ) -> tuple[int, list[Sent]]:
        """Return how many messages are excused, and those that are not.

        A message is excused if the engine failed shortly before or after it was acknowledged, and that was reported: the
        client got a gap of reason `epoch` for the message's source, or any since it was sent, or another session since."""
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
    """Messages without envelopes as they came to one client, by the number that their data has.

    Nothing but these numbers shows what is missing: where one is passed over, a gap must have come since the last one."""

    delivered: dict[int, str] = field(default_factory=dict)
    """In which epoch each came last."""
    again: list[int] = field(default_factory=list)
    """Those that came a second time, of another source."""
    _first: int | None = None
    _newest: int = 0
    _is_reported: bool = False
    """Whether a gap came since the newest one."""
    _unreported: set[int] = field(default_factory=set)

    def begin(self, newest: int) -> None:
        """Note that the client must miss nothing after this number."""
        if self._first is None:
            self._first, self._newest = newest + 1, newest

    def report(self) -> None:
        """Note a gap."""
        self._is_reported = True

    def deliver(self, number: int, epoch: str) -> None:
        before = self.delivered.get(number)
        assert before != epoch, f"message {number} came twice in epoch {epoch}"
        self.delivered[number] = epoch
        if before is not None:
            self.again.append(number)
        elif number > self._newest:
            if not self._is_reported:
                self._unreported.update(range(self._newest + 1, number))
            self._newest, self._is_reported = number, False

    def lacks(self, newest: int) -> tuple[list[int], list[int]]:
        """Return what is missing up to `newest`: what gaps have reported, and the rest."""
        if self._first is None:
            return [], []
        missing = [number for number in range(self._first, newest + 1) if number not in self.delivered]
        left = [number for number in missing if number > self._newest or number in self._unreported]
        return [number for number in missing if number not in {*left}], left


def is_near(at: float, changes: Iterable[float]) -> bool:
    """Whether one of the changes was shortly before or after a time."""
    return any(abs(at - change) < FAILED_SECONDS for change in changes)


FAILED_SECONDS = 15.0
"""For how long after an outage of the engine writes that it confirmed may be lost: until Sentinel has replaced it."""
