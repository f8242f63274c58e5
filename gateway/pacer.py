"""When what is ready is written: at once as long as that is cheap, in larger parts when it is not.

A write costs nearly the same for one event as for many, so a pause between two of them, in which
events gather, saves what the second would have cost. An adaptive pause lasts half as long as the write
before it took. The next event to come is written together with what has gathered: it has not waited,
as it would if a timer decided. If none comes, that is not waited for longer than the write took. So
writing takes at most two thirds of the loop's time, or the pause is as long as it may be; and an
event that comes alone is written at once.
"""

import asyncio
import math
import time
from collections.abc import Callable

from gateway.config.model import Fanout as Settings
from gateway.core.fanout import Fanout


PENDING_MAX = 2_000
"""Entries that may gather; then they are written, however soon that is."""

_PAUSE_SECONDS_MIN = 0.0005
"""Timers of the event loop count in milliseconds: a shorter pause would be none, or too long."""


class Pacer:
    """Writes what a fan-out has ready or held back; needs a running event loop.

    `on_written` is called with the seconds from the receipt of the oldest event to its last write.
    """

    def __init__(
        self, fanout: Fanout, settings: Settings, *, on_written: Callable[[float], object]
    ) -> None:
        self._fanout = fanout
        self._settings = settings
        self._on_written = on_written
        self._loop = asyncio.get_running_loop()
        self._gathering_until = 0.0
        self._end: asyncio.Handle | None = None
        self._due: asyncio.Handle | None = None
        self._due_at = 0.0
        fanout.ready = self._ready
        fanout.wake = self._arm

    def close(self) -> None:
        """Write nothing any more."""
        for timer in (self._end, self._due):
            if timer is not None:
                timer.cancel()

    def _ready(self) -> None:
        """Write what is pending, unless it is to wait for more."""
        if len(self._fanout.pending) < PENDING_MAX:
            if self._end is None and self._settings.pace == "fixed":
                self._gather(math.inf, self._settings.flush_seconds)
            if self._end is not None and time.perf_counter() < self._gathering_until:
                return
        self._write()

    def _write(self) -> None:
        """Write what is pending, then let some more gather if that took its time."""
        received_ns = self._fanout.pending[0].received_ns
        began = time.perf_counter()
        self._fanout.write(now_ns=time.time_ns())
        took = time.perf_counter() - began
        self._on_written(max(time.time_ns() - received_ns, 0) / 1e9)
        if self._settings.pace == "adaptive":
            self._gather(took / 2, took * 1.5)

    def _gather(self, least: float, most: float) -> None:
        """Let events gather for so many seconds, then wait for one more to come until `most` are over."""
        if self._end is not None:
            self._end.cancel()
            self._end = None
        most = min(most, self._settings.flush_seconds)
        if most >= _PAUSE_SECONDS_MIN:
            self._gathering_until = time.perf_counter() + least
            self._end = self._loop.call_later(most, self._go_on)

    def _go_on(self) -> None:
        self._end = None
        if self._fanout.pending:
            self._write()

    def _arm(self) -> None:
        """Set the timer for what rates hold back."""
        due_ns = self._fanout.due_ns
        if due_ns is None:
            return
        at = self._loop.time() + max(due_ns - time.time_ns(), 0) / 1e9
        if self._due is not None:
            if self._due_at <= at:
                return
            self._due.cancel()
        self._due_at = at  # uvloop's handle does not say, if that is now
        self._due = self._loop.call_at(at, self._flush)

    def _flush(self) -> None:
        self._due = None
        self._fanout.flush(now_ns=time.time_ns())
        self._arm()
