"""How late events come to a client that is a process of its own: python -m tests.chaos.latency URL.

It prints the median and the 99th percentile in milliseconds, and the number of events, when it gets SIGTERM."""

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


@dataclass
class Latency:
    """What was measured."""

    median: float = 0.0
    p99: float = 0.0
    events: int = 0


@contextlib.asynccontextmanager
async def measured(url: str) -> AsyncIterator[Latency]:
    """Measure from the first event until the block ends."""
    found = Latency()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.chaos.latency", url), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        await process.stdout.readline()
        yield found
        process.terminate()
        output, _ = await process.communicate()
        found.median, found.p99, found.events = json.loads(output)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


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
                    late.append((time.time_ns() - event.data["t"]) / 1e6)  # it is cancelled

    following = asyncio.create_task(follow())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, following.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await following
    late.sort()
    print(json.dumps([percentile(late, 0.5), percentile(late, 0.99), len(late)]))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
