"""What the gateway says of itself, as the application gets it."""

from base64 import b64decode
from dataclasses import dataclass
from typing import Any, Self

from neurograph_client.items import Event, Gap, Position


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
class History:
    """A part of a channel's history; `gap` is what is missing before it.

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


def _event(message: dict[str, Any], epoch: str) -> Event[Any]:
    if "data" not in message:
        message["data"] = b64decode(message.pop("data_base64"))
    channel, offset, timestamp = message["channel"], message["offset"], message["timestamp"]
    return Event(channel, epoch, offset, message.get("event_type"), timestamp, message["data"], message)


def _gap(message: dict[str, Any]) -> Gap:
    return Gap(**{name: message[name] for name in ("channel", "epoch", "to", "count", "reason")}, from_=message["from"])
