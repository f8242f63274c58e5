"""One worker as its parent sees it: a process, the pipe to it, and the channel for its sockets."""

import array
import asyncio
import contextlib
import hashlib
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from gateway.workers.messages import Reported, ToParent, to_parent
from gateway.workers.pipe import Pipe, Requests, Unreadable


_SOCKETS_PER_WAKE_UP = 64
PACKAGE = Path(__file__).resolve().parents[1]


def installed() -> bytes:
    """Return a digest of the package as it is on disk, which a worker that starts now would run.

    Processes understand each other's messages only if they run the same code.
    Raises OSError: a file is just being replaced."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()


class Child:
    """A worker that has been started. It ends by itself when its end of the pipe is closed."""

    def __init__(
        self,
        *,
        unread_bytes_max: int,
        on_messages: Callable[["Child", list[ToParent | Unreadable]], object],
        on_lost: Callable[["Child"], object],
        on_socket: Callable[[socket.socket], object],
    ) -> None:
        self.ready = False
        self.gone = False
        """Whether its end of the pipe is closed."""
        self.checking = False
        """Whether a report is being waited for."""
        self.load = 0
        """About how many sockets it has: those that it reported, and those handed over since."""
        self.report: Reported | None = None
        self._on_lost = on_lost
        self._on_socket = on_socket
        self.pipe = Pipe(
            to_parent,
            unread_bytes_max=unread_bytes_max,
            on_messages=lambda received: on_messages(self, received),
            on_lost=self._lost,
        )
        self.requests = Requests(self.pipe.send)
        self._started: subprocess.Popen[bytes] | None = None
        self._sockets: socket.socket | None = None

    @property
    def pid(self) -> int:
        return self._started.pid if self._started else 0

    async def start(self) -> None:
        ours, theirs = socket.socketpair()
        self._sockets, far_sockets = socket.socketpair()
        self._sockets.setblocking(False)
        try:
            with theirs, far_sockets:
                self._started = _spawn((theirs.fileno(), far_sockets.fileno()))
        except OSError:
            ours.close()
            self._sockets.close()
            raise
        try:
            await self.pipe.open(ours)
        except asyncio.CancelledError:  # the gateway ends: nobody else knows of this process yet
            ours.close()
            self.close()
            self.kill()
            self._started.wait()
            raise
        asyncio.get_running_loop().add_reader(self._sockets, self._receive_sockets, self._sockets)

    def _receive_sockets(self, sockets: socket.socket) -> None:
        """Take the connections over which the worker passes REST requests on."""
        try:
            data, found, _, _ = socket.recv_fds(sockets, _SOCKETS_PER_WAKE_UP, _SOCKETS_PER_WAKE_UP)
        except BlockingIOError:
            return
        except ConnectionError:  # the worker ended before it had read what was sent to it
            data, found = b"", []
        if not data:
            asyncio.get_running_loop().remove_reader(sockets)
        for one in found:
            self._on_socket(socket.socket(fileno=one))

    def hand_over(self, accepted: socket.socket) -> bool:
        """Give it a connection; False if it cannot take one now."""
        assert self._sockets is not None
        descriptors = array.array("i", [accepted.fileno()])
        try:
            self._sockets.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
        except OSError:
            return False
        self.load += 1
        accepted.close()  # this process's copy
        return True

    def _lost(self) -> None:
        self.gone = True
        self.requests.close()
        self._on_lost(self)

    def close(self) -> None:
        self.pipe.close()
        if self._sockets is not None:
            asyncio.get_running_loop().remove_reader(self._sockets)
            self._sockets.close()

    def kill(self) -> None:
        if self._started is not None and self._started.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._started.kill()

    async def ended(self, *, within: float) -> int | None:
        """Wait until it has ended, and kill it if that takes longer; return its exit status."""
        if self._started is None:
            return None
        until = asyncio.get_running_loop().time() + within
        while self._started.poll() is None:
            if asyncio.get_running_loop().time() > until:
                self.kill()
            await asyncio.sleep(0.01)
        return self._started.returncode


def _spawn(inherited: tuple[int, ...]) -> subprocess.Popen[bytes]:
    """Start an interpreter that inherits these descriptors and no others.

    It is not forked, so no thread, lock or ZeroMQ context gets in. It has a process group of its
    own, as a terminal's signals are for the parent."""
    return subprocess.Popen(  # noqa: S603  # this interpreter
        [sys.executable, "-m", "gateway.workers", *map(str, inherited)],
        stdin=subprocess.DEVNULL,
        pass_fds=inherited,
        process_group=0,
    )
