"""A cluster of gateways with its Redis, publishers and clients, in processes and behind proxies; and the account."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any

import aiohttp

from tests.chaos.cluster.account import Sent, is_near
from tests.chaos.cluster.client import PERSONAL, PLAIN, Client, Port, Truth
from tests.chaos.cluster.event_stream import EventStreamClient
from tests.chaos.cluster.history import HistoryClient
from tests.chaos.cluster.plain_publisher import PlainPublisher
from tests.chaos.cluster.publishers import MANY, PER_PROCESS, TOPICS, Publishers
from tests.chaos.cluster.senders import Senders
from tests.chaos.cluster.websocket import WebSocketClient
from tests.support.addresses import free_port
from tests.support.gateway import Gateway
from tests.support.proxy import Proxy
from tests.support.redis import RedisGroup
from tests.support.waiting import DEADLINE_SECONDS, eventually


_SAMPLE_SECONDS = 0.5
_CONNECTING = 50
_PLAIN_RATE = 2.0
_PREFIX = "chaos"
_HOLDER_SECONDS = 2.0


class ClusterStage:
    """Everything that a chaos test of a cluster starts, as an async context manager.

    `clients` is the number of WebSocket clients; there are a tenth as many event streams, and `readers` clients that read
    the history. `rate` is how many events per second all publishers publish together, `messages` how many per second are
    sent over REST to each channel and to single clients."""

    def __init__(
        self,
        *,
        clients: int,
        readers: int,
        rate: float,
        messages: float = 2.0,
        gateways: int = 3,
        processes: int = 4,
        seed: int = 0,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self.redis = RedisGroup()
        self.engine_failed: list[float] = []
        """When Redis was disturbed, and when it could be used again."""
        self.lease_changed: list[float] = []
        """When a gateway was seen to have taken the lease for numbering messages without envelopes."""
        self.clients: list[Client] = []
        self.websocket_clients: list[WebSocketClient] = []
        """Those of `clients` that use WebSocket; they come first there."""
        self.gateways: list[Gateway] = []
        self.buses: list[Proxy] = []
        self.fronts: list[Proxy] = []
        self.publishers: Publishers
        self.plain: PlainPublisher
        self.senders: Senders
        self.reported_though_held = 0
        """How many events were reported as missing while their publishers could still replay them."""
        self._truth: Truth
        self._count, self._readers, self._rate, self._messages, self._processes = (
            clients,
            readers,
            rate,
            messages,
            processes,
        )
        self._size = gateways
        self._seed = seed
        self._settings = dict(settings or {})
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> ClusterStage:
        async with AsyncExitStack() as stack:
            await asyncio.to_thread(self.redis.__enter__)
            stack.callback(self.redis.__exit__)
            await eventually(lambda: asyncio.to_thread(self.redis.knows_all), saying="the Sentinels know all servers")
            for place in range(self._size):
                await self._start_gateway(stack, place)
            endpoints = [f"tcp://127.0.0.1:{bus.port}" for bus in self.buses]
            self.publishers = Publishers(endpoints, processes=self._processes, rate=self._rate)
            stack.callback(self.publishers.close)
            self._truth = Truth(self.publishers)
            direct = [f"tcp://127.0.0.1:{bus.target}" for bus in self.buses]
            self.plain = PlainPublisher(direct, self._truth.plain_sent, rate=_PLAIN_RATE)
            stack.push_async_callback(self.plain.close)
            await self.plain.start()
            for watch in (self._watch(), self._watch_lease()):
                stack.callback(asyncio.create_task(watch).cancel)
            await eventually(self._know_all, saying="every gateway has events of every publisher")
            await self._start_clients(stack)
            self.senders = Senders(self._ports(), self.websocket_clients, self._truth, self._seed)
            stack.push_async_callback(self.senders.close)
            self.senders.start(per_second=self._messages)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _start_gateway(self, stack: AsyncExitStack, place: int) -> None:
        bus, port = free_port(), free_port()
        settings = {
            "history.events_max": 4_000,  # the events of 150 s at the default rate: sources that ended earlier are forgotten
            "history.bytes_max": 1 << 28,
            "bus.discovery_seconds": 0.5,
            "bus.receive_hwm": 100_000,
            "bus.heartbeat_seconds": 1,
            "bus.heartbeat_timeout_seconds": 3,
            "sessions.messages_max": 1000,
            "clients.heartbeat_seconds": 5,
            "cluster.url": self.redis.url,
            "cluster.name": f"gateway{place}",
            "cluster.prefix": _PREFIX,
            "cluster.numbering": "one",
            "cluster.ttl_seconds": 5,
            "cluster.timeout_seconds": 1,
        }
        gateway = Gateway(connect=[], bind=f"tcp://127.0.0.1:{bus}", port=port, settings=settings | self._settings)
        await asyncio.to_thread(gateway.start)
        gateway.expected_exit = None
        stack.callback(gateway.stop)
        self.gateways.append(gateway)
        self.buses.append(await stack.enter_async_context(Proxy(bus)))
        self.fronts.append(await stack.enter_async_context(Proxy(port)))

    async def _start_clients(self, stack: AsyncExitStack) -> None:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        ports, streams = self._ports(), -(-self._count // 10)
        for number in range(self._count + streams + self._readers):
            seed = self._seed * 1000 + number
            client: Client
            if number < self._count:
                client = WebSocketClient(ports, self._truth, seed)
                self.websocket_clients.append(client)
            elif number < self._count + streams:
                client = EventStreamClient(ports, self._truth, seed)
            else:
                client = HistoryClient(ports, self._truth, seed, http)
            stack.push_async_callback(client.close)
            self.clients.append(client)
            if number % _CONNECTING == _CONNECTING - 1:
                await self._all_ready()
        await self._all_ready()

    async def _all_ready(self) -> None:
        await eventually(lambda: all(one.ready for one in self.clients), saying="all clients are connected")

    def _ports(self) -> list[Port]:
        """Return where clients connect: a quarter goes through proxies that can cut a connection inside a frame."""
        direct = [_always(gateway.port) for gateway in self.gateways]
        return [*direct, *direct, *direct, *(_always(front.port) for front in self.fronts)]

    async def _watch(self) -> None:
        """Sample the publishers' newest numbers until cancelled."""
        while True:
            self.publishers.sample()
            await asyncio.sleep(_SAMPLE_SECONDS)

    async def _watch_lease(self) -> None:
        """Record each time at which the lease is taken, until cancelled."""
        known = None
        while True:
            fence = await asyncio.to_thread(self._fence)
            if fence is not None and fence != known:
                known = fence
                self.lease_changed.append(time.monotonic())
            await asyncio.sleep(_SAMPLE_SECONDS)

    def _fence(self) -> object:
        try:
            return self.redis.primary().command("HGET", f"{_PREFIX}:engine", "fence")
        except Exception:  # Redis is being disturbed; `engine_failed` has that time
            return None

    async def holder(self) -> int | None:
        """Return the index of the gateway that reports to have the lease; None if none does."""
        for place, gateway in enumerate(self.gateways):
            try:
                async with asyncio.timeout(_HOLDER_SECONDS):
                    if await gateway.metric("neurograph_gateway_cluster_lease", state="holding"):
                        return place
            except (OSError, TimeoutError, AssertionError, aiohttp.ClientError):
                continue
        return None

    async def _has_holder(self) -> bool:
        return await self.holder() is not None

    async def _know_all(self) -> bool:
        """Whether every gateway has events of every publisher that is running."""
        running = [incarnation.epoch for incarnation in self.publishers.running if incarnation.newest(MANY)]
        if len(running) < self._processes * PER_PROCESS:
            return False
        for gateway in self.gateways:
            answer = await gateway.request("GET", f"/api/v1/websocket/channels/{MANY}")
            plain = await gateway.request("GET", f"/api/v1/websocket/channels/{PLAIN}")
            if answer.status != 200 or plain.status != 200:
                return False
            position = answer.json["position"]
            if not {*running} <= {position["epoch"], *position.get("others", {})}:
                return False
        return True

    async def kill_gateway(self, place: int) -> None:
        gateway = self.gateways[place]
        gateway.kill(signal.SIGKILL)
        await gateway.exited()
        await gateway.restart()

    # -- the account ---------------------------------------------------------------------------

    async def settle(self) -> None:
        """Repair all links, stop publishing and sending, and wait until every client's account is complete."""
        for link in (*self.buses, *self.fronts):
            link.flowing.set()
        for client in self.clients:
            client.resume_reading()
        await eventually(self._know_all, saying="every gateway has events of every publisher")
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await self.senders.finish()
        except TimeoutError:
            raise AssertionError(
                f"messages were not acknowledged within {DEADLINE_SECONDS:g} s: {self.senders.pending}"
            ) from None
        await eventually(self._has_holder, saying="a gateway has the lease")
        await self.plain.finish()
        self.publishers.signal(signal.SIGUSR1)
        await eventually(lambda: not self.unaccounted(), every=0.5, saying=lambda: str(self.unaccounted()[:5]))

    def faults(self) -> list[str]:
        return [fault for client in self.clients for fault in (*client.faults, *self._wrongly_again(client))]

    def _wrongly_again(self, client: Client) -> list[str]:
        """Describe messages without envelopes that came twice, though the lease and the engine had not changed."""
        return [
            f"message {number} of {PLAIN} was delivered again from another source, without a change of lease or engine"
            for number in client.plain.again
            if not self._has_changed(number)
        ]

    def _has_changed(self, number: int) -> bool:
        """Whether the lease or the engine changed around the time at which a message without envelope was published."""
        return is_near(self._truth.plain_sent[number - 1], [*self.engine_failed, *self.lease_changed])

    def traces(self) -> list[str]:
        """Return what one client that lacks something received besides events, and when lease and Redis changed."""
        found = self.unaccounted()
        if not found:
            return []
        client = self.clients[int(found[0].split()[1])]
        return [
            *client.trace,
            *(f"{at:.3f} Redis disturbed" for at in self.engine_failed),
            *(f"{at:.3f} the lease changed" for at in self.lease_changed),
        ]

    def delivered(self) -> int:
        return sum(client.delivered for client in self.clients)

    def unaccounted(self) -> list[str]:
        """Describe what clients lack without an excuse."""
        return [*self._of_publishers()[1], *self._of_messages()[1], *self._of_plain()[1]]

    def excused(self) -> tuple[int, int, int]:
        """Return how many publishers' events, messages, and messages without envelopes are missing and covered by gaps."""
        return self._of_publishers()[0], self._of_messages()[0], self._of_plain()[0]

    def _of_publishers(self) -> tuple[int, list[str]]:
        excused, left, self.reported_though_held = 0, [], 0
        for number, client in enumerate(self.clients):
            for topic in TOPICS:
                for epoch, incarnation in self.publishers.incarnations.items():
                    newest, held = incarnation.newest(topic), incarnation.held(topic)
                    source = client.source(topic, epoch)
                    lack = source.lacks(newest, held=held)
                    excused += lack.reported
                    self.reported_though_held += lack.reported_though_held
                    if lack.unaccounted:
                        left.append(
                            f"client {number} lacks {lack.unaccounted} of {topic} {epoch}; {newest} were published, "
                            f"all gateways could have received {held}, and gaps excuse {source.unknown[-5:]}"
                        )
        return excused, left

    def _of_messages(self) -> tuple[int, list[str]]:
        excused, left = 0, []
        for number, client in enumerate(self.clients):
            sent: dict[str, list[Sent]] = {**self.senders.acknowledged, PERSONAL: self.senders.personal[number]}
            for channel, messages in client.messages.items():
                of_channel, missing = messages.lacks(
                    sent.get(channel, []),
                    engine_failed=self.engine_failed,
                    new_sessions=client.new_sessions if channel == PERSONAL else [],
                )
                excused += of_channel
                left += [f"client {number} lacks {one} on {channel}" for one in missing]
        return excused, left

    def _of_plain(self) -> tuple[int, list[str]]:
        excused, left = 0, []
        for number, client in enumerate(self.clients):
            reported, unreported = client.plain.lacks(len(self._truth.plain_sent))
            changed = [one for one in reported if self._has_changed(one)]
            excused += len(changed)
            if unreported:
                left.append(f"client {number} lacks {unreported} of {PLAIN}, and no gap reports them")
            if len(changed) < len(reported):
                left.append(f"client {number} lacks {reported} of {PLAIN}, without a change of lease or engine")
        return excused, left

    def figures(self) -> dict[str, Any]:
        """Return the figures that are printed at the end."""
        events, messages, plain = self.excused()
        clients = self.clients
        return {
            "published": sum(
                incarnation.newest(topic) for incarnation in self.publishers.incarnations.values() for topic in TOPICS
            ),
            "published without envelopes": len(self._truth.plain_sent),
            "publisher incarnations": len(self.publishers.incarnations),
            "messages acknowledged": sum(
                map(len, (*self.senders.acknowledged.values(), *self.senders.personal.values()))
            ),
            "messages repeated": sum(
                one.attempts > 1
                for some in (*self.senders.acknowledged.values(), *self.senders.personal.values())
                for one in some
            ),
            "messages redelivered in another epoch": sum(
                len(one.again) for client in clients for one in client.messages.values()
            ),
            "checked deliveries": self.delivered(),
            "of these, over event streams": sum(one.delivered for one in clients if isinstance(one, EventStreamClient)),
            "of these, in pages of the history": sum(
                one.delivered for one in clients if isinstance(one, HistoryClient)
            ),
            "changes of the lease": len(self.lease_changed),
            "redelivered without envelopes": sum(len(one.plain.again) for one in clients),
            "covered by gaps, without envelopes": plain,
            "connections": sum(one.connections for one in clients),
            "moves to another gateway": sum(one.moves for one in clients),
            "sessions resumed": sum(one.resumed for one in clients),
            "sessions replaced by new ones": sum(len(one.new_sessions) for one in clients),
            "positions refused": sum(one.refused for one in clients),
            "events repeated and skipped": sum(one.again for one in clients),
            "events covered by gaps": events,
            "of these, still held by publishers": self.reported_though_held,
            "messages covered by gaps": messages,
            "delivered twice or out of order": len(self.faults()) + len(self.senders.faults),
            "neither delivered nor reported": len(self.unaccounted()),
        }


def _always(port: int) -> Port:
    return lambda: port
