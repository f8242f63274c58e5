"""Clients that go from gateway to gateway, each with an account of every source of every channel."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from gateway.core.protocol.messages import Position
from tests.chaos.cluster.account import Messages, Source
from tests.chaos.cluster.publishers import TOPICS, Publishers
from tests.chaos.follower import Message, decode
from tests.support.raw import PING, PONG, TEXT, encode_frame
from tests.support.swarm import Bee


CHATS = ["chat.a", "chat.b"]
EVERYONE, PERSONAL = "$everyone", "$personal"
ENGINE_CHANNELS = [*CHATS, EVERYONE, PERSONAL]
_CHANNELS = ",".join([*TOPICS, *CHATS])
_STAY_SECONDS = 12.0
_ANSWER_SECONDS = 4.0
"""A gateway that has not answered for so long is left for another one."""
_TRACE_MAX = 40
Places = dict[tuple[str, str, int], int]


class Wanderer:
    """One client through all its connections, each to a gateway of chance; it keeps positions as docs/protocol.md says.

    `places` is what all clients have in common: which message has which number, on every gateway."""

    def __init__(self, ports: Sequence[Callable[[], int]], publishers: Publishers, places: Places, seed: int) -> None:
        self.random = random.Random(seed)
        self.positions: dict[str, tuple[str, dict[str, int]]] = {}
        """By channel, the source of the newest event and how far each source has come."""
        self.sources: dict[tuple[str, str], Source] = {}
        self.messages = {channel: Messages() for channel in ENGINE_CHANNELS}
        self.faults: list[str] = []
        self.delivered = self.connections = self.resumed = self.moves = self.again = self.refused = 0
        self.client_id = self.session = ""
        self.new_sessions: list[float] = []
        """When it got another session than the one it brought."""
        self.trace: deque[str] = deque(maxlen=_TRACE_MAX)
        """What came besides events, newest last."""
        self.wire: Wire | None = None
        self._ports = ports
        self._publishers = publishers
        self._places = places
        self._forgotten: set[tuple[str, str]] = set()
        """Sources that a gap or an answer has named as unknown: they may come from their beginning."""
        self.task = asyncio.get_running_loop().create_task(self._live())

    @property
    def live(self) -> bool:
        return self.wire is not None and self.wire.subscribed and not self.wire.lost

    def drop(self) -> None:
        """Lose the connection."""
        if self.wire is not None and self.wire.upgraded:
            self.wire.transport.abort()

    def pause(self) -> None:
        """Stop reading for a while."""
        if self.wire is not None and not self.wire.lost:
            self.wire.transport.pause_reading()

    def go_on(self) -> None:
        if self.wire is not None and not self.wire.lost:
            self.wire.transport.resume_reading()

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.drop()

    def source(self, channel: str, epoch: str) -> Source:
        found = self.sources.get((channel, epoch))
        if found is None:
            found = self.sources[channel, epoch] = Source()
        return found

    # -- its connections -----------------------------------------------------------------------

    async def _live(self) -> None:
        loop = asyncio.get_running_loop()
        at = None
        while True:
            port = self.random.choice(self._ports)
            self.moves += at is not None and port is not at
            at = port
            query = self.query()
            make = partial(Wire, self, query)
            wire = None
            try:
                self.trace.append(f"{time.monotonic():.3f} to {port()} {unquote(query)}")
                async with asyncio.timeout(_ANSWER_SECONDS):
                    _, wire = await loop.create_connection(make, "127.0.0.1", port())
                    self.wire = wire
                    await wire.answered.wait()
                self.connections += wire.subscribed
                async with asyncio.timeout(self.random.expovariate(1 / _STAY_SECONDS)):
                    await wire.gone.wait()
            except (OSError, TimeoutError):
                pass
            finally:
                if wire is not None:
                    wire.transport.abort()
            await asyncio.sleep(self.random.uniform(0.05, 0.3))

    def query(self) -> str:
        found = f"channels={_CHANNELS}"
        if self.positions:
            since = {channel: _position(*place) for channel, place in self.positions.items()}
            found += f"&since={quote(msgspec.json.encode(since).decode())}"
        return found + (f"&session={self.session}" if self.session else "")

    # -- what comes ----------------------------------------------------------------------------

    def take(self, message: Message) -> None:
        if message.type != "event":
            self.trace.append(f"{time.monotonic():.3f} {_short(message)}")
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
                self.resumed += message.resumed
                self.client_id, self.session = message.client_id, message.session
            case "error" | "warning":
                self.faults.append(str(message))

    def _event(self, message: Message) -> None:
        channel, offset = message.channel, message.offset
        epoch, offsets = self._place(message)
        if offset <= offsets.get(epoch, 0):
            self.faults.append(f"{channel} {epoch}:{offset} is behind {offsets}")
            return
        offsets[epoch] = offset
        source = self.source(channel, epoch)
        if offset <= source.last:
            self.again += 1
            if (channel, epoch) not in self._forgotten:
                self.faults.append(f"{channel} {epoch}:{offset} came again, behind {source.last}")
            return
        if offset > source.last + 1:
            self.trace.append(f"{time.monotonic():.3f} {channel} {epoch}:{offset} came behind {source.last}")
        source.deliver(offset)
        self.delivered += 1
        data = message.data
        number = data["n"]
        if channel in TOPICS:
            if number != offset or data["p"] != int(epoch, 16):
                self.faults.append(f"{channel} {epoch}:{offset} is the event {data}")
            return
        if channel != PERSONAL and self._places.setdefault((channel, epoch, offset), number) != number:
            self.faults.append(f"{channel} {epoch}:{offset} stands for two messages, one of them {number}")
        self.messages[channel].deliver(number, epoch)

    def _place(self, message: Message) -> tuple[str, dict[str, int]]:
        """Return a message's source, and how far each live one has come, to be changed."""
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
        before = self.positions.get(channel)
        if before is None and not any(one == channel for one, _ in self.sources):
            for epoch, offset in position.offsets.items():
                self.sources[channel, epoch] = Source(offset)
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
        if channel in self.messages:
            messages = self.messages[channel]
            if message.reason == "epoch":
                messages.epoch_gaps.append((time.monotonic(), epoch))
            else:
                messages.reported += message.count or 0
        if last is None:  # the source ended, or is not known here
            if message.count != 0:
                source.report_unknown(self._newest(channel, epoch))
            offsets.pop(epoch, None)
            self._forgotten.add((channel, epoch))
            self.positions[channel] = known if known in offsets else next(iter(offsets), ""), offsets
            return
        if first is None:
            for (other_channel, other), one in self.sources.items():
                if other_channel == channel and other != epoch:
                    one.report_unknown(self._newest(channel, other))
        source.report(first or 1, last)
        offsets[epoch] = max(last, offsets.get(epoch, 0))

    def _newest(self, channel: str, epoch: str) -> int:
        return self._publishers.newest(channel, epoch) if channel in TOPICS else 2**53


def _position(epoch: str, offsets: dict[str, int]) -> dict[str, Any]:
    others = {one: at for one, at in offsets.items() if one != epoch and at}
    found: dict[str, Any] = {"epoch": epoch, "offset": offsets.get(epoch, 0)}
    return {**found, "others": others} if others else found


def _short(message: Message) -> str:
    match message.type:
        case "gap":
            return (
                f"gap {message.channel} {message.epoch} {message.from_} {message.to} {message.count} {message.reason}"
            )
        case "subscribed":
            places = {channel: one.offsets for channel, one in message.positions.items() if channel in ENGINE_CHANNELS}
            return f"subscribed {places}, recovered {message.recovered}"
        case "connected":
            return f"connected {message.client_id}, resumed {message.resumed}"
    return message.type


class Wire(Bee):
    """One connection of a client."""

    def __init__(self, client: Wanderer, query: str) -> None:
        super().__init__("127.0.0.1", f"/ws?{query}")
        self.client = client
        self.answered = asyncio.Event()
        """Set when it is subscribed, or lost."""
        self.gone = asyncio.Event()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.answered.set()
        self.gone.set()

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            message = decode(payload)
            if message.type == "subscribed":
                self.subscribed = True
                self.answered.set()
            try:
                self.client.take(message)
            except AssertionError as fault:
                self.client.faults.append(str(fault))
        elif opcode == PING:
            self.transport.write(encode_frame(PONG, payload))
        elif not self.transport.is_closing():
            self.transport.close()
