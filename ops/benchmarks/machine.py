"""The machine: its CPUs for server and load, and the CPU time and memory of processes."""

import os
import platform
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from ops.benchmarks.programs import NotHere


def cpus() -> tuple[int, int]:
    """Return the CPU for the server and the one for load and publisher.

    Raises:
        NotHere: This is not Linux, or there is only one CPU.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise NotHere("The benchmark needs Linux: its load uses epoll, its servers a CPU each.")
    allowed = sorted(_ALLOWED)
    if len(allowed) < 2:
        raise NotHere("The benchmark needs two CPUs: one for the server, one for the load.")
    return allowed[0], allowed[1]


_ALLOWED = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


@contextmanager
def pinned(*wanted: int) -> Iterator[None]:
    """Run processes started in this block on these CPUs only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, wanted)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def is_open(port: int) -> bool:
    """Tell whether a program listens on a port of this machine."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def family(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants."""
    with suppress(psutil.NoSuchProcess):
        head = psutil.Process(pid)
        return [head, *head.children(recursive=True)]
    return []


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds that a process and its children used so far, to the nanosecond."""
    used = 0
    for one in family(pid):
        for thread in Path(f"/proc/{one.pid}/task").glob("*/schedstat"):
            with suppress(OSError):
                used += int(thread.read_text().split()[0])
    return used / 1e9


def busy_seconds(cpu: int) -> float:
    """Return the seconds for which a CPU was busy so far, with any process, to 10 ms."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{cpu}":
            user, nice, system, _idle, _waiting, *others = map(int, ticks[:8])
            return (user + nice + system + sum(others)) / os.sysconf("SC_CLK_TCK")
    return 0.0


def memory_bytes(pid: int) -> int:
    """Return the resident memory of a process and its children."""
    used = 0
    for one in family(pid):
        with suppress(psutil.NoSuchProcess):
            used += int(one.memory_info().rss)
    return used


def description() -> dict[str, str]:
    """Describe the machine."""
    info = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*:\s*(.+)", info.read_text() if info.exists() else "")
    return {
        "cpu": models[0] if models else platform.machine(),
        "cpus": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
