"""When the loop rests, so that events gather: on the bus, and in the logs before they are written.

To be woken costs nearly the same for one event as for many, and so does a write to a client. So the loop
rests about as long as it has worked; less if that was long, never longer than it may, and hardly at all if
many events shared that cost already. What is too short for a timer adds up until it is not. An event that
comes to a rested loop is written at once.

To write nothing has two ends. From the first one on, the next event to come is written together with what
has gathered: it has not waited, as it would if a timer decided. If none comes, that is not waited for
longer than the last write took.
"""

import asyncio
import math
import time
from collections.abc import Callable

from gateway.config.model import Fanout as Settings
from gateway.core.fanout.fanout import Fanout


PENDING_MAX = 2_000
"""Entries that may gather; then they are written, however soon that is."""
UNREAD_SECONDS_MAX = 0.002
"""The bus is read at least so often, or what a publisher sends while it reconnects would be lost."""

_MANY = 128
"""Where so many events came together a rest is worth a third of what it is to one, and so on."""
_PAUSE_SECONDS_MIN = 0.0005
"""Timers of the event loop count in milliseconds: a shorter pause would be none, or too long."""


class WriteScheduler:
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
        self._worked = 0.0
        self._in_tick = False
        self._rest_until = 0.0
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

    def begin(self) -> None:
        """Take note that the loop begins to work on what the bus brought: what it did before does not count."""
        self._worked, self._in_tick = time.thread_time(), True

    def rest(self, events: int) -> float:
        """Return for how many seconds to leave the bus alone, after so many events were taken in."""
        until = self._gathering_until if self._end is not None else 0.0
        if self._settings.batching == "adaptive":
            until = max(until, self._rested(events) if self._in_tick else self._rest_until)
        self._in_tick = False
        rest = min(until - time.perf_counter(), UNREAD_SECONDS_MAX)
        return rest if rest >= _PAUSE_SECONDS_MIN else 0.0

    def _rested(self, events: int) -> float:
        """Return when the loop has rested enough for its work on so many events at once."""
        now, worked = time.perf_counter(), time.thread_time()
        since, self._worked = worked - self._worked, worked
        limit = self._settings.batch_delay_seconds_max
        rest = since * math.exp(-events / _MANY) * (limit / (limit + since) if limit else 0)
        until = max(self._rest_until, now - since) + since + rest
        self._rest_until = min(until, now + limit)
        return self._rest_until

    def _ready(self) -> None:
        """Write what is pending, unless it is to wait for more."""
        if len(self._fanout.pending) < PENDING_MAX:
            now = time.perf_counter()
            if self._end is None and self._settings.batching == "fixed":
                self._gather(now + self._settings.batch_delay_seconds_max, math.inf)
            if self._end is not None and now < self._gathering_until - _PAUSE_SECONDS_MIN:
                return
        self._write()

    def _write(self) -> None:
        """Write what is pending, then let some more gather if the loop has worked enough."""
        pending = self._fanout.pending
        began = time.thread_time()
        if not self._in_tick:
            self._worked = began
        self._fanout.write(now_ns=time.time_ns())
        self._on_written(max(time.time_ns() - pending[0].received_ns, 0) / 1e9)
        if self._settings.batching == "adaptive":
            took = time.thread_time() - began
            self._gather(self._rested(len(pending)), took)

    def _gather(self, until: float, longer: float) -> None:
        """Let events gather until a time, then for so much longer, unless another comes."""
        if self._end is not None:
            self._end.cancel()
            self._end = None
        now = time.perf_counter()
        pause = min(until - now + longer, self._settings.batch_delay_seconds_max)
        if pause >= _PAUSE_SECONDS_MIN:
            self._gathering_until = min(until, now + pause)
            self._end = self._loop.call_later(pause, self._go_on)

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
