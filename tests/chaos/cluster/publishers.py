"""Several publishers in a process that the test kills: python -m tests.chaos.cluster.publishers FOLDER RATE PLACE ENDPOINTS.

Each publisher writes the number of the next event into a file before it publishes the event. On SIGUSR1 the process stops
publishing, and still answers replay requests."""

from __future__ import annotations

import mmap
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neurograph_publisher import Publisher


MANY, ONE = "chaos.many", "chaos.one"
TOPICS = [MANY, ONE]
PER_PROCESS = 5
HELD_SECONDS = 15.0
"""Every gateway has had time to receive what a publisher published at least this long before it was killed."""
_KEPT = 1_000_000
_COUNTS = struct.Struct(f"<{len(TOPICS)}Q")
_TICK_SECONDS = 0.01
_KINDS = {"full": (1.0, _KEPT), "beats": (1.0, 0), "bare": (0.0, 0)}
"""By kind: the heartbeat interval in seconds, and how many messages are kept for replay."""
_KIND_OF_PLACE = ("full", "full", "full", "beats", "bare")


@dataclass(slots=True)
class _Running:
    """One publisher, with the file that records its newest numbers."""

    publisher: Publisher
    record: mmap.mmap
    topics: list[str]
    numbers: list[int]

    def publish(self, at: int) -> None:
        self.numbers[at] += 1
        self.record[:] = _COUNTS.pack(*self.numbers)
        self.publisher.publish(TOPICS[at], {"p": self.publisher.incarnation, "n": self.numbers[at]}, "chaos")


def _run(folder: Path, name: str, kind: str, endpoints: Sequence[str], *, also_one: bool) -> _Running:
    heartbeat, replay = _KINDS[kind]
    publisher = Publisher(connect=endpoints, name=name, heartbeat_seconds=heartbeat, replay=replay)
    being_made = folder / f".{publisher.incarnation:016x}"
    being_made.write_bytes(bytes(_COUNTS.size))
    with being_made.open("r+b") as opened:
        record = mmap.mmap(opened.fileno(), 0)
    being_made.rename(folder / f"{publisher.incarnation:016x}.{kind}.{os.getpid()}")
    return _Running(publisher, record, TOPICS if also_one else [MANY], [0] * len(TOPICS))


def main(folder: str, rate: float, place: int, endpoints: Sequence[str]) -> None:
    idle = [False]
    signal.signal(signal.SIGUSR1, lambda *_: idle.__setitem__(0, True))
    running = [
        _run(Path(folder), f"chaos{place}.{n}", kind, endpoints, also_one=place == n == 0)
        for n, kind in enumerate(_KIND_OF_PLACE)
    ]
    turns = [(one, TOPICS.index(topic)) for one in running for topic in one.topics]
    began, sent = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - began) * rate)
        while sent < due and not idle[0]:
            one, at = turns[sent % len(turns)]
            one.publish(at)
            sent += 1
        if idle[0]:
            sent = due
        time.sleep(_TICK_SECONDS)


class Incarnation:
    """What one incarnation of a publisher has published, as the test reads it from the file."""

    def __init__(self, file: Path) -> None:
        self.epoch, kind, pid = file.name.split(".")
        self.pid = int(pid)
        self.keeps = kind == "full"
        """Whether it keeps everything that it published for replay."""
        self.ended = False
        self._times: list[float] = []
        self._samples: list[tuple[int, ...]] = []
        with file.open("rb") as opened:
            self._record = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)

    def newest(self, topic: str) -> int:
        """Return the newest number that it published, or was about to publish."""
        return int(_COUNTS.unpack(self._record)[TOPICS.index(topic)])

    def held(self, topic: str) -> int:
        """Return the number up to which every gateway could have received everything."""
        if not self.keeps:
            return 0
        return self.due(topic, self._times[-1]) if self.ended else self.newest(topic)

    def due(self, topic: str, at: float) -> int:
        """Return the number up to which a client that was up to date at this time had had time to receive everything."""
        found = bisect_left(self._times, at - HELD_SECONDS)
        return self._samples[found - 1][TOPICS.index(topic)] if found else 0

    def sample(self) -> None:
        """Record the newest numbers with the time."""
        self._times.append(time.monotonic())
        self._samples.append(_COUNTS.unpack(self._record))

    def end(self) -> None:
        self.sample()
        self.ended = True


class Publishers:
    """All processes with publishers, and all incarnations of these publishers so far."""

    def __init__(self, endpoints: Sequence[str], *, processes: int, rate: float) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ng-chaos-"))
        self.incarnations: dict[str, Incarnation] = {}
        """By epoch."""
        self._endpoints = endpoints
        self._rate = rate / processes
        self.processes = [self._start(place) for place in range(processes)]

    def _start(self, place: int) -> subprocess.Popen[bytes]:
        arguments = [str(self.folder), str(self._rate), str(place), *self._endpoints]
        return subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.cluster.publishers", *arguments], cwd=Path(__file__).parents[3]
        )

    def restart(self, place: int) -> None:
        """Kill a process and start its replacement."""
        process = self.processes[place]
        process.kill()
        process.wait()
        self.sample()
        for incarnation in self.incarnations.values():
            if incarnation.pid == process.pid:
                incarnation.end()
        self.processes[place] = self._start(place)

    def signal(self, number: signal.Signals, place: int | None = None) -> None:
        for process in self.processes if place is None else [self.processes[place]]:
            process.send_signal(number)

    def sample(self) -> None:
        """Find new incarnations, and record the newest numbers of all that still run."""
        for file in self.folder.iterdir():
            epoch = file.name.partition(".")[0]
            if epoch and epoch not in self.incarnations:
                self.incarnations[epoch] = Incarnation(file)
        for incarnation in self.incarnations.values():
            if not incarnation.ended:
                incarnation.sample()

    @property
    def running(self) -> list[Incarnation]:
        return [incarnation for incarnation in self.incarnations.values() if not incarnation.ended]

    def newest(self, topic: str, epoch: str) -> int:
        incarnation = self.incarnations.get(epoch)
        if incarnation is None:
            self.sample()
            incarnation = self.incarnations.get(epoch)
        return 0 if incarnation is None else incarnation.newest(topic)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
