"""The command `gateway` as a process of its own, on pipes or on a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from tests.support.forkserver import PACKAGES, search_path, start
from tests.support.waiting import DEADLINE_SECONDS, eventually, scaled


class Command:
    """A running `gateway ARGUMENTS`; what it writes is kept. Use `command` to start one.

    With `terminal` its standard output is a terminal of 200 columns and 50 rows.
    """

    def __init__(self, *arguments: str, terminal: bool = False, variables: Mapping[str, str] | None = None) -> None:
        self._output, self._errors = bytearray(), bytearray()
        ours, theirs = pty.openpty() if terminal else os.pipe()
        if terminal:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        given, typed = os.pipe()
        errors, written = os.pipe()
        self._stdin = os.fdopen(typed, "wb")
        self.process = start(arguments, stdin=given, stdout=theirs, stderr=written, environment=environment(variables))
        for end in (given, theirs, written):
            os.close(end)
        self._reading_ends = (ours, errors)
        self._threads = [
            threading.Thread(target=_collect, args=each, daemon=True)
            for each in ((ours, self._output), (errors, self._errors))
        ]
        for thread in self._threads:
            thread.start()

    # -- what it says --------------------------------------------------------------------------

    @property
    def output(self) -> str:
        """What it has written to standard output so far."""
        return self._output.decode(errors="replace")

    @property
    def errors(self) -> str:
        """What it has written to standard error so far."""
        return self._errors.decode(errors="replace")

    @property
    def lines(self) -> list[str]:
        """The complete lines on standard output so far."""
        return self.output.split("\n")[:-1]

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The lines of JSON on standard output so far."""
        return [json.loads(line) for line in self.lines]

    @property
    def numbers(self) -> list[int]:
        """The ``data.n`` of the events on standard output so far."""
        return [one["data"]["n"] for one in self.messages if one["type"] == "event"]

    async def until(self, condition: Callable[[Command], object]) -> None:
        """Wait until something is so of what it has said."""
        await eventually(lambda: condition(self), saying=self._said)

    def _said(self) -> str:
        return f"output: {self.output[-2000:]!r}\nerrors: {self.errors[-2000:]!r}"

    # -- what is done with it ------------------------------------------------------------------

    def type(self, text: str | bytes) -> None:
        """Write to its standard input."""
        self._stdin.write(text.encode() if isinstance(text, str) else text)
        self._stdin.flush()

    def end_of_input(self) -> None:
        """Close its standard input."""
        self._stdin.close()

    def interrupt(self) -> None:
        """Send what Ctrl-C sends."""
        self.process.send_signal(signal.SIGINT)

    def wait(self) -> int:
        """Wait until it has ended, and all that it wrote is here; its exit status."""
        try:
            status = self.process.wait(scaled(DEADLINE_SECONDS))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end\n{self._said()}") from None
        for thread in self._threads:
            thread.join(scaled(DEADLINE_SECONDS))
        return status

    async def exited(self) -> int:
        """The same, in a coroutine."""
        return await asyncio.to_thread(self.wait)

    def stop(self) -> None:
        """End it, however it is."""
        self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join(scaled(DEADLINE_SECONDS))
        with contextlib.suppress(BrokenPipeError):  # it did not read all
            self._stdin.close()
        for end in self._reading_ends:
            os.close(end)


@asynccontextmanager
async def command(
    *arguments: str, terminal: bool = False, variables: Mapping[str, str] | None = None
) -> AsyncIterator[Command]:
    """Start `gateway ARGUMENTS`; it is ended with the block if it runs on until then."""
    started = Command(*arguments, terminal=terminal, variables=variables)
    try:
        yield started
    finally:
        await asyncio.to_thread(started.stop)


async def run(
    *arguments: str, given: str | bytes = "", variables: Mapping[str, str] | None = None
) -> tuple[int, Command]:
    """Run `gateway ARGUMENTS` with this on its standard input; its exit status, and what it said."""
    async with command(*arguments, variables=variables) as started:
        started.type(given)
        started.end_of_input()
        return await started.exited(), started


def run_here(*arguments: object, variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `gateway ARGUMENTS` with no input, and block until it has ended."""
    started = Command(*map(str, arguments), variables=variables)
    try:
        started.end_of_input()
        status = started.wait()
        return subprocess.CompletedProcess("gateway", status, started.output, started.errors)
    finally:
        started.stop()


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without the gateway's variables, and with its packages to be found."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}
    inherited |= {"PYTHONPATH": search_path(*PACKAGES), "TERM": "xterm"}
    inherited.pop("NO_COLOR", None)
    return {**inherited, **(extra or {})}


def _collect(descriptor: int, into: bytearray) -> None:
    while True:
        try:
            data = os.read(descriptor, 65536)
        except OSError:  # a terminal whose other end is closed
            return
        if not data:
            return
        into += data
