"""How long to wait before the next attempt to connect."""

_FIRST_SECONDS, _SECONDS_MAX = 0.1, 5.0


class Backoff:
    """Doubles the delay with each attempt that failed, up to a limit; half of it is random.

    So many gateways whose engine returns do not all connect in the same moment."""

    def __init__(self, first_seconds: float = _FIRST_SECONDS, seconds_max: float = _SECONDS_MAX) -> None:
        self._first = first_seconds
        self._max = seconds_max
        self._failed = 0

    def next_seconds(self, chance: float) -> float:
        """Return the delay after one more failure; `chance` is a random number from 0 to 1."""
        delay: float = min(self._first * 2 ** min(self._failed, 32), self._max)
        self._failed += 1
        return delay * (0.5 + chance / 2)

    def reset(self) -> None:
        self._failed = 0
