"""A TCP proxy between client and gateway that can cut, stall and refuse connections."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from types import TracebackType


_CHUNK_BYTES = 1 << 16
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with a timeout of 0 s: closing sends a reset
_session = re.compile(rb'"?session(?:":"|..)([\w-]{20,})', re.DOTALL)
"""The session's secret in JSON, or in MessagePack after two bytes with its length."""


class _Link:
    """One connection through the proxy."""

    def __init__(self, client: asyncio.StreamWriter, gateway: asyncio.StreamWriter) -> None:
        self.ends = (client, gateway)
        self.bytes_left: int | None = None
        self.flows = asyncio.Event()
        self.flows.set()

    def reset(self) -> None:
        for end in self.ends:
            raw: socket.socket | None = end.get_extra_info("socket")
            if raw is not None and not end.is_closing():
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.transport.abort()


class Proxy:
    """Listens on a free port, and connects each client to `port`, which may change.

    `session` is the newest session secret that the gateway sent, `request` the newest HTTP request of a client.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.refusing = False
        self.session = ""
        self.request = b""
        self.url = ""
        self.accepted = 0
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def open(self) -> int:
        """The number of open connections."""
        return len(self._links)

    def cut(self) -> None:
        """Reset all connections."""
        for link in list(self._links):
            link.reset()

    def cut_after_bytes(self, count: int) -> None:
        """Reset each connection once `count` more bytes were sent to its client."""
        for link in self._links:
            link.bytes_left = count

    def stall(self) -> None:
        """Forward nothing more on the connections that are open now, and leave them open."""
        for link in self._links:
            link.flows.clear()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            if self.refusing:
                raise ConnectionRefusedError
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            _Link(writer, writer).reset()
            return
        link = _Link(writer, far_writer)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, far_writer, link))
                group.create_task(self._carry(far_reader, writer, link, down=True))
        except* OSError:
            link.reset()
        finally:
            self._links.discard(link)
            link.reset()

    async def _carry(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, link: _Link, *, down: bool = False
    ) -> None:
        while data := await source.read(_CHUNK_BYTES):
            await link.flows.wait()
            if not down:
                self.request = data
            else:
                found = _session.search(data)
                self.session = found[1].decode() if found else self.session
                if link.bytes_left is not None:
                    data = data[: link.bytes_left]
                    link.bytes_left -= len(data)
            target.write(data)
            await target.drain()
            if link.bytes_left == 0:
                raise ConnectionAbortedError
        if target.can_write_eof():
            with contextlib.suppress(OSError):
                target.write_eof()
