"""Start `gateway ARGUMENTS` by forking a process that has imported the package already.

An interpreter needs most of a second to import the gateway; a fork needs a few milliseconds. `start`
starts one server per test process, when it is first called. The server is an interpreter of its own,
with one thread, no event loop and no ZeroMQ context, and forks a child for each request.

A gateway that was forked has a connection to the server of its own, and has its workers forked as well:
they are the server's children, not the gateway's.

A request is a length and JSON, sent with descriptors: the child's stdin, stdout and stderr, a pipe into
which the server writes the child's pid, then its exit status, and those that a worker inherits.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import importlib.util
import json
import os
import pkgutil
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tests.support.resumed import trace_resumed_coroutines
from tests.support.sizes import FULL


PACKAGES = ("gateway", "neurograph_client", "neurograph_publisher")
_ROOT = Path(__file__).resolve().parents[2]
_LENGTH = struct.Struct("!I")
_NUMBER = struct.Struct("!i")


class Process:
    """A child of the fork server, used as one uses a `subprocess.Popen`."""

    def __init__(self, arguments: Sequence[str], status: int) -> None:
        self.args = list(arguments)
        self.returncode: int | None = None
        self._lock = threading.Lock()
        self._status = status
        weakref.finalize(self, os.close, status)
        self.pid = self._read()

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while the process runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the process, and return its exit status.

        Raises:
            subprocess.TimeoutExpired: It runs on after `timeout` seconds.
        """
        if self.returncode is None:
            ready = select.poll()
            ready.register(self._status, select.POLLIN)
            if not ready.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            with self._lock:
                if self.returncode is None:
                    self.returncode = self._read()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL, unless the process has ended."""
        self.send_signal(signal.SIGKILL)

    def _read(self) -> int:
        number = os.read(self._status, _NUMBER.size)
        if not number:
            raise RuntimeError("the fork server has ended")
        found: int = _NUMBER.unpack(number)[0]
        return found


def start(
    arguments: Sequence[str],
    *,
    stdin: int,
    stdout: int,
    stderr: int,
    environment: Mapping[str, str],
    folder: str | Path | None = None,
    worker: Sequence[int] = (),
) -> Process:
    """Start `gateway ARGUMENTS` with these descriptors, which stay open here, in this environment.

    With `worker` it is a worker that inherits these descriptors.
    """
    request = {"arguments": list(arguments), "environment": dict(environment), "folder": str(folder or Path.cwd())}
    ours, theirs = os.pipe()
    try:
        _Connection.get().send(request, (stdin, stdout, stderr, theirs, *worker))
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    return Process(arguments, ours)


def search_path(*packages: str) -> str:
    """Return the PYTHONPATH with which another interpreter finds these packages where this one does."""
    return os.pathsep.join(map(_folder_of, packages))


def _folder_of(package: str) -> str:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(f"the package {package} cannot be found")
    return str(Path(next(iter(spec.submodule_search_locations))).resolve().parent)


class _Connection:
    """This process's connection to the server, of which there is one."""

    made: _Connection | None = None
    _making = threading.Lock()

    @classmethod
    def get(cls) -> _Connection:
        with cls._making:
            if cls.made is None:
                cls.made = cls._with_server()
            return cls.made

    def __init__(self, connection: socket.socket) -> None:
        self._lock = threading.Lock()
        self._socket = connection

    @classmethod
    def _with_server(cls) -> _Connection:
        """Start the server, which ends with this process."""
        ours, theirs = socket.socketpair()
        path = os.pathsep.join((search_path(*PACKAGES), str(_ROOT)))
        with theirs:
            server = subprocess.Popen(
                # -P: neither the working directory nor this file's folder, which has a gateway.py.
                [sys.executable, "-P", "-m", "tests.support.forkserver", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": path},
            )

        def close() -> None:
            ours.close()
            server.wait()

        atexit.register(close)
        return cls(ours)

    def send(self, request: object, descriptors: tuple[int, ...]) -> None:
        text = json.dumps(request).encode()
        with self._lock:
            socket.send_fds(self._socket, [_LENGTH.pack(len(text))], descriptors)
            self._socket.sendall(text)


# -- the server ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Request:
    """What a child is to be."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    streams: list[int]
    report: int
    worker: list[int]
    connection: socket.socket | None
    """A gateway's, to have its workers forked."""


class _Server:
    """Forks children and reports how they end, until the test process closes the connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connections = [connection]
        """The first one is the test process's, the others are gateways'."""
        self._reports: dict[int, int] = {}
        """For each child, the pipe into which its exit status is written."""
        self._woken, self._wakes = socket.socketpair()
        for end in (self._woken, self._wakes):
            end.setblocking(False)

    def serve(self) -> _Request | None:
        """Return a request in the child that was forked for it, None in the server at its end."""
        # Ctrl-C reaches every process of the terminal; the test process says when this one ends.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakes.fileno(), warn_on_full_buffer=False)
        while True:
            ready, _, _ = select.select([self._woken, *self._connections], [], [])
            for one in ready:
                if one is self._woken:
                    self._woken.recv(4096)
                    self._reap()
                elif (request := self._receive(one)) is not None:
                    if not self._fork(request):
                        return request
                elif one is self._connections[0]:
                    self._kill_all()
                    return None
                else:
                    self._connections.remove(one)
                    one.close()

    def _receive(self, connection: socket.socket) -> _Request | None:
        try:
            head, descriptors, _, _ = socket.recv_fds(connection, _LENGTH.size, 8)
        except ConnectionResetError:  # a gateway that was killed
            return None
        if not head:
            return None
        length = _LENGTH.unpack(head)[0]
        text = connection.recv(length, socket.MSG_WAITALL)
        *streams, report = descriptors[:4]
        worker = descriptors[4:]
        theirs = None
        if not worker:
            ours, theirs = socket.socketpair()
            self._connections.append(ours)
        return _Request(**json.loads(text), streams=streams, report=report, worker=worker, connection=theirs)

    def _fork(self, request: _Request) -> int:
        """Fork; return the child's pid, and 0 in the child."""
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for end in (*self._connections, self._woken, self._wakes):
                end.close()
            for other in (request.report, *self._reports.values()):
                os.close(other)
            return 0
        for descriptor in (*request.streams, *request.worker):
            os.close(descriptor)
        if request.connection is not None:
            request.connection.close()
        self._reports[pid] = request.report
        _report(request.report, pid)
        return pid

    def _reap(self) -> None:
        while self._reports:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            report = self._reports.pop(pid)
            _report(report, os.waitstatus_to_exitcode(status))
            os.close(report)

    def _kill_all(self) -> None:
        """A test process that was killed leaves no gateway behind."""
        for pid in self._reports:
            os.kill(pid, signal.SIGKILL)
        while self._reports:
            self._reports.pop(os.wait()[0])


def _report(pipe: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # the test process no longer asks
        os.write(pipe, _NUMBER.pack(number))


def _become(request: _Request) -> None:
    """Give this process the streams, the environment and the arguments of a fresh interpreter."""
    for number, descriptor in enumerate(request.streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    if "TZ" in os.environ:
        time.tzset()
    at_once = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = _writer(1, at_once=at_once or os.isatty(1), errors="strict")
    sys.stderr = _writer(2, at_once=True, errors="backslashreplace")
    sys.argv[:] = ["gateway", *request.arguments]


def _writer(descriptor: int, *, at_once: bool, errors: str) -> TextIO:
    buffering = 1 if at_once else -1
    return os.fdopen(descriptor, "w", encoding="utf-8", errors=errors, buffering=buffering, closefd=False)


def _main(connection: int) -> None:
    trace_resumed_coroutines()
    for package in map(importlib.import_module, PACKAGES):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            # The notebooks' part needs packages that the gateway's environment lacks, and no command uses it.
            if not module.name.endswith("__main__") and not module.name.startswith("neurograph_client.notebook"):
                importlib.import_module(module.name)
    importlib.import_module("uvloop")  # which the gateway imports when it runs
    gc.collect()
    gc.freeze()
    request = _Server(socket.socket(fileno=connection)).serve()
    if request is None:
        return
    _become(request)
    try:
        _run(request)
    except SystemExit as ended:
        _end_at_once(ended.code)
        raise


def _run(request: _Request) -> None:
    if request.connection is None:
        from gateway.workers.__main__ import run

        os.setpgid(0, 0)
        sys.exit(run(*request.worker))
    else:
        from gateway.cli import main
        from gateway.workers import child

        _Connection.made = _Connection(request.connection)
        child._spawn = _spawn_worker  # type: ignore[assignment]  # it is used as one uses a Popen
        main(request.arguments, prog_name="gateway")


def _end_at_once(status: object) -> None:
    """End this process, but do not take the interpreter apart, except in a run of everything in full size.

    That would write to all memory that the fork shares with the server, and so copy it: half of what a
    gateway costs that starts and ends. What fails here fails again, and is seen, where the interpreter ends."""
    if FULL or not isinstance(status, int | None):
        return
    with contextlib.suppress(Exception):
        threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter does first
        atexit._run_exitfuncs()
        gc.collect()  # warns of what was never awaited or closed
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status or 0)


def _spawn_worker(inherited: tuple[int, ...]) -> Process:
    """Have a worker forked instead of starting an interpreter."""
    with open(os.devnull, "rb") as nothing:
        return start((), stdin=nothing.fileno(), stdout=1, stderr=2, environment=os.environ, worker=inherited)


if __name__ == "__main__":
    _main(int(sys.argv[1]))
