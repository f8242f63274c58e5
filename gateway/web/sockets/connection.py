"""One client's connection: what it says, what is written to it, and how it ends.

Readers write WebSocket frames, encoded once for all. What else a connection may speak is a
`Format` made from them.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec
from aiohttp import web

from gateway.config.model import Clients
from gateway.core.fanout.cohorts import Cursors, Reader
from gateway.core.protocol import messages
from gateway.core.protocol.errors import CloseCode, RequestError
from gateway.core.protocol.frames import close_frame, pong_frame, text_frame
from gateway.core.protocol.parser import Message, Opcode
from gateway.core.sessions.hub import Hub
from gateway.core.sessions.requests import error_message
from gateway.core.sessions.session import Session
from gateway.web.sockets import http as transport_
from gateway.web.sockets.heartbeat import ClientHeartbeat
from gateway.web.sockets.http import CLOSE_SECONDS
from gateway.web.sockets.token_deadline import TokenDeadline
from gateway.web.sockets.websocket import ReceiveQueue
from gateway.web.sockets.writers import Sockets


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


@dataclass(frozen=True, slots=True)
class Frames:
    """A WebSocket: what its client says, and how text frames are compressed for it, if they are."""

    receive_queue: ReceiveQueue
    encode: Callable[[bytes], bytes] | None


class Connection:
    """One client's socket, bound to its session while it lasts."""

    __slots__ = (
        "_abort",
        "_encode",
        "_format",
        "_gone",
        "_heartbeat",
        "_hub",
        "_loop",
        "_protocol",
        "_reader",
        "_receive_queue",
        "_transport",
        "_way",
        "_writable",
        "address",
        "code",
        "connected_ns",
        "heard",
        "session",
        "spread_seconds",
        "token_deadline",
    )

    def __init__(
        self,
        request: web.Request,
        spoken: Frames | Format,
        *,
        hub: Hub,
        heartbeat: ClientHeartbeat,
        sockets: Sockets,
        limits: Clients,
        spread_seconds: float,
        now_ns: int,
    ) -> None:
        protocol, transport = request.protocol, request.transport
        assert isinstance(protocol, transport_.HttpProtocol)
        assert transport is not None
        self.address = request.remote or ""
        self.code = _ABNORMAL
        self.connected_ns = now_ns
        self.heard = True
        self.session: Session | None = None
        self.token_deadline: TokenDeadline | None = None
        """How long it may last, where that depends on who it is."""
        self._abort: asyncio.TimerHandle | None = None
        self._gone: asyncio.Event | None = None
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._heartbeat = heartbeat
        self._reader: Reader | None = None
        """Who writes to the socket, until this side or the other ends it."""
        self._encode = spoken.encode
        self._receive_queue = spoken.receive_queue if isinstance(spoken, Frames) else None
        self._format = None if isinstance(spoken, Frames) else spoken
        self.spread_seconds = spread_seconds
        self._transport = transport
        self._way = sockets.way(transport)
        self._writable: asyncio.Event | None = None
        transport.set_write_buffer_limits(high=limits.write_buffer_bytes_max)
        protocol.on_full = self._fill
        protocol.on_writable = self._resume
        protocol.on_lost = self._lost
        if self._receive_queue is not None:
            self._receive_queue.on_violation = self._violated
            if self._receive_queue.violation is not None:  # in the same segment as the handshake
                self._violated(self._receive_queue.violation)

    @property
    def ending(self) -> bool:
        """Whether this side has begun to close."""
        return self._abort is not None

    @property
    def lost(self) -> bool:
        """Whether nothing can be written any more."""
        return self._transport.is_closing()

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
        return 0 if self._reader is None else self._hub.fanout.lag(self._reader)

    @property
    def lagging(self) -> bool:
        """Whether the client is behind and reads on from the log."""
        return self._reader in self._hub.fanout.lagging

    def settle(self) -> None:
        """Hold no more than it takes to stay: the request is not looked at any more."""
        self._protocol.forget_head()

    def reader(self) -> Reader:
        """Make the reader that writes to this socket."""
        self._reader = Reader(
            writer=self._way if self._encode is None else self, on_lag=self._stall
        )
        if self._protocol.writing_paused:
            self._fill()
        return self._reader

    def write(self, frames: bytes, /) -> None:
        """Write what its reader is to get, if that looks different for this connection."""
        assert self._encode is not None
        if not self._transport.is_closing():
            self._way.write(self._encode(frames))

    def ping(self, frame: bytes, payload: bytes, heads: Cursors) -> None:
        """Ask for a sign of life."""
        if self._transport.is_closing():
            return
        if self._format is not None:
            self._way.write(self._format.ping())
            return
        self.heard = False
        if self.session is not None:
            self.session.on_ping(payload, heads)
        self._way.write(frame)

    def refuse(self, error: RequestError, code: CloseCode) -> None:
        """Say what is wrong, and close."""
        if self._abort is None and self._format is None:
            self._way.write(text_frame(msgspec.json.encode(error_message(error))))
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
        self._heartbeat.remove(self)
        if self._reader is not None:
            self._hub.fanout.flush_reader(self._reader)  # what is pending came before
        self._detach()  # nothing may follow a close frame (RFC 6455, section 5.5.1)
        if not self._transport.is_closing():
            self._way.write(self._farewell(code))
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
        assert self._receive_queue is not None
        while taken := await self._receive_queue.take():
            for message in taken:
                self.heard = True
                if message.opcode is Opcode.CLOSE:
                    self._answer_close(message.close_code)
                    return
                if self._abort is not None:  # nothing that comes now counts
                    continue
                token = self._hear(message, now_ns())
                if token is not None:
                    await authenticate(token)
                if self._protocol.writing_paused and self._abort is None:
                    # Who sends without reading gets no more answers until it reads.
                    await self._until_writable()
                if self.session is not None and self.session.excessive:
                    self.session.excessive = False
                    await asyncio.sleep(_EXCESS_SECONDS)

    def _hear(self, message: Message, now_ns: int) -> messages.Auth | None:
        """Handle a message; return a token that has to be verified first."""
        session = self.session
        match message.opcode:
            case Opcode.TEXT if session is not None:
                outcome = self._hub.receive(session, message.text, now_ns=now_ns)
                return outcome if isinstance(outcome, messages.Auth) else None
            case Opcode.PONG if session is not None:
                self._hub.on_pong(session, message.data)
            case Opcode.PING if session is not None and not self._transport.is_closing():
                if session.may_ping(now_ns=now_ns):
                    self._way.write(pong_frame(message.data))
            case Opcode.BINARY:
                self.end(CloseCode.BINARY)
        return None

    def _answer_close(self, code: int) -> None:
        """Echo the code of a peer that closes; 0 stands for a close frame without one."""
        if self._abort is not None:
            return  # it is the answer to ours
        self.code = code or 1005
        self._detach()
        if not self._transport.is_closing():
            self._way.write(close_frame(code or 1000))

    async def _until_writable(self) -> None:
        self._heartbeat.stalled(self, now=self._loop.time())
        self._writable = asyncio.Event()
        await self._writable.wait()

    def _lost(self) -> None:
        """Write nothing more: the socket is gone, though its handler may not know yet."""
        if self._abort is not None:
            self._abort.cancel()
        if self._gone is not None:
            self._gone.set()
        self._detach()
        if self._writable is not None:
            self._writable.set()

    def _detach(self) -> None:
        if self._reader is not None:  # also if its session never came to be
            self._hub.fanout.remove(self._reader)
            self._reader = None
        if self.session is not None:
            self.session.detach()

    def _violated(self, code: int) -> None:
        self.end(CloseCode(code))

    def _stall(self) -> None:
        self._heartbeat.stalled(self, now=self._loop.time())

    def _fill(self) -> None:
        """Take note that the socket's buffer is above its mark."""
        if self._reader is not None:
            self._hub.fanout.on_full(self._reader)

    def _resume(self) -> None:
        """Go on where the socket stopped taking data."""
        if self._protocol.writing_paused:
            return  # again: it will be told anew
        if self._writable is not None:
            self._writable.set()
        reader, fanout = self._reader, self._hub.fanout
        if reader is not None:
            fanout.on_drained(reader)
            if reader in fanout.lagging and not fanout.catch_up(reader):
                self._stall()
                return
        self._heartbeat.flows(self)

    def _farewell(self, code: CloseCode) -> bytes:
        """Return what tells the client why, and when to come back."""
        spread_ms = self.spread_seconds * 1000
        after_ms = round(random.uniform(0, spread_ms)) if code.reconnect else 0  # noqa: S311  # a delay, no secret
        message = messages.ClosingMessage(
            code=code, reason=code.reason, reconnect=code.reconnect, after_ms=after_ms
        )
        if self._format is not None:
            return self._format.farewell(message)
        return text_frame(msgspec.json.encode(message)) + close_frame(code, code.reason)
