"""When to try again."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses of a random length up to a bound that doubles from `first` to `most` seconds.

    The whole length is random ("full jitter"), so that clients that lost the same gateway do not
    all come back at once.
    """

    first: float = 0.5
    most: float = 20.0

    def bound(self, attempt: int) -> float:
        """Return the longest pause before an attempt, counted from 0, in seconds."""
        return min(self.most, self.first * 2.0 ** min(attempt, 60))

    def pause(self, attempt: int) -> float:
        """Draw the pause before an attempt, in seconds."""
        return random.uniform(0, self.bound(attempt))  # noqa: S311  # a delay, no secret
