"""aiohttp's HTTP server protocol, with limits and callbacks that aiohttp does not offer.

This is the only file that uses more of aiohttp than its documentation promises. `make newest-aiohttp`
runs the HTTP and WebSocket tests against the newest release that pyproject.toml allows. What is used:

`RequestHandler` as a base class
    It is documented as final. Overridden: `connection_lost`, `pause_writing`, `resume_writing` (as in
    asyncio.Protocol), `handle_error`, `log_exception` and `finish_response`. If `finish_response` is renamed, idle
    keep-alive connections are never the first to go when sockets run out.
`max_headers`, `max_line_size`, `max_field_size` (keywords)
    Limit the number of headers, the request line and each header. If it is gone, construction fails.
`_parser`
    The request parser, replaced by `_HeadLimit`. If it is renamed, request heads have no limit in
    total and a WebSocket keeps its request's headers in memory. `_HeadLimit` needs `feed_data` to
    return (messages, upgraded, rest), and messages to be named tuples with `upgrade` and `headers`.
`set_parser`, `keep_alive`
    Hand a connection over to the WebSocket parser, which needs `feed_data` and `feed_eof`. If they
    are gone, every upgrade fails.
`_messages`
    The requests that are received and not answered. If it is renamed, a WebSocket takes 700 bytes more.
`writing_paused`, `_loop`
    Whether the write buffer is full, and the event loop.
`feed_eof` of a body
    Ends the wait for the rest of a body that was not read. If it is gone, every upgrade fails.
`LineTooLong`, "Too many headers"
    The exception and the text of the exception that stand for 431 instead of 400."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.protocol.errors import ErrorCode
from gateway.runtime.logs import logger
from gateway.web.problems import drop_traceback, problem


log = logger("gateway.http")

HEAD_BYTES_MAX = 32_768
"""Limit for the request line and all headers of a request together."""
HEADERS_MAX = 100
HEADERS_ADVICE = (
    f"the request head is too large; at most {HEADERS_MAX} headers of `clients.header_bytes_max` each and "
    f"{HEAD_BYTES_MAX} bytes in total are accepted"
)
CLOSE_SECONDS = 3.0
"""How long a peer may take to answer a close frame."""


class Slot(Protocol):
    """What is notified of a socket's progress; see `gateway.web.sockets.listener`."""

    def request_begun(self) -> None: ...
    def request_received(self) -> None: ...
    def request_answered(self) -> None: ...
    def writing_stalled(self, unread_bytes: int) -> None: ...
    def writing_resumed(self) -> None: ...
    def release(self) -> None: ...


class SocketUser(Protocol):
    """What is notified of the progress of a socket whose answer does not end with the request."""

    def on_buffer_full(self) -> None: ...
    def on_writable(self) -> None: ...
    def on_lost(self) -> None: ...


class StreamParser(Protocol):
    """What receives a connection's bytes after an upgrade."""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]: ...
    def feed_eof(self) -> None: ...


class RequestHandler(web.RequestHandler):  # type: ignore[misc,type-arg,unused-ignore]  # final only in the documentation
    """aiohttp's, which ends what waits for a client that has gone, and without one exception in the log: a request that
    ends when the shutdown gives it up sets a waiter that was cancelled."""

    __slots__ = ("_waits",)

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        self._waits: asyncio.Task[Any] | None = None

    @contextlib.contextmanager
    def ending_with_connection(self) -> Iterator[None]:
        """Cancel the current task if the connection is lost within the block: what it waits for is for nobody then, and
        the part of a body that has come stays in memory meanwhile."""
        if self.transport is None:
            raise asyncio.CancelledError
        self._waits = asyncio.current_task()
        try:
            yield
        finally:
            self._waits = None

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._waits is not None:
            self._waits.cancel()
        super().connection_lost(exc)

    def log_exception(self, *args: Any, **how: Any) -> None:
        if not isinstance(how.get("exc_info"), asyncio.InvalidStateError):
            super().log_exception(*args, **how)


def ending_with_connection(request: web.Request) -> contextlib.AbstractContextManager[None]:
    """See `RequestHandler`; does nothing where another server than the gateway's serves the application."""
    protocol = request.protocol
    return protocol.ending_with_connection() if isinstance(protocol, RequestHandler) else contextlib.nullcontext()


class HttpProtocol(RequestHandler):
    """One connection of a client: with callbacks for a full buffer, a writable socket, and its end."""

    __slots__ = ("_slot", "head", "user")

    def __init__(
        self,
        server: web.Server,  # type: ignore[type-arg,unused-ignore]
        *,
        slot: Slot,
        loop: asyncio.AbstractEventLoop,
        keepalive_seconds: float,
        header_bytes_max: int,
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=keepalive_seconds,
            lingering_time=CLOSE_SECONDS,
            access_log=None,  # as web.AppRunner passes it
            auto_decompress=False,  # bodies are JSON; a compressed one could expand without limit
            max_line_size=header_bytes_max,
            max_field_size=header_bytes_max,
            max_headers=HEADERS_MAX,
        )
        self._slot = slot
        self.head = _HeadLimit(self._parser, slot)
        self._parser = self.head  # type: ignore[assignment]  # same methods
        self.user: SocketUser | None = None

    def upgrade(self, parser: StreamParser) -> None:
        """Pass all further bytes of the connection to a parser."""
        self.set_parser(parser)  # type: ignore[arg-type]  # only feed_data and feed_eof are used
        self.keep_alive(False)
        self._messages = [*self._messages]  # type: ignore[assignment]  # a deque takes 760 bytes, also without any

    def connection_lost(self, exc: BaseException | None) -> None:
        """Report the end at once: uvloop raises on any write from now on."""
        if self.user is not None:
            self.user.on_lost()
        self._slot.release()
        # Without the exception: its cycle keeps an unread answer alive until the garbage collector runs.
        super().connection_lost(None)
        self.user = None  # no other cycle either
        for request, _ in self._messages:  # what followed an upgrade, and is not HTTP
            drop_traceback(getattr(request, "exc", None))
        self.head.release()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer malformed HTTP with a problem; only our own errors are logged as errors."""
        if status >= 500 and not isinstance(exc, ConnectionError):  # after those nobody reads
            return super().handle_error(request, status, exc, message)
        drop_traceback(exc)
        # Not the parser's message: it quotes the input, and that may be a token.
        log.debug("http_request_malformed", address=request.remote, reason=type(exc).__name__)
        if isinstance(exc, LineTooLong) or "Too many headers" in (message or ""):
            response = problem(ErrorCode.HEADERS_TOO_LARGE, HEADERS_ADVICE)
        else:
            response = problem(ErrorCode.INVALID_FIELD, "the request is not valid HTTP/1.1", status=status)
        response.force_close()
        return response

    async def finish_response(self, *args: Any) -> Any:  # Any: aiohttp's request and response
        finished = await super().finish_response(*args)
        if self.transport is not None:
            self._slot.request_answered()
        return finished

    def pause_writing(self) -> None:
        """Report a full buffer; a peer that does not read an HTTP answer has a deadline."""
        super().pause_writing()
        if self.user is not None:
            self.user.on_buffer_full()
        elif self.transport is not None:
            self._slot.writing_stalled(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._slot.writing_resumed()
        if self.user is not None:
            # Later: the transport is still updating its own state.
            self._loop.call_soon(self.user.on_writable)


class _HeadLimit:
    """A request parser that limits the size of heads, and can free the head of an upgrade."""

    __slots__ = ("_body", "_bytes_left", "_headers", "_parser", "_slot")

    def __init__(self, parser: Any, slot: Slot) -> None:  # Any: aiohttp's parser
        self._parser = parser
        self._slot = slot
        self._body: Any = None  # Any: aiohttp's StreamReader
        self._headers: CIMultiDict[str] = CIMultiDict()
        self._bytes_left = HEAD_BYTES_MAX

    def release(self) -> None:
        """Free the head of an accepted upgrade, and the parser: a WebSocket lasts for long. No more of a body will come."""
        if self._body is not None:
            self._body.feed_eof()  # aiohttp waits for the rest of one that was not read, also from a peer that has gone
        self._headers.clear()
        self._body = self._parser = None

    def __getattr__(self, name: str) -> Any:  # Any: the parser's other methods
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> Any:  # Any: messages, whether upgraded, the rest
        if self._bytes_left < 0:
            return (), False, b""
        between_bodies = self._body is None or self._body.is_eof()
        found = self._parser.feed_data(data)
        if found[0]:
            message, self._body = found[0][-1]
            if message.upgrade:  # aiohttp keeps the message for as long as the connection
                self._headers = CIMultiDict(message.headers)
                message = message._replace(headers=CIMultiDictProxy(self._headers), raw_headers=())
                found[0][-1] = message, self._body
            self._bytes_left = HEAD_BYTES_MAX
            self._slot.request_received()
        elif between_bodies and data:
            self._slot.request_begun()
            self._bytes_left -= len(data)
            if self._bytes_left < 0:
                raise LineTooLong(b"", HEAD_BYTES_MAX)
        return found
