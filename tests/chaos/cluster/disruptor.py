"""Cause failures in a cluster: of gateways, publishers, links, clients, Redis servers and Sentinels."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

from tests.chaos.cluster.stage import ClusterStage
from tests.chaos.disruptor import Act, Disruptor
from tests.support.redis import RedisServer


_FAILOVER_SECONDS = 6.0


class ClusterDisruptor(Disruptor):
    """Causes failures of several gateways, and of what they connect to."""

    def __init__(self, stage: ClusterStage, seed: int, *, say: Callable[[str], object] = print) -> None:
        super().__init__(stage, seed, say=say)
        self.stage = stage

    def _acts(self) -> list[Act]:
        often = [self.drop_clients, self.pause_clients, self.cut_front, self.cut_bus, self.kill_gateway]
        seldom = [
            *(self.kill_publishers, self.stop_publishers, self.stop_gateway, self.stall_bus, self.stall_front),
            *(self.kill_primary, self.stop_primary, self.restart_primary, self.kill_replica, self.kill_sentinel),
            *(self.cut_engine, self.kill_holder, self.stop_holder),
        ]
        return [*often, *often, *seldom]

    async def kill_gateway(self) -> None:
        await self.stage.kill_gateway(self._place())

    async def stop_gateway(self) -> None:
        gateway = self.stage.gateways[self._place()]
        gateway.kill(signal.SIGSTOP)
        await asyncio.sleep(self.random.uniform(0.2, 3))
        gateway.kill(signal.SIGCONT)

    async def kill_holder(self) -> None:
        """Kill the gateway with the lease, which has messages without envelopes numbered."""
        await self.stage.kill_gateway(await self._holder())

    async def stop_holder(self) -> None:
        """Stop the gateway with the lease until it may have lost it; then it continues as if it still had it."""
        gateway = self.stage.gateways[await self._holder()]
        gateway.kill(signal.SIGSTOP)
        await asyncio.sleep(self.random.uniform(1, 9))
        gateway.kill(signal.SIGCONT)

    async def _holder(self) -> int:
        place = await self.stage.holder()
        return self._place() if place is None else place

    async def kill_publishers(self) -> None:
        await asyncio.to_thread(self.stage.publishers.restart, self._process())

    async def stop_publishers(self) -> None:
        place = self._process()
        self.stage.publishers.signal(signal.SIGSTOP, place)
        await asyncio.sleep(self.random.uniform(0.2, 3))
        self.stage.publishers.signal(signal.SIGCONT, place)

    async def cut_bus(self) -> None:
        self.stage.buses[self._place()].cut()

    async def stall_bus(self) -> None:
        await self._stall(self.stage.buses[self._place()].flowing)

    async def cut_front(self) -> None:
        self.stage.fronts[self._place()].cut()

    async def stall_front(self) -> None:
        await self._stall(self.stage.fronts[self._place()].flowing)

    async def drop_clients(self) -> None:
        for client in self.random.sample(self.stage.clients, max(1, len(self.stage.clients) // 10)):
            client.drop()

    async def pause_clients(self) -> None:
        await self._pause(self.random.sample(self.stage.clients, max(1, len(self.stage.clients) // 10)))

    # -- Redis ---------------------------------------------------------------------------------

    async def kill_primary(self) -> None:
        """Kill the primary; a replica replaces it with the data that it has, and the primary returns as a replica."""
        server = await self._primary()
        self._note_failure()
        await asyncio.to_thread(server.kill)
        await self._replaced(server)
        await asyncio.to_thread(server.start)

    async def restart_primary(self) -> None:
        """Restart the primary without its data, before the Sentinels notice."""
        server = await self._primary()
        self._note_failure()
        await asyncio.to_thread(server.kill, signal.SIGTERM)
        await asyncio.to_thread(server.start)

    async def stop_primary(self) -> None:
        """Stop the primary until it may have been replaced; then it continues as if it still were the primary."""
        server = await self._primary()
        self._note_failure()
        server.kill(signal.SIGSTOP)
        await asyncio.sleep(self.random.uniform(0.2, 4))
        self._note_failure()
        server.kill(signal.SIGCONT)

    async def kill_replica(self) -> None:
        primary = await self._primary()
        server = self.random.choice([one for one in self.stage.redis.servers if one is not primary])
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)

    async def kill_sentinel(self) -> None:
        server = self.random.choice(self.stage.redis.sentinels)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)

    async def cut_engine(self) -> None:
        """Close all clients' connections to the primary, which keeps running."""
        server = await self._primary()
        self._note_failure()
        await asyncio.to_thread(server.command, "CLIENT", "KILL", "TYPE", "normal")

    async def _primary(self) -> RedisServer:
        return await asyncio.to_thread(self.stage.redis.primary)

    async def _replaced(self, server: RedisServer) -> None:
        ends = time.monotonic() + _FAILOVER_SECONDS
        while time.monotonic() < ends:
            if await self._primary() is not server:
                self.done["failovers"] += 1
                return
            await asyncio.sleep(0.1)

    def _note_failure(self) -> None:
        self.stage.engine_failed.append(time.monotonic())

    def _place(self) -> int:
        return self.random.randrange(len(self.stage.gateways))

    def _process(self) -> int:
        return self.random.randrange(len(self.stage.publishers.processes))
