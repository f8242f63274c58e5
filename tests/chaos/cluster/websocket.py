"""WebSocket clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from tests.chaos.cluster.client import CHANNELS, ConnectedClient
from tests.chaos.follower import decode
from tests.support.raw import PING, PONG, TEXT, encode_frame
from tests.support.swarm import Bee


class WebSocketClient(ConnectedClient):
    """Resumes its session and its positions when it connects again."""

    def _make_connection(self, port: int) -> Callable[[], Connection]:
        query = self._query()
        self._note(f"connect to port {port} with {unquote(query)}")
        return partial(Connection, self, query)

    def _query(self) -> str:
        found = f"channels={','.join(CHANNELS)}"
        if self.positions:
            since = {channel: _position(*place) for channel, place in self.positions.items()}
            found += f"&since={quote(msgspec.json.encode(since).decode())}"
        return found + (f"&session={self.session}" if self.session else "")


def _position(epoch: str, offsets: dict[str, int]) -> dict[str, Any]:
    others = {one: at for one, at in offsets.items() if one != epoch and at}
    found: dict[str, Any] = {"epoch": epoch, "offset": offsets.get(epoch, 0)}
    return {**found, "others": others} if others else found


class Connection(Bee):
    """One WebSocket connection of a client."""

    def __init__(self, client: WebSocketClient, query: str) -> None:
        super().__init__("127.0.0.1", f"/ws?{query}")
        self.client = client
        self.answered = asyncio.Event()
        """Set when the client is subscribed, or the connection is lost."""
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
