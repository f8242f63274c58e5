"""Measure the latency of events at a client in its own process: python -m tests.chaos.latency URL.

On each SIGUSR1 it prints the median and the 99th percentile in milliseconds, and the number of events, since the last one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from neurograph_client import Client, Event

from tests.chaos.publisher import TOPICS
from tests.chaos.usage import raise_priority


@dataclass
class Latency:
    """Latencies in milliseconds, and the number of events measured."""

    median: float = 0.0
    p99: float = 0.0
    events: int = 0


class Meter:
    """The process with the client that measures."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        self._process, self._output = process, process.stdout

    async def begun(self) -> None:
        """Wait until the client has received the first event."""
        await self._output.readline()

    async def take(self) -> Latency:
        """Return what was measured since the last call."""
        self._process.send_signal(signal.SIGUSR1)
        return Latency(*json.loads(await self._output.readline()))


@contextlib.asynccontextmanager
async def measured(url: str) -> AsyncIterator[Meter]:
    """Measure from the first event until the block ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.chaos.latency", url), stdout=asyncio.subprocess.PIPE
    )
    raise_priority(process.pid)
    try:
        meter = Meter(process)
        await meter.begun()
        yield meter
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def percentile(sorted_: list[float], part: float) -> float:
    return sorted_[min(int(len(sorted_) * part), len(sorted_) - 1)] if sorted_ else 0.0


async def main(url: str) -> None:
    late: list[float] = []

    async def follow() -> None:
        async with Client(url) as client:
            async for event in client.subscribe(*TOPICS):
                if not late:
                    print(flush=True)
                if isinstance(event, Event):
                    late.append((time.time_ns() - event.data["t"]) / 1e6)

    def report() -> None:
        late.sort()
        print(json.dumps([percentile(late, 0.5), percentile(late, 0.99), len(late)]), flush=True)
        late[:] = late[:1]  # not empty, so that `follow` does not announce a first event again

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, report)
    await follow()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
