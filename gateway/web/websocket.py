"""The WebSocket endpoint: one connection's way from handshake to close."""

import asyncio
import random
import secrets
import socket
import uuid
from collections.abc import Mapping

import msgspec
from aiohttp import WSMsgType, web

from gateway.core import messages
from gateway.core.errors import CloseCode, ErrorCode, RequestError
from gateway.core.fanout import Offsets, Reader
from gateway.core.frames import pong_frame, text_frame
from gateway.core.hub import Arrival
from gateway.core.messages import Position
from gateway.core.session import Session
from gateway.logs import logger
from gateway.web.context import CONTEXT, Context
from gateway.web.transport import CLOSE_SECONDS, Protocol, Socket


log = logger("gateway.websocket")

_SECRET_BYTES = 24
_USER_CHARS_MAX = 128
_DIGITS_MAX = 9
_ABNORMAL = 1006


class Connection:
    """One client's socket, bound to its session while it lasts."""

    __slots__ = (
        "_closing",
        "_context",
        "_loop",
        "_protocol",
        "_socket",
        "_transport",
        "_writable",
        "address",
        "code",
        "connected_ns",
        "heard",
        "session",
    )

    def __init__(self, context: Context, request: web.Request, ws: Socket) -> None:
        protocol, transport = request.protocol, request.transport
        assert isinstance(protocol, Protocol)
        assert transport is not None
        self.address = request.remote or ""
        self.code = _ABNORMAL
        self.connected_ns = context.now_ns()
        self.heard = True
        self.session: Session | None = None
        self._closing: asyncio.Task[None] | None = None
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._socket = ws
        self._transport = transport
        self._writable: asyncio.Event | None = None
        limits = context.config.clients
        transport.set_write_buffer_limits(high=limits.buffer_bytes_max)
        if limits.send_buffer_bytes:
            raw: socket.socket = transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.send_buffer_bytes)
        ws.farewell = self._farewell
        protocol.on_writable = self._resume
        protocol.on_violation = self._violated
        protocol.on_lost = self._lost
        if protocol.violation is not None:  # in the same segment as the handshake
            self._violated()

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
        return 0 if reader is None else self._context.hub.fanout.lag(reader)

    @property
    def lagging(self) -> bool:
        """Whether the client is behind and reads on from the log."""
        reader = self.session.reader if self.session else None
        return reader in self._context.hub.fanout.lagging

    def reader(self) -> Reader:
        """Make the reader that writes to this socket."""
        return Reader(write=self._transport.write, flow=self._protocol, on_lag=self._stall)

    def ping(self, frame: bytes, payload: bytes, heads: Offsets) -> None:
        """Ask for a sign of life."""
        if self._transport.is_closing():
            return
        self.heard = False
        if self.session is not None:
            self.session.pinged(payload, heads)
        self._transport.write(frame)

    def end(self, code: CloseCode) -> None:
        """Begin to close the connection from this side; once begun, nothing changes it."""
        if self._closing is None:
            self._closing = self._loop.create_task(self._end(code))

    async def ended(self) -> None:
        """Wait until a close that this side began is through."""
        if self._closing is not None:
            await asyncio.wait([self._closing])

    async def serve(self) -> None:
        """Handle the client's messages until the connection is closed, by whichever side."""
        hub, now_ns = self._context.hub, self._context.now_ns
        while True:
            message = await self._socket.receive()
            self.heard = True
            match message.type:
                case WSMsgType.TEXT:
                    if self.session is not None:
                        hub.receive(self.session, message.data, now_ns=now_ns())
                case WSMsgType.PONG:
                    if self.session is not None:
                        self.session.ponged(bytes(message.data))
                case WSMsgType.PING if not self._transport.is_closing():
                    self._transport.write(pong_frame(bytes(message.data)))
                case WSMsgType.BINARY:
                    self.end(CloseCode.BINARY)
                case WSMsgType.CLOSE:
                    self.code = message.data or 1005
                    break
                case _:  # CLOSING, CLOSED, ERROR
                    break
            if self._protocol.writing_paused:
                # Who sends without reading gets no more answers until it reads.
                await self._until_writable()
        await self.ended()

    async def _until_writable(self) -> None:
        self._context.pulse.stalled(self, now=self._loop.time())
        self._writable = asyncio.Event()
        await self._writable.wait()

    def _lost(self) -> None:
        """Write nothing more: the socket is gone, though its handler may not know yet."""
        if self.session is not None:
            self.session.detach()
        if self._writable is not None:
            self._writable.set()

    def _violated(self) -> None:
        self.end(CloseCode.PROTOCOL_ERROR)

    def _stall(self) -> None:
        self._context.pulse.stalled(self, now=self._loop.time())

    def _resume(self) -> None:
        """Go on where the socket stopped taking data."""
        if self._writable is not None:
            self._writable.set()
        reader = self.session.reader if self.session else None
        fanout = self._context.hub.fanout
        if reader is not None and reader in fanout.lagging and not fanout.catch_up(reader):
            self._stall()
        else:
            self._context.pulse.flows(self)

    def _farewell(self, code: int) -> None:
        """Tell the client why, and when to come back."""
        try:
            why = CloseCode(code)
        except ValueError:  # aiohttp tidies up after a peer that vanished
            return
        self.code = code
        spread_ms = self._context.config.shutdown.spread_seconds * 1000
        message = messages.ClosingMessage(
            code=why,
            reason=why.reason,
            reconnect=why.reconnect,
            after_ms=round(random.uniform(0, spread_ms)) if why.reconnect else 0,  # noqa: S311  # a delay, no secret
        )
        if not self._transport.is_closing():
            self._transport.write(text_frame(msgspec.json.encode(message)))

    async def _end(self, code: CloseCode) -> None:
        if self._writable is not None:
            self._writable.set()
        try:
            async with asyncio.timeout(CLOSE_SECONDS + 0.5):
                await self._socket.close(code=code, message=code.reason.encode())
        except TimeoutError:
            pass
        finally:
            # A socket that takes nothing would keep its buffer until the kernel gives up.
            self._transport.abort()


async def websocket(request: web.Request) -> web.StreamResponse:
    """Serve one client at ``/ws``; see docs/protocol.md, part 2."""
    context = request.app[CONTEXT]
    ws = Socket(message_bytes_max=context.config.clients.message_bytes_max)
    if not ws.can_prepare(request):
        raise web.HTTPUpgradeRequired(
            text="this address speaks WebSocket", headers={"Upgrade": "websocket"}
        )
    await ws.prepare(request)
    if request.transport is None:
        return ws
    connection = Connection(context, request, ws)
    if len(context.connections) >= context.config.clients.connections_max:
        connection.end(CloseCode.TRY_LATER)
        await connection.serve()
        return ws
    try:
        _arrive(context, connection, request)
        await connection.serve()
    except Exception:
        log.exception("connection failed", client_id=connection.client_id)
        connection.end(CloseCode.INTERNAL)
        await connection.ended()
    finally:
        _leave(context, connection)
    return ws


async def close_all(context: Context, code: CloseCode) -> None:
    """Send every client away and wait until all are gone."""
    connections = list(context.connections.values())
    for connection in connections:
        connection.end(code)
    await asyncio.gather(*(connection.ended() for connection in connections))


def _arrive(context: Context, connection: Connection, request: web.Request) -> None:
    """Give a connection its session: a new one, or the one that its secret opens."""
    hub, now_ns = context.hub, context.now_ns()
    error = None
    try:
        arrival = _arrival(request.query)
    except RequestError as wrong:
        arrival, error = _arrival({}), wrong
    held = hub.attached(arrival.session, now_ns=now_ns) if arrival.session else None
    if held is not None:
        old = context.connections[held.client_id]
        old.end(CloseCode.SESSION_TAKEN_OVER)
        _leave(context, old, code=CloseCode.SESSION_TAKEN_OVER)
    session = hub.arrive(arrival, connection.reader, now_ns=now_ns)
    connection.session = session
    context.connections[session.client_id] = connection
    context.metrics.opened()
    context.pulse.add(connection, now=asyncio.get_running_loop().time())
    if error is not None:
        hub.refuse(session, error)


def _leave(context: Context, connection: Connection, *, code: int | None = None) -> None:
    """Release everything that a connection held; once, whoever comes first."""
    session = connection.session
    if session is None:
        return
    connection.session = None
    now_ns = context.now_ns()
    code = connection.code if code is None else code
    seconds = (now_ns - connection.connected_ns) / 1e9
    context.pulse.remove(connection)
    del context.connections[session.client_id]
    context.hub.depart(session, code=code, seconds=seconds, now_ns=now_ns)
    context.metrics.closed(code, seconds)


def _arrival(query: Mapping[str, str]) -> Arrival:
    """Read what a client brings with its address.

    Raises:
        RequestError: A parameter is not what it should be.
    """
    user_id = query.get("user_id") or None
    if user_id is not None and len(user_id) > _USER_CHARS_MAX:
        raise RequestError(
            ErrorCode.INVALID_FIELD, f"user_id: at most {_USER_CHARS_MAX} characters"
        )
    return Arrival(
        client_id=str(uuid.uuid4()),
        secret=secrets.token_urlsafe(_SECRET_BYTES),
        user_id=user_id,
        session=query.get("session") or None,
        channels=[name for name in query.get("channels", "").split(",") if name],
        last=_last(query.get("last")),
        since=_since(query.get("since")),
    )


def _last(text: str | None) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
        raise RequestError(ErrorCode.INVALID_FIELD, "last: a whole number of events")
    return int(text)


def _since(text: str | None) -> dict[str, Position] | None:
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=dict[str, Position])
    except (msgspec.DecodeError, RecursionError) as error:
        raise RequestError(
            ErrorCode.INVALID_FIELD,
            f'since: {error}; it is JSON like {{"metrics": {{"epoch": "...", "offset": 12}}}}',
        ) from error
