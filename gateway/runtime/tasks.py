"""Tasks that run in the background, and timers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

from gateway.runtime.logs import logger


log = logger("gateway")

_LATE_SECONDS = 0.1
"""An event loop that is so late was held, or its process was stopped."""


class Tasks:
    """Background tasks, referenced until they end: the event loop alone does not keep them alive."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()


async def run_every(seconds: float, act: Callable[[], object], *, on_late: Callable[[float], object]) -> None:
    """Call `act` at an interval, also after it failed; `on_late` gets the delay of each call in seconds."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + seconds
        await asyncio.sleep(seconds)
        on_late(max(loop.time() - due, 0.0))
        try:
            act()
        except Exception:
            log.exception("timer_failed")


@asynccontextmanager
async def answer_timeout(seconds: float) -> AsyncIterator[None]:
    """As `asyncio.timeout`, but if the event loop is late for the end, the answer has as long again, once: it may have
    come and not be read yet, and who is to answer may have been stopped together with this process."""
    loop = asyncio.get_running_loop()
    due = loop.time() + seconds
    timer: asyncio.TimerHandle
    async with asyncio.timeout(None) as limit:

        def end() -> None:
            nonlocal timer
            if loop.time() - due > _LATE_SECONDS:
                timer = loop.call_later(seconds, limit.reschedule, 0.0)
            else:
                limit.reschedule(0.0)

        timer = loop.call_at(due, end)
        try:
            yield
        finally:
            timer.cancel()
