"""What a subscription gives the application: events, and gaps where events are missing."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from neurograph_client.codes import GapReason


Data = TypeVar("Data")


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a channel: behind the event with this offset, in this epoch of its numbering."""

    epoch: str
    offset: int


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
        """Where to go on behind this event: give it as `since` to a later `subscribe`."""
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
