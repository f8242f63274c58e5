"""What makes a request with an idempotency key happen once, on whatever gateways it is repeated."""

import hashlib
from dataclasses import dataclass

import msgspec

from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.core.protocol.messages import Broadcast
from gateway.core.sessions.permissions import Identity


@dataclass(frozen=True, slots=True)
class Once:
    """The key of a request in the engine, and what stands for its content; empty without an idempotency key."""

    key: str
    content: str
    shown: str

    @staticmethod
    def of(message: Broadcast, by: Identity) -> "Once":
        """The key belongs to the user that it came from; all clients without a user share theirs."""
        if message.idempotency_key is None:
            return Once("", "", "")
        content = [message.channel, message.client_id, message.user_id, message.everyone, message.event]
        return Once(_digest([by.user_id, message.idempotency_key]), _digest(content), message.idempotency_key)

    def checked(self, reply: object) -> int:
        """Return the number that a script replied. Raises RequestError: the key was used for another event."""
        assert isinstance(reply, int)
        if reply < 0:
            raise self.used_otherwise
        return reply

    @property
    def used_otherwise(self) -> RequestError:
        """The error if the key was used for another event."""
        return RequestError(
            ErrorCode.INVALID_FIELD,
            f"idempotency_key: {self.shown!r} was used for another event; choose a new key for each",
        )


def _digest(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:32]
