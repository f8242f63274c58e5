"""A gateway's listener, handshake, parser and connections, with an endpoint that sends back what it receives."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from aiohttp import web

from gateway.config.model import Clients
from gateway.core.protocol.deflate import Compressor
from gateway.core.protocol.errors import CloseCode
from gateway.core.protocol.frames import binary_frame, close_frame, pong_frame, text_frame
from gateway.core.protocol.parser import Message, Opcode
from gateway.core.sessions.session import Unanswered
from gateway.runtime.listening import listen
from gateway.runtime.turns import Turns
from gateway.web.sockets.connection import Connection, WebSocket
from gateway.web.sockets.heartbeat import ClientHeartbeat
from gateway.web.sockets.listener import Listener
from gateway.web.sockets.websocket import upgrade
from gateway.web.sockets.writers import SocketWriters
from tests.support.core import make_hub


MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""The largest message of Autobahn's cases."""


class EchoConnection(Connection):
    """A connection without a session, which answers every message with itself."""

    __slots__ = ()

    def _handle(self, message: Message, now_ns: int) -> Unanswered | None:
        match message.opcode:
            case Opcode.TEXT:
                self._echo(text_frame(message.data))
            case Opcode.BINARY:
                self._echo(binary_frame(message.data))
            case Opcode.PING:
                self._writer.write(pong_frame(message.data))
        return None

    def _echo(self, frame: bytes) -> None:
        self._writer.write(frame if self._encode is None else self._encode(frame))

    def _closing_bytes(self, code: CloseCode) -> bytes:
        return close_frame(code, code.reason)  # without the message that says why


class Echo:
    """The endpoint. Needs a running event loop."""

    def __init__(self) -> None:
        self._hub = make_hub()
        self._heartbeat = ClientHeartbeat(self._hub, Clients())
        self._turns = Turns()
        self._writers = SocketWriters(self._hub.fanout, io_uring=False)
        self._compressor = Compressor(1, on_compressed=lambda _: None)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        response, queue, bits = await upgrade(
            request, protocols=(), message_bytes_max=MESSAGE_BYTES_MAX, compression=True
        )
        connection = EchoConnection(
            request,
            WebSocket(queue, None if bits is None else self._compressor.encoder(bits)),
            hub=self._hub,
            heartbeat=self._heartbeat,
            turns=self._turns,
            writers=self._writers,
            write_buffer_bytes_max=Clients().write_buffer_bytes_max,
            spread_seconds=0,
            connected_ns=time.monotonic_ns(),
        )
        await connection.serve(time.monotonic_ns, _nothing)
        await connection.wait_closed()
        return response


async def _nothing(_: Unanswered) -> None:
    raise AssertionError("an echo has no session")


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    """Listen, and hand out the port."""
    application = web.Application()
    application.router.add_get("/", Echo())
    async with AsyncExitStack() as stack:
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        listener = Listener(runner, Clients(), tls=lambda: None, on_refused=lambda _: None)
        stack.callback(listener.close)
        listener.listen(await listen(["127.0.0.1"], 0))
        listener.resume_accepting()
        yield listener.addresses[0][1]
