"""A gateway, a publisher and many clients, whose processes and connections tests disturb; and the account."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType

from tests.chaos.follower import Follower
from tests.chaos.publisher import TOPICS, read_records
from tests.chaos.usage import raise_priority
from tests.support.addresses import free_port
from tests.support.gateway import Gateway
from tests.support.proxy import Proxy
from tests.support.waiting import DEADLINE_SECONDS, eventually


class Stage:
    """Everything that a chaos test of one gateway starts, as an async context manager."""

    def __init__(
        self,
        *,
        clients: int,
        rate: int,
        replay: int = 200_000,
        mark: int = 100_000,
        receive_mark: int = 100_000,
        events_max: int = 100_000,
        pad: int = 0,
        seed: int = 0,
        settings: Mapping[str, object] | None = None,
        measured: bool = False,
    ) -> None:
        """If the gateway is `measured`, its workers are its own child processes, and the publisher connects to it
        directly: through `bus`, a proxy in this process, this process would delay events."""
        self._measured = measured
        self.rate = rate
        self._options = (str(replay), str(mark), str(pad))
        self._clients = clients
        self._seed = seed
        self.folder = Path(tempfile.mkdtemp(prefix="ng-chaos-"))
        self.bus_port = free_port()
        self.http_port = free_port()
        self.gateway = Gateway(
            connect=[],
            bind=f"tcp://127.0.0.1:{self.bus_port}",
            port=self.http_port,
            interpreter=measured,
            settings={
                "history.events_max": events_max,
                "history.bytes_max": 1 << 30,
                "bus.discovery_seconds": 0.5,
                "bus.receive_hwm": receive_mark,
                "bus.heartbeat_seconds": 1,
                "bus.heartbeat_timeout_seconds": 3,
                "sessions.ttl_seconds": 0,
                **(settings or {}),
            },
        )
        self.gateway.expected_exit = None
        self.bus = Proxy(self.bus_port)
        self.front = Proxy(self.http_port)
        self._previous: int | None = None
        self.publisher: subprocess.Popen[bytes] | None = None
        self.followers: list[Follower] = []

    async def __aenter__(self) -> Stage:
        await asyncio.to_thread(self.gateway.start)
        await self.bus.__aenter__()
        await self.front.__aenter__()
        self.start_publisher()
        await eventually(lambda: any(self.folder.iterdir()), saying="the publisher has started")
        for number in range(self._clients):
            # Half of the clients connect through a proxy that can cut a connection inside a frame.
            port = self.front.port if number % 2 else self.http_port
            follower = Follower(_always(port), self.truth, self._seed * 1000 + number)
            self.followers.append(follower)
        await self.all(lambda follower: follower.live)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(follower.close() for follower in self.followers))
        self.kill_publisher()
        await self.front.__aexit__(None, None, None)
        await self.bus.__aexit__(None, None, None)
        await asyncio.to_thread(self.gateway.stop)

    # -- the publisher -------------------------------------------------------------------------

    def start_publisher(self) -> None:
        self._previous = self.incarnation if any(self.folder.iterdir()) else None
        port = self.bus_port if self._measured else self.bus.port
        self.publisher = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.chaos.publisher"),
                *(f"tcp://127.0.0.1:{port}", str(self.folder), str(self.rate)),
                *self._options,
            ],
            cwd=Path(__file__).parents[2],
        )
        if self._measured:
            raise_priority(self.publisher.pid)

    def kill_publisher(self) -> None:
        assert self.publisher is not None
        self.publisher.kill()
        self.publisher.wait()

    def signal_publisher(self, number: signal.Signals) -> None:
        assert self.publisher is not None
        self.publisher.send_signal(number)

    def truth(self) -> dict[str, dict[int, int]]:
        """Return the newest number that was published, by topic and incarnation."""
        return read_records(self.folder)

    @property
    def incarnation(self) -> int:
        """The publisher's current incarnation: that of the newest file."""
        files = list(self.folder.iterdir())
        return int(max(files, key=lambda file: file.stat().st_ctime_ns).name, 16)

    # -- the gateway ---------------------------------------------------------------------------

    async def kill_gateway(self) -> None:
        self.gateway.kill(signal.SIGKILL)
        await self.gateway.exited()
        await self.gateway.restart()

    # -- the clients ---------------------------------------------------------------------------

    async def all(self, condition: Callable[[Follower], bool], *, within: float = DEADLINE_SECONDS) -> None:
        def missing() -> str:
            late = [one for one in self.followers if not condition(one)]
            return f"{len(late)} of {len(self.followers)} clients; {self.faults()[:3]}"

        await eventually(lambda: all(map(condition, self.followers)), within=within, every=0.05, saying=missing)

    async def all_live(self) -> float:
        """Wait until every client has an event that was published after this call; return the seconds that it took."""
        began = time.monotonic()
        await eventually(
            lambda: self.incarnation != self._previous and self.truth()[TOPICS[0]].get(self.incarnation, 0) > 0
        )
        epoch_number = self.incarnation
        truth = self.truth()[TOPICS[0]][epoch_number]
        await self.all(lambda one: one.reached(TOPICS[0], epoch_number) > truth)
        return time.monotonic() - began

    async def settle(self) -> None:
        """Stop publishing, and wait until every client has the last event."""
        epoch_number = self.incarnation
        self.signal_publisher(signal.SIGUSR1)
        self.bus.flowing.set()
        self.front.flowing.set()
        for follower in self.followers:
            follower.resume_reading()

        def complete(follower: Follower) -> bool:
            truth = self.truth()
            return all(
                follower.positions.get(topic) is not None
                and follower.positions[topic].epoch == f"{epoch_number:016x}"
                and follower.positions[topic].offset >= truth[topic].get(epoch_number, 0)
                for topic in TOPICS
            )

        await self.all(complete)

    def faults(self) -> list[str]:
        return [fault for follower in self.followers for fault in follower.faults]

    def unaccounted(self) -> int:
        """Return how many events were neither delivered nor reported, summed over all clients."""
        return sum(len(numbers) for *_, numbers in self._missing())

    def holes(self) -> list[str]:
        """Describe the events that were neither delivered nor reported, and the client that lacks them."""
        found = []
        for number, topic, newest, numbers in self._missing():
            follower, first, last = self.followers[number], numbers[0], numbers[-1]
            account = follower.accounts[topic]
            came = [*account.delivered.values()]
            found.append(
                f"client {number} lacks {len(numbers)} of {newest} events on {topic}, between {first} and {last}; "
                f"received: {[(one[0], one[-1], len(one)) for one in came]} (first, last, count); "
                f"excused: {account.excused}; {follower.connections} connections, {follower.refused} positions refused"
            )
        return found

    def _missing(self) -> Iterator[tuple[int, str, int, list[int]]]:
        """Yield a client's index, a topic, its newest number, and the numbers neither delivered nor reported."""
        truth = self.truth()
        for number, follower in enumerate(self.followers):
            for topic in TOPICS:
                for incarnation, newest in truth[topic].items():
                    numbers = follower.accounts[topic].missing(incarnation, newest)
                    if numbers:
                        yield number, topic, newest, numbers

    def delivered(self) -> int:
        return sum(follower.delivered for follower in self.followers)

    def lost(self) -> int:
        """Return how many events were reported as lost on the bus, summed over all clients."""
        return sum(
            last - first + 1
            for follower in self.followers
            for account in follower.accounts.values()
            for ranges in account.lost.values()
            for first, last in ranges
        )


def _always(port: int) -> Callable[[], int]:
    return lambda: port
