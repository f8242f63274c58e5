"""Gateways that are a cluster, publishers, Redis and clients, as processes and links that can be broken; and the account."""

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
from tests.chaos.cluster.plain import PlainPublisher
from tests.chaos.cluster.publishers import MANY, PER_PROCESS, TOPICS, Publishers
from tests.chaos.cluster.reader import Reader
from tests.chaos.cluster.senders import Senders
from tests.chaos.cluster.stream import Stream
from tests.chaos.cluster.wanderer import Wanderer
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
    """Everything in one place. Use it as an async context manager.

    `clients` is how many have a WebSocket; a tenth as many have an event stream. `readers` is how many read the history.
    `rate` is how many events the publishers publish a second together, `messages` how many are sent over REST to
    each of the channels and to single clients."""

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
        """When Redis was disturbed, or could be used again."""
        self.lease_changed: list[float] = []
        """When another gateway was seen to number what comes without numbers, or the same one anew."""
        self.clients: list[Client] = []
        self.wanderers: list[Wanderer] = []
        """The first ones of the clients."""
        self.gateways: list[Gateway] = []
        self.buses: list[Proxy] = []
        self.fronts: list[Proxy] = []
        self.publishers: Publishers
        self.plain: PlainPublisher
        self.senders: Senders
        self.reported_though_held = 0
        """How many events gaps have named that their publishers still had."""
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
            self.senders = Senders(self._ports(), self.wanderers, self._truth, self._seed)
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
            "history.events_max": 4_000,  # at the usual rate those of 150 s: sources that ended before are forgotten
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
                client = Wanderer(ports, self._truth, seed)
                self.wanderers.append(client)
            elif number < self._count + streams:
                client = Stream(ports, self._truth, seed)
            else:
                client = Reader(ports, self._truth, seed, http)
            stack.push_async_callback(client.close)
            self.clients.append(client)
            if number % _CONNECTING == _CONNECTING - 1:
                await self._all_ready()
        await self._all_ready()

    async def _all_ready(self) -> None:
        await eventually(lambda: all(one.ready for one in self.clients), saying="all clients are connected")

    def _ports(self) -> list[Port]:
        """Where clients find the gateways: some of them through links that can be cut in the middle of a frame."""
        direct = [_always(gateway.port) for gateway in self.gateways]
        return [*direct, *direct, *direct, *(_always(front.port) for front in self.fronts)]

    async def _watch(self) -> None:
        """Note how far the publishers have come."""
        while True:
            self.publishers.sample()
            await asyncio.sleep(_SAMPLE_SECONDS)

    async def _watch_lease(self) -> None:
        """Note when the lease is taken."""
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
        except Exception:  # it is disturbed at the moment, which is noted
            return None

    async def holder(self) -> int | None:
        """Which gateway has the lease, if one says that it has."""
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
        """Whether every gateway has events of every publisher that lives."""
        living = [life.epoch for life in self.publishers.living if life.newest(MANY)]
        if len(living) < self._processes * PER_PROCESS:
            return False
        for gateway in self.gateways:
            answer = await gateway.request("GET", f"/api/v1/websocket/channels/{MANY}")
            plain = await gateway.request("GET", f"/api/v1/websocket/channels/{PLAIN}")
            if answer.status != 200 or plain.status != 200:
                return False
            position = answer.json["position"]
            if not {*living} <= {position["epoch"], *position.get("others", {})}:
                return False
        return True

    async def kill_gateway(self, place: int) -> None:
        gateway = self.gateways[place]
        gateway.kill(signal.SIGKILL)
        await gateway.exited()
        await gateway.restart()

    # -- the account ---------------------------------------------------------------------------

    async def settle(self) -> None:
        """Let nothing break any more; publish and send no more, and wait until every client's account is complete."""
        for link in (*self.buses, *self.fronts):
            link.flowing.set()
        for client in self.clients:
            client.go_on()
        await eventually(self._know_all, saying="every gateway has events of every publisher")
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await self.senders.finish()
        except TimeoutError:
            raise AssertionError(f"messages are not acknowledged: {self.senders.pending}") from None
        await eventually(self._has_holder, saying="a gateway has the lease")
        await self.plain.finish()
        self.publishers.signal(signal.SIGUSR1)
        await eventually(lambda: not self.unaccounted(), every=0.5, saying=lambda: str(self.unaccounted()[:5]))

    def faults(self) -> list[str]:
        return [fault for client in self.clients for fault in (*client.faults, *self._wrongly_again(client))]

    def _wrongly_again(self, client: Client) -> list[str]:
        """Messages without envelopes that came twice, though neither the lease nor the engine changed."""
        return [
            f"plain message {number} came again, of another source, and nothing had changed"
            for number in client.plain.again
            if not self._has_changed(number)
        ]

    def _has_changed(self, number: int) -> bool:
        """Whether the lease or the engine changed near a message without an envelope."""
        return is_near(self._truth.plain_sent[number - 1], [*self.engine_failed, *self.lease_changed])

    def traces(self) -> list[str]:
        """What came besides events to one client that lacks something, and when Redis was disturbed."""
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
        """What is missing at clients without an excuse."""
        return [*self._of_publishers()[1], *self._of_messages()[1], *self._of_plain()[1]]

    def excused(self) -> tuple[int, int, int]:
        """How many events of publishers, messages, and messages without envelopes are missing and covered by gaps."""
        return self._of_publishers()[0], self._of_messages()[0], self._of_plain()[0]

    def _of_publishers(self) -> tuple[int, list[str]]:
        excused, left, self.reported_though_held = 0, [], 0
        for number, client in enumerate(self.clients):
            for topic in TOPICS:
                for epoch, life in self.publishers.lives.items():
                    newest, held = life.newest(topic), life.held(topic)
                    source = client.source(topic, epoch)
                    lack = source.lacks(newest, held=held)
                    excused += lack.reported
                    self.reported_though_held += lack.reported_though_held
                    if lack.unaccounted:
                        left.append(
                            f"client {number} lacks {lack.unaccounted} of {topic} {epoch}, of {newest}, and {held} held: "
                            f"{source.unknown[-5:]} may be missing"
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
                left.append(f"client {number} lacks {unreported} of {PLAIN}")
            if len(changed) < len(reported):
                left.append(f"client {number} lacks {reported} of {PLAIN}, though nothing changed")
        return excused, left

    def figures(self) -> dict[str, Any]:
        """What it came to, for people."""
        events, messages, plain = self.excused()
        clients = self.clients
        return {
            "published": sum(life.newest(topic) for life in self.publishers.lives.values() for topic in TOPICS),
            "published without envelopes": len(self._truth.plain_sent),
            "lives of publishers": len(self.publishers.lives),
            "messages acknowledged": sum(
                map(len, (*self.senders.acknowledged.values(), *self.senders.personal.values()))
            ),
            "messages repeated": sum(
                one.attempts > 1
                for some in (*self.senders.acknowledged.values(), *self.senders.personal.values())
                for one in some
            ),
            "messages given again in another epoch": sum(
                len(one.again) for client in clients for one in client.messages.values()
            ),
            "checked deliveries": self.delivered(),
            "of them in event streams": sum(one.delivered for one in clients if isinstance(one, Stream)),
            "of them in pages of the history": sum(one.delivered for one in clients if isinstance(one, Reader)),
            "times that the lease was taken": len(self.lease_changed),
            "without envelopes, of two sources": sum(len(one.plain.again) for one in clients),
            "without envelopes, covered by gaps": plain,
            "connections": sum(one.connections for one in clients),
            "moves to another gateway": sum(one.moves for one in clients),
            "sessions resumed": sum(one.resumed for one in clients),
            "sessions begun anew": sum(len(one.new_sessions) for one in clients),
            "positions refused": sum(one.refused for one in clients),
            "sent again and skipped": sum(one.again for one in clients),
            "events covered by gaps": events,
            "events that publishers still had": self.reported_though_held,
            "messages covered by gaps": messages,
            "given twice or out of order": len(self.faults()) + len(self.senders.faults),
            "unaccounted": len(self.unaccounted()),
        }


def _always(port: int) -> Port:
    return lambda: port
