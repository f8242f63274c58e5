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


LIVES_MAX = 64
"""Past lives of a channel that positions are still understood from; the oldest are forgotten."""
OFFSET_MAX = 2**53 - 1
"""Beyond it a JavaScript client could not tell numbers apart, so the gateway numbers itself."""

OWN = -1
"""The source of numbers that is the gateway itself; no incarnation is negative."""
_FORGOTTEN = Position("_", 0)


class Cursor(Struct, frozen=True, order=True, gc=False, array_like=True):
    """A place in a channel: behind the entry with this offset, in this life of its numbering."""

    life: int
    offset: int


ORIGIN = Cursor(0, 0)
"""Before everything."""


class Turn(Enum):
    """How an event goes on from those before it."""

    SAME = auto()
    OPENED = auto()
    """It is the channel's first."""
    RESTARTED = auto()
    """It is the first of a new incarnation; how the last one ended is not known."""
    SHARED = auto()
    """It is the first that the gateway numbers."""


@dataclass(slots=True)
class Life:
    """One epoch of a channel: offsets behind `base`, up to `last` once it is over."""

    epoch: str
    base: int = 0
    last: int | None = None


class Lives(Struct, frozen=True):
    """A numbering for another process: `source` as there, the lives that are known by number."""

    source: int | None
    known: dict[int, Life]


class Numbering:
    """One channel's lives and the newest place in them; `epoch` is the gateway's own."""

    __slots__ = ("_lives", "_retired", "epoch", "newest", "source")

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.newest = ORIGIN
        self.source: int | None = None
        """The incarnation whose numbers are taken over, `OWN`, or None at first."""
        self._lives: OrderedDict[int, Life] = OrderedDict({0: Life(epoch)})
        self._retired: deque[int] = deque(maxlen=LIVES_MAX)

    @property
    def life(self) -> Life:
        """The present life."""
        return self._lives[self.newest.life]

    @property
    def lives(self) -> Lives:
        """What a replica must know beside the newest place; it changes where a life begins."""
        return Lives(self.source, dict(self._lives))

    def replace(self, lives: Lives) -> None:
        """Take over the lives that are known where the events are numbered."""
        self.source = lives.source
        self._lives = OrderedDict(lives.known)

    def knows(self, incarnation: int) -> bool:
        """Tell whether a publisher numbers this channel, or has done so."""
        return incarnation == self.source or incarnation in self._retired

    def turn(self, incarnation: int | None, first: int) -> Turn:
        """Go over to the life that an event belongs to; `first` is its number, or that of the
        first one lost before it."""
        source = self.source
        if source == OWN or (incarnation == source is not None and first > self.newest.offset):
            return Turn.SAME
        if incarnation is None or first > OFFSET_MAX or self.knows(incarnation):
            self.source = OWN
            if source is None:
                return Turn.OPENED  # in the life that empty channels have
            self._begin(Life(self.epoch))
            return Turn.SHARED
        self.source = incarnation
        self._begin(Life(f"{incarnation:016x}", base=first - 1))
        if source is None:
            return Turn.OPENED
        self._retired.append(source)
        return Turn.RESTARTED

    def position(self, cursor: Cursor) -> Position:
        """Return a cursor as clients know it; one that no epoch is known of resumes nowhere."""
        life = self._lives.get(cursor.life)
        return _FORGOTTEN if life is None else Position(life.epoch, cursor.offset)

    def find(self, position: Position, *, ahead_max: int) -> Cursor | None:
        """Return the place that a position names, or None if it is not one of this channel.

        A position that another gateway gave may be ahead of what has arrived here, by at most
        `ahead_max`.
        """
        for number, life in self._lives.items():
            if life.epoch != position.epoch:
                continue
            if life.last is None:
                ahead = 0 if self.source in {OWN, None} else ahead_max
                if position.offset <= self.newest.offset + ahead:
                    return Cursor(number, position.offset)
            elif life.epoch == self.epoch:
                if position.offset <= life.last:
                    return Cursor(number, position.offset)
            elif self.source != OWN:
                return Cursor(number, position.offset)
            else:
                # It tells of one publisher, and there are several: of the others nothing is known.
                return None
        return None

    def is_astray(self, cursor: Cursor) -> bool:
        """Tell whether a place is beyond the end of its life here, and the gateway numbers now.

        Another gateway heard more of that life; here the same events got other numbers.
        """
        life = self._lives.get(cursor.life)
        over = life is not None and life.last is not None and cursor.offset > life.last
        return over and self.source == OWN

    def base(self, cursor: Cursor) -> int:
        """Return the offset before the first that was ever numbered here in a cursor's life."""
        life = self._lives.get(cursor.life)
        return 0 if life is None else life.base

    def _begin(self, life: Life) -> None:
        number = self.newest.life
        self._lives[number].last = self.newest.offset
        self._lives[number + 1] = life
        self.newest = Cursor(number + 1, life.base)
        if len(self._lives) > LIVES_MAX:
            self._lives.popitem(last=False)
