"""A TCP proxy that cuts, stalls and comes back: a link that a test can break; and a balancer of several targets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Sequence
from itertools import cycle
from types import TracebackType
from typing import Self


_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset
_PIECE = 65536


class Proxy:
    """Forwards connections at ``port`` to `target`; what was broken stays broken, new ones work."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.flowing = asyncio.Event()
        """Cleared while the link stalls: bytes wait, and both ends stay connected."""
        self.flowing.set()
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset all connections, in the middle of whatever goes through."""
        for pair in self._pairs:
            for writer in pair:
                raw: socket.socket | None = writer.get_extra_info("socket")
                if raw is not None and raw.fileno() >= 0:
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            onward = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, onward[1])
        self._pairs.add(pair)
        try:
            await asyncio.gather(self._forward(reader, onward[1]), self._forward(onward[0], writer))
        finally:
            self._pairs.discard(pair)
            for one in pair:
                one.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.target)

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_PIECE):
                await self.flowing.wait()
                sink.write(data)
                await sink.drain()
        sink.transport.abort()


class Balancer(Proxy):
    """Forwards each connection to the next of several targets that accepts it: round robin."""

    def __init__(self, targets: Sequence[int]) -> None:
        super().__init__(targets[0])
        self.serve(targets)

    def serve(self, targets: Sequence[int]) -> None:
        """Forward new connections to these."""
        self._count, self._next = len(targets), cycle(targets)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for _ in range(self._count):
            self.target = next(self._next)
            with contextlib.suppress(OSError):
                return await super()._connect()
        raise ConnectionRefusedError
