"""How much one client may have and ask for: token buckets, filled by time that the caller tells."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gateway.core.errors import ErrorCode, RequestError


Kind = Literal["messages", "subscribes", "pings"]


@dataclass(frozen=True, slots=True)
class Allowance:
    """So many at once, and so many per second after that."""

    burst: int
    per_second: float


@dataclass(frozen=True, slots=True)
class Allowed:
    """What one client may have and ask for."""

    subscriptions_max: int
    wildcards_max: int
    rates: Mapping[Kind, Allowance]


class Quota:
    """One client's buckets; they are full before the first use."""

    __slots__ = ("_levels", "_rates")

    def __init__(self, rates: Mapping[Kind, Allowance]) -> None:
        self._rates = rates
        self._levels: dict[Kind, tuple[float, int]] = {}

    def take(self, kind: Kind, *, now_ns: int) -> None:
        """Take one.

        Raises:
            RequestError: There is none left; it says when there will be.
        """
        allowance = self._rates[kind]
        left, at_ns = self._levels.get(kind, (float(allowance.burst), now_ns))
        filled = max(now_ns - at_ns, 0) / 1e9 * allowance.per_second
        left = min(left + filled, float(allowance.burst))
        self._levels[kind] = (left - 1 if left >= 1 else left, now_ns)
        if left < 1:
            raise RequestError(
                ErrorCode.RATE_LIMITED,
                f"too many {kind} in a short time",
                retry_after=round((1 - left) / allowance.per_second, 3),
            )
