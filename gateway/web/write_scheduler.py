"""When to read the bus and when to write to clients, so that events are batched under load.

A wake-up costs nearly the same for one event as for many, and so does a write to a client. So after it
worked on a batch, the process pauses reading and delays writing for about as long as that took in CPU time:
less if it took long, never above `fanout.batch_delay_seconds_max`, and hardly at all if many events shared
the cost already. Delays that are too short for a timer accumulate. An event that comes when no delay is
running is written at once.

A delay of writes has two stages. During the first, events only collect. In the second, as long as the last
write took, the next event ends the delay and is written together with the others: so it does not wait, as
it would for a timer. If none comes, the timer at the end of that stage writes."""

import asyncio
import math
import time
from collections.abc import Callable

from gateway.config.model import Fanout as Settings
from gateway.core.fanout.fanout import Fanout
from gateway.runtime import clock


PENDING_MAX = 2_000
"""Log entries that are delayed at most; more are written at once."""
PAUSE_SECONDS_MAX = 0.002
"""Longest pause of reading: ZeroMQ would lose messages of a publisher that reconnects meanwhile."""

_MANY = 128
"""With this many events in a batch, a delay is worth 1/e of what it is worth for one."""
_DELAY_SECONDS_MIN = 0.0005
"""The event loop's timers count milliseconds: a shorter delay would be none, or too long."""


class WriteScheduler:
    """Decides when a fan-out writes to its readers; needs a running event loop.

    `on_written` is called after each write, with the seconds since its oldest event was received."""

    def __init__(self, fanout: Fanout, settings: Settings, *, on_written: Callable[[float], object]) -> None:
        self._fanout = fanout
        self._settings = settings
        self._on_written = on_written
        self._loop = asyncio.get_running_loop()
        self._cpu_seconds = 0.0
        """CPU time of this thread when the last work began or was accounted for."""
        self._in_batch = False
        self._pause_until = 0.0
        self._delay_until = 0.0
        self._delay_timer: asyncio.Handle | None = None
        self._flush_timer: asyncio.Handle | None = None
        self._flush_at = 0.0
        fanout.on_pending = self._ready
        fanout.on_held_back = self._schedule_flush

    def close(self) -> None:
        for timer in (self._delay_timer, self._flush_timer):
            if timer is not None:
                timer.cancel()

    def begin_batch(self) -> None:
        """Call this before working on a batch of the bus: CPU time from here on counts as work."""
        self._cpu_seconds, self._in_batch = time.thread_time(), True

    def pause_seconds(self, events: int) -> float:
        """Return for how long to pause reading the bus, after a batch of so many events."""
        until = self._delay_until if self._delay_timer is not None else 0.0
        if self._settings.batching == "adaptive":
            until = max(until, self._pause_after(events) if self._in_batch else self._pause_until)
        self._in_batch = False
        pause = min(until - time.perf_counter(), PAUSE_SECONDS_MAX)
        return pause if pause >= _DELAY_SECONDS_MIN else 0.0

    def _pause_after(self, events: int) -> float:
        """Account for the work on so many events; return the time until which to pause for it."""
        now, cpu_seconds = time.perf_counter(), time.thread_time()
        worked, self._cpu_seconds = cpu_seconds - self._cpu_seconds, cpu_seconds
        limit = self._settings.batch_delay_seconds_max
        pause = worked * math.exp(-events / _MANY) * (limit / (limit + worked) if limit else 0)
        until = max(self._pause_until, now - worked) + worked + pause
        self._pause_until = min(until, now + limit)
        return self._pause_until

    def _ready(self) -> None:
        """Write the pending entries, unless they are to be delayed."""
        if len(self._fanout.pending) < PENDING_MAX:
            now = time.perf_counter()
            if self._delay_timer is None and self._settings.batching == "fixed":
                self._start_delay(now + self._settings.batch_delay_seconds_max, math.inf)
            if self._delay_timer is not None and now < self._delay_until - _DELAY_SECONDS_MIN:
                return
        self._write()

    def _write(self) -> None:
        """Write the pending entries, then delay the next ones if this was enough work."""
        pending = self._fanout.pending
        began = time.thread_time()
        if not self._in_batch:
            self._cpu_seconds = began
        self._fanout.write(now_ns=clock.now_ns())
        self._on_written(max(clock.now_ns() - pending[0].received_ns, 0) / 1e9)
        if self._settings.batching == "adaptive":
            took = time.thread_time() - began
            self._start_delay(self._pause_after(len(pending)), took)

    def _start_delay(self, until: float, longer: float) -> None:
        """Delay writes until a time; then for `longer` seconds more, unless an event comes."""
        if self._delay_timer is not None:
            self._delay_timer.cancel()
            self._delay_timer = None
        now = time.perf_counter()
        delay = min(until - now + longer, self._settings.batch_delay_seconds_max)
        if delay >= _DELAY_SECONDS_MIN:
            self._delay_until = min(until, now + delay)
            self._delay_timer = self._loop.call_later(delay, self._end_delay)

    def _end_delay(self) -> None:
        self._delay_timer = None
        if self._fanout.pending:
            self._write()

    def _schedule_flush(self) -> None:
        """Set the timer for the events that rates hold back."""
        due_ns = self._fanout.due_ns
        if due_ns is None:
            return
        at = self._loop.time() + max(due_ns - clock.now_ns(), 0) / 1e9
        if self._flush_timer is not None:
            if self._flush_at <= at:
                return
            self._flush_timer.cancel()
        self._flush_at = at  # uvloop's handle has no `when` if the time is now
        self._flush_timer = self._loop.call_at(at, self._flush)

    def _flush(self) -> None:
        self._flush_timer = None
        self._fanout.flush(now_ns=clock.now_ns())
        self._schedule_flush()
