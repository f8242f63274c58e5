"""Between a WebSocket's client, who sends when it likes, and its connection, which takes its time."""

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Callable
from typing import Literal

from aiohttp import web

from gateway.core.protocol import deflate
from gateway.core.protocol.frames import Violation
from gateway.core.protocol.parser import Message, Parser
from gateway.web.sockets.http import HttpProtocol


UNTAKEN_BYTES_MAX = 65_536
"""When messages of this size wait to be taken, no more is read from the socket."""
_MESSAGE_BYTES = 100
"""What a message takes up beside its data."""


class ReceiveQueue:
    """What a WebSocket's client has said, until it is taken; meanwhile not much more is read.

    It stands where aiohttp has its own parser.
    """

    __slots__ = (
        "_bytes",
        "_ended",
        "_messages",
        "_parser",
        "_paused",
        "_protocol",
        "_waiter",
        "on_violation",
        "violation",
    )

    def __init__(self, protocol: HttpProtocol, parser: Parser) -> None:
        self.on_violation: Callable[[int], object] | None = None
        self.violation: int | None = None
        """The close code for what the client did wrong; nothing that it sends after that is looked at."""
        self._bytes = 0
        self._ended = False
        self._messages: list[Message] = []
        self._parser = parser
        self._paused = False
        self._protocol = protocol
        self._waiter: asyncio.Future[None] | None = None

    async def take(self) -> list[Message]:
        """Wait for messages; none means that nothing comes any more."""
        if self._paused and not self._messages:
            self._paused = False
            self._flow("resume_reading")
        while not self._messages and not self._ended:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        taken, self._messages, self._bytes = self._messages, [], 0
        return taken

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take what has come (aiohttp's side)."""
        if self.violation is None:
            try:
                for message in self._parser.feed(data):
                    self._messages.append(message)
                    self._bytes += len(message.data) + _MESSAGE_BYTES
            except Violation as violation:
                self.violation = violation.code  # not itself: it holds all that was being read
                if self.on_violation is not None:
                    self.on_violation(violation.code)
            if self._bytes > UNTAKEN_BYTES_MAX and not self._paused:
                self._paused = True
                self._flow("pause_reading")
            self._wake()
        return False, b""

    def feed_eof(self) -> None:
        """Take note that nothing comes any more (aiohttp's side)."""
        self._ended = True
        self.on_violation = None  # it leads to who holds this
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _flow(self, what: Literal["pause_reading", "resume_reading"]) -> None:
        transport = self._protocol.transport
        if transport is not None and not transport.is_closing():
            getattr(transport, what)()


_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION = "13"


async def upgrade(
    request: web.Request, *, protocol: str, message_bytes_max: int, compression: bool
) -> tuple[web.StreamResponse, ReceiveQueue, int | None]:
    """Answer an opening handshake.

    Returns the answer, what the client says from now on, and the base-2 logarithm of the window for
    which it takes compressed messages, if it does. `protocol` is the subprotocol spoken here, for
    those who ask for one.

    Raises:
        web.HTTPUpgradeRequired: This is no opening handshake.
    """
    answer = web.StreamResponse(status=101, headers=_answer(request, protocol))
    agreed = None
    if compression:
        agreed = deflate.negotiate(",".join(request.headers.getall(_EXTENSIONS, [])))
    if agreed is not None:
        answer.headers[_EXTENSIONS] = agreed[1]
    answer.force_close()
    await answer.prepare(request)
    stream = request.protocol
    assert isinstance(stream, HttpProtocol)
    parser = Parser(
        message_bytes_max=message_bytes_max, inflate=deflate.inflate if agreed else None
    )
    receive_queue = ReceiveQueue(stream, parser)
    stream.set_parser(receive_queue)  # type: ignore[arg-type]  # of it only feed_data and feed_eof are used
    stream.keep_alive(False)
    return answer, receive_queue, agreed[0] if agreed else None


_EXTENSIONS = "Sec-WebSocket-Extensions"
_PROTOCOL = "Sec-WebSocket-Protocol"


def _answer(request: web.Request, protocol: str) -> dict[str, str]:
    headers = request.headers
    key = headers.get("Sec-WebSocket-Key", "")
    if (
        headers.get("Upgrade", "").strip().lower() != "websocket"
        or "upgrade" not in _tokens(request, "Connection")
        or headers.get("Sec-WebSocket-Version", "").strip() != _VERSION
        or not _is_key(key)
    ):
        raise web.HTTPUpgradeRequired(
            text="this address speaks WebSocket, version 13",
            headers={"Upgrade": "websocket", "Sec-WebSocket-Version": _VERSION},
        )
    digest = hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()
    answer = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": base64.b64encode(digest).decode(),
    }
    if protocol in _tokens(request, _PROTOCOL):
        answer[_PROTOCOL] = protocol
    return answer


def _tokens(request: web.Request, header: str) -> list[str]:
    text = ",".join(request.headers.getall(header, []))
    return [one.strip() if header == _PROTOCOL else one.strip().lower() for one in text.split(",")]


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except (binascii.Error, ValueError):  # the latter if it is not ASCII
        return False
