"""Everything that can break does, at random times that come of a seed."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from tests.chaos.follower import Follower
from tests.chaos.stage import Stage


Act = Callable[[], Awaitable[None]]


class Client(Protocol):
    """A client that a storm can disturb."""

    def drop(self) -> None: ...
    def pause(self) -> None: ...
    def go_on(self) -> None: ...


class Played(Protocol):
    """What a storm needs to know of its stage."""

    def delivered(self) -> int: ...
    def faults(self) -> list[str]: ...


class Breaker:
    """Breaks one thing after another, in an order that comes of a seed; `done` counts what."""

    def __init__(self, played: Played, seed: int, *, say: Callable[[str], object] = print) -> None:
        self._played = played
        self.random = random.Random(seed)
        self.done: Counter[str] = Counter()
        self._say = say
        self._deck: list[Act] = []

    async def rage(self, seconds: float) -> None:
        """Break one thing after another."""
        ends = time.monotonic() + seconds
        told = time.monotonic()
        while time.monotonic() < ends:
            act = self._deal()
            self.done[act.__name__] += 1
            await act()
            await asyncio.sleep(self.random.uniform(0.1, 0.8))
            if time.monotonic() > told + 5:
                told = time.monotonic()
                left = max(ends - told, 0)
                self._say(
                    f"{left:4.0f} s left, {self._played.delivered():,} delivered, "
                    f"{len(self._played.faults())} faults, {sum(self.done.values())} things broken"
                )

    def _deal(self) -> Act:
        """Take the next card; none comes a second time before all have come."""
        if not self._deck:
            self._deck = self._acts()
            self.random.shuffle(self._deck)
        return self._deck.pop()

    def _acts(self) -> list[Act]:
        """All that it does, each as often as it is in a round."""
        raise NotImplementedError

    async def _pause(self, some: Sequence[Client]) -> None:
        for one in some:
            one.pause()
        await asyncio.sleep(self.random.uniform(0.2, 1.5))
        for one in some:
            one.go_on()

    async def _stall(self, flowing: asyncio.Event) -> None:
        """A link that is half open: nothing comes through, and nobody is told."""
        flowing.clear()
        await asyncio.sleep(self.random.uniform(0.2, 5))
        flowing.set()


class Storm(Breaker):
    """Breaks what is on a stage with one gateway."""

    def __init__(self, stage: Stage, seed: int, *, say: Callable[[str], object] = print) -> None:
        super().__init__(stage, seed, say=say)
        self.stage = stage

    def _acts(self) -> list[Act]:
        often = [
            *(self.drop_clients, self.pause_clients, self.cut_front, self.cut_bus),
            *(self.kill_gateway, self.kill_publisher),
        ]
        seldom = [self.stop_gateway, self.stop_publisher, self.stall_bus, self.stall_front]
        return [*often, *often, *seldom]

    async def kill_gateway(self) -> None:
        await self.stage.kill_gateway()

    async def kill_publisher(self) -> None:
        self.stage.kill_publisher()
        self.stage.start_publisher()

    async def stop_gateway(self) -> None:
        self.stage.gateway.kill(signal.SIGSTOP)
        await asyncio.sleep(self.random.uniform(0.2, 3))
        self.stage.gateway.kill(signal.SIGCONT)

    async def stop_publisher(self) -> None:
        self.stage.signal_publisher(signal.SIGSTOP)
        await asyncio.sleep(self.random.uniform(0.2, 3))
        self.stage.signal_publisher(signal.SIGCONT)

    async def cut_bus(self) -> None:
        self.stage.bus.cut()

    async def cut_front(self) -> None:
        self.stage.front.cut()

    async def stall_bus(self) -> None:
        await self._stall(self.stage.bus.flowing)

    async def stall_front(self) -> None:
        await self._stall(self.stage.front.flowing)

    async def drop_clients(self) -> None:
        for follower in self._some():
            follower.drop()

    async def pause_clients(self) -> None:
        await self._pause(self._some())

    def _some(self) -> list[Follower]:
        followers = self.stage.followers
        return self.random.sample(followers, max(1, len(followers) // 5))
