"""Load and publisher: programs that take commands and answer each with a line of JSON."""

import select
import subprocess
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from ops.benchmarks.machine import cpus, pinned


class Failed(Exception):
    """A server or program failed; the text names it."""


class Connected(msgspec.Struct):
    """The load's figures of connecting clients; times until the answer to the upgrade."""

    open: int
    failed: int
    seconds: float
    p50_ms: float
    p99_ms: float


class Taken(msgspec.Struct):
    """The load's figures of events; latencies begin when an event was due at the publisher.

    `missing` events did not arrive, `faults` arrived out of order; `last_client_ms` is the median time that an
    event took to the last client.
    """

    clients: int
    events: int
    missing: int
    faults: int
    closed: int
    bytes: int
    reads: int
    seconds: float
    p50_ms: float
    p99_ms: float
    last_client_ms: float
    cpu_s: float
    groups: list[tuple[int, int]] = []


class Published(msgspec.Struct):
    """The publisher's figures of a run."""

    published: int
    rate: float
    late_ms: float
    cpu_s: float


Answer = TypeVar("Answer")


class Talker:
    """A program that takes commands and answers each with a line of JSON."""

    def __init__(self, command: Sequence[str]) -> None:
        pipe = subprocess.PIPE
        with pinned(cpus()[1]):
            self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1)
        self.hear(object)

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(command + "\n")
        except BrokenPipeError as gone:
            raise Failed(f"{self.process.args!r} ended") from gone

    def hear(self, kind: type[Answer]) -> Answer:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"{self.process.args!r} ended")
        return msgspec.json.decode(line, type=kind)

    def ask(self, command: str, kind: type[Answer]) -> Answer:
        self.tell(command)
        return self.hear(kind)

    def has_answered(self) -> bool:
        """Tell whether `hear` would return at once."""
        assert self.process.stdout is not None
        return bool(select.select([self.process.stdout], [], [], 0)[0])

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()
