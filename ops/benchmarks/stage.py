"""One server with its publisher and load: starts, measures and stops them."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from ops.benchmarks.machine import busy_seconds, cpu_seconds, cpus, free_port, is_open, memory_bytes, pinned
from ops.benchmarks.programs import ROOT, program
from ops.benchmarks.servers import Server
from ops.benchmarks.talkers import Connected, Failed, Published, Taken, Talker


START_SECONDS = 60.0
PROBES = 20
OTHERS_MAX = 0.05
"""If other processes used a larger share of a CPU, the measurement is repeated."""
_ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}


class Run(msgspec.Struct):
    """One measurement, at a rate of events per second.

    `others` is the share of the server's CPU, or of the load's if that is more, that went to
    somebody else.
    """

    rate: float
    taken: Taken
    published: Published
    server_cpu_s: float
    others: float

    @property
    def cpu_per_million(self) -> float:
        """CPU seconds of the server per million deliveries."""
        return self.server_cpu_s / max(self.taken.events, 1) * 1e6

    @property
    def complete(self) -> bool:
        """Whether every client got every event, in order."""
        taken = self.taken
        return not (taken.missing or taken.faults or taken.closed)

    @property
    def on_time(self) -> bool:
        """Whether events were published as fast as asked for."""
        return self.published.rate > 0.97 * self.rate


def _busy() -> tuple[float, float]:
    server, load = cpus()
    return busy_seconds(server), busy_seconds(load)


class Stage:
    """A context manager: the server on one CPU, publisher and load on another.

    `publish` and `load` are further arguments for those two.
    """

    def __init__(self, server: Server, *, publish: Sequence[str] = (), load: Sequence[str] = ()):
        self.server = server
        self._publish = publish
        self._load = load
        self._others: list[Talker] = []

    def __enter__(self) -> "Stage":
        self._folder = Path(tempfile.mkdtemp(prefix="bench-"))
        names = ("port", "bus", "second")
        self._places = {f"{{{name}}}": str(free_port()) for name in names}
        self._places["{folder}"] = str(self._folder)
        for name, text in self.server.files.items():
            (self._folder / name).write_text(self._fill(text))
        binds = self.server.publish[0] == "zmtp"
        if binds:  # the publisher binds for servers that connect, and connects to others
            self.publisher = self._talker("publish", *self.server.publish, *self._publish)
        self._start()
        try:
            if not binds:
                self.publisher = self._talker("publish", *self.server.publish, *self._publish)
            self.load = self.crowd(*self.server.load, *self._load)
        except BaseException:
            self._end()
            raise
        self.memory_before = self.memory_bytes()
        return self

    def _fill(self, text: str) -> str:
        for name, value in self._places.items():
            text = text.replace(name, value)
        return text

    def _talker(self, name: str, *arguments: str) -> Talker:
        one = Talker([program(name), *map(self._fill, arguments)])
        self._others.append(one)
        return one

    def crowd(self, *arguments: str) -> Talker:
        """Return a further load, at first without clients; it subscribes as its `arguments` say."""
        return self._talker("load", "{port}", *arguments)

    def _start(self) -> None:
        environment = {**_ENVIRONMENT, "PYTHONPATH": str(ROOT), **self.server.environment}
        self._log = (self._folder / "log").open("w+")
        with pinned(*cpus()[: 1 if self.server.alone else 2]):
            self.process = subprocess.Popen(
                [self._fill(word) for word in self.server.command],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                env={name: self._fill(value) for name, value in environment.items()},
                cwd=self._folder,
            )
        ends = time.monotonic() + START_SECONDS
        while not is_open(int(self._places["{port}"])):
            if self.process.poll() is not None or time.monotonic() > ends:
                said = self._said()
                self._end()
                raise Failed(f"{self.server.name} did not start: {said}")
            time.sleep(0.02)

    def _said(self) -> str:
        self._log.seek(0)
        return self._log.read()[-500:].strip()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        for one in self._others:
            one.end()
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    # -- measurements ------------------------------------------------------------------------------

    def connect(self, clients: int, *, probe: int = 1) -> Connected:
        """Connect clients, and wait until events reach all of them; `probe` events are sent at a time.

        Raises:
            Failed: Some clients are not connected, or get no events.
        """
        done = self.load.ask(f"connect {clients} 64", Connected)
        if done.failed:
            raise Failed(f"{self.server.name}: {done.failed} of {clients} clients could not connect")
        for _ in range(PROBES):
            self.load.ask("reset", object)
            self.publisher.ask(f"run 1000 {probe}", object)
            taken = self.load.ask(f"wait {probe} 1000 5000", Taken)
            if all(least for least, _ in taken.groups) if taken.groups else not taken.missing:
                return done
        raise Failed(f"{self.server.name}: events do not reach all {clients} clients")

    def nap(self, microseconds: int) -> None:
        """Make the load read less often, which costs less CPU and adds to latencies."""
        self.load.ask(f"nap {microseconds}", object)

    def measure(self, rate: float, count: int, *, quiet_ms: int = 1500, max_ms: int = 5000) -> Run:
        """Publish events at a rate per second; wait until all arrived, or no more do."""
        self.load.ask("reset", object)
        before, busy, start = self.cpu_seconds(), _busy(), time.monotonic()
        published = self.publisher.ask(f"run {rate} {count}", Published)
        taken = self.load.ask(f"wait {count} {quiet_ms} {max_ms}", Taken)
        seconds, used = time.monotonic() - start, self.cpu_seconds() - before
        ours = (used, taken.cpu_s + published.cpu_s)
        others = [after - was - own for after, was, own in zip(_busy(), busy, ours, strict=True)]
        return Run(rate, taken, published, used, max(*others, 0.0) / seconds)

    def calm(self, rate: float, count: int, *, tries: int) -> Run:
        """Repeat a measurement until other processes used little CPU; return the least disturbed run."""
        runs: list[Run] = []
        while len(runs) < tries and all(run.others > OTHERS_MAX for run in runs):
            runs.append(self.measure(rate, count, quiet_ms=5000, max_ms=20_000))
        return min(runs, key=lambda run: run.others)

    def cpu_seconds(self) -> float:
        """Return the CPU seconds that the server used so far."""
        return cpu_seconds(self.process.pid)

    def memory_bytes(self) -> int:
        """Return the server's resident memory."""
        return memory_bytes(self.process.pid)
