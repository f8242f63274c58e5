"""Thousands of WebSocket clients in one process: each is one protocol object, no tasks."""

from __future__ import annotations

import asyncio
import base64
import os
import struct
from collections.abc import Callable

import orjson

from tests.support.raw import CLOSE, PING, PONG, TEXT, encode_frame
from tests.support.waiting import DEADLINE_SECONDS, eventually


class Bee(asyncio.Protocol):
    """One client that checks, event by event, that the offsets are contiguous."""

    def __init__(self, host: str, path: str) -> None:
        self.host = host
        self.path = path
        self.subscribed = False
        self.upgraded = False
        self.count = 0
        self.first: int | None = None
        self.last: int | None = None
        self.faults: list[str] = []
        self.lost = False
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET {self.path} HTTP/1.1\r\nHost: {self.host}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True

    def data_received(self, data: bytes) -> None:
        data = self.buffer + data if self.buffer else data
        at = 0
        if not self.upgraded:
            at = data.find(b"\r\n\r\n") + 4
            if at == 3:
                self.buffer = data
                return
            if not data.startswith(b"HTTP/1.1 101"):
                self.faults.append(data[:100].decode())
            self.upgraded = True
        end = len(data)
        while end - at >= 2:
            size, body = data[at + 1], at + 2
            if size == 126:
                if end - body < 2:
                    break
                size, body = int.from_bytes(data[body : body + 2], "big"), body + 2
            elif size == 127:
                if end - body < 8:
                    break
                size, body = struct.unpack_from(">Q", data, body)[0], body + 8
            if end - body < size:
                break
            self._frame(data[at] & 0x0F, data[body : body + size])
            at = body + size
        self.buffer = data[at:]

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            message = orjson.loads(payload)
            kind = message["type"]
            if kind == "event":
                self._event(message["offset"])
            elif kind == "subscribed":
                self.subscribed = True
            elif kind != "connected":
                self.faults.append(payload.decode())
        elif opcode == PING:
            self.transport.write(encode_frame(PONG, payload))
        elif opcode == CLOSE:
            self.faults.append(f"closed {payload!r}")

    def _event(self, offset: int) -> None:
        if self.last is not None and offset != self.last + 1:
            self.faults.append(f"{offset} came after {self.last}")
        self.first = offset if self.first is None else self.first
        self.last = offset
        self.count += 1


class Swarm:
    """Many clients that subscribed to the same channels on connecting."""

    def __init__(self, port: int, channels: str) -> None:
        self.port = port
        self.path = f"/ws?channels={channels}"
        self.bees: list[Bee] = []

    async def connect(self, count: int, *, at_once: int = 250) -> None:
        """Connect `count` clients, so many at once; returns when all are subscribed."""
        loop = asyncio.get_running_loop()

        def bee() -> Bee:
            return Bee(f"127.0.0.1:{self.port}", self.path)

        for start in range(0, count, at_once):
            opening = (loop.create_connection(bee, "127.0.0.1", self.port) for _ in range(min(at_once, count - start)))
            fresh = [protocol for _, protocol in await asyncio.gather(*opening)]
            self.bees += fresh
            await self.all(lambda b: b.subscribed, of=fresh)

    async def all(
        self, condition: Callable[[Bee], bool], *, within: float = DEADLINE_SECONDS, of: list[Bee] | None = None
    ) -> None:
        """Wait until the condition holds for all clients."""
        bees = self.bees if of is None else of

        def missing() -> str:
            return f"{sum(not condition(b) for b in bees)} of {len(bees)} clients; {self.faults()[:3]}"

        await eventually(lambda: all(condition(b) for b in bees), within=within, every=0.05, saying=missing)

    def faults(self) -> list[str]:
        return [fault for bee in self.bees for fault in bee.faults]

    def close(self) -> None:
        for bee in self.bees:
            bee.transport.abort()
