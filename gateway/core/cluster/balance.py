"""How many clients a gateway asks to connect again because it has noticeably more than the others.

They come back through the balancer, wherever that sends them. So nothing here assumes how it chooses: of those that are
asked, some may come back to this gateway, and in the meantime they are nowhere."""

import math
from collections import deque
from collections.abc import Sequence


_ABOVE, _ABOVE_MIN = 0.2, 20.0
"""It begins if a gateway has more than the mean by this share of it, and by so many clients."""
_ENOUGH = 0.05
"""It ends when a gateway has more by this share only."""
_SHARE_PER_SECOND = 0.01
"""At most this share of a gateway's clients is asked per second."""
_SECONDS_MAX = 10.0
"""A pause between two steps counts for no longer than this."""
_ATTEMPTS = 4
"""Where so many times the clients above the mean were asked, the balancer does not send them elsewhere."""
_PAUSE_NS = 600 * 1_000_000_000


class Balance:
    """`away_seconds` is how long a client that was asked may be away before others can have counted it."""

    def __init__(self, *, away_seconds: float) -> None:
        self.active = False
        self.mean = 0.0
        """Clients per gateway, those that are away included."""
        self._away_ns = round(away_seconds * 1e9)
        self._away: deque[tuple[int, int]] = deque()
        """Until when clients that were asked count as away, and how many."""
        self._left = 0
        """How many more may be asked before it is given up."""
        self._paused_until = 0
        self._stepped_ns: int | None = None

    @property
    def is_paused(self) -> bool:
        """Whether it was given up last time."""
        return not self.active and self._paused_until > 0

    def step(self, own: int, others: Sequence[int], *, now_ns: int) -> int:
        """Return how many clients to ask now, of a gateway that has `own` while the `others` have so many.

        Without others it is none: so it must be called if the others are not known, too."""
        seconds = 0.0 if self._stepped_ns is None else min((now_ns - self._stepped_ns) / 1e9, _SECONDS_MAX)
        self._stepped_ns = now_ns
        while self._away and self._away[0][0] <= now_ns:
            self._away.popleft()
        if not others:
            self.active = False
            return 0
        self.mean = (own + sum(others) + sum(count for _, count in self._away)) / (1 + len(others))
        self._begin_or_end(own - self.mean, now_ns)
        if not self.active:
            return 0
        count = min(math.ceil(own * _SHARE_PER_SECOND * seconds), math.ceil(own - self.mean), self._left)
        if count:
            self._left -= count
            self._away.append((now_ns + self._away_ns, count))
        return count

    def _begin_or_end(self, above: float, now_ns: int) -> None:
        if self.active and above <= max(self.mean * _ENOUGH, 1.0):
            self.active, self._paused_until = False, 0
        elif self.active and not self._left:
            self.active, self._paused_until = False, now_ns + _PAUSE_NS
        elif not self.active and now_ns >= self._paused_until and above > max(self.mean * _ABOVE, _ABOVE_MIN):
            self.active, self._paused_until = True, 0
            self._left = math.ceil(_ATTEMPTS * above)
