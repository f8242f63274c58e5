"""Clients that read the history over REST, page by page."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import aiohttp
import msgspec

from gateway.core.protocol.messages import Position
from gateway.core.protocol.positions import position_text
from tests.chaos.cluster.client import ANSWER_SECONDS, CHANNELS, CHATS, Client, Port, Truth
from tests.chaos.follower import Message


_PAUSE_SECONDS = (1.0, 4.0)
_BEGINNING = "0"
_UNKNOWN_CHANNEL, _STARTING = 404, 503


class _Page(msgspec.Struct):
    events: list[Message]
    next: Position
    gap: Message | None = None


_decode = msgspec.json.Decoder(_Page).decode


class HistoryClient(Client):
    """Requests a page of each channel from one gateway, then the next pages from another one."""

    engine_channels = CHATS

    def __init__(self, ports: Sequence[Port], truth: Truth, seed: int, http: aiohttp.ClientSession) -> None:
        super().__init__(ports, truth, seed)
        self._http = http
        self._next: dict[str, str] = {}
        self._may_read = asyncio.Event()
        self._may_read.set()

    @property
    def ready(self) -> bool:
        return len(self._next) == len(CHANNELS)

    def pause(self) -> None:
        self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()

    async def _visit(self, port: int) -> None:
        for channel in self.random.sample(CHANNELS, len(CHANNELS)):
            await self._may_read.wait()
            await self._read(port, channel)
        await asyncio.sleep(self.random.uniform(*_PAUSE_SECONDS))

    async def _read(self, port: int, channel: str) -> None:
        since = self._next.get(channel)
        limit = self.random.choice([10, 100, 1000])
        query = {"limit": str(limit)} | ({"since": since} if since else {})
        url = f"http://127.0.0.1:{port}/api/v1/websocket/channels/{channel}/events"
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self._http.get(url, params=query) as answer:
                status, body = answer.status, await answer.read()
        except aiohttp.ClientError:
            return
        if status == 200:
            self.connections += 1
            self._take_page(channel, _decode(body), port, limit)
        elif status == _UNKNOWN_CHANNEL:
            if since is None:
                self._begin(channel, Position("", 0), recovered=True)
                self._next[channel] = _BEGINNING
        elif status != _STARTING:
            self.faults.append(f"GET the events of {channel} since {since} at port {port}: {status} {body.decode()}")

    def _take_page(self, channel: str, page: _Page, port: int, limit: int) -> None:
        if channel in self._next:
            gaps = [page.gap] if page.gap is not None else []
            self._note(f"read {len(page.events)} entries of {channel} since {self._next[channel]} at port {port}")
            for message in (*gaps, *page.events):
                try:
                    self.take(message)
                except AssertionError as fault:
                    self.faults.append(str(fault))
        if len(page.events) < limit:
            super()._hear(channel)
        self._begin(channel, page.next, recovered=page.gap is None)
        self._next[channel] = position_text(page.next)

    def _hear(self, channel: str) -> None:
        """Do nothing: after a full page there may be more events."""
