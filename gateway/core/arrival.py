"""What a client brings when it connects, and what it is greeted with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from gateway.core import messages
from gateway.core.messages import Position
from gateway.core.rights import Identity


@dataclass(frozen=True, slots=True)
class Greeting:
    """What every ``connected`` message says of this gateway."""

    server: messages.Server
    heartbeat_seconds: float
    session_ttl_seconds: float
    message_bytes_max: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """A client that connects: what it brings, and the fresh ids that it gets."""

    client_id: str
    secret: str
    identity: Identity
    session: str | None = None
    channels: Sequence[str] = ()
    last: int | None = None
    since: Mapping[str, Position] | None = None
    conditions: messages.Conditions = field(default_factory=messages.Conditions)

    @property
    def subscribe(self) -> messages.Subscribe:
        """The same as the message that asks for it."""
        return messages.Subscribe(
            channels=list(self.channels),
            last=self.last,
            since=None if self.since is None else msgspec.to_builtins(self.since),
            filter=self.conditions.filter,
            rate=self.conditions.rate,
        )
