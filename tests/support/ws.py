"""A WebSocket client that behaves, and keeps a record of what it is given."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec
import orjson

from tests.support.record import Message, Record
from tests.support.waiting import DEADLINE_SECONDS, eventually, scaled


class Client:
    """Reads all the time, answers pings; ``await connect(...)`` makes one.

    Events and gaps go to ``channel(name)``, in full; every message also waits in order for ``expect``
    and ``until``.
    """

    def __init__(self, http: aiohttp.ClientSession, ws: aiohttp.ClientWebSocketResponse, *, packed: bool) -> None:
        self._packed = packed
        self._http = http
        self._ws = ws
        self._receive_queue: deque[Message] = deque()
        self._arrived = asyncio.Event()
        self._records: dict[str, Record] = defaultdict(Record)
        self.everything: list[Message] = []
        self.hello: Message = {}
        self.closing: Message | None = None
        self.close_code: int | None = None
        self._reading = asyncio.create_task(self._read())

    # -- who it is --------------------------------------------------------------------------------

    @property
    def client_id(self) -> str:
        return str(self.hello["client_id"])

    @property
    def session(self) -> str:
        return str(self.hello["session"])

    @property
    def compressed(self) -> bool:
        """Whether compression was agreed on."""
        return bool(self._ws.compress)

    @property
    def protocol(self) -> str | None:
        """The subprotocol that the gateway chose."""
        return self._ws.protocol

    def channel(self, name: str) -> Record:
        """What it was given of this channel."""
        return self._records[name]

    # -- saying -----------------------------------------------------------------------------------

    async def send(self, message: object) -> None:
        if self._packed:
            await self._ws.send_bytes(msgspec.msgpack.encode(message))
        else:
            await self._ws.send_str(json.dumps(message))

    async def send_bytes(self, data: bytes) -> None:
        await self._ws.send_bytes(data)

    async def send_text(self, text: str) -> None:
        await self._ws.send_str(text)

    async def ask(self, message: Message, answer: str) -> Message:
        """Send a message and take its answer, which must be of this type."""
        await self.send(message)
        return await self.expect(answer)

    async def subscribe(self, *channels: object, **options: object) -> Message:
        message = {"type": "subscribe", "channels": list(channels), **options}
        return await self.ask(message, "subscribed")

    async def refused(self, message: object) -> Message:
        """Send a message that must be answered by an error."""
        await self.send(message)
        return await self.expect("error")

    async def ping(self) -> Message:
        return await self.ask({"type": "ping"}, "pong")

    # -- listening --------------------------------------------------------------------------------

    async def next(self, *, within: float = DEADLINE_SECONDS) -> Message:
        """The next message, whatever it is."""
        await eventually_set(self, within)
        return self._receive_queue.popleft()

    async def waiting(self) -> None:
        """Wait until a message waits, and leave it where it is."""
        await eventually_set(self, DEADLINE_SECONDS)

    async def expect(self, kind: str, *, within: float = DEADLINE_SECONDS) -> Message:
        """The next message of this type; before it only events, gaps and `subscribed` may come."""
        while True:
            message = await self.next(within=within)
            if message["type"] == kind:
                return message
            if message["type"] not in {"event", "gap", "subscribed"}:
                raise AssertionError(f"expected {kind}, got {message}")

    async def until(self, kind: str, *, within: float = DEADLINE_SECONDS, **fields: object) -> Message:
        """The next message of this type with these fields; whatever is before it is passed over."""
        wanted = fields.items()
        async with asyncio.timeout(scaled(within)):
            while True:
                message = await self.next(within=within)
                if message["type"] == kind and wanted <= message.items():
                    return message

    async def events(self, channel: str, count: int, *, within: float = DEADLINE_SECONDS) -> list[Message]:
        """Wait until at least `count` events of this channel have come; all of them so far."""
        record = self.channel(channel)
        await eventually(
            lambda: len(record.events) >= count,
            within=within,
            saying=lambda: f"{count} events of {channel}; {len(record.events)} came",
        )
        return list(record.events)

    async def closed(self, *, within: float = DEADLINE_SECONDS) -> int | None:
        """Wait until the connection is closed; its close code."""
        async with asyncio.timeout(scaled(within)):
            await asyncio.shield(self._reading)
        return self.close_code

    async def lose(self) -> None:
        """Lose the connection without a word."""
        self._ws._writer.transport.abort()
        await self.closed()

    async def close(self) -> None:
        """Leave in peace; harmless if the connection is closed already."""
        await self._ws.close()
        await self._reading
        await self._http.close()

    async def _read(self) -> None:
        with contextlib.suppress(aiohttp.ClientConnectionResetError):  # by a pong while the connection closes
            await self._read_all()
        self.close_code = self._ws.close_code
        self._arrived.set()

    async def _read_all(self) -> None:
        async for frame in self._ws:
            if frame.type is not (aiohttp.WSMsgType.BINARY if self._packed else aiohttp.WSMsgType.TEXT):
                raise AssertionError(
                    f"the gateway sends {'binary messages' if self._packed else 'text'} alone, not {frame}"
                )
            message = msgspec.msgpack.decode(frame.data) if self._packed else orjson.loads(frame.data)
            if message["type"] in {"event", "gap"}:
                self._records[message["channel"]].add(message)
            elif message["type"] == "closing":
                self.closing = message
            self.everything.append(message)
            self._receive_queue.append(message)
            self._arrived.set()


async def eventually_set(client: Client, within: float) -> None:
    """Wait until a message waits in the client's inbox."""
    while not client._receive_queue:
        if client._reading.done():
            client._reading.result()
            raise AssertionError(f"closed with {client.close_code}: {client.closing}")
        client._arrived.clear()
        try:
            async with asyncio.timeout(scaled(within)):
                await client._arrived.wait()
        except TimeoutError:
            last = client.everything[-3:]
            raise AssertionError(f"no message within {within} s; the last were {last}") from None


def address(url: str, query: Mapping[str, object]) -> str:
    """The gateway's WebSocket address with a query; dicts in it become JSON, None is left out."""
    values = {
        key: json.dumps(value) if isinstance(value, dict) else str(value)
        for key, value in query.items()
        if value is not None
    }
    base = url.replace("http://", "ws://", 1) + "/ws"
    return f"{base}?{urlencode(values)}" if values else base


async def connect(
    url: str,
    *channels: str,
    headers: Mapping[str, str] | None = None,
    protocols: Sequence[str] = (),
    compress: int = 0,
    **query: Any,
) -> Client:
    """Connect to the gateway at `url`, subscribing to `channels` on the way; returns once connected.

    With `channels` it returns when they are subscribed: all published from then on is owed to it.
    `compress` is the base-2 logarithm of the window for which compression is offered; 0 = it is not.
    """
    if channels:
        query["channels"] = ",".join(channels)
    http = aiohttp.ClientSession()
    try:
        ws = await http.ws_connect(
            address(url, query), max_msg_size=0, autoping=True, headers=headers, protocols=protocols, compress=compress
        )
    except BaseException:
        await http.close()
        raise
    packed = query.get("encoding") == "msgpack" or ws.protocol == "neurograph.msgpack"
    client = Client(http, ws, packed=packed)
    try:
        client.hello = await client.next()
        assert client.hello["type"] == "connected", client.hello
        if channels:
            await client.waiting()
    except BaseException:
        await client.close()
        raise
    return client
