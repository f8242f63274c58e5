"""What a subscription gives the application: events, and gaps where events are missing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Self, TypeVar

from neurograph_client.codes import GapReason


Data = TypeVar("Data")


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a channel: behind the event with this offset of the source that the epoch names.

    `others` has the offsets of the channel's further sources, by their epochs. As text it is ``EPOCH:OFFSET``, of
    each source in turn."""

    epoch: str
    offset: int
    others: Mapping[str, int] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return ":".join(f"{epoch}:{offset}" for epoch, offset in self.offsets.items())

    @property
    def offsets(self) -> dict[str, int]:
        """The offset of each source, that of `epoch` first."""
        return {self.epoch: self.offset, **self.others}

    def as_json(self) -> dict[str, Any]:
        """Return it as the protocol has it."""
        place = {"epoch": self.epoch, "offset": self.offset}
        return {**place, "others": dict(self.others)} if self.others else place

    @classmethod
    def of(cls, offsets: Mapping[str, int], epoch: str) -> Self:
        """Return the position with these offsets by source; `epoch` is one of them."""
        return cls(epoch, offsets[epoch], {other: offset for other, offset in offsets.items() if other != epoch})


# Not frozen: that would make an event three times as dear.
@dataclass(slots=True)
class Event(Generic[Data]):
    """An event of a channel.

    `data` is what its publisher sent: `bytes` if the event carries bytes, else JSON; on the six standard channels a dictionary of the type that
    `neurograph_client.models` declares. `event_type` is None where the publisher sent bare data.
    `timestamp` is RFC 3339. `message` has all members of the event, also those without a name here.
    """

    channel: str
    epoch: str
    offset: int
    event_type: str | None
    timestamp: str
    data: Data
    message: dict[str, Any] = field(repr=False)

    @property
    def time(self) -> datetime:
        """The timestamp; microseconds are the finest that it has."""
        return datetime.fromisoformat(self.timestamp)

    @property
    def position(self) -> Position:
        """Its place in its source. To go on behind it in a channel with several, keep their offsets, too."""
        return Position(self.epoch, self.offset)

    def _repr_html_(self) -> str:
        from neurograph_client import html

        return html.items([self])


@dataclass(frozen=True, slots=True)
class Gap:
    """Events of a channel that will not come, from offset `from_` to `to`.

    `count` is how many, if that is known. `reason` is as in the gateway's protocol: ``evicted`` (the
    gateway no longer held them), ``bus_loss`` (lost before the gateway), ``rejected`` (invalid),
    ``unwatched`` (not fetched from the bus, as nobody was subscribed) or ``epoch`` (the channel's
    numbering began anew; without offsets, any number of events of earlier epochs may be missing).
    """

    channel: str
    epoch: str
    from_: int | None
    to: int | None
    count: int | None
    reason: GapReason

    def as_json(self) -> dict[str, Any]:
        """Return what the gateway says of it, without its type."""
        places = {"channel": self.channel, "epoch": self.epoch, "from": self.from_, "to": self.to}
        return {**places, "count": self.count, "reason": self.reason}

    def _repr_html_(self) -> str:
        from neurograph_client import html

        return html.items([self])


class Channel(str, Generic[Data]):
    """A channel's name that also names the type of its events' data, for type checkers."""

    __slots__ = ()


def position_behind(before: Position | None, message: Mapping[str, Any], epoch: str) -> Position | None:
    """Return how far an event's or a gap's message, of the source `epoch`, brings one who was at a position."""
    offsets = {} if before is None else before.offsets
    offset = message["offset"] if "offset" in message else message["to"]
    if offset is None:  # the source ended
        if before is None or offsets.keys() <= {epoch}:
            return before
        offsets.pop(epoch, None)
        return Position.of(offsets, next(iter(offsets)))
    begins = message.get("reason") == "epoch" and epoch not in offsets
    if begins or "epoch" not in message:  # no other source is live
        offsets = {}
    return Position.of({**offsets, epoch: offset}, epoch)


def behind(before: Position | None, item: Event[Any] | Gap) -> Position | None:
    """Return how far an item brings one who was at a position in its channel."""
    return position_behind(before, item.message if isinstance(item, Event) else item.as_json(), item.epoch)


def is_wildcard(pattern: str) -> bool:
    return "*" in pattern or ">" in pattern


def matches(pattern: str, channel: str) -> bool:
    """Tell whether a pattern selects a channel: ``*`` is one segment, a final ``>`` one or more."""
    if channel.startswith("$"):
        return pattern == channel
    wanted, given = pattern.split("."), channel.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(given) <= len(wanted):
            return False
        given = given[: len(wanted)]
    return len(wanted) == len(given) and all(one in {"*", other} for one, other in zip(wanted, given, strict=True))
