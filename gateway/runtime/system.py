"""What a process asks of its system: an event loop, open files, memory, what it uses, systemd's attention."""

import asyncio
import contextlib
import gc
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil


if sys.platform != "win32":
    import resource


_FILES_MAX = 1 << 20
_OLD_COLLECTIONS = 1_000
"""Collections of the middle generation between two full ones: about 7 million allocated objects."""


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes an event loop: uvloop, or None for asyncio's default."""
    if sys.platform == "win32":
        return None
    import uvloop  # not available for Windows

    return uvloop.new_event_loop


def memory_bytes() -> int:
    """Return the memory of this machine, or of the cgroup that this process is in, if that is less."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**31]
    folder = Path("/sys/fs/cgroup")
    paths = [folder / "memory/memory.limit_in_bytes", folder / "memory.max"]
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            own = folder / line.partition("::")[2].strip("/")
            paths += [one / "memory.max" for one in (own, *own.parents) if one.is_relative_to(folder)]
    for path in paths:
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            sizes.append(int(path.read_text()))
    return min(sizes)


class ProcessUsage:
    """CPU time, memory and open files of this process and its workers, for the status."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._read_at = time.monotonic()
        self._cpu_seconds = 0.0
        self.read()

    def read(self) -> tuple[float, int, int]:
        """Return percents of one CPU since the last call, resident bytes, and open files."""
        cpu_seconds, memory_bytes, open_files = 0.0, 0, 0
        workers: list[psutil.Process] = []
        with contextlib.suppress(OSError):  # without /proc/stat, as with ProcSubset=pid of systemd
            workers = self._process.children()
        for process in (self._process, *workers):
            with contextlib.suppress(psutil.Error):  # a worker that ended meanwhile
                times = process.cpu_times()
                cpu_seconds += times.user + times.system
                memory_bytes += process.memory_info().rss
                open_files += getattr(process, "num_fds", int)()  # Windows has none
        now = time.monotonic()
        elapsed, self._read_at = now - self._read_at, now
        used, self._cpu_seconds = cpu_seconds - self._cpu_seconds, cpu_seconds
        return 100 * max(used, 0.0) / max(elapsed, 1e-3), memory_bytes, open_files


def tune_garbage_collector() -> None:
    """Make full garbage collections rare, and exclude the objects that exist now.

    A full collection stops the event loop for 35 microseconds per client, repeatedly while clients connect.
    The gateway's objects form hardly any cycles, so reference counts free them without the collector, and
    collections of young objects find most cycles that there are."""
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _OLD_COLLECTIONS)


def open_files_max(*, hard: bool = False) -> int | None:
    """Return how many files this process may open, or to how many it may raise that; None if there is no limit."""
    if sys.platform == "win32":
        return None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[hard]
    return None if limit == resource.RLIM_INFINITY else limit


def allow_many_files() -> None:
    """Raise the limit of open files as far as possible: each client needs one.

    macOS states no hard limit, and refuses what is above one that it does not state."""
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_MAX if hard == resource.RLIM_INFINITY else hard
    while wanted > soft != resource.RLIM_INFINITY:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):
            wanted //= 2
        else:
            return


def notify_systemd(environ: Mapping[str, str] = os.environ, **state: object) -> None:
    """Send systemd a state, as in ``notify_systemd(READY=1)``, if this process is a service (sd_notify(3)).

    A message that cannot be sent is dropped: systemd may be restarting, and the next one follows soon."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    path = "\0" + address[1:] if address.startswith("@") else address
    message = "\n".join(f"{name}={value}" for name, value in state.items())
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
        datagram.setblocking(False)
        datagram.sendto(message.encode(), path)
