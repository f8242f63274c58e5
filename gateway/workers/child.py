"""One worker as its parent sees it: a process, the link to it, and the door that sockets go through."""

import array
import asyncio
import contextlib
import itertools
import socket
import subprocess
import sys
from collections.abc import Callable

import msgspec

from gateway.workers import messages
from gateway.workers.pipe import Pipe


_decoder: msgspec.msgpack.Decoder[messages.ToParent] = msgspec.msgpack.Decoder(messages.ToParent)


class Child:
    """A worker that has been started. It ends by itself when its end of the link is closed."""

    def __init__(
        self,
        *,
        unread_bytes_max: int,
        on_messages: Callable[["Child", list[messages.ToParent]], object],
        on_lost: Callable[["Child"], object],
    ) -> None:
        self.ready = False
        self.gone = False
        """Whether its end of the link is closed."""
        self.checking = False
        """Whether it is being found out if it still answers."""
        self.load = 0
        """About how many sockets it has: those that it told of, and those handed to it since."""
        self.report: messages.Reported | None = None
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[messages.Answer | None]] = {}
        self.pipe = Pipe(
            _decoder,
            unread_bytes_max=unread_bytes_max,
            on_messages=lambda messages: on_messages(self, messages),
            on_lost=lambda: self._lost(on_lost),
        )
        self._started: subprocess.Popen[bytes] | None = None
        self._door: socket.socket | None = None

    @property
    def pid(self) -> int:
        """Its process id, 0 before it was started."""
        return self._started.pid if self._started else 0

    async def start(self) -> None:
        """Start it.

        Raises:
            OSError: There is no room for another process, or for its sockets.
        """
        ours, theirs = socket.socketpair()
        self._door, far_door = socket.socketpair()
        self._door.setblocking(False)
        try:
            with theirs, far_door:
                self._started = _spawn((theirs.fileno(), far_door.fileno()))
        except OSError:
            ours.close()
            self._door.close()
            raise
        try:
            await self.pipe.open(ours)
        except asyncio.CancelledError:  # the gateway ends: nobody else knows of this process yet
            ours.close()
            self.close()
            self.kill()
            self._started.wait()
            raise

    def hand(self, accepted: socket.socket) -> bool:
        """Give it a connection; False if its door is full, or closed."""
        assert self._door is not None
        descriptors = array.array("i", [accepted.fileno()])
        try:
            self._door.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
        except OSError:
            return False
        self.load += 1
        accepted.close()  # this process's copy
        return True

    async def ask(
        self, question: Callable[[int], msgspec.Struct], *, within: float | None
    ) -> messages.Answer | None:
        """Ask it something that has this number; None if it does not answer in time, or has ended.

        `within` None, it has until it ends.
        """
        number = next(self._numbers)
        answer: asyncio.Future[messages.Answer | None] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self.pipe.send(question(number))
        try:
            async with asyncio.timeout(within):
                return await answer
        except TimeoutError:
            return None
        finally:
            del self._asked[number]

    def answered(self, answer: messages.Answer) -> None:
        """Take an answer; one that came too late is nobody's."""
        waiting = self._asked.get(answer.number)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def _lost(self, on_lost: Callable[["Child"], object]) -> None:
        self.gone = True
        for waiting in self._asked.values():
            if not waiting.done():
                waiting.set_result(None)
        on_lost(self)

    def close(self) -> None:
        """Ask nothing more of it; it may end in peace."""
        self.pipe.close()
        if self._door is not None:
            self._door.close()

    def kill(self) -> None:
        """End it at once."""
        if self._started is not None and self._started.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._started.kill()

    async def ended(self, *, within: float) -> int | None:
        """Wait until it has ended, in the end by force; its exit status."""
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

    It is not forked: no thread, no lock and no ZeroMQ context gets in. It has a process group of
    its own, as a terminal's signals are for the parent.
    """
    return subprocess.Popen(  # noqa: S603  # this interpreter
        [sys.executable, "-m", "gateway.workers", *map(str, inherited)],
        stdin=subprocess.DEVNULL,
        pass_fds=inherited,
        process_group=0,
    )
