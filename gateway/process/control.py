"""The control socket: a Unix socket at which commands on the same machine reach a running gateway.

A command sends one word and a line feed, and gets one JSON object: whether it was done, and what to print.
The permissions of the file decide who may: its user, and root."""

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping

from gateway.runtime.logs import logger


log = logger("gateway")

_WORD_BYTES_MAX = 64
_READ_SECONDS = 5.0
_VISIT_SECONDS = 1.0

Action = Callable[[], Awaitable[tuple[bool, str]]]
"""Does what a word asks for; returns whether it was done, and what to say."""


class ControlSocket:
    """Serves the actions, by their words, at a path. Needs a running event loop from `open` to `close`."""

    def __init__(self, path: str, actions: Mapping[str, Action]) -> None:
        self._path = path
        self._actions = actions
        self._server: asyncio.Server | None = None
        self._file: tuple[int, int] | None = None

    async def open(self, *, takes_over: bool = False) -> None:
        """Listen at the path, in place of what a gateway that ended left there, or of one that it `takes_over`.
        Raises OSError: the path cannot be used, or another gateway listens there."""
        if sys.platform == "win32":
            raise OSError("control_file: this system has no Unix sockets for it; leave it out")
        if not takes_over and _answers(self._path):
            raise OSError(f"control_file: another gateway listens at {self._path}; choose another path")
        made = f"{self._path}.{os.getpid()}"  # renamed when it is complete, so that there is always one
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(made)
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(made)
            os.chmod(made, 0o600)
            listening.listen()
            os.rename(made, self._path)
        except OSError as error:
            raise OSError(f"control_file: {self._path} cannot be used ({error.strerror})") from error
        found = os.stat(self._path)
        self._file = found.st_dev, found.st_ino
        self._server = await asyncio.start_unix_server(self._serve, sock=listening, limit=_WORD_BYTES_MAX)

    def close(self) -> None:
        """Stop listening; a file that another process has put there meanwhile stays."""
        if self._server is None:
            return
        self._server.close()
        with contextlib.suppress(OSError):
            found = os.stat(self._path)
            if (found.st_dev, found.st_ino) == self._file:
                os.unlink(self._path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, ValueError):
            async with asyncio.timeout(_READ_SECONDS):
                word = (await reader.readline()).decode(errors="replace").strip()
            done, text = await self._act(word)
            writer.write(json.dumps({"done": done, "text": text}).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def _act(self, word: str) -> tuple[bool, str]:
        action = self._actions.get(word)
        if action is None:
            return False, f"{word!r} is not a command; expected one of {', '.join(self._actions)}"
        return await action()


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.settimeout(_VISIT_SECONDS)
        try:
            visitor.connect(path)
        except OSError:
            return False
        return True


def ask(path: str, word: str, *, seconds: float) -> tuple[bool, str]:
    """Send a word to the gateway that listens at a path; return whether it did it, and what it says.
    Raises OSError: nobody answers there."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        connection.connect(path)
        connection.sendall(word.encode() + b"\n")
        with connection.makefile("rb") as answers:
            line = answers.readline()
    if not line:
        raise ConnectionError("it ended without an answer")
    answer = json.loads(line)
    return bool(answer["done"]), str(answer["text"])
