"""One client's connection: what it says, what is written to it, and how it ends.

Readers write WebSocket frames, encoded once for all. What else a connection may speak is a
`Format` made from them.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
from aiohttp import WSMessage, WSMsgType, web

from gateway.config.model import Clients
from gateway.core import messages
from gateway.core.errors import CloseCode, RequestError
from gateway.core.frames import close_frame, pong_frame, text_frame
from gateway.core.hub import Hub
from gateway.core.readers import Cursors, Reader
from gateway.core.requests import error_message
from gateway.core.session import Session
from gateway.web import transport as transport_
from gateway.web.pulse import Pulse
from gateway.web.terms import Terms
from gateway.web.transport import CLOSE_SECONDS, Socket


_ABNORMAL = 1006
_EXCESS_SECONDS = 0.1
"""Who asks for more than it may is not read from for so long: it costs no more than its share."""


class Format(Protocol):
    """How messages look on a connection that is no WebSocket."""

    def encode(self, frames: bytes) -> bytes:
        """Return what text frames become."""
        ...

    def ping(self) -> bytes:
        """Return what keeps a quiet connection alive; nobody answers it."""
        ...

    def farewell(self, message: messages.ClosingMessage) -> bytes:
        """Return what is written last."""
        ...


class Connection:
    """One client's socket, bound to its session while it lasts."""

    __slots__ = (
        "_abort",
        "_format",
        "_gone",
        "_hub",
        "_loop",
        "_protocol",
        "_pulse",
        "_socket",
        "_spread_seconds",
        "_transport",
        "_writable",
        "address",
        "code",
        "connected_ns",
        "heard",
        "session",
        "terms",
    )

    def __init__(
        self,
        request: web.Request,
        spoken: Socket | Format,
        *,
        hub: Hub,
        pulse: Pulse,
        limits: Clients,
        spread_seconds: float,
        now_ns: int,
    ) -> None:
        protocol, transport = request.protocol, request.transport
        assert isinstance(protocol, transport_.Protocol)
        assert transport is not None
        self.address = request.remote or ""
        self.code = _ABNORMAL
        self.connected_ns = now_ns
        self.heard = True
        self.session: Session | None = None
        self.terms: Terms | None = None
        """How long it may last, where that depends on who it is."""
        self._abort: asyncio.TimerHandle | None = None
        self._gone: asyncio.Event | None = None
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._pulse = pulse
        self._socket = spoken if isinstance(spoken, Socket) else None
        self._format = None if isinstance(spoken, Socket) else spoken
        self._spread_seconds = spread_seconds
        self._transport = transport
        self._writable: asyncio.Event | None = None
        transport.set_write_buffer_limits(high=limits.buffer_bytes_max)
        if self._socket is not None:
            self._socket.on_close = self._closed_by_aiohttp
        protocol.on_writable = self._resume
        protocol.on_violation = self._violated
        protocol.on_lost = self._lost
        if protocol.violation is not None:  # in the same segment as the handshake
            self._violated()

    @property
    def ending(self) -> bool:
        """Whether this side has begun to close."""
        return self._abort is not None

    @property
    def client_id(self) -> str:
        """The client's public name."""
        return self.session.client_id if self.session else ""

    @property
    def user_id(self) -> str | None:
        """The user it belongs to, if known."""
        return self.session.user_id if self.session else None

    @property
    def buffered(self) -> int:
        """Bytes that wait for the socket in this process."""
        return self._transport.get_write_buffer_size()

    @property
    def lag(self) -> int:
        """How many events the client is behind."""
        reader = self.session.reader if self.session else None
        return 0 if reader is None else self._hub.fanout.lag(reader)

    @property
    def lagging(self) -> bool:
        """Whether the client is behind and reads on from the log."""
        reader = self.session.reader if self.session else None
        return reader in self._hub.fanout.lagging

    def settle(self) -> None:
        """Hold no more than it takes to stay: the request is not looked at any more."""
        self._protocol.forget_head()

    def reader(self) -> Reader:
        """Make the reader that writes to this socket."""
        write = self._transport.write if self._format is None else self._write_formatted
        return Reader(write=write, flow=self._protocol, on_lag=self._stall)

    def _write_formatted(self, frames: bytes) -> None:
        assert self._format is not None
        if not self._transport.is_closing():
            self._transport.write(self._format.encode(frames))

    def ping(self, frame: bytes, payload: bytes, heads: Cursors) -> None:
        """Ask for a sign of life."""
        if self._transport.is_closing():
            return
        if self._format is not None:
            self._transport.write(self._format.ping())
            return
        self.heard = False
        if self.session is not None:
            self.session.pinged(payload, heads)
        self._transport.write(frame)

    def refuse(self, error: RequestError, code: CloseCode) -> None:
        """Say what is wrong, and close."""
        if self._abort is None and self._format is None:
            self._transport.write(text_frame(msgspec.json.encode(error_message(error))))
        self.end(code)

    def end(self, code: CloseCode) -> None:
        """Say why, and close; once begun, nothing changes it.

        Only this side's half of the socket is shut: one closed with bytes unread is reset by the
        kernel, and the peer may never see why. The peer has `CLOSE_SECONDS` to shut the other.
        """
        if self._abort is not None:
            return
        self.code = code
        self._abort = self._loop.call_later(CLOSE_SECONDS, self._transport.abort)
        if self._writable is not None:
            self._writable.set()
        self._pulse.remove(self)
        if self.session is not None:
            self.session.detach()  # nothing may follow a close frame (RFC 6455, section 5.5.1)
        if not self._transport.is_closing():
            self._transport.write(self._farewell(code))
            if self._format is not None:  # the response is aiohttp's to end
                self._gone = self._gone or asyncio.Event()
                self._gone.set()
            elif self._transport.can_write_eof():
                self._transport.write_eof()

    async def gone(self) -> None:
        """Wait until the socket is closed."""
        if not self._transport.is_closing() or self._gone is not None:
            self._gone = self._gone or asyncio.Event()
            await self._gone.wait()

    async def serve(
        self,
        now_ns: Callable[[], int],
        authenticate: Callable[[messages.Auth], Awaitable[None]],
    ) -> None:
        """Handle the client's messages until the connection is closed, by whichever side.

        `authenticate` is asked for each token that comes; what comes behind it waits.
        """
        assert self._socket is not None
        while True:
            message = await self._socket.receive()
            self.heard = True
            match message.type:
                case WSMsgType.CLOSE:
                    self._answer_close(message.data)
                    return
                case WSMsgType.CLOSED | WSMsgType.CLOSING:
                    return
                case WSMsgType.ERROR:  # nothing that comes now can be understood
                    self.end(CloseCode.INTERNAL)
                    await self.gone()
                    return
                case _ if self._abort is None:
                    token = self._take(message, now_ns())
                    if token is not None:
                        await authenticate(token)
            if self._protocol.writing_paused and self._abort is None:
                # Who sends without reading gets no more answers until it reads.
                await self._until_writable()
            if self.session is not None and self.session.excessive:
                self.session.excessive = False
                await asyncio.sleep(_EXCESS_SECONDS)

    def _take(self, message: WSMessage, now_ns: int) -> messages.Auth | None:
        """Handle a message; return a token that has to be verified first."""
        session = self.session
        match message.type:
            case WSMsgType.TEXT if session is not None:
                outcome = self._hub.receive(session, message.data, now_ns=now_ns)
                return outcome if isinstance(outcome, messages.Auth) else None
            case WSMsgType.PONG if session is not None:
                session.ponged(bytes(message.data))
            case WSMsgType.PING if session is not None and not self._transport.is_closing():
                if session.may_ping(now_ns=now_ns):
                    self._transport.write(pong_frame(bytes(message.data)))
            case WSMsgType.BINARY:
                self.end(CloseCode.BINARY)
        return None

    def _answer_close(self, code: int) -> None:
        """Echo the code of a peer that closes; 0 stands for a close frame without one."""
        if self._abort is not None:
            return  # it is the answer to ours
        self.code = code or 1005
        if self.session is not None:
            self.session.detach()
        if not self._transport.is_closing():
            self._transport.write(close_frame(code or 1000))

    async def _until_writable(self) -> None:
        self._pulse.stalled(self, now=self._loop.time())
        self._writable = asyncio.Event()
        await self._writable.wait()

    def _lost(self) -> None:
        """Write nothing more: the socket is gone, though its handler may not know yet."""
        if self._abort is not None:
            self._abort.cancel()
        if self._gone is not None:
            self._gone.set()
        if self.session is not None:
            self.session.detach()
        if self._writable is not None:
            self._writable.set()

    def _violated(self) -> None:
        self.end(CloseCode.PROTOCOL_ERROR)

    def _stall(self) -> None:
        self._pulse.stalled(self, now=self._loop.time())

    def _resume(self) -> None:
        """Go on where the socket stopped taking data."""
        if self._writable is not None:
            self._writable.set()
        reader = self.session.reader if self.session else None
        fanout = self._hub.fanout
        if reader is not None and reader in fanout.lagging and not fanout.catch_up(reader):
            self._stall()
        else:
            self._pulse.flows(self)

    def _closed_by_aiohttp(self, code: int) -> None:
        """Close where aiohttp found a fault; it also tidies up after those who are gone."""
        with contextlib.suppress(ValueError):
            self.end(CloseCode(code))

    def _farewell(self, code: CloseCode) -> bytes:
        """Return what tells the client why, and when to come back."""
        spread_ms = self._spread_seconds * 1000
        after_ms = round(random.uniform(0, spread_ms)) if code.reconnect else 0  # noqa: S311  # a delay, no secret
        message = messages.ClosingMessage(
            code=code, reason=code.reason, reconnect=code.reconnect, after_ms=after_ms
        )
        if self._format is not None:
            return self._format.farewell(message)
        return text_frame(msgspec.json.encode(message)) + close_frame(code, code.reason)
