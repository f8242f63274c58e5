"""Who numbers a channel's events: its publisher if there is only one, else the gateway.

If a channel has one publisher, the gateway uses the publisher's numbers: the epoch is its
incarnation, the offset its sequence. So all gateways on the bus, and a restarted one, give the same
positions. If events have no numbers, or come from two publishers at once or from the gateway itself,
the gateway numbers all further events of the channel, in an epoch of its own.

So a channel has epochs, one after the other. A `Cursor` is a place in it, ordered by the epoch's
number and the offset; a `Position` is the same place for clients, with the epoch's id. The `source`
of the numbers so far decides which epoch an event belongs to (`Transition`):

    source        the event comes from                                transition  new source
    none          a publisher                                         OPENED      its incarnation
    none          anything else                                       OPENED      OWN
    incarnation   the same, with a higher number                      SAME        incarnation
    incarnation   a publisher that has not numbered this channel yet  RESTARTED   its incarnation
    incarnation   anything else                                       SHARED      OWN
    OWN           anything                                            SAME        OWN

A number above `OFFSET_MAX` counts as "anything else", and so does one that is not higher.

Invariants: offsets ascend within an epoch; a position never stands for two events."""

from collections import OrderedDict, deque
from dataclasses import dataclass
from enum import Enum, auto

from msgspec import Struct

from gateway.core.protocol.messages import Position


EPOCHS_MAX = 64
"""Epochs remembered per channel; positions in older ones are refused."""
OFFSET_MAX = 2**53 - 1
"""JavaScript cannot represent all integers above it."""

OWN = -1
"""The `source` if the gateway numbers; no incarnation is negative."""
_FORGOTTEN = Position("_", 0)


class Cursor(Struct, frozen=True, order=True, gc=False, array_like=True):
    """A place in a channel: behind the entry with this offset in this epoch."""

    epoch_number: int
    offset: int


ORIGIN = Cursor(0, 0)
"""Before everything."""


class Transition(Enum):
    """Whether an event belongs to the same epoch as the one before it, and if not, why."""

    SAME = auto()
    OPENED = auto()
    """It is the channel's first."""
    RESTARTED = auto()
    """It is the first of a new incarnation; how the one before it ended is not known."""
    SHARED = auto()
    """It is the first that the gateway numbers, after those that a publisher numbered."""


@dataclass(slots=True)
class Epoch:
    """An epoch of a channel: its offsets begin behind `base` and end with `last`, once it has ended."""

    id: str
    base: int = 0
    last: int | None = None


class EpochTable(Struct, frozen=True):
    """A channel's source and epochs, by number, for a replica in another process."""

    source: int | None
    known: dict[int, Epoch]


class Epochs:
    """One channel's epochs and its newest place; `own_id` is the id of the gateway's own epoch."""

    __slots__ = ("_epochs", "_retired", "newest", "own_id", "source")

    def __init__(self, own_id: str) -> None:
        self.own_id = own_id
        self.newest = ORIGIN
        self.source: int | None = None
        """The incarnation whose numbers are used, `OWN`, or None before the first event."""
        self._epochs: OrderedDict[int, Epoch] = OrderedDict({0: Epoch(own_id)})
        self._retired: deque[int] = deque(maxlen=EPOCHS_MAX)

    @property
    def current(self) -> Epoch:
        return self._epochs[self.newest.epoch_number]

    @property
    def table(self) -> EpochTable:
        """All that a replica needs besides the newest place; changes only when an epoch begins."""
        return EpochTable(self.source, dict(self._epochs))

    def load_table(self, table: EpochTable) -> None:
        """Use the epochs of the process that numbers the events."""
        self.source = table.source
        self._epochs = OrderedDict(table.known)

    def advance(self, incarnation: int | None, first: int, last: int) -> Transition:
        """Begin the epoch that an event belongs to, unless it is the current one.

        `last` is the event's number, `first` that of the first message missing before it."""
        source = self.source
        too_high = last > OFFSET_MAX
        if source == OWN or (incarnation == source is not None and first > self.newest.offset and not too_high):
            return Transition.SAME
        retired = incarnation == source or incarnation in self._retired
        if incarnation is None or too_high or retired:
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

    def reached(self, incarnation: int) -> int | None:
        """Return how far a publisher's messages have come; 0 if there are none, None if that is not known."""
        if self.source == OWN:
            return None
        if self.source == incarnation:
            return self.newest.offset
        id_ = f"{incarnation:016x}"
        return next((epoch.last or 0 for epoch in self._epochs.values() if epoch.id == id_), 0)

    def position(self, cursor: Cursor) -> Position:
        """Return a cursor's position; if its epoch is forgotten, one that is always refused."""
        epoch = self._epochs.get(cursor.epoch_number)
        return _FORGOTTEN if epoch is None else Position(epoch.id, cursor.offset)

    def cursor(self, position: Position, *, ahead_max: int) -> Cursor | None:
        """Return a position's cursor; None if the position is not one of this channel.

        A position from another gateway may be ahead of this one by at most `ahead_max`."""
        for number, epoch in self._epochs.items():
            if epoch.id == position.epoch and self._has(epoch, position.offset, ahead_max):
                return Cursor(number, position.offset)
        return None

    def _has(self, epoch: Epoch, offset: int, ahead_max: int) -> bool:
        if epoch.last is None:
            ahead = 0 if self.source in {OWN, None} else ahead_max
            return offset <= self.newest.offset + ahead
        if epoch.id == self.own_id:
            return offset <= epoch.last
        # If the gateway numbers now, a publisher's position says nothing about the other publishers.
        return self.source != OWN

    def is_beyond_end(self, cursor: Cursor) -> bool:
        """Return whether a place is beyond the end of its epoch here, and the gateway numbers now.

        Another gateway received more of that epoch; here the same events have other numbers."""
        epoch = self._epochs.get(cursor.epoch_number)
        beyond = epoch is not None and epoch.last is not None and cursor.offset > epoch.last
        return beyond and self.source == OWN

    def base(self, cursor: Cursor) -> int:
        """Return the offset before the first one that this gateway received in a cursor's epoch."""
        epoch = self._epochs.get(cursor.epoch_number)
        return 0 if epoch is None else epoch.base

    def _begin(self, epoch: Epoch) -> None:
        number = self.newest.epoch_number
        self._epochs[number].last = self.newest.offset
        self._epochs[number + 1] = epoch
        self.newest = Cursor(number + 1, epoch.base)
        if len(self._epochs) > EPOCHS_MAX:
            self._epochs.popitem(last=False)
