"""What processes take of the CPUs, whatever else runs, and a load of nothing but CPU to compare with."""

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
    """Seconds until now, of all threads of some processes together."""

    seconds: float = 0.0
    worked: float = 0.0
    """On a CPU."""
    waited: float = 0.0
    """Ready to work, while others had the CPUs: what came late by this is not their doing."""

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
    """Let this thread, and the processes that it starts, have what others leave. Afterwards too, unless it may raise its
    priority. One that is real-time, as by `chrt -r 5`, becomes a usual one, not the lowest: other programs may run, too."""
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


@contextlib.contextmanager
def spinning() -> Iterator[None]:
    """Take all the CPU that there is at this thread's priority."""
    command = (sys.executable, "-c", "while True: pass")
    processes = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
