"""What every process of the gateway needs: an event loop, room for files, timers."""

import asyncio
import contextlib
import gc
import resource
import sys
from collections.abc import Callable, Coroutine

from gateway.logs import logger


log = logger("gateway")

_OLD_COLLECTIONS = 1_000
"""After so many looks at what is younger comes one at everything: some 7 million objects more."""


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the event loop; None for Python's own."""
    if sys.platform == "win32":
        return None
    import uvloop  # there is none for Windows

    return uvloop.new_event_loop


class Tasks:
    """What goes on beside, held until it has ended."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, what: Coroutine[None, None, None]) -> None:
        """Begin something; needs a running event loop."""
        task = asyncio.get_running_loop().create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self) -> None:
        """End all of it."""
        for task in self._tasks:
            task.cancel()


async def every(
    seconds: float, act: Callable[[], object], *, on_late: Callable[[float], object]
) -> None:
    """Do something again and again, also if it fails; `on_late` is told by how many seconds too late."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + seconds
        await asyncio.sleep(seconds)
        on_late(max(loop.time() - due, 0.0))
        try:
            act()
        except Exception:
            log.exception("timer_failed")


def collect_rarely() -> None:
    """Have the collector of garbage look at all there is far less often, and not at what is there now.

    It would stop the loop for 35 microseconds per client, again and again while they come. What the
    gateway lets go of is freed at once, without it; cycles, if there are any, are mostly found young.
    """
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _OLD_COLLECTIONS)


def allow_many_files() -> None:
    """Allow as many sockets as this user may have: each client is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
