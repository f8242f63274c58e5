"""A server of public keys (JWKS) on loopback that can answer wrongly, slowly, without end, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any


Act = Callable[[asyncio.StreamWriter], Awaitable[None]]


class KeyServer:
    """Answers every request by what `act` does, and counts them. Use it as an async context manager."""

    def __init__(self, act: Act, tls: ssl.SSLContext | None = None) -> None:
        self.act = act
        self.requests = 0
        self._tls = tls
        self._open: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self._port}/keys.json"

    async def __aenter__(self) -> KeyServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                await self.act(writer)
                writer.close()
                await writer.wait_closed()
        finally:
            writer.transport.abort()
            self._open.discard(task)


def says(body: bytes | str, status: str = "200 OK", headers: Mapping[str, str] | None = None) -> Act:
    """Answer with this body."""
    content = body.encode() if isinstance(body, str) else body
    named = {"Content-Length": str(len(content)), "Connection": "close", **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items())

    async def act(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + content)
        await writer.drain()

    return act


def has(jwks: Iterable[Mapping[str, Any]]) -> Act:
    """Answer with a set of these keys."""
    return says(json.dumps({"keys": [dict(jwk) for jwk in jwks]}))


def sends(content: bytes) -> Act:
    """Send these bytes and hang up."""

    async def act(writer: asyncio.StreamWriter) -> None:
        writer.write(content)
        await writer.drain()

    return act


async def hangs(_: asyncio.StreamWriter) -> None:
    """Say nothing."""
    await asyncio.Event().wait()


def drips(content: bytes) -> Act:
    """Begin to send this, a byte at a time, for ever."""

    async def act(writer: asyncio.StreamWriter) -> None:
        for byte in content:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.01)
        await hangs(writer)

    return act


class Floods:
    """Send without end, and count what was taken."""

    def __init__(self, head: bytes) -> None:
        self.sent = 0
        self._head = head

    async def __call__(self, writer: asyncio.StreamWriter) -> None:
        writer.write(self._head)
        while True:
            writer.write(b" " * 65_536)
            await writer.drain()
            self.sent += 65_536
