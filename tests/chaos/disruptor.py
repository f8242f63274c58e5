"""Cause failures of one gateway, its publisher and its clients, in a random order that the seed decides."""

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
    """A client whose connection can be dropped or paused."""

    def drop(self) -> None: ...
    def pause(self) -> None: ...
    def resume_reading(self) -> None: ...


class Target(Protocol):
    """What a disruptor reports as progress."""

    def delivered(self) -> int: ...
    def faults(self) -> list[str]: ...


class Disruptor:
    """Causes one failure after another, in an order that the seed decides; `done` counts them by kind."""

    def __init__(self, target: Target, seed: int, *, say: Callable[[str], object] = print) -> None:
        self._target = target
        self.random = random.Random(seed)
        self.done: Counter[str] = Counter()
        self._say = say
        self._round: list[Act] = []

    async def run(self, seconds: float) -> None:
        """Cause failures for some seconds, and report progress every 5 s."""
        ends = time.monotonic() + seconds
        reported_at = time.monotonic()
        while time.monotonic() < ends:
            act = self._next()
            self.done[act.__name__] += 1
            await act()
            await asyncio.sleep(self.random.uniform(0.1, 0.8))
            if time.monotonic() > reported_at + 5:
                reported_at = time.monotonic()
                left = max(ends - reported_at, 0)
                self._say(
                    f"{left:4.0f} s left, {self._target.delivered():,} delivered, "
                    f"{len(self._target.faults())} wrong deliveries, {sum(self.done.values())} failures caused"
                )

    def _next(self) -> Act:
        """Return the next failure to cause: all of a round in random order, then those of the next round."""
        if not self._round:
            self._round = self._acts()
            self.random.shuffle(self._round)
        return self._round.pop()

    def _acts(self) -> list[Act]:
        """Return the failures of one round; frequent ones are in it more than once."""
        raise NotImplementedError

    async def _pause(self, some: Sequence[Client]) -> None:
        for one in some:
            one.pause()
        await asyncio.sleep(self.random.uniform(0.2, 1.5))
        for one in some:
            one.resume_reading()

    async def _stall(self, flowing: asyncio.Event) -> None:
        """Forward nothing for a while, without closing the connections."""
        flowing.clear()
        await asyncio.sleep(self.random.uniform(0.2, 5))
        flowing.set()


class GatewayDisruptor(Disruptor):
    """Causes failures of one gateway, its publisher and its clients."""

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
