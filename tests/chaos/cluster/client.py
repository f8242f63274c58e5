"""A client that moves from gateway to gateway, with an account of every source of every channel that it subscribes to."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.core.protocol.messages import Position
from tests.chaos.cluster.account import ALL, Messages, Plain, Source
from tests.chaos.cluster.publishers import TOPICS, Publishers
from tests.chaos.follower import Message


CHATS = ["chat.a", "chat.b"]
PLAIN = "chaos.plain"
"""The channel of a publisher without envelopes."""
EVERYONE, PERSONAL = "$everyone", "$personal"
ENGINE_CHANNELS = [*CHATS, EVERYONE, PERSONAL]
CHANNELS = [*TOPICS, *CHATS, PLAIN]
STAY_SECONDS = 12.0
ANSWER_SECONDS = 4.0
"""A client that gets no answer for this long tries another gateway."""
_TRACE_MAX = 40
Port = Callable[[], int]


@dataclass(slots=True)
class Truth:
    """What was really published, for all clients."""

    publishers: Publishers
    places: dict[tuple[str, str, int], int] = field(default_factory=dict)
    """The number of the message at each channel, epoch and offset; it must be the same on every gateway."""
    plain_sent: list[float] = field(default_factory=list)
    """When each message without an envelope was published; the first one is number 1."""


class Client:
    """One client through all its connections, each to a random gateway; it keeps positions as docs/protocol.md says."""

    engine_channels: Collection[str] = ENGINE_CHANNELS
    """The channels numbered by the engine that it subscribes to."""

    def __init__(self, ports: Sequence[Port], truth: Truth, seed: int) -> None:
        self.random = random.Random(seed)
        self.positions: dict[str, tuple[str, dict[str, int]]] = {}
        """By channel: the source of the newest event, and the newest offset of each source."""
        self.sources: dict[tuple[str, str], Source] = {}
        self.messages = {channel: Messages() for channel in self.engine_channels}
        self.plain = Plain()
        self.faults: list[str] = []
        self.delivered = self.connections = self.resumed = self.moves = self.again = self.refused = 0
        self.client_id = self.session = ""
        self.new_sessions: list[float] = []
        """When a gateway gave it a new session instead of the one that it asked to resume."""
        self.trace: deque[str] = deque(maxlen=_TRACE_MAX)
        """What it received besides events, newest last."""
        self._ports = ports
        self._truth = truth
        self._heard: dict[str, float] = {}
        """By channel, when it last received anything, also the answer that there is no event."""
        self._forgotten: set[tuple[str, str]] = set()
        """Sources that a gap or an answer has reported as unknown: the gateway may send them from their beginning."""
        self.task = asyncio.get_running_loop().create_task(self._live())

    @property
    def ready(self) -> bool:
        """Whether it has connected once: from then on every event must be delivered or reported."""
        return bool(self.connections)

    def drop(self) -> None:
        """Lose the connection."""

    def pause(self) -> None:
        """Stop reading for a while."""

    def resume_reading(self) -> None:
        """Read again."""

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.drop()

    def source(self, channel: str, epoch: str) -> Source:
        found = self.sources.get((channel, epoch))
        if found is None:
            found = self.sources[channel, epoch] = Source()
        return found

    async def _live(self) -> None:
        at = None
        while True:
            port = self.random.choice(self._ports)
            self.moves += at is not None and port is not at
            at = port
            with contextlib.suppress(OSError, TimeoutError):
                await self._visit(port())
            await asyncio.sleep(self.random.uniform(0.05, 0.3))

    async def _visit(self, port: int) -> None:
        """Receive from one gateway for a while. It may raise OSError or TimeoutError."""
        raise NotImplementedError

    def _note(self, text: str) -> None:
        self.trace.append(f"{time.monotonic():.3f} {text}")

    # -- messages received ---------------------------------------------------------------------

    def take(self, message: Message) -> None:
        if message.type != "event":
            self._note(_short(message))
        match message.type:
            case "event":
                self._event(message)
            case "gap":
                self._gap(message)
            case "subscribed":
                for channel, position in message.positions.items():
                    self._begin(channel, position, recovered=message.recovered.get(channel, True))
            case "connected":
                if self.session and not message.resumed:
                    self.new_sessions.append(time.monotonic())
                    self.positions.pop(PERSONAL, None)
                    self.sources = {place: one for place, one in self.sources.items() if place[0] != PERSONAL}
                self.resumed += message.resumed
                self.client_id, self.session = message.client_id, message.session
            case "error" | "warning":
                self.faults.append(str(message))

    def _event(self, message: Message) -> None:
        channel, offset = message.channel, message.offset
        epoch, offsets = self._place(message)
        if offset <= offsets.get(epoch, 0):
            self.faults.append(f"{channel} {epoch}:{offset} arrived, and is not newer than the position {offsets}")
            return
        offsets[epoch] = offset
        self._hear(channel)
        source = self.source(channel, epoch)
        if offset <= source.last:
            self.again += 1
            if (channel, epoch) not in self._forgotten:
                self.faults.append(f"{channel} {epoch}:{offset} was delivered again, after {source.last}")
            return
        if offset > source.last + 1:
            self._note(f"{channel} {epoch}:{offset} arrived after {source.last}")
        source.deliver(offset)
        self.delivered += 1
        data = message.data
        number = data["n"]
        if channel in TOPICS:
            if number != offset or data["p"] != int(epoch, 16):
                self.faults.append(f"{channel} {epoch}:{offset} has the data {data}, which is another event's")
            return
        if channel != PERSONAL and self._truth.places.setdefault((channel, epoch, offset), number) != number:
            self.faults.append(f"{channel} {epoch}:{offset} is message {number} here, and another message elsewhere")
        if channel == PLAIN:
            self.plain.deliver(number, epoch)
        else:  # a new session numbers its messages from 1, also in the same epoch
            self.messages[channel].deliver(number, f"{epoch} {self.client_id}" if channel == PERSONAL else epoch)

    def _place(self, message: Message) -> tuple[str, dict[str, int]]:
        """Return a message's source, and the offset of each live source, which the caller updates."""
        epoch, offsets = self.positions.get(message.channel, ("", {}))
        if message.epoch is not None:
            epoch = message.epoch
        elif len(offsets) > 1:  # no other source is live
            self._forgotten.update((message.channel, one) for one in offsets if one != epoch)
            offsets = {epoch: offsets.get(epoch, 0)}
        self.positions[message.channel] = epoch, offsets
        return epoch, offsets

    def _begin(self, channel: str, position: Position, *, recovered: bool) -> None:
        self.refused += not recovered
        self._heard.setdefault(channel, time.monotonic())
        before = self.positions.get(channel)
        if before is None and not any(one == channel for one, _ in self.sources):
            for epoch, offset in position.offsets.items():
                self.sources[channel, epoch] = Source(offset)
            if channel in TOPICS:  # the position leaves out publishers that the gateway considers silent now
                for epoch in self._truth.publishers.incarnations.keys() - position.offsets.keys():
                    self.source(channel, epoch).begun = self._newest(channel, epoch)
            if channel == PLAIN:
                self.plain.begin(len(self._truth.plain_sent))
        elif before is not None:
            self._forgotten.update((channel, one) for one in before[1] if one not in position.offsets)
        self.positions[channel] = position.epoch, dict(position.offsets)

    def _gap(self, message: Message) -> None:
        channel, first, last = message.channel, message.from_, message.to
        known, _ = self.positions.get(channel, ("", {}))
        epoch, offsets = self._place(message)
        source = self.source(channel, epoch)
        if message.reason == "filtered":  # it names the source, and nothing is missing
            source.pass_over(last or 0)
            offsets[epoch] = max(last or 0, offsets.get(epoch, 0))
            return
        if channel == PLAIN:
            self.plain.report()
        if channel in self.messages:
            messages = self.messages[channel]
            if message.reason == "epoch":
                messages.epoch_gaps.append((time.monotonic(), epoch))
            else:
                messages.reported += message.count or 0
        if last is None:  # the source ended, or this gateway does not know it
            if message.count != 0:
                source.report_unknown(self._newest(channel, epoch), due=self._due(channel, epoch))
            offsets.pop(epoch, None)
            self._forgotten.add((channel, epoch))
            self.positions[channel] = known if known in offsets else next(iter(offsets), ""), offsets
            return
        if first is None:
            of_publishers = self._truth.publishers.incarnations if channel in TOPICS else ()
            for other in {*of_publishers, *(one for at, one in self.sources if at == channel)} - {epoch}:
                due = self._due(channel, other)
                self.source(channel, other).report_unknown(self._newest(channel, other), due=due)
        source.report(first or 1, last)
        offsets[epoch] = max(last, offsets.get(epoch, 0))

    def _newest(self, channel: str, epoch: str) -> int:
        return self._truth.publishers.newest(channel, epoch) if channel in TOPICS else ALL

    def _hear(self, channel: str) -> None:
        """Record that it has received everything up to now."""
        self._heard[channel] = time.monotonic()

    def _due(self, channel: str, epoch: str) -> int:
        incarnation = self._truth.publishers.incarnations.get(epoch)
        return ALL if incarnation is None else incarnation.due(channel, self._heard.get(channel, time.monotonic()))


class Connection(Protocol):
    """One open connection of a client."""

    transport: asyncio.Transport
    answered: asyncio.Event
    """Set when the client is subscribed, or the connection is lost."""
    gone: asyncio.Event
    subscribed: bool


class ConnectedClient(Client):
    """A client that keeps a connection open; `_make_connection` returns the factory for its protocol."""

    connection: Connection | None = None

    def drop(self) -> None:
        if self.connection is not None:
            self.connection.transport.abort()

    def pause(self) -> None:
        if self.connection is not None and not self.connection.gone.is_set():
            self.connection.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.connection is not None and not self.connection.gone.is_set():
            self.connection.transport.resume_reading()

    def _make_connection(self, port: int) -> Callable[[], Any]:
        raise NotImplementedError

    async def _visit(self, port: int) -> None:
        connection: Connection | None = None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                make = self._make_connection(port)
                _, connection = await asyncio.get_running_loop().create_connection(make, "127.0.0.1", port)
                self.connection = connection
                await connection.answered.wait()
            self.connections += connection.subscribed
            async with asyncio.timeout(self.random.expovariate(1 / STAY_SECONDS)):
                await connection.gone.wait()
        finally:
            if connection is not None:
                connection.transport.abort()


def _short(message: Message) -> str:
    match message.type:
        case "gap":
            return (
                f"gap {message.channel} {message.epoch} {message.from_} {message.to} {message.count} {message.reason}"
            )
        case "subscribed":
            places = {channel: one.offsets for channel, one in message.positions.items() if channel not in TOPICS}
            return f"subscribed {places}, recovered {message.recovered}"
        case "connected":
            return f"connected {message.client_id}, resumed {message.resumed}"
    return message.type
