"""The CPU time that processes use and wait for, and a pure CPU load to compare with."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil


LOWEST = 19


@dataclass(frozen=True)
class Usage:
    """CPU seconds of all threads of some processes together; `seconds` is the monotonic clock."""

    seconds: float = 0.0
    worked: float = 0.0
    """Time spent running on a CPU."""
    waited: float = 0.0
    """Time spent ready to run while other processes had the CPUs: these processes did not cause that delay."""

    def __sub__(self, before: Usage) -> Usage:
        return Usage(self.seconds - before.seconds, self.worked - before.worked, self.waited - before.waited)

    @classmethod
    def of(cls, processes: Iterable[psutil.Process]) -> Usage:
        worked = waited = 0
        for process in processes:
            for file in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
                with contextlib.suppress(OSError):  # a thread has ended
                    on_cpu, ready, _ = file.read_text().split()
                    worked, waited = worked + int(on_cpu), waited + int(ready)
        return cls(time.monotonic(), worked / 1e9, waited / 1e9)


@contextlib.contextmanager
def lowest_priority() -> Iterator[None]:
    """Give this thread, and the processes that it starts, the lowest priority; it keeps it if it may not raise its own.

    A real-time thread, as with `chrt -r 5`, gets the normal priority instead: other programs run beside it."""
    policy, priority, nice = os.sched_getscheduler(0), os.sched_getparam(0), os.getpriority(os.PRIO_PROCESS, 0)
    if policy == os.SCHED_OTHER:
        os.setpriority(os.PRIO_PROCESS, 0, LOWEST)
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, policy, priority)
            os.setpriority(os.PRIO_PROCESS, 0, nice)


def raise_priority(pid: int) -> None:
    """Let a process that was just started interrupt those of this one's priority, if that is allowed, as to root: else
    what it measures includes its wait for a CPU."""
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(pid, policy if priority else os.SCHED_RR, os.sched_param(priority + 1))


@contextlib.contextmanager
def spinning() -> Iterator[None]:
    """Load every CPU at this thread's priority."""
    command = (sys.executable, "-c", "while True: pass")
    processes = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
