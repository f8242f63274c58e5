"""What the gateway says of itself, as the application gets it."""

from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, overload

from neurograph_client.columns import COLUMNS_MAX, Columns
from neurograph_client.items import Event, Gap, Position


if TYPE_CHECKING:
    import pandas
    import polars


@dataclass(frozen=True, slots=True)
class Info:
    """What the gateway said in its `connected` message."""

    client_id: str
    user_id: str | None
    resumed: bool
    """Whether it took up the session of the connection before."""
    server: str
    version: str
    heartbeat_seconds: float
    session_ttl_seconds: float
    token_expires: str | None
    message_bytes_max: int
    subscriptions_max: int

    @classmethod
    def read(cls, hello: dict[str, Any]) -> Self:
        """Return what a ``connected`` message says."""
        return cls(
            client_id=hello["client_id"],
            user_id=hello["user_id"],
            resumed=hello["resumed"],
            server=hello["server"]["name"],
            version=hello["server"]["version"],
            heartbeat_seconds=hello["heartbeat_seconds"],
            session_ttl_seconds=hello["session_ttl_seconds"],
            token_expires=hello.get("token_expires"),
            message_bytes_max=hello["limits"]["message_bytes_max"],
            subscriptions_max=hello["limits"]["subscriptions_max"],
        )


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a ping."""

    seconds: float
    """The time of the round trip."""
    positions: dict[str, Position]
    """How far the gateway has come in each channel that is followed."""

    @classmethod
    def read(cls, answer: dict[str, Any], seconds: float) -> Self:
        """Return what a ``pong`` message says."""
        places = {name: Position(**place) for name, place in answer["positions"].items()}
        return cls(seconds, places)


@dataclass(frozen=True, slots=True)
class Published:
    """What became of an event that was published."""

    recipients: int
    """How many clients follow its channel."""
    position: Position
    bus: bool | None = None
    """Whether a process on the bus gets it; None if the channel is not published there."""

    @classmethod
    def read(cls, answer: dict[str, Any]) -> Self:
        """Return what a ``published`` message or the answer to a broadcast says."""
        return cls(answer["recipients"], Position(**answer["position"]), answer.get("bus"))


class Status(dict[str, Any]):
    """The gateway's status document."""

    def _repr_html_(self) -> str:
        from neurograph_client import html

        return html.status(self)


class Channels(list[dict[str, Any]]):
    """The open channels, as the gateway describes them."""

    def _repr_html_(self) -> str:
        from neurograph_client import html

        return html.channels(self)


@dataclass(frozen=True, slots=True)
class History(Sequence[Event[Any] | Gap]):
    """A part of a channel's history, as a sequence of events and gaps; `gap` is what is missing before it.

    An event whose epoch the answer does not name has the epoch "".
    """

    items: list[Event[Any] | Gap]
    next: Position
    """Give it as `since` for the part that follows."""
    gap: Gap | None

    @classmethod
    def read(cls, answer: dict[str, Any], since: Position | None) -> Self:
        """Return what the gateway answered to a request for what comes behind `since`."""
        messages, following = answer["events"], Position(**answer["next"])
        is_named = any("epoch" in one for one in messages)
        epoch = "" if is_named else following.epoch
        if since is not None and answer["gap"] is None:
            epoch = since.epoch
        items: list[Event[Any] | Gap] = []
        for one in messages:
            epoch = one.get("epoch", epoch)
            items.append(_gap(one) if one["type"] == "gap" else _event(one, epoch))
        return cls(items, following, None if answer["gap"] is None else _gap(answer["gap"]))

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, at: int) -> Event[Any] | Gap: ...
    @overload
    def __getitem__(self, at: slice) -> list[Event[Any] | Gap]: ...
    def __getitem__(self, at: int | slice) -> Event[Any] | Gap | list[Event[Any] | Gap]:
        return self.items[at]

    def to_pandas(self, *, flatten: bool = True, columns_max: int = COLUMNS_MAX) -> "pandas.DataFrame":
        """Return a DataFrame of pandas, with a row for each event; see `Columns`."""
        return self._columns(flatten=flatten, columns_max=columns_max).to_pandas()

    def to_polars(self, *, flatten: bool = True, columns_max: int = COLUMNS_MAX) -> "polars.DataFrame":
        """Return a DataFrame of polars, with a row for each event; see `Columns`."""
        return self._columns(flatten=flatten, columns_max=columns_max).to_polars()

    def _columns(self, *, flatten: bool, columns_max: int) -> Columns:
        return Columns(self._with_gap, flatten=flatten, columns_max=columns_max)

    @property
    def _with_gap(self) -> list[Event[Any] | Gap]:
        return self.items if self.gap is None else [self.gap, *self.items]

    def _repr_html_(self) -> str:
        from neurograph_client import html

        return html.items(self._with_gap)


def _event(message: dict[str, Any], epoch: str) -> Event[Any]:
    if "data" not in message:
        message["data"] = b64decode(message.pop("data_base64"))
    channel, offset, timestamp = message["channel"], message["offset"], message["timestamp"]
    return Event(channel, epoch, offset, message.get("event_type"), timestamp, message["data"], message)


def _gap(message: dict[str, Any]) -> Gap:
    return Gap(**{name: message[name] for name in ("channel", "epoch", "to", "count", "reason")}, from_=message["from"])
