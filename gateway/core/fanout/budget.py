"""How much work filters may be, counted in steps: the same on every machine, about 0.04 µs each.

A view that would take more steps in one write is not written to then: its readers lag, and read on from the
log, some at a time, with a pause after each turn. So an expensive filter delays its own reader, and loses it
events only if the log evicts them meanwhile, which a gap reports."""

from collections.abc import Iterable, Iterator

from gateway.core.fanout.cohorts import Reader
from gateway.core.fanout.filters import SEARCHED_CHARS_MAX, Filter
from gateway.core.log.sources import Entry


VIEW_STEPS_MAX = 20_000
"""For one view in one write, or one reader that catches up."""
TURN_STEPS_MAX = 80_000
"""For all of them together."""
PAUSE_NS = 20_000_000
"""How long after a turn the readers that were not finished read on."""
_CHARS_PER_STEP_SHIFT = 5

Filters = tuple[Filter, ...]


def steps(filters: Filters, events: int, size: int) -> int:
    """Return the most steps that the filters take for events of so many bytes."""
    total = 0
    for one in filters:
        chars = min(one.searches * size, events * SEARCHED_CHARS_MAX) if one.searches else 0
        total += one.nodes * events + (chars >> _CHARS_PER_STEP_SHIFT)
    return total


def affordable(entries: Iterable[Entry], filters: Filters, steps_max: int = VIEW_STEPS_MAX) -> tuple[list[Entry], int]:
    """Return the first entries that take no more steps, but at least one, and how many they take."""
    taken: list[Entry] = []
    spent = 0
    for entry in entries:
        spent += steps(filters, 1, len(entry.frame))
        if spent > steps_max and taken:
            spent -= steps(filters, 1, len(entry.frame))
            break
        taken.append(entry)
    return taken, spent


class Budget:
    """The steps left in this turn, and the readers that wait for a further one, the longest waiting first."""

    def __init__(self) -> None:
        self.left = TURN_STEPS_MAX
        self.spent = 0
        """By the reader that catches up now, also for what another one has paid."""
        self.waiting: dict[Reader, None] = {}
        self._due_ns = 0

    @property
    def due_ns(self) -> int | None:
        """When readers that wait are to be served; None if there are none."""
        return self._due_ns if self.waiting else None

    @property
    def is_spent(self) -> bool:
        """Whether the reader that catches up now must wait for another turn."""
        return self.left <= 0 or self.spent >= VIEW_STEPS_MAX

    def begin_turn(self) -> None:
        self.left = TURN_STEPS_MAX

    def spend(self, steps_: int) -> bool:
        """Spend the steps of one view, unless they are too many; return whether they are not."""
        if steps_ > min(VIEW_STEPS_MAX, self.left):
            return False
        self.left -= steps_
        return True

    def take_waiting(self, now_ns: int) -> Iterator[Reader]:
        """Take readers that wait, while steps are left, unless the last turn was just now."""
        if self._due_ns - PAUSE_NS <= now_ns < self._due_ns:
            return
        while self.waiting and self.left > 0:
            reader = next(iter(self.waiting))
            del self.waiting[reader]
            yield reader
        self._due_ns = now_ns + PAUSE_NS
