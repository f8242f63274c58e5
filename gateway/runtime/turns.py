"""Shares the turns of the event loop between many peers, so that what they ask for together delays nothing else."""

import asyncio
import time
from collections import deque


TURN_SECONDS = 0.0005
_WAITING_PER_TURN = 32
"""Of so many that wait, one goes on in each turn: many do not wait for ever."""


class Turns:
    """One process's turns. Call `take` before each part of work: once the parts of a turn have taken `seconds` of the CPU, the
    others wait for further ones. Needs a running event loop once it is used."""

    def __init__(self, seconds: float = TURN_SECONDS) -> None:
        self._seconds = seconds
        self._until: float | None = None
        """The thread's CPU time until which this turn has time for more parts; None if it has had none."""
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Wait until a turn of the event loop has time for a part of work. Those who wait come in order."""
        if self._until is None:
            self._begin()
        elif self._waiting or time.thread_time() >= self._until:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future

    def _begin(self) -> None:
        self._until = time.thread_time() + self._seconds
        asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        """Begin the next turn with those who wait."""
        self._until = None
        if self._waiting:
            for _ in range(1 + len(self._waiting) // _WAITING_PER_TURN):
                future = self._waiting.popleft()
                if not future.done():  # else it was cancelled
                    future.set_result(None)
            self._begin()
