"""An event loop with simulated time, and processes in it that can be stopped and continued, as with SIGSTOP and SIGCONT."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import SimpleNamespace


_ROUNDS_MAX = 10_000


class Process:
    """Callbacks and tasks that begin within `running` belong to the process, and so do those that they begin."""

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        before = _process.set(self)
        try:
            yield
        finally:
            _process.reset(before)

    def enter(self) -> None:
        """Make the calling task a part of this process from now on."""
        _process.set(self)


_process: ContextVar[Process | None] = ContextVar("process", default=None)


class Loop(asyncio.BaseEventLoop):
    """Runs everything that is due, then returns: only the world advances the time."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, now: Callable[[], int]) -> None:
        super().__init__()
        self._now = now
        self._selector = SimpleNamespace(select=lambda timeout: [])
        self._stopped: dict[Process, list[asyncio.Handle]] = {}
        """The callbacks that are due in each stopped process."""

    def time(self) -> float:
        return self._now() / 1e9

    def run_due(self) -> None:
        rounds = itertools.count()
        while self._ready or (self._scheduled and self._scheduled[0].when() <= self.time()):
            self.call_soon(self.stop)
            self.run_forever()
            assert next(rounds) < _ROUNDS_MAX, f"callbacks are still due after {_ROUNDS_MAX} rounds: an endless loop?"

    def stop_process(self, process: Process) -> None:
        self._stopped.setdefault(process, [])

    def continue_process(self, process: Process) -> None:
        """Continue a process: it handles first what arrived meanwhile, then its timers, as an event loop does."""
        due = self._stopped.pop(process, [])
        self._ready.extend(sorted(due, key=lambda one: isinstance(one, asyncio.TimerHandle)))

    def end(self) -> None:
        """Cancel everything."""
        for process in list(self._stopped):
            self.continue_process(process)
        for task in asyncio.all_tasks(self):
            task.cancel()
        self.run_due()
        self.close()

    def _run_once(self) -> None:
        while self._scheduled and (self._scheduled[0].cancelled() or self._scheduled[0].when() <= self.time()):
            self._ready.append(heapq.heappop(self._scheduled))
        for _ in range(len(self._ready)):
            handle = self._ready.popleft()
            if handle.cancelled():
                continue
            process = handle._context.get(_process) if self._stopped else None  # type: ignore[attr-defined]
            if process in self._stopped:
                self._stopped[process].append(handle)
            else:
                handle._run()

    def _process_events(self, event_list: object) -> None:
        pass

    def _write_to_self(self) -> None:
        pass
