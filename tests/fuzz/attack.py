"""Connections that send what nobody should, and an account of what they were told."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from gateway.core.protocol import messages
from gateway.core.protocol.messages import ServerMessage
from tests.fuzz import wire
from tests.fuzz.spoilt import spoilt
from tests.support.raw import CLOSE, TEXT
from tests.support.waiting import DEADLINE_SECONDS, scaled


_ANSWERS = (
    messages.Error
    | messages.Subscribed
    | messages.Unsubscribed
    | messages.Subscriptions
    | messages.Pong
    | messages.Authenticated
)
_PAUSE_SECONDS = 0.1
_PATIENCE_SECONDS = 0.2
"""For how long a request that may be whole or not is waited for."""
_FLOOD = 75
"""More messages than a client may send at once."""

_decode: msgspec.json.Decoder[ServerMessage] = msgspec.json.Decoder(ServerMessage)


@dataclass
class Account:
    """What became of all connections."""

    connections: int = 0
    sent: int = 0
    """Requests, messages and frames that were mutated."""
    heard: Counter[str] = field(default_factory=Counter)
    """What the gateway said: messages by type, errors and ends by code, HTTP by status."""
    faults: list[str] = field(default_factory=list)
    """What it must never do, each with the number of the connection."""


class Attack:
    """Connections made from a seed: what number `n` sends depends on the seed and `n` alone.

    Only the secrets of sessions are those that connections before it were given.
    """

    def __init__(self, port: int, seed: int, *, size: int = 12) -> None:
        self.account = Account()
        self._port = port
        self._seed = seed
        self._size = size
        self._secret = ""

    async def run(self, numbers: Iterable[int], *, at_once: int = 50) -> None:
        """Make these connections, so many at once; each sends `size` mutated things."""
        left = iter(numbers)

        async def work() -> None:
            for n in left:
                await self._connect(n)

        await asyncio.gather(*(work() for _ in range(at_once)))

    async def _connect(self, n: int) -> None:
        rng = random.Random(f"{self._seed}/{n}")
        self.account.connections += 1
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            async with asyncio.timeout(scaled(DEADLINE_SECONDS)):
                behave = self._knock if rng.random() < 0.1 else self._talk
                await behave(rng, reader, writer)
        except ConnectionError:
            self.account.heard["reset"] += 1  # a socket closed with bytes unread is reset
        except Exception as error:
            self.account.faults.append(f"connection {n}: {type(error).__name__}: {error}"[:1_000])
        finally:
            writer.transport.abort()

    async def _knock(self, rng: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send a request that is none, maybe with something behind it, and see what it is worth."""
        more = wire.broken(rng) if rng.random() < 0.5 else b""
        self.account.sent += 1 + bool(more)
        await _write(rng, writer, wire.broken_head(rng) + more)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                answer = await reader.readline()
        except TimeoutError:
            answer = b""
        if not answer:
            self.account.heard["no answer"] += 1
            return
        status = int(answer.split(b" ", 2)[1])
        self.account.heard[f"HTTP {status}"] += 1
        assert status < 500, answer[:300]

    async def _talk(self, rng: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Open a WebSocket, say much that is wrong, and in the end something that is no frame."""
        secret, self._secret = self._secret, ""  # each is used once: a second connection with it would end the first
        writer.write(wire.head(rng, secret))
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101 "), answer[:300]
        self.account.sent += 1
        hello = await self._read(reader)
        if not isinstance(hello, messages.Connected):
            await self._to_end(reader, writer)
            return
        await self._answers(rng, reader, writer, [])  # to the wishes in the address
        count = _FLOOD if rng.random() < 0.01 else self._size - 1
        said = [spoilt(rng) for _ in range(count)]
        answers = await self._answers(rng, reader, writer, said)
        self.account.sent += count + 1
        assert answers == count, f"{answers} answers to {count} messages"
        self._secret = hello.session  # not before, or whoever takes it up ends this connection
        writer.write(wire.broken(rng))
        if rng.random() < 0.7:  # else it is cut
            if rng.random() < 0.7:  # else the end comes with it, and the gateway takes the client for gone
                await asyncio.sleep(_PAUSE_SECONDS)
            await self._to_end(reader, writer)

    async def _answers(
        self, rng: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: list[bytes]
    ) -> int:
        """Send messages and a ping; return how many answers come before the ping's."""
        mark = rng.randrange(2**60, 2**61)
        ping = b'{"type":"ping","id":%d}' % mark
        sent = [*(wire.text(rng, one) for one in said), wire.frame(rng, TEXT, ping)]
        await _write(rng, writer, b"".join(sent))
        count = 0
        while True:
            heard = await self._read(reader)
            assert heard is not None, "it ended before all was answered"
            assert not isinstance(heard, messages.ClosingMessage), f"it ended over a message: {heard}"
            if isinstance(heard, _ANSWERS):
                if heard.id == mark:
                    return count
                count += 1

    async def _to_end(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say that nothing more comes, and read what does."""
        writer.write_eof()
        while await self._read(reader) is not None:
            pass

    async def _read(self, reader: asyncio.StreamReader) -> ServerMessage | None:
        """Return the next message, None at the end; it must be one that the protocol has."""
        while True:
            try:
                first, size = await reader.readexactly(2)
                if size >= 126:
                    size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8))
                payload = await reader.readexactly(size)
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    raise ValueError("half a frame") from None
                return None
            if first & 0x0F == CLOSE:
                self._count(f"closed {int.from_bytes(payload[:2])}", bad="closed 1011")
            elif first & 0x0F == TEXT:
                return self._judge(payload)

    def _judge(self, payload: bytes) -> ServerMessage:
        message = _decode.decode(payload)
        self._count(type(message).__name__)
        if isinstance(message, messages.Error):
            self._count(f"error {message.code}", bad="error internal")
        return message

    def _count(self, what: str, *, bad: str = "") -> None:
        self.account.heard[what] += 1
        assert what != bad, f"the gateway failed: {what}"


async def _write(rng: random.Random, writer: asyncio.StreamWriter, data: bytes) -> None:
    """Write all at once, or in pieces."""
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randint(1, 8)))
    if rng.random() < 0.8:
        cuts = []
    for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True):
        writer.write(data[a:b])
        await writer.drain()
