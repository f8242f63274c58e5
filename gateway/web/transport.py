"""aiohttp's server side, with what the gateway must know and aiohttp does not tell.

aiohttp does the HTTP handshake, control frames and inbound parsing. Added here: a look at each
inbound frame before its parser, which accepts unmasked frames and reserved close codes; a call
when a socket takes data again, and another when it is gone.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from gateway.core.errors import ErrorCode
from gateway.core.frames import Inspector, Violation
from gateway.logs import logger
from gateway.web.problems import problem


log = logger("gateway.http")

BACKLOG = 4096
"""Connections that may wait to be accepted: a whole fleet may come back at once."""
CLOSE_SECONDS = 3.0
"""How long a peer may take to answer a close frame."""


class Protocol(RequestHandler):  # type: ignore[misc,type-arg,unused-ignore]  # aiohttp marks it final only in docs
    """One connection to a client: aiohttp's, with inspected frames and a call when writable."""

    __slots__ = ("on_lost", "on_violation", "on_writable", "violation")

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # Any: passed through to aiohttp
        super().__init__(*args, **kwargs)
        self.on_writable: Callable[[], object] | None = None
        self.on_lost: Callable[[], object] | None = None
        self.on_violation: Callable[[], object] | None = None
        self.violation: Violation | None = None
        """What the client did wrong; nothing that it sends after that is looked at."""

    def violated(self, violation: Violation) -> None:
        """Note that the client broke RFC 6455."""
        self.violation = violation
        if self.on_violation is not None:
            self.on_violation()

    def set_parser(
        self, parser: Any, data_received_cb: Callable[[], None] | None = None
    ) -> None:  # Any: aiohttp's parser, of which only feed_data and feed_eof are used
        """Take the WebSocket parser after an upgrade; look at everything it is fed."""
        super().set_parser(_Inspected(self, parser), data_received_cb)  # type: ignore[arg-type]  # same methods

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note at once that nothing can be written any more: uvloop raises if it is tried."""
        if self.on_lost is not None:
            self.on_lost()
        super().connection_lost(exc)

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
        log.debug("not http", address=request.remote, reason=message)
        response = problem(
            ErrorCode.INVALID_FIELD, "this is not HTTP as it should be", status=status
        )
        response.force_close()
        return response

    def resume_writing(self) -> None:
        """Note that the socket takes data again."""
        super().resume_writing()
        if self.on_writable is not None:
            # Not now: the transport is in the middle of its own bookkeeping.
            self._loop.call_soon(self.on_writable)


class _Inspected:
    """A WebSocket parser that only sees frames which RFC 6455 allows."""

    __slots__ = ("_inspector", "_parser", "_protocol")

    def __init__(self, protocol: Protocol, parser: Any) -> None:  # Any: see Protocol.set_parser
        self._protocol = protocol
        self._parser = parser
        self._inspector = Inspector()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        if self._protocol.violation is not None:
            return False, b""
        try:
            self._inspector.feed(data)
        except Violation as violation:
            self._protocol.violated(violation)
            return False, b""
        result: tuple[bool, bytes] = self._parser.feed_data(data)
        return result

    def feed_eof(self) -> None:
        self._parser.feed_eof()


class Socket(web.WebSocketResponse):
    """A WebSocket that is closed by its connection, also where aiohttp decides to.

    `on_close` is called with the close code instead of aiohttp's own closing, which gives no
    reason and does not wait for the peer's answer when another task is reading.
    """

    def __init__(self, *, message_bytes_max: int, protocol: str) -> None:
        super().__init__(
            autoclose=False,
            autoping=False,
            protocols=(protocol,),
            compress=False,
            max_msg_size=message_bytes_max + 1,  # aiohttp's limit is the first size refused
        )
        self.on_close: Callable[[int], object] | None = None

    async def close(self, *, code: int = 1000, message: bytes = b"", drain: bool = True) -> bool:
        """Leave it to the connection, if there is one."""
        if self.on_close is None:
            return await super().close(code=code, message=message, drain=drain)
        self.on_close(code)
        return True


async def listen(
    runner: web.AppRunner, *, host: str, port: int, handshake_seconds: float
) -> asyncio.Server:
    """Accept connections for a set-up runner; the caller closes the server, then the runner.

    A connection must have sent its whole request head within `handshake_seconds`.

    Raises:
        OSError: The address cannot be bound.
    """
    loop = asyncio.get_running_loop()
    server = runner.server
    assert server is not None

    def protocol() -> Protocol:
        return Protocol(
            server,
            loop=loop,
            keepalive_timeout=handshake_seconds,
            access_log=None,
            auto_decompress=False,  # a body is JSON as it is: nothing to inflate, and no bomb
        )

    return await loop.create_server(protocol, host, port, backlog=BACKLOG, reuse_address=True)
