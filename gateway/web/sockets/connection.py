"""One client's connection: receives its messages, writes to its socket, and closes it.

The fan-out writes WebSocket frames, encoded once for all clients. A connection that is not a WebSocket
has a `Format`, which makes its bytes from those frames.

A connection is in one of five states. `code` is the close code that is reported, 1006 until one is known.

    OPENING   the client is being authenticated and admitted; there is no session yet
    OPEN      it has a session, and a reader in the fan-out
    CLOSING   this side has sent the reason and a close frame, and waits for the peer to close
    CLOSED    nothing more is read or written; the socket closes, if it is not closed yet
    LOST      the socket closed before either side began to close

What each event does:

    event              OPENING, OPEN               CLOSING                     CLOSED    LOST
    attach             -> OPEN                     not called                  -         -
    close              sends the reason; CLOSING,  nothing                     nothing   keeps the code;
                       but CLOSED with a `Format`,                                       -> CLOSED
                       as aiohttp ends its answer
    close frame        answered; -> CLOSED         ends `serve`                as before as OPEN, unanswered
    pong               handled                     dropped                     dropped   handled: it confirms
                                                                                         what was received
    other message      handled                     dropped                     dropped   dropped: it has no
                                                                                         reader to answer with
    violation          `close` with its code       nothing                     nothing   as `close`
    socket lost        -> LOST                     -> CLOSED                   -         -
    CLOSE_SECONDS      -                           socket aborted              socket    -
                                                                               aborted
    buffer full        the reader lags; messages are not handled until the socket is writable again
    reader failed      `close` with 1011                                                 nothing"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import InitVar, dataclass, field
from enum import Enum, auto
from typing import Literal, Protocol

import msgspec
from aiohttp import web

from gateway.core.fanout.cohorts import PART_BYTES, Cursors, Reader, Writer
from gateway.core.protocol import messages
from gateway.core.protocol.errors import CloseCode, RequestError
from gateway.core.protocol.frames import close_frame, ping_frame, pong_frame, text_frame
from gateway.core.protocol.parser import Message, Opcode
from gateway.core.sessions.hub import Hub
from gateway.core.sessions.requests import error_message
from gateway.core.sessions.session import Session, Unanswered
from gateway.runtime.turns import Turns
from gateway.web.sockets import kernel
from gateway.web.sockets.heartbeat import ClientHeartbeat
from gateway.web.sockets.http import CLOSE_SECONDS, HttpProtocol
from gateway.web.sockets.kernel import Sending
from gateway.web.sockets.token_deadline import TokenDeadline
from gateway.web.sockets.websocket import Received, ReceiveQueue
from gateway.web.sockets.writers import SocketWriters


_ABNORMAL = 1006
_ENCODED_PART_BYTES = 8_192
"""Of what a client has missed, it gets about so much at once if it has to be encoded for this client, which takes far longer
than to write it."""
_RATE_LIMIT_PAUSE_SECONDS = 0.1
"""How long a client that exceeds its rate limits is not read from."""


ConnectionKind = Literal["websocket", "sse"]


class State(Enum):
    """Where a connection is between its request and its end; the table above says what each means."""

    OPENING = auto()
    OPEN = auto()
    CLOSING = auto()
    CLOSED = auto()
    LOST = auto()


_ACTIVE = (State.OPENING, State.OPEN)
_UNCLOSED = (State.OPENING, State.OPEN, State.LOST)
"""Neither side has begun to close."""
_ENDED = (State.CLOSED, State.LOST)


class Format(Protocol):
    """The bytes that are sent on a connection that is not a WebSocket."""

    def encode(self, frames: bytes) -> bytes:
        """Return the bytes for text frames."""

    def ping(self) -> bytes:
        """Return the bytes that keep an idle connection alive; the client does not answer them."""

    def last_bytes(self, message: messages.ClosingMessage) -> bytes:
        """Return the last bytes."""


@dataclass(frozen=True, slots=True)
class WebSocket:
    """A WebSocket's received messages, and in which form text frames are sent on it.

    `encode` returns the frames to send; None if these are text frames as they are. `decode` returns the JSON
    of a binary message; None if the client must not send any."""

    receive_queue: ReceiveQueue
    encode: Callable[[bytes], bytes] | None
    decode: Callable[[bytes], bytes] | None = None


@dataclass(slots=True, eq=False, repr=False)
class Connection:
    """One client's socket, and the session that is attached to it."""

    request: InitVar[web.Request]
    stream: InitVar[WebSocket | Format]
    hub: Hub
    heartbeat: ClientHeartbeat
    turns: Turns
    writers: InitVar[SocketWriters]
    write_buffer_bytes_max: InitVar[int]
    spread_seconds: float
    """Over what time clients that this gateway closes reconnect."""
    connected_ns: int
    address: str = field(init=False)
    code: int = _ABNORMAL
    session: Session | None = None
    token_deadline: TokenDeadline | None = None
    _state: State = State.OPENING
    _abort_timer: asyncio.TimerHandle | None = None
    _closed: asyncio.Event | None = None  # made when it is needed: it takes 700 bytes
    _writable: asyncio.Event | None = None
    _reader: Reader | None = None
    _protocol: HttpProtocol = field(init=False)
    _transport: asyncio.Transport = field(init=False)
    _writer: Writer = field(init=False)
    _encode: Callable[[bytes], bytes] | None = field(init=False)
    _decode: Callable[[bytes], bytes] | None = None
    _receive_queue: ReceiveQueue | None = None
    _format: Format | None = None

    def __post_init__(
        self, request: web.Request, stream: WebSocket | Format, writers: SocketWriters, write_buffer_bytes_max: int
    ) -> None:
        protocol, transport = request.protocol, request.transport
        assert isinstance(protocol, HttpProtocol)
        assert transport is not None
        self.address = request.remote or ""
        self._protocol = protocol
        self._transport = transport
        self._writer = writers.writer(transport)
        self._encode = stream.encode
        transport.set_write_buffer_limits(high=write_buffer_bytes_max)
        protocol.user = self
        if isinstance(stream, WebSocket):
            self._receive_queue = stream.receive_queue
            self._decode = stream.decode
        else:
            self._format = stream

    @property
    def kind(self) -> ConnectionKind:
        return "sse" if self._receive_queue is None else "websocket"

    @property
    def can_write(self) -> bool:
        """Whether the connection is opening or open, and the socket is not closing."""
        return self._state in _ACTIVE and not self._transport.is_closing()

    @property
    def heard(self) -> bool:
        """Whether the client has sent anything since the last ping; an event stream, whether it is open."""
        return not self._transport.is_closing() if self._receive_queue is None else self._receive_queue.heard

    @property
    def client_id(self) -> str:
        return self.session.client_id if self.session else ""

    @property
    def buffered(self) -> int:
        return self._transport.get_write_buffer_size()

    @property
    def sending(self) -> Sending:
        """How far the socket has come; what waits for it in this process is unsent, too."""
        known = kernel.sending(self._transport.get_extra_info("socket"))
        return known._replace(unsent=known.unsent + self.buffered)

    @property
    def reading_paused(self) -> bool:
        """Whether this side does not read from the socket, as the client exceeds its limits."""
        return self._receive_queue is not None and self._receive_queue.paused

    @property
    def lag(self) -> int:
        return 0 if self._reader is None else self.hub.fanout.lag(self._reader)

    @property
    def lagging(self) -> bool:
        """Whether the client is behind and is served from the log."""
        return self._reader in self.hub.fanout.lagging

    def attach(self, session: Session) -> None:
        self.session = session
        self._state = State.OPEN

    def make_reader(self) -> Reader:
        """Return the reader whose events are written to this socket."""
        writer = self._writer if self._encode is None else self
        ping = None if self._format is not None else self._write_ping
        self._reader = Reader(
            writer=writer,
            on_lag=self._on_lag,
            on_failure=self._on_failure,
            on_turn_end=self._on_turn_end,
            ping=ping,
            part_bytes=PART_BYTES if self._encode is None else _ENCODED_PART_BYTES,
        )
        if self._protocol.writing_paused:
            self.on_buffer_full()
        return self._reader

    def write(self, frames: bytes, /) -> None:
        """Write frames in this connection's own encoding (called by the fan-out)."""
        assert self._encode is not None
        if not self._transport.is_closing():
            self._writer.write(self._encode(frames))

    def _write_ping(self, payload: bytes) -> None:
        if not self._transport.is_closing():
            self._writer.write(ping_frame(payload))

    def ping(self, frame: bytes, payload: bytes, heads: Cursors) -> None:
        """Send a ping; its answer confirms all that was sent up to `heads`."""
        if self._receive_queue is not None:
            self._receive_queue.heard = False
        if self._transport.is_closing():
            return
        if self._format is not None:
            self._writer.write(self._format.ping())
            return
        if self.session is not None:
            self.session.on_ping(payload, heads)
        self._writer.write(frame)

    def refuse(self, error: RequestError, code: CloseCode) -> None:
        if self._state in _ACTIVE and self._format is None:
            self.hub.counts.errors[error.code] += 1
            self._writer.write(self._frame(error_message(error)))
        self.close(code)

    def close(self, code: CloseCode) -> None:
        """Send the reason, and close; only the first call has an effect.

        Only this side of the socket is shut down: if a socket is closed with unread bytes, the kernel
        resets it, and the peer may never see the reason. The peer has `CLOSE_SECONDS` to shut down
        its side."""
        if self._state not in _UNCLOSED:
            return
        self.code = code
        self.heartbeat.stop_monitoring(self)
        if self._state is State.LOST:
            self._state = State.CLOSED
            return
        self._state = State.CLOSING if self._format is None else State.CLOSED
        self._abort_soon()
        self._wake()
        if self._reader is not None:
            self.hub.fanout.flush_reader(self._reader)  # pending events come before the reason
        self._detach()  # no frame may follow a close frame (RFC 6455, section 5.5.1)
        if not self._transport.is_closing():
            self._writer.write(self._closing_bytes(code))
            if self._format is None and self._transport.can_write_eof():
                self._transport.write_eof()

    async def wait_closed(self) -> None:
        if self._state in _ENDED or self._transport.is_closing():
            return
        self._closed = self._closed or asyncio.Event()
        await self._closed.wait()

    async def serve(self, now_ns: Callable[[], int], answer: Callable[[Unanswered], Awaitable[None]]) -> None:
        """Handle the client's messages until either side has closed; the request is freed.

        `answer` takes what this connection cannot answer alone; later messages wait until it returns."""
        assert self._receive_queue is not None
        self._protocol.head.release()
        while (received := await self._receive_queue.receive()) is not None:
            await self.turns.take()
            if self.session is not None:
                self.session.charge_frames(received.frames, now_ns=now_ns())
                if self.session.excessive and self._state in _ENDED:
                    return  # nothing more of what it has sent too much of is read
            if not await self._handle_all(received, now_ns, answer):
                return
            received = None  # it would stay in memory until the next message
            await self._pause_if_excessive()

    async def _handle_all(
        self, received: Received, now_ns: Callable[[], int], answer: Callable[[Unanswered], Awaitable[None]]
    ) -> bool:
        """Handle some messages; return False if the last one is a close frame."""
        for message in received.messages:
            if message.opcode is Opcode.CLOSE:
                self._answer_close(message.close_code)
                return False
            answers_ping = self._state is State.LOST and message.opcode is Opcode.PONG
            if self._state not in _ACTIVE and not answers_ping:
                continue
            unanswered = self._handle(message, now_ns())
            if unanswered is not None:
                await answer(unanswered)
            elif message is not received.messages[-1] and message.opcode is not Opcode.PONG:
                await self.turns.take()  # what a message asks for may take milliseconds
            if self._protocol.writing_paused and self.can_write:
                # A client that does not read its answers gets no more of them until it does.
                self._on_lag()
                self._writable = asyncio.Event()
                await self._writable.wait()
            await self._pause_if_excessive()
        if received.violation is not None:
            self.close(CloseCode(received.violation))
        return True

    async def _pause_if_excessive(self) -> None:
        """Wait before more is read from a client that exceeds a rate limit."""
        if self.session is not None and self.session.excessive and self._state in _ACTIVE:
            self.session.excessive = False
            await asyncio.sleep(_RATE_LIMIT_PAUSE_SECONDS)

    def _frame(self, message: messages.ServerMessage) -> bytes:
        frame = text_frame(msgspec.json.encode(message))
        return frame if self._encode is None else self._encode(frame)

    def _handle(self, message: Message, now_ns: int) -> Unanswered | None:
        """Handle a message; return it if this connection cannot answer it alone."""
        session = self.session
        match message.opcode:
            case Opcode.TEXT if session is not None:
                return self._receive(session, message.text, now_ns)
            case Opcode.PONG if session is not None:
                self.heartbeat.on_pong(self, message.data, now=asyncio.get_running_loop().time())
                self.hub.on_pong(session, message.data)
            case Opcode.PING if session is not None and not self._transport.is_closing():
                if session.may_ping(now_ns=now_ns):
                    self._writer.write(pong_frame(message.data))
            case Opcode.BINARY:
                return self._receive_binary(message.data, now_ns)
        return None

    def _receive(self, session: Session, text: str | bytes, now_ns: int) -> Unanswered | None:
        outcome = self.hub.receive(session, text, now_ns=now_ns)
        return outcome if isinstance(outcome, Unanswered) else None

    def _receive_binary(self, data: bytes, now_ns: int) -> Unanswered | None:
        if self._decode is None:
            self.close(CloseCode.BINARY)
        elif self.session is not None:
            try:
                text = self._decode(data)
            except RequestError as error:
                self.session.refuse_invalid(error, now_ns=now_ns)
            else:
                return self._receive(self.session, text, now_ns)
        return None

    def _answer_close(self, code: int) -> None:
        """Echo the peer's close code; 0 stands for a close frame without one."""
        if self._state not in _UNCLOSED:
            return  # it answers ours
        self._state = State.CLOSED
        self.code = code or 1005
        self._abort_soon()  # it may not read the answer
        self._detach()
        if not self._transport.is_closing():
            self._writer.write(close_frame(code or 1000))

    def _abort_soon(self) -> None:
        self._abort_timer = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._transport.abort)

    def _wake(self) -> None:
        if self._writable is not None:
            self._writable.set()
        if self._closed is not None and self._state in _ENDED:
            self._closed.set()

    def _detach(self) -> None:
        if self._reader is not None:  # also if there never was a session
            self.hub.fanout.remove(self._reader)
            self._reader = None
        if self.session is not None:
            self.session.detach()

    def on_lost(self) -> None:
        self._state = State.LOST if self._state in _ACTIVE else State.CLOSED
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        self._detach()
        self._wake()

    def _on_lag(self) -> None:
        self.heartbeat.mark_stalled(self, now=asyncio.get_running_loop().time())

    def _on_turn_end(self) -> None:
        """Let others have their turn before this client gets more, unless this is its last turn."""
        if self._state in _ACTIVE:
            self.on_buffer_full()
            asyncio.get_running_loop().call_soon(self.on_writable)

    def _on_failure(self) -> None:
        self._reader = None  # the fan-out has removed it
        self.close(CloseCode.INTERNAL)

    def on_buffer_full(self) -> None:
        if self._reader is not None:
            self.hub.fanout.on_full(self._reader)

    def on_writable(self) -> None:
        if self._protocol.writing_paused:
            return  # it is full again, and this will be called again
        if self._writable is not None:
            self._writable.set()
        reader, fanout = self._reader, self.hub.fanout
        if reader is not None:
            fanout.on_drained(reader)
            if reader in fanout.lagging and not fanout.catch_up(reader):
                self._on_lag()
                return
        self.heartbeat.clear_stalled(self)

    def _closing_bytes(self, code: CloseCode) -> bytes:
        """Return the last bytes: why this side closes, and when to reconnect."""
        spread_ms = self.spread_seconds * 1000
        after_ms = round(random.uniform(0, spread_ms)) if code.reconnect else 0  # noqa: S311  # a delay, no secret
        message = messages.ClosingMessage(code=code, reason=code.reason, reconnect=code.reconnect, after_ms=after_ms)
        if self._format is not None:
            return self._format.last_bytes(message)
        return self._frame(message) + close_frame(code, code.reason)
