"""Listening sockets from outside: those of systemd, and those of the process that a new one succeeds.

The port never closes: both processes have the same sockets, and connections wait in the kernel. The two talk over
an inherited socket pair. The new process sends ``bus``, and the old one closes what it has bound on the bus and
answers with its publishers; the new one sends ``ready``, and the old one drains."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from gateway.runtime.logs import logger


log = logger("gateway")

_FIRST_DESCRIPTOR = 3  # sd_listen_fds(3)
_VARIABLE = "NEUROGRAPH_HANDOVER"
"""The descriptors that a new process inherits: that of the socket pair, and the listening ones."""
UPGRADE_SECONDS_MAX = 60.0
"""How long a new process may take until it is ready."""
_LINE_BYTES_MAX = 1 << 20


class Predecessor:
    """The old process, as the new one sees it."""

    def __init__(self, pair: socket.socket) -> None:
        self._pair = pair
        pair.setblocking(False)

    async def release_bus(self) -> frozenset[int]:
        """Make it close what it has bound; return the incarnations of its live publishers.
        Raises OSError: it has ended."""
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self._pair, b"bus\n")
        line = b""
        while not line.endswith(b"\n"):
            part = await loop.sock_recv(self._pair, 65_536)
            if not part:
                raise ConnectionError("the process to succeed has ended")
            line += part
        return frozenset(json.loads(line))

    async def dismiss(self) -> None:
        """Make it drain its clients and end."""
        await asyncio.get_running_loop().sock_sendall(self._pair, b"ready\n")
        self._pair.close()


@dataclass(frozen=True, slots=True)
class Inherited:
    """What a process gets from the one that started it."""

    sockets: Sequence[socket.socket] = field(default_factory=list)
    predecessor: Predecessor | None = None
    by_systemd: bool = False
    """Whether systemd keeps the sockets open when the gateway ends."""


def inherit(environ: MutableMapping[str, str] = os.environ) -> Inherited:
    """Return what this process inherits, and remove it from the environment: its children do not.
    Raises OSError: a descriptor is no listening stream socket."""
    given = environ.pop(_VARIABLE, "")
    names = {name: environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    if given:
        pair, *listening = map(int, given.split(","))
        return Inherited([_listening(one) for one in listening], Predecessor(_socket(pair)))
    if names["LISTEN_PID"] != str(os.getpid()) or not names["LISTEN_FDS"].isdigit():
        return Inherited()
    last = _FIRST_DESCRIPTOR + int(names["LISTEN_FDS"])
    return Inherited([_listening(one) for one in range(_FIRST_DESCRIPTOR, last)], by_systemd=True)


def _socket(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)


def _listening(descriptor: int) -> socket.socket:
    try:
        found = _socket(descriptor)
    except OSError as error:
        raise OSError(f"inherited socket: descriptor {descriptor}: {error}") from error
    usable = found.type == socket.SOCK_STREAM and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if not usable or found.family not in {socket.AF_INET, socket.AF_INET6}:
        found.close()
        remedy = "use ListenStream=ADDRESS:PORT"
        raise OSError(f"inherited socket: descriptor {descriptor} is not a TCP socket that listens; {remedy}")
    found.setblocking(False)
    return found


async def upgrade(
    listening: Sequence[socket.socket],
    release_bus: Callable[[], Sequence[int]],
    environ: Mapping[str, str] = os.environ,
) -> int:
    """Start a new process of this gateway with the same arguments; return its pid once it is ready.
    Raises OSError: it did not become ready, for the given reason, and has ended."""
    ours, theirs = socket.socketpair()
    numbers = [one.fileno() for one in (theirs, *listening)]
    with theirs:
        successor = await asyncio.to_thread(
            _start,
            [sys.executable, "-m", "gateway", *sys.argv[1:]],
            numbers,
            {**environ, _VARIABLE: ",".join(map(str, numbers))},
        )
    reader, writer = await asyncio.open_connection(sock=ours, limit=_LINE_BYTES_MAX)
    try:
        async with asyncio.timeout(UPGRADE_SECONDS_MAX):
            while (line := await reader.readline()) != b"ready\n":
                if line != b"bus\n":
                    raise OSError(f"the new process ended before it was ready; its log says why (process {successor})")
                writer.write(json.dumps(list(release_bus())).encode() + b"\n")
    except BaseException as error:
        with suppress(ProcessLookupError):
            os.kill(successor, signal.SIGKILL)
        if isinstance(error, TimeoutError):
            raise OSError(f"the new process was not ready within {UPGRADE_SECONDS_MAX:g} s") from error
        raise
    finally:
        writer.close()
    return successor


_START = """
import os, sys
pipe = int(sys.argv[1])
os.set_inheritable(pipe, False)
os.write(pipe, b"%d" % os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ))
"""


def _start(arguments: Sequence[str], descriptors: Sequence[int], environment: Mapping[str, str]) -> int:
    """Start a process that has these descriptors; return its pid. Raises OSError: it cannot be started.

    It is a child of init and not of this process: when a service stops, systemd waits for its own children only,
    and kills the others at once."""
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe:
        try:
            subprocess.run(  # noqa: S603  # this interpreter, with the arguments of this process
                [sys.executable, "-I", "-S", "-c", _START, str(writing), *arguments],
                pass_fds=[writing, *descriptors],
                env=environment,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            raise OSError(f"no process can be started ({error})") from error
        finally:
            os.close(writing)
        return int(pipe.read())
