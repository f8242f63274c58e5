"""A publisher in a process that the test kills: python -m tests.chaos.publisher ENDPOINT FOLDER RATE REPLAY MARK PAD.

It writes the number of the next event into a file before it publishes the event. On SIGUSR1 it stops
publishing, and still answers replay requests. On SIGTERM it closes the publisher and exits.
"""

from __future__ import annotations

import mmap
import signal
import struct
import sys
import time
from pathlib import Path

from neurograph_publisher import Publisher


TOPICS = ["chaos.a", "chaos.b"]
_TICK_SECONDS = 0.005
_COUNTS = struct.Struct(f"<{len(TOPICS)}Q")


def read_records(folder: Path) -> dict[str, dict[int, int]]:
    """Return the newest number that was published, or was about to be, by topic and incarnation."""
    truth: dict[str, dict[int, int]] = {topic: {} for topic in TOPICS}
    for file in folder.iterdir():
        # A file that was just created is still empty.
        counts = _COUNTS.unpack(file.read_bytes() or bytes(_COUNTS.size))
        for topic, count in zip(TOPICS, counts, strict=True):
            if count:
                truth[topic][int(file.name, 16)] = count
    return truth


def main(endpoint: str, folder: str, rate: float, replay: int, high_water_mark: int, pad: int) -> None:
    filling = "x" * pad
    stop, idle = [False], [False]
    signal.signal(signal.SIGTERM, lambda *_: stop.__setitem__(0, True))
    signal.signal(signal.SIGUSR1, lambda *_: idle.__setitem__(0, True))
    with Publisher(
        connect=endpoint, name="chaos", heartbeat_seconds=0.5, replay=replay, high_water_mark=high_water_mark
    ) as publisher:
        file = Path(folder, f"{publisher.incarnation:016x}")
        file.write_bytes(bytes(_COUNTS.size))
        with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as record:
            numbers = [0] * len(TOPICS)
            began, sent = time.monotonic(), 0
            while not stop[0]:
                due = int((time.monotonic() - began) * rate)
                while sent < due and not idle[0]:
                    at = sent % len(TOPICS)
                    numbers[at] += 1
                    record[:] = _COUNTS.pack(*numbers)
                    data = {"p": publisher.incarnation, "n": numbers[at], "t": time.time_ns(), "x": filling}
                    publisher.publish(TOPICS[at], data, "chaos")
                    sent += 1
                if idle[0]:
                    sent = due
                time.sleep(_TICK_SECONDS)


if __name__ == "__main__":
    endpoint, folder, rate, replay, high_water_mark, pad = sys.argv[1:]
    main(endpoint, folder, float(rate), int(replay), int(high_water_mark), int(pad))
