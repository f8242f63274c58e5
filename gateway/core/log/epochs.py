"""Who numbers a channel's events: their one publisher wherever that is possible, else the gateway.

A channel with one publisher takes over its numbers: the epoch is the publisher's incarnation, the
offset is its sequence. So every gateway on the bus, and a restarted one, gives out the same
positions. Where that cannot hold, because events come without numbers, from two publishers at once
or from the gateway itself, the gateway numbers them for good, in an epoch of its own.

A channel thus has epochs, one after the other. A `Cursor` is a place in it, ordered by the epoch's
number and the offset; a `Position` is the same as clients know it, by the epoch's id. Which epoch an
event belongs to depends on the `source` of numbers so far (`Transition`):

    source        the event comes from                           transition  source then
    none          a publisher                                    OPENED      its incarnation
    none          anything without a number                      OPENED      OWN
    incarnation   the same, with a higher number                 SAME        incarnation
    incarnation   one that has not numbered this channel before  RESTARTED   the new incarnation
    incarnation   anything else                                  SHARED      OWN
    OWN           anything                                       SAME        OWN

Invariants: offsets are ascending within an epoch, and a position names one event for good.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass
from enum import Enum, auto

from msgspec import Struct

from gateway.core.protocol.messages import Position


EPOCHS_MAX = 64
"""Epochs of a channel whose positions are still understood; the oldest are forgotten."""
OFFSET_MAX = 2**53 - 1
"""Beyond it a JavaScript client cannot tell numbers apart, so the gateway numbers by itself."""

OWN = -1
"""The source of numbers that is the gateway itself; no incarnation is negative."""
_FORGOTTEN = Position("_", 0)


class Cursor(Struct, frozen=True, order=True, gc=False, array_like=True):
    """A place in a channel: behind the entry with this offset in the epoch with this number."""

    epoch_number: int
    offset: int


ORIGIN = Cursor(0, 0)
"""Before everything."""


class Transition(Enum):
    """How an event goes on from those before it."""

    SAME = auto()
    OPENED = auto()
    """It is the channel's first."""
    RESTARTED = auto()
    """It is the first of a new incarnation; how the last one ended is not known."""
    SHARED = auto()
    """It is the first that the gateway numbers."""


@dataclass(slots=True)
class Epoch:
    """One epoch of a channel: offsets behind `base`, up to `last` once it is over."""

    id: str
    base: int = 0
    last: int | None = None


class EpochTable(Struct, frozen=True):
    """What a replica in another process needs: the source, and the known epochs by number."""

    source: int | None
    known: dict[int, Epoch]


class Epochs:
    """One channel's epochs and the newest place in them; `own_id` is that of the gateway's own."""

    __slots__ = ("_epochs", "_retired", "newest", "own_id", "source")

    def __init__(self, own_id: str) -> None:
        self.own_id = own_id
        self.newest = ORIGIN
        self.source: int | None = None
        """The incarnation whose numbers are taken over, `OWN`, or None at first."""
        self._epochs: OrderedDict[int, Epoch] = OrderedDict({0: Epoch(own_id)})
        self._retired: deque[int] = deque(maxlen=EPOCHS_MAX)

    @property
    def current(self) -> Epoch:
        """The present epoch."""
        return self._epochs[self.newest.epoch_number]

    @property
    def table(self) -> EpochTable:
        """What a replica must know beside the newest place; it changes where an epoch begins."""
        return EpochTable(self.source, dict(self._epochs))

    def replace(self, table: EpochTable) -> None:
        """Take over the epochs of the process that numbers the events."""
        self.source = table.source
        self._epochs = OrderedDict(table.known)

    def has_numbered(self, incarnation: int) -> bool:
        """Return whether a publisher numbers this channel, or did so before."""
        return incarnation == self.source or incarnation in self._retired

    def advance(self, incarnation: int | None, first: int) -> Transition:
        """Go over to the epoch that an event belongs to.

        `first` is the event's number, or that of the first message lost before it.
        """
        source = self.source
        if source == OWN or (incarnation == source is not None and first > self.newest.offset):
            return Transition.SAME
        if incarnation is None or first > OFFSET_MAX or self.has_numbered(incarnation):
            self.source = OWN
            if source is None:
                return Transition.OPENED  # in the epoch that empty channels have
            self._begin(Epoch(self.own_id))
            return Transition.SHARED
        self.source = incarnation
        self._begin(Epoch(f"{incarnation:016x}", base=first - 1))
        if source is None:
            return Transition.OPENED
        self._retired.append(source)
        return Transition.RESTARTED

    def position(self, cursor: Cursor) -> Position:
        """Return a cursor as clients know it; if its epoch is forgotten, one that resumes nowhere."""
        epoch = self._epochs.get(cursor.epoch_number)
        return _FORGOTTEN if epoch is None else Position(epoch.id, cursor.offset)

    def find(self, position: Position, *, ahead_max: int) -> Cursor | None:
        """Return the place that a position names, or None if it is not one of this channel.

        A position that another gateway gave may be ahead of what has arrived here, by at most
        `ahead_max`.
        """
        for number, epoch in self._epochs.items():
            if epoch.id != position.epoch:
                continue
            if epoch.last is None:
                ahead = 0 if self.source in {OWN, None} else ahead_max
                if position.offset <= self.newest.offset + ahead:
                    return Cursor(number, position.offset)
            elif epoch.id == self.own_id:
                if position.offset <= epoch.last:
                    return Cursor(number, position.offset)
            elif self.source != OWN:
                return Cursor(number, position.offset)
            else:
                # It is one publisher's, and there are several: of the others nothing is known.
                return None
        return None

    def is_beyond_end(self, cursor: Cursor) -> bool:
        """Return whether a place is beyond the end of its epoch here, and the gateway numbers now.

        Another gateway received more of that epoch; here the same events got other numbers.
        """
        epoch = self._epochs.get(cursor.epoch_number)
        over = epoch is not None and epoch.last is not None and cursor.offset > epoch.last
        return over and self.source == OWN

    def base(self, cursor: Cursor) -> int:
        """Return the offset before the first that was ever numbered here in a cursor's epoch."""
        epoch = self._epochs.get(cursor.epoch_number)
        return 0 if epoch is None else epoch.base

    def _begin(self, epoch: Epoch) -> None:
        number = self.newest.epoch_number
        self._epochs[number].last = self.newest.offset
        self._epochs[number + 1] = epoch
        self.newest = Cursor(number + 1, epoch.base)
        if len(self._epochs) > EPOCHS_MAX:
            self._epochs.popitem(last=False)
