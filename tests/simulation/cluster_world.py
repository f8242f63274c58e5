"""Worlds whose gateways are a cluster: real `Cluster`s, and an engine that fails, partitions and loses its last writes.

Clients move between up to three gateways with their sessions and positions. Their accounts include messages to everyone
and to one client. In some worlds a publisher sends no envelopes, and the gateway with the lease has its events numbered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Sequence
from typing import Any, Literal

import msgspec

from gateway.cluster.cluster import Cluster
from gateway.cluster.engine import EngineUnavailable
from gateway.config.model import Cluster as Settings
from gateway.core.cluster.members import OwnFigures
from gateway.core.protocol.channels import EVERYONE, PERSONAL
from gateway.core.protocol.errors import RequestError
from gateway.core.protocol.messages import Broadcast, Position, ViewOptions
from gateway.core.sessions.broadcast import Broadcaster, Sender
from gateway.core.sessions.requests import ConnectRequest
from gateway.core.sessions.session import Session
from tests.simulation.account import Account
from tests.simulation.engine_server import Server
from tests.simulation.processes import Loop, Process
from tests.simulation.raw_account import RawAccount
from tests.simulation.world import TOPICS, Client, Gateway, Publisher, World
from tests.support.core import SECOND, Core, open_identity


MESSAGES = [EVERYONE, PERSONAL]
NEWS = "news"
"""A channel on which clients publish."""
OF_ENGINE = [NEWS, *MESSAGES]
RAW = "raw"
"""The channel of a publisher without envelopes; clients publish on it, too."""


class RawPublisher(Publisher):
    """A publisher without envelopes. It reaches all gateways: nobody can notice a message that none received."""

    world: ClusterWorld

    def __init__(self, world: World) -> None:
        self.newest = 0
        super().__init__(world, RAW, [RAW], sends_heartbeats=False)

    def begin(self) -> None:
        self.incarnation, self.kept = 0, {}

    def publish(self, topic: str, count: int) -> None:
        for _ in range(count):
            self.newest += 1
            for gateway in self.world.gateways:
                gateway.arriving.append([topic.encode(), b'{"event_type":"x","data":{"r":%d}}' % self.newest])


class ClusterGateway(Gateway):
    """A gateway that is a member of the cluster; after a restart it is a new process with a new id."""

    world: ClusterWorld
    cluster: Cluster | None = None

    def begin(self) -> None:
        self.process = Process()
        self.stopped = self.ready = False
        self.cluster = None
        with self.process.running():
            super().begin()
            self.joining = self.world.task(self._join())

    @property
    def acts(self) -> bool:
        return self.ready and not self.stopped

    def stop(self) -> None:
        """Stop the process, as SIGSTOP does, until `continue_`."""
        self.stopped = True
        self.world.loop.stop_process(self.process)

    def continue_(self) -> None:
        self.stopped = False
        self.world.loop.continue_process(self.process)

    def receive(self, most: int) -> None:
        if not self.stopped and self.cluster is not None:  # a gateway reads the bus only after it has joined
            with self.process.running():
                super().receive(most)

    def expire(self) -> None:
        if not self.stopped:
            with self.process.running():
                super().expire()

    def write(self) -> None:
        if not self.stopped:
            super().write()

    def flush(self) -> None:
        if not self.stopped:
            super().flush()

    def _receive(self, frames: list[bytes]) -> None:
        if frames[0] != RAW.encode():
            super()._receive(frames)

    @property
    def has_lease(self) -> bool:
        numbering = None if self.cluster is None else self.cluster.numbering
        return numbering is not None and numbering.lease.state == "holding"

    @property
    def is_up(self) -> bool:
        return self.cluster is not None and self.cluster.engine.up

    async def _join(self) -> None:
        settings = Settings(
            url="redis://engine",
            name=self.name,
            ttl_seconds=self.world.ttl_seconds,
            timeout_seconds=1.0,
            numbering=self.world.numbering,
        )
        broadcaster = Broadcaster(self.hub, self.hub.pipeline)
        own = lambda: OwnFigures(self.name, len(self.hub.sessions), 0, ready=self.ready)  # noqa: E731
        self.cluster = cluster = Cluster(settings, self.hub, self.hub.pipeline, broadcaster, own=own, away_seconds=0.0)
        hub = self.hub
        cluster.sessions.let_go = lambda session: self._let_go(hub, session)
        await cluster.start()
        self.ready = True

    def end(self, *, killed: bool) -> None:
        self.joining.cancel()
        cluster = self.cluster
        if cluster is None:
            return
        if killed:
            for task in [*cluster._tasks._tasks, cluster.engine._task]:
                if task is not None:
                    task.cancel()
        else:
            with self.process.running():
                self.world.start(cluster.close())

    async def _let_go(self, hub: Core, session: Session) -> None:
        for client in self.world.clients:
            if client.session is session and client.gateway is self:
                client.gateway = None
        if session.client_id in hub.sessions:
            hub.disconnect(session, code=4500, seconds=1, now_ns=self.world.now_ns, remember=False)
        else:
            hub.store.drop(session)


class ClusterClient(Client):
    """A client that also sends the secret of its session to resume it."""

    channels: Sequence[str] = (*TOPICS, NEWS, RAW)
    world: ClusterWorld
    gateway: ClusterGateway | None

    def __init__(self, world: ClusterWorld, name: str) -> None:
        super().__init__(world, name)
        self.connecting: asyncio.Task[None] | None = None
        self.secret: str | None = None
        self.client_id = ""
        self.messages: set[tuple[str, int]] = set()
        self._written_by: object = None
        self.named: set[str] = set()
        self.raw_account = RawAccount(world.raw_places)

    @property
    def is_idle(self) -> bool:
        return self.connecting is None or self.connecting.done()

    def connect(self, gateway: Gateway) -> None:
        assert isinstance(gateway, ClusterGateway)
        self.connecting = self.world.task(self._connect(gateway))

    async def _connect(self, gateway: ClusterGateway) -> None:
        """Connect as `gateway.web.admission` does."""
        gateway.process.enter()
        self.epoch_number += 1
        id_ = f"{self.name}.{self.epoch_number}"
        request = ConnectRequest(
            client_id=id_,
            secret=f"secret-{id_}",
            identity=open_identity(),
            session=self.secret,
            channels=self.patterns,
            since=dict(self.positions),
            options=ViewOptions(self.options.get("filter"), self.options.get("rate")),
        )
        hub = gateway.hub
        assert gateway.cluster is not None
        await gateway.cluster.sessions.take(request)
        held = hub.attached(request, now_ns=self.world.now_ns)
        if held is not None:
            hub.disconnect(held, code=4500, seconds=1, now_ns=self.world.now_ns)
        if gateway.hub is not hub:
            return  # the gateway was restarted meanwhile
        self.gateway, self._written_by = gateway, request
        self.named = set(self.positions)
        self.session = hub.connect(request, self._reader, now_ns=self.world.now_ns)

    @property
    def acts(self) -> bool:
        """Whether it is connected to a gateway that is running."""
        return self.gateway is not None and self.gateway.acts

    def disconnect(self, *, flushed: bool = False) -> None:
        if self.gateway is not None and self.gateway.stopped:
            self.leave()
            return
        super().disconnect(flushed=flushed)
        self._written_by = None

    def read_on(self) -> None:
        if self.gateway is None or not self.gateway.stopped:
            super().read_on()

    def leave(self) -> None:
        """Lose the connection without the gateway noticing."""
        self.gateway, self._written_by = None, None
        self.writing_paused = False
        self._made = None

    def _reader(self) -> Any:
        assert self.gateway is not None
        connection = self._written_by

        def write(data: bytes) -> None:
            if self._written_by is connection:
                self._write(data)

        return self.make_reader(self.gateway.hub.fanout, write)

    def answer_ping(self) -> None:
        """Answer a ping."""
        assert self.gateway is not None
        session, hub = self.session, self.gateway.hub
        session.on_ping(b"7", hub.heads())
        hub.on_pong(session, b"7")

    def _receive(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "connected":
            self.world.say(f"  {self.name} {message['client_id']} {'resumed' if message['resumed'] else 'new'}")
            self._begin_session(message)
        super()._receive(message)
        if message.get("channel") in MESSAGES and kind in {"event", "gap"}:
            self._take(message)
        elif kind == "pong":
            self._replace(message["positions"])

    def _begin_session(self, message: dict[str, Any]) -> None:
        self.secret = message["session"]
        if not message["resumed"]:
            self.accounts.pop(PERSONAL, None)
            self.positions.pop(PERSONAL, None)
            self.seen = {key: at for key, at in self.seen.items() if key[0] != PERSONAL}
            self.client_id = message["client_id"]
            if EVERYONE not in self.named:
                self.accounts.pop(EVERYONE, None)  # the new session knows no source: begin a new account
                self._account(EVERYONE).excuse_everything(self.world.truth[EVERYONE])
        for name in MESSAGES:
            self._account(name).unopened = False

    def _take(self, message: dict[str, Any]) -> None:
        channel = message["channel"]
        if channel in MESSAGES and "epoch" not in message and channel not in self.positions:
            # Without a subscription the client has no positions to send; its session has this one.
            epoch = self.world.epoch_of(self._name_of(channel), message["offset"], message["data"]["m"])
            if message["offset"] > self.seen.get((channel, epoch), 0):
                self.seen[channel, epoch] = message["offset"]
                data = self._data_of(message, epoch)
                self._account(channel).deliver(epoch, message["offset"], data, self.truth_of(channel))
        else:
            super()._take(message)

    def _replace(self, positions: dict[str, Any]) -> None:
        for channel, place in positions.items():
            if channel in self.channels or channel in MESSAGES:
                self.positions[channel] = msgspec.convert(place, Position)

    def _begin(self, message: dict[str, Any]) -> None:
        super()._begin(message)
        self._replace({name: place for name, place in message["positions"].items() if name in MESSAGES})

    def _account(self, channel: str) -> Account:
        if channel in MESSAGES and channel not in self.accounts:
            self.accounts[channel] = Account({})
        if channel == RAW:
            return self.raw_account  # type: ignore[return-value]
        return super()._account(channel)

    def truth_of(self, channel: str) -> dict[int, int]:
        return self.world.truth.setdefault(self._name_of(channel), {})

    def running_source(self, channel: str) -> set[int]:
        """Return the source that currently numbers a channel, as a set."""
        name = f"personal:{self.client_id}" if channel == PERSONAL else f"channel:{channel}"
        stream = self.world.server.data.streams.get(name)
        return set() if stream is None else {int(stream.entries[-1][1]["epoch"], 16)}

    def _name_of(self, channel: str) -> str:
        return self.client_id if channel == PERSONAL else channel

    def _data_of(self, message: dict[str, Any], epoch: str) -> dict[str, int]:
        channel = message["channel"]
        if channel == RAW:
            return self._raw_data_of(message, epoch)
        if channel not in OF_ENGINE:
            return super()._data_of(message, epoch)
        number, offset = message["data"]["m"], message["offset"]
        sent = epoch, number
        key = self._name_of(channel), epoch, offset
        assert self.world.numbered.get(key) == number, f"message {number} was delivered at {key}, which is another one"
        assert sent not in self.messages, f"message {number} was delivered twice"
        self.messages.add(sent)
        return {"p": int(epoch, 16), "n": offset}

    def subscribe(self, patterns: list[str], **options: Any) -> None:
        self.raw_account.has_rate = "rate" in options
        super().subscribe(patterns, **options)

    def _raw_data_of(self, message: dict[str, Any], epoch: str) -> dict[str, int]:
        data: dict[str, int] = message["data"]
        place, is_own = (epoch, message["offset"]), len(epoch) != 16
        known = self.world.raw_places.setdefault(place, data) if is_own else self.world.raw_places.get(place)
        assert known == data, f"the event at {place} is {known}, and was delivered as {data}"
        if "m" in data:
            sent = epoch, data["m"]
            assert sent not in self.messages, f"message {data} was delivered twice"
            self.messages.add(sent)
        return data


class ClusterWorld(World):
    def __init__(self, seed: int) -> None:
        self.loop = Loop(lambda: self.now_ns)
        self.loop.set_exception_handler(lambda _loop, context: self.faults.append(f"{context.get('exception')!r}"))
        self.numbered: dict[tuple[str, str, int], int] = {}
        """The number of each message to everyone or to one client, by channel or client, epoch and offset."""
        self.of_old_primary: set[tuple[str, int]] = set()
        """Sources, by channel, that continued at a replaced primary: only clients of its gateways receive their events."""
        self.raw_places: dict[tuple[str, int], dict[str, int]] = {}
        """The data of each event on `RAW`, by source and offset."""
        self._raw_newest: dict[str, int] = {}
        self._raw_sources: dict[str, str] = {}
        """The source of each lease."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.sent = 0
        self.failed: list[tuple[Broadcast, bytes]] = []
        """Messages whose sending failed: the engine may or may not have them."""
        super().__init__(seed)
        self.raw = RawPublisher(self)
        if self.numbering == "one":
            self.publishers.append(self.raw)

    def _make_gateways(self) -> list[Gateway]:
        self.ttl_seconds = self.random.choice([1.5, 10.0])
        self.numbering: Literal["each", "one"] = self.random.choice(["each", "one"])
        self.server = Server(self.random, lambda: self.now_ns)
        self.server.on_numbered = self._on_numbered
        self.truth |= {EVERYONE: {}, NEWS: {}}
        return [ClusterGateway(self, name) for name in "ghi"[: self.random.choice([2, 2, 3])]]

    def _make_client(self, name: str) -> Client:
        return ClusterClient(self, name)

    def _on_numbered(self, channel: str, epoch: str, offset: int, event: bytes, lease: str) -> None:
        data = json.loads(b"{%b}" % event)["data"]
        self.say(f"  engine: {channel} {epoch}:{offset} is {data}")
        if channel == RAW:
            self._note_raw(epoch, offset, data, lease)
        if "m" in data:
            self.truth.setdefault(channel, {})[int(epoch, 16)] = offset
            self.numbered[channel, epoch, offset] = data["m"]
            if self.server.old is not None and not self.server.data.has(channel, epoch, offset):
                self.of_old_primary.add((channel, int(epoch, 16)))

    def _note_raw(self, epoch: str, offset: int, data: dict[str, int], lease: str) -> None:
        self.raw_places[epoch, offset] = data
        if lease and self._raw_sources.setdefault(lease, epoch) != epoch:
            self.faults.append(f"under the lease {lease}, events were numbered by two sources, one of them {epoch}")
        if "r" in data:
            if data["r"] <= self._raw_newest.get(epoch, 0):
                self.faults.append(f"{data} was numbered twice in {epoch}")
            self._raw_newest[epoch] = data["r"]

    def epoch_of(self, channel: str, offset: int, message: int) -> str:
        return next(
            key[1]
            for key, number in reversed(self.numbered.items())
            if (key[0], key[2], number) == (channel, offset, message)
        )

    def start(self, coroutine: Coroutine[None, None, None]) -> None:
        self._tasks.add(self.task(coroutine))

    def task(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._end_task)
        return task

    def _end_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.faults.append(f"{type(error).__name__}: {error}")

    @property
    def cluster_gateways(self) -> list[ClusterGateway]:
        return [gateway for gateway in self.gateways if isinstance(gateway, ClusterGateway)]

    def broadcast(self, gateway: ClusterGateway, to: str) -> None:
        """Send a message to a channel or to a client."""
        self.sent += 1
        fields = b'"event_type":"x","data":{"m":%d}' % self.sent
        message = Broadcast(
            event=msgspec.Raw(b"{%b}" % fields),
            channel=to if to in {NEWS, RAW} else None,
            client_id=None if to in {RAW, *OF_ENGINE} else to,
            everyone=to == EVERYONE,
            idempotency_key=f"k{self.sent}" if self.random.random() < 0.5 else None,
        )
        with gateway.process.running():
            self.start(self._broadcast(gateway, message, fields))

    def repeat_broadcast(self, gateway: ClusterGateway) -> None:
        message, fields = self.failed.pop(self.random.randrange(len(self.failed)))
        with gateway.process.running():
            self.start(self._broadcast(gateway, message, fields))

    async def _broadcast(self, gateway: ClusterGateway, message: Broadcast, fields: bytes) -> None:
        assert gateway.cluster is not None
        try:
            result = await gateway.cluster.broadcast(message, Sender(open_identity()))
        except RequestError as error:
            self.say(f"  {fields.decode()} failed: {error}")
            if message.idempotency_key and isinstance(error, EngineUnavailable) and error.sent:
                self.failed.append((message, fields))
            return
        self.say(f"  {fields.decode()} was sent: {result.position or result.recipients}")
        if result.position is not None:
            number = self.numbered.get((result.channel, result.position.epoch, result.position.offset))
            if not fields.endswith(b":%d}" % (number or 0)):
                self.faults.append(f"{fields!r} was acknowledged at {result.position}, which is message {number}")

    # -- what the schedule calls ---------------------------------------------------------------

    def run_due(self) -> None:
        self.loop.run_due()
        self.server.links = [link for link in self.server.links if not (link.is_broken or link.is_closed)]

    def heal(self) -> None:
        super().heal()
        for gateway in self.cluster_gateways:
            gateway.continue_()
        self.server.end_partition()
        self.server.stop_old_primary()
        self.server.loss = self.server.delay = 0.0
        if not self.server.up:
            self.server.start(self.server.data)
        for _ in range(14 if self.numbering == "each" else 26):
            self.now_ns += SECOND // 2
            self.run_due()
        for gateway in self.cluster_gateways:
            assert gateway.ready, f"gateway {gateway.name} has not joined the cluster"
            assert gateway.cluster is not None
            assert gateway.cluster.engine.up, (
                f"gateway {gateway.name} does not reach the engine: {gateway.cluster.engine.problem}"
            )
        for client in self.clients:
            if client.gateway is None:
                client.connect(self.random.choice(self.gateways))
        self.run_due()
        attached = [id_ for gateway in self.gateways for id_ in gateway.hub.sessions]
        assert len(attached) == len(set(attached)), f"a client is attached at two gateways: {attached}"
        for gateway in self.cluster_gateways:
            for session in list(gateway.hub.sessions.values()):
                if not any(client.session is session for client in self.clients):  # no client answers its pings
                    gateway.hub.disconnect(session, code=4001, seconds=1, now_ns=self.now_ns)
        while self.failed:
            self.repeat_broadcast(self.cluster_gateways[0])
        self.broadcast(self.cluster_gateways[0], EVERYONE)
        self.broadcast(self.cluster_gateways[0], NEWS)
        for client in self.clients:
            assert isinstance(client, ClusterClient)
            self.broadcast(self.cluster_gateways[0], client.client_id)
        self.run_due()
        for client in self.clients:
            assert isinstance(client, ClusterClient)
            client.answer_ping()  # the gateway then saves the session, and finds messages that the inbox has dropped
        self.now_ns += SECOND
        self.run_due()

    def check(self) -> None:
        if self.numbering == "one":
            self._check_raw()
        for client in self.clients:
            assert isinstance(client, ClusterClient)
            for channel in OF_ENGINE:
                if channel == NEWS and NEWS not in client.accounts:
                    continue
                account, truth = client._account(channel), client.truth_of(channel)
                running = client.running_source(channel)
                for source in truth.keys() - running:
                    if account.knows(source) or (client._name_of(channel), source) in self.of_old_primary:
                        account.excuse_end(source, running)
                missing = {epoch: found for epoch, newest in truth.items() if (found := account.missing(epoch, newest))}
                assert not missing, f"{client.name} lacks {missing} on {channel}, and no gap reports them"

    def _check_raw(self) -> None:
        states = sorted(gateway.cluster.numbering.lease.state for gateway in self.cluster_gateways)  # type: ignore[union-attr]
        assert states == sorted(["holding", *["following"] * (len(states) - 1)]), (
            f"not exactly one gateway has the lease: {states}"
        )
        for client in self.clients:
            assert isinstance(client, ClusterClient)
            if {RAW, "*"} & set(client.patterns):
                newest = client.raw_account.newest
                assert not client.raw_account.owed, client.raw_account.owed
                assert newest == self.raw.newest, f"{client.name} has event {newest} of {RAW}, not {self.raw.newest}"

    def end(self) -> None:
        self.loop.end()
