"""Limits of one client's requests: token buckets; the caller passes the time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gateway.core.protocol.errors import ErrorCode, RequestError


Kind = Literal["messages", "subscribes", "publishes", "pings", "frames"]


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How many at once, and how many per second after that."""

    burst: int
    per_second: float


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """The limits of each client."""

    subscriptions_max: int
    wildcards_max: int
    rates: Mapping[Kind, RateLimit]


class RateLimiter:
    """One client's buckets; they are full at first.

    Each bucket is one number, the time when it will be full again (the generic cell rate algorithm of
    ATM): there is a limiter for each client, so it is small."""

    __slots__ = ("_rates", "frames", "messages", "pings", "publishes", "subscribes")

    def __init__(self, rates: Mapping[Kind, RateLimit]) -> None:
        self._rates = rates
        self.messages = self.pings = self.subscribes = self.publishes = self.frames = 0

    def charge(self, kind: Kind, count: int = 1, *, now_ns: int) -> None:
        """Take tokens.
        Raises RequestError: there are not as many, and none is taken; the error has the time until there are."""
        limit = self._rates[kind]
        one_ns = round(1e9 / limit.per_second)
        full_ns = max(getattr(self, kind), now_ns) + count * one_ns
        wait_ns = full_ns - now_ns - limit.burst * one_ns
        if wait_ns > 0:
            raise RequestError(
                ErrorCode.RATE_LIMITED,
                f"more than {limit.burst} {kind} at once, or {limit.per_second:g} per second; "
                "retry after `retry_after` seconds",
                retry_after=-(-wait_ns // 1_000_000) / 1e3,  # rounded up: sooner would be too early
            )
        setattr(self, kind, full_ns)
