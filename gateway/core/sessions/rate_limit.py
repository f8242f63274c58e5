"""How much one client may have and ask for: token buckets, filled by time that the caller tells."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gateway.core.protocol.errors import ErrorCode, RequestError


Kind = Literal["messages", "subscribes", "pings"]


@dataclass(frozen=True, slots=True)
class RateLimit:
    """So many at once, and so many per second after that."""

    burst: int
    per_second: float


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """What one client may have and ask for."""

    subscriptions_max: int
    wildcards_max: int
    rates: Mapping[Kind, RateLimit]


class RateLimiter:
    """One client's buckets; they are full before the first use.

    Of each is kept when it will be full again (the generic cell rate algorithm of ATM): there is one
    per client, so it is small.
    """

    __slots__ = ("_rates", "messages", "pings", "subscribes")

    def __init__(self, rates: Mapping[Kind, RateLimit]) -> None:
        self._rates = rates
        self.messages = self.pings = self.subscribes = 0

    def take(self, kind: Kind, *, now_ns: int) -> None:
        """Take one.

        Raises:
            RequestError: There is none left; it says when there will be.
        """
        allowance = self._rates[kind]
        one_ns = round(1e9 / allowance.per_second)
        full_ns = max(getattr(self, kind), now_ns) + one_ns
        wait_ns = full_ns - now_ns - allowance.burst * one_ns
        if wait_ns > 0:
            raise RequestError(
                ErrorCode.RATE_LIMITED,
                f"too many {kind} in a short time",
                retry_after=-(-wait_ns // 1_000_000) / 1e3,  # rounded up: sooner there is no room
            )
        setattr(self, kind, full_ns)
