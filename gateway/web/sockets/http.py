"""aiohttp's server side, with what the gateway must know and aiohttp does not tell.

aiohttp does HTTP. Added here: a limit for the head of a request, which is forgotten once it has
become a WebSocket; a call when a socket takes data again, and another when it is gone.
"""

from collections.abc import Callable
from typing import Any, Protocol

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.protocol.errors import ErrorCode
from gateway.logs import logger
from gateway.web.problems import problem


log = logger("gateway.http")

HEAD_BYTES_MAX = 32_768
"""What the request line and all headers of a request may come to."""
HEADERS_MAX = 100
HEADERS_ADVICE = (
    f"at most {HEADERS_MAX} headers of 8190 bytes each, in all {HEAD_BYTES_MAX} bytes, are read"
)
CLOSE_SECONDS = 3.0
"""How long a peer may take to answer a close frame."""


class Slot(Protocol):
    """Who is told what a socket does; see `gateway.web.listener`."""

    def busy(self) -> None:
        """Take note that a whole head of a request has come."""
        ...

    def idle(self) -> None:
        """Take note that a request has been answered."""
        ...

    def stalled(self, unread_bytes: int) -> None:
        """Take note that the peer does not read an answer."""
        ...

    def flows(self) -> None:
        """Take note that it does again."""
        ...

    def leave(self) -> None:
        """Take note that the socket is closed."""
        ...


class HttpProtocol(RequestHandler):  # type: ignore[misc,type-arg,unused-ignore]  # aiohttp marks it final only in docs
    """One connection to a client: aiohttp's, with a call when it is full, writable again, or lost."""

    __slots__ = ("_heads", "_slot", "on_full", "on_lost", "on_writable")

    def __init__(self, *args: Any, slot: Slot, **kwargs: Any) -> None:  # Any: passed to aiohttp
        super().__init__(*args, max_headers=HEADERS_MAX, **kwargs)
        self._slot = slot
        self._heads = _Heads(self._parser, slot.busy)
        self._parser = self._heads  # type: ignore[assignment]  # same methods
        self.on_full: Callable[[], object] | None = None
        self.on_writable: Callable[[], object] | None = None
        self.on_lost: Callable[[], object] | None = None

    def forget_head(self) -> None:
        """Let go of the head of the request, and of what parsed it: a WebSocket stays for long."""
        self._heads.forget()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note at once that nothing can be written any more: uvloop raises if it is tried."""
        if self.on_lost is not None:
            self.on_lost()
        self._slot.leave()
        # Not the error: with it a cycle holds an unread answer until the collector comes by.
        super().connection_lost(None)
        self.on_full = self.on_lost = self.on_writable = None  # nor any other cycle
        self._heads.forget()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP without an error of ours in the log."""
        if status >= 500 and not isinstance(exc, ConnectionError):  # who has gone needs no answer
            return super().handle_error(request, status, exc, message)
        # Not the parser's own words: they quote what came, and that may be a token.
        log.debug("http_request_malformed", address=request.remote, reason=type(exc).__name__)
        if isinstance(exc, LineTooLong) or "Too many headers" in (message or ""):
            response = problem(ErrorCode.HEADERS_TOO_LARGE, HEADERS_ADVICE)
        else:
            response = problem(
                ErrorCode.INVALID_FIELD, "this is not HTTP as it should be", status=status
            )
        response.force_close()
        return response

    async def finish_response(self, *args: Any) -> Any:  # Any: aiohttp's request and response
        """Note that a request has been answered."""
        finished = await super().finish_response(*args)
        if self.transport is not None:
            self._slot.idle()
        return finished

    def pause_writing(self) -> None:
        """Note that the peer does not read; streams have a log to read on from, answers do not."""
        super().pause_writing()
        if self.on_full is not None:
            self.on_full()
        elif self.transport is not None:
            self._slot.stalled(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Note that the socket takes data again."""
        super().resume_writing()
        self._slot.flows()
        if self.on_writable is not None:
            # Not now: the transport is in the middle of its own bookkeeping.
            self._loop.call_soon(self.on_writable)


class _Heads:
    """A parser of requests that is fed no endless head, and may forget that of an upgrade."""

    __slots__ = ("_body", "_headers", "_left", "_on_head", "_parser")

    def __init__(self, parser: Any, on_head: Callable[[], None]) -> None:  # Any: aiohttp's parser
        self._parser = parser
        self._on_head = on_head
        self._body: Any = None  # Any: aiohttp's StreamReader
        self._headers: CIMultiDict[str] = CIMultiDict()
        self._left = HEAD_BYTES_MAX

    def forget(self) -> None:
        """Drop the head of an upgrade that was accepted, or of whatever came last."""
        self._headers.clear()
        self._body = self._parser = None

    def __getattr__(self, name: str) -> Any:  # Any: whatever else the parser can do
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> Any:  # Any: messages, whether upgraded, what is left over
        if self._left < 0:
            return (), False, b""
        between = self._body is None or self._body.is_eof()
        found = self._parser.feed_data(data)
        if found[0]:
            message, self._body = found[0][-1]
            if message.upgrade:  # aiohttp keeps its message for as long as the connection
                self._headers = CIMultiDict(message.headers)
                message = message._replace(headers=CIMultiDictProxy(self._headers), raw_headers=())
                found[0][-1] = message, self._body
            self._left = HEAD_BYTES_MAX
            self._on_head()
        elif between:
            self._left -= len(data)
            if self._left < 0:
                raise LineTooLong(b"", HEAD_BYTES_MAX)
        return found
