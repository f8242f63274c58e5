"""WebSocket clients that reconnect, each with an exact account of the events that it received."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote

import msgspec

from gateway.core.log.sources import make_position
from gateway.core.protocol.messages import Position
from tests.chaos.publisher import TOPICS
from tests.simulation.account import Account
from tests.support.raw import PING, PONG, TEXT, encode_frame
from tests.support.swarm import Bee


class Message(msgspec.Struct, rename={"from_": "from"}):
    type: str
    channel: str = ""
    offset: int = 0
    epoch: str | None = None
    data: dict[str, Any] = {}
    client_id: str = ""
    session: str = ""
    resumed: bool = False
    from_: int | None = None
    to: int | None = None
    count: int | None = None
    reason: str = ""
    positions: dict[str, Position] = {}
    recovered: dict[str, bool] = {}


decode = msgspec.json.Decoder(Message).decode


class Follower:
    """One client through all its connections; it keeps positions as docs/protocol.md says."""

    def __init__(self, port: Callable[[], int], truth: Callable[[], dict[str, dict[int, int]]], seed: int) -> None:
        self.port = port
        self.truth = truth
        self.random = random.Random(seed)
        self.positions: dict[str, Position] = {}
        self.seen: dict[tuple[str, str], int] = {}
        self.accounts = {topic: Account({}, thorough=False) for topic in TOPICS}
        self.faults: list[str] = []
        self.delivered = 0
        self.connections = 0
        self.refused = 0
        self.newest: dict[tuple[str, int], int] = {}
        self.connection: _Connection | None = None
        self.task = asyncio.get_running_loop().create_task(self._live())

    @property
    def live(self) -> bool:
        return self.connection is not None and self.connection.subscribed and not self.connection.lost

    def drop(self) -> None:
        """Lose the connection."""
        if self.connection is not None and self.connection.upgraded:
            self.connection.transport.abort()

    def pause(self) -> None:
        """Stop reading for a while."""
        if self.connection is not None and not self.connection.lost:
            self.connection.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.connection is not None and not self.connection.lost:
            self.connection.transport.resume_reading()

    def reached(self, topic: str, incarnation: int) -> int:
        return self.newest.get((topic, incarnation), 0)

    def count(self, topic: str, incarnation: int) -> int:
        """Return how many events of an incarnation were delivered."""
        return len(self.accounts[topic].delivered.get(incarnation, ()))

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.drop()

    async def _live(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            query = f"channels={','.join(TOPICS)}"
            if self.positions:
                query += f"&since={quote(msgspec.json.encode(self.positions).decode())}"
            make = partial(_Connection, self, f"/ws?{query}")
            try:
                _, self.connection = await loop.create_connection(make, "127.0.0.1", self.port())
                self.connections += 1
                await self.connection.gone
            except OSError:
                pass
            await asyncio.sleep(self.random.uniform(0.05, 0.3))

    def take(self, message: Message) -> None:
        """Update positions and account with a message, as the client of tests/simulation/world.py does."""
        if message.type == "event":
            channel, offset = message.channel, message.offset
            epoch, offsets = self._sources(message)
            if offset <= offsets.get(epoch, 0):
                self.faults.append(f"{channel}:{offset} arrived, and is not newer than {self.positions[channel]}")
            self._move(channel, epoch, {**offsets, epoch: offset})
            if offset > self.seen.get((channel, epoch), 0):
                self.seen[channel, epoch] = offset
                self.delivered += 1
                data = message.data
                self.newest[channel, data["p"]] = data["n"]
                account = self.accounts[channel]
                truth = self.truth()[channel] if account.unopened else {}
                account.deliver(epoch, offset, data, truth)
        elif message.type == "gap" and message.channel in TOPICS:
            self._gap(message)
        elif message.type == "subscribed":
            for channel, position in message.positions.items():
                if channel in TOPICS:
                    self._begin(channel, position, message.recovered)

    def _sources(self, message: Message) -> tuple[str, dict[str, int]]:
        """Return a message's source, and the offset of each live source before it."""
        known = self.positions[message.channel]
        if message.epoch is None:  # no other source is live
            return known.epoch, {known.epoch: known.offset}
        return message.epoch, known.offsets

    def _move(self, channel: str, epoch: str, offsets: dict[str, int]) -> None:
        self.positions[channel] = make_position({id_: at for id_, at in offsets.items() if at or id_ == epoch}, epoch)

    def _begin(self, channel: str, position: Position, recovered: dict[str, bool]) -> None:
        account = self.accounts[channel]
        if not recovered.get(channel, True):
            self.refused += 1
            if set(position.offsets.values()) == {0}:
                account.unopened = True  # nothing was received: the publishers may be older
        elif channel not in self.positions:
            account.begin(position, self.truth()[channel])
        self.positions[channel] = position

    def _gap(self, message: Message) -> None:
        channel = message.channel
        epoch, offsets = self._sources(message)
        reported = {"from": message.from_, "to": message.to, "count": message.count}
        unknown = message.from_ is None or message.to is None
        truth = self.truth()[channel] if unknown else {}
        self.accounts[channel].gap(epoch, {**reported, "reason": message.reason}, truth)
        reached = message.to
        if reached is None:  # the source ended
            offsets.pop(epoch, None)
            known = self.positions[channel].epoch
            epoch, reached = known if known in offsets else next(iter(offsets), ""), 0
        reached = max(reached, offsets.get(epoch, 0))
        self.seen[channel, epoch] = max(reached, self.seen.get((channel, epoch), 0))
        self._move(channel, epoch, {**offsets, epoch: reached})


class _Connection(Bee):
    """One connection of a follower."""

    def __init__(self, follower: Follower, path: str) -> None:
        super().__init__("127.0.0.1", path)
        self.follower = follower
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if not self.gone.done():
            self.gone.set_result(None)

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            message = decode(payload)
            self.subscribed |= message.type == "subscribed"
            try:
                self.follower.take(message)
            except AssertionError as fault:
                self.follower.faults.append(str(fault))
        elif opcode == PING:
            self.transport.write(encode_frame(PONG, payload))
        elif not self.transport.is_closing():
            self.transport.close()
