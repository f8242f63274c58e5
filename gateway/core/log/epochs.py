"""Who numbers a channel's events: their one publisher wherever that is possible, else the gateway.

A channel with one publisher takes over its numbers: the epoch is the publisher's incarnation, the
offset is its sequence. So every gateway on the bus, and a restarted one, hands out the same
positions. Where that cannot hold, because events come without numbers, from two publishers at
once or from the gateway itself, the gateway numbers them, in an epoch of its own, for good.

A channel thus has lives, one after the other, and places in it are ordered by life and offset.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass
from enum import Enum, auto

from msgspec import Struct

from gateway.core.protocol.messages import Position


EPOCHS_MAX = 64
"""Past lives of a channel that positions are still understood from; the oldest are forgotten."""
OFFSET_MAX = 2**53 - 1
"""Beyond it a JavaScript client could not tell numbers apart, so the gateway numbers itself."""

OWN = -1
"""The source of numbers that is the gateway itself; no incarnation is negative."""
_FORGOTTEN = Position("_", 0)


class Cursor(Struct, frozen=True, order=True, gc=False, array_like=True):
    """A place in a channel: behind the entry with this offset, in this life of its numbering."""

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

    epoch: str
    base: int = 0
    last: int | None = None


class EpochTable(Struct, frozen=True):
    """A numbering for another process: `source` as there, the lives that are known by number."""

    source: int | None
    known: dict[int, Epoch]


class Epochs:
    """One channel's lives and the newest place in them; `epoch` is the gateway's own."""

    __slots__ = ("_epochs", "_retired", "epoch", "newest", "source")

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.newest = ORIGIN
        self.source: int | None = None
        """The incarnation whose numbers are taken over, `OWN`, or None at first."""
        self._epochs: OrderedDict[int, Epoch] = OrderedDict({0: Epoch(epoch)})
        self._retired: deque[int] = deque(maxlen=EPOCHS_MAX)

    @property
    def epoch_number(self) -> Epoch:
        """The present life."""
        return self._epochs[self.newest.epoch_number]

    @property
    def table(self) -> EpochTable:
        """What a replica must know beside the newest place; it changes where a life begins."""
        return EpochTable(self.source, dict(self._epochs))

    def replace(self, table: EpochTable) -> None:
        """Take over the lives that are known where the events are numbered."""
        self.source = table.source
        self._epochs = OrderedDict(table.known)

    def has_numbered(self, incarnation: int) -> bool:
        """Tell whether a publisher numbers this channel, or has done so."""
        return incarnation == self.source or incarnation in self._retired

    def advance(self, incarnation: int | None, first: int) -> Transition:
        """Go over to the life that an event belongs to; `first` is its number, or that of the
        first one lost before it."""
        source = self.source
        if source == OWN or (incarnation == source is not None and first > self.newest.offset):
            return Transition.SAME
        if incarnation is None or first > OFFSET_MAX or self.has_numbered(incarnation):
            self.source = OWN
            if source is None:
                return Transition.OPENED  # in the life that empty channels have
            self._begin(Epoch(self.epoch))
            return Transition.SHARED
        self.source = incarnation
        self._begin(Epoch(f"{incarnation:016x}", base=first - 1))
        if source is None:
            return Transition.OPENED
        self._retired.append(source)
        return Transition.RESTARTED

    def position(self, cursor: Cursor) -> Position:
        """Return a cursor as clients know it; one that no epoch is known of resumes nowhere."""
        epoch_number = self._epochs.get(cursor.epoch_number)
        return _FORGOTTEN if epoch_number is None else Position(epoch_number.epoch, cursor.offset)

    def find(self, position: Position, *, ahead_max: int) -> Cursor | None:
        """Return the place that a position names, or None if it is not one of this channel.

        A position that another gateway gave may be ahead of what has arrived here, by at most
        `ahead_max`.
        """
        for number, epoch_number in self._epochs.items():
            if epoch_number.epoch != position.epoch:
                continue
            if epoch_number.last is None:
                ahead = 0 if self.source in {OWN, None} else ahead_max
                if position.offset <= self.newest.offset + ahead:
                    return Cursor(number, position.offset)
            elif epoch_number.epoch == self.epoch:
                if position.offset <= epoch_number.last:
                    return Cursor(number, position.offset)
            elif self.source != OWN:
                return Cursor(number, position.offset)
            else:
                # It tells of one publisher, and there are several: of the others nothing is known.
                return None
        return None

    def is_beyond_end(self, cursor: Cursor) -> bool:
        """Tell whether a place is beyond the end of its life here, and the gateway numbers now.

        Another gateway heard more of that life; here the same events got other numbers.
        """
        epoch_number = self._epochs.get(cursor.epoch_number)
        over = (
            epoch_number is not None
            and epoch_number.last is not None
            and cursor.offset > epoch_number.last
        )
        return over and self.source == OWN

    def base(self, cursor: Cursor) -> int:
        """Return the offset before the first that was ever numbered here in a cursor's life."""
        epoch_number = self._epochs.get(cursor.epoch_number)
        return 0 if epoch_number is None else epoch_number.base

    def _begin(self, epoch_number: Epoch) -> None:
        number = self.newest.epoch_number
        self._epochs[number].last = self.newest.offset
        self._epochs[number + 1] = epoch_number
        self.newest = Cursor(number + 1, epoch_number.base)
        if len(self._epochs) > EPOCHS_MAX:
            self._epochs.popitem(last=False)
