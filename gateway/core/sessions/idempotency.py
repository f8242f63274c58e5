"""What requests with an idempotency key were answered, so that a repetition has no further effect."""

from collections import OrderedDict
from typing import NamedTuple

from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.core.protocol.messages import Broadcast, BroadcastResult
from gateway.core.sessions.permissions import Identity


KEYS_MAX = 10_000
AGE_NS = 300 * 1_000_000_000

Key = tuple[str | None, str]


class _Answered(NamedTuple):
    until_ns: int
    request: int
    """A hash of what was asked."""
    result: BroadcastResult


class IdempotencyKeys:
    """The results of up to `KEYS_MAX` requests, each for `AGE_NS`; the oldest are forgotten first.

    A key belongs to the user that it came from; all clients without a user share theirs."""

    def __init__(self, *, keys_max: int = KEYS_MAX) -> None:
        self._keys_max = keys_max
        self._answered: OrderedDict[Key, _Answered] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answered)

    def result(self, message: Broadcast, by: Identity, *, now_ns: int) -> BroadcastResult | None:
        """Return the result of the same request with the same key, if there was one.
        Raises RequestError: there was another request with this key."""
        while self._answered and next(iter(self._answered.values())).until_ns <= now_ns:
            self._answered.popitem(last=False)
        found = self._answered.get((by.user_id, message.idempotency_key or ""))
        if found is None:
            return None
        if found.request != _hash(message):
            raise RequestError(
                ErrorCode.INVALID_FIELD,
                f"idempotency_key: {message.idempotency_key!r} was used for another event; choose a new key for each",
            )
        return found.result

    def keep(self, message: Broadcast, by: Identity, result: BroadcastResult, *, now_ns: int) -> None:
        """Keep the result of a request that has a key."""
        if message.idempotency_key is not None:
            if len(self._answered) >= self._keys_max:
                self._answered.popitem(last=False)
            self._answered[by.user_id, message.idempotency_key] = _Answered(now_ns + AGE_NS, _hash(message), result)


def _hash(message: Broadcast) -> int:
    return hash((message.channel, message.client_id, message.user_id, message.everyone, bytes(message.event)))
