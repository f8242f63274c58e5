"""What the gateway says of itself, as the application gets it."""

from dataclasses import dataclass
from typing import Any, Self

from neurograph_client.items import Position


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
