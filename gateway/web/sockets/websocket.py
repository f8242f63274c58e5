"""The WebSocket opening handshake (RFC 6455, section 4), and the queue of received messages."""

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from gateway.core.protocol import deflate
from gateway.core.protocol.frames import Violation
from gateway.core.protocol.parser import Message, Parser
from gateway.web.sockets.http import HttpProtocol


QUEUED_BYTES_MAX = 65_536
"""When queued messages exceed this size, reading from the socket pauses."""
_MESSAGE_BYTES = 100
"""What a queued message takes in memory beside its data."""


@dataclass(slots=True, eq=False, repr=False)
class ReceiveQueue:
    """A client's messages, parsed and queued until they are handled; a full queue pauses reading."""

    _protocol: HttpProtocol
    _parser: Parser
    on_violation: Callable[[int], object] | None = None
    violation: int | None = None
    """The close code for a violation of the protocol; all data after it is ignored."""
    _bytes: int = 0
    _ended: bool = False
    _messages: list[Message] = field(default_factory=list)
    _paused: bool = False
    _waiter: asyncio.Future[None] | None = None

    async def get_messages(self) -> list[Message]:
        """Wait for messages and return all that are queued; an empty list means the end."""
        if self._paused and not self._messages:
            self._set_paused(False)
        while not self._messages and not self._ended:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        messages, self._messages, self._bytes = self._messages, [], 0
        return messages

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Parse what the socket received (called by aiohttp)."""
        if self.violation is None:
            try:
                for message in self._parser.feed(data):
                    self._messages.append(message)
                    self._bytes += len(message.data) + _MESSAGE_BYTES
            except Violation as violation:
                self.violation = violation.code  # only the code: its traceback holds the data
                if self.on_violation is not None:
                    self.on_violation(violation.code)
            if self._bytes > QUEUED_BYTES_MAX and not self._paused:
                self._set_paused(True)
            self._wake()
        return False, b""

    def feed_eof(self) -> None:
        """Note that no more data will be received (called by aiohttp)."""
        self._ended = True
        self.on_violation = None  # it refers to the connection, which refers to this
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _set_paused(self, paused: bool) -> None:
        self._paused = paused
        transport = self._protocol.transport
        if transport is not None and not transport.is_closing():
            (transport.pause_reading if paused else transport.resume_reading)()


_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION = "13"
_EXTENSIONS = "Sec-WebSocket-Extensions"
_PROTOCOL = "Sec-WebSocket-Protocol"


async def upgrade(
    request: web.Request, *, protocol: str, message_bytes_max: int, compression: bool
) -> tuple[web.StreamResponse, ReceiveQueue, int | None]:
    """Answer an opening handshake.

    Returns the response, the queue of the client's messages, and the base-2 logarithm of the window
    for compressed messages, or None if they are not compressed. `protocol` is chosen as subprotocol
    if the client offers it.
    Raises web.HTTPUpgradeRequired: the request is not an opening handshake."""
    response = web.StreamResponse(status=101, headers=_response_headers(request, protocol))
    agreed = None
    if compression:
        agreed = deflate.negotiate(",".join(request.headers.getall(_EXTENSIONS, [])))
    if agreed is not None:
        response.headers[_EXTENSIONS] = agreed[1]
    response.force_close()
    await response.prepare(request)
    connection = request.protocol
    assert isinstance(connection, HttpProtocol)
    parser = Parser(message_bytes_max=message_bytes_max, inflate=deflate.inflate if agreed else None)
    receive_queue = ReceiveQueue(connection, parser)
    connection.upgrade(receive_queue)
    return response, receive_queue, agreed[0] if agreed else None


def _response_headers(request: web.Request, protocol: str) -> dict[str, str]:
    headers = request.headers
    key = headers.get("Sec-WebSocket-Key", "")
    if (
        headers.get("Upgrade", "").strip().lower() != "websocket"
        or "upgrade" not in map(str.lower, _values(request, "Connection"))
        or headers.get("Sec-WebSocket-Version", "").strip() != _VERSION
        or not _is_key(key)
    ):
        raise web.HTTPUpgradeRequired(
            text="this address serves WebSocket, version 13; connect with a WebSocket client",
            headers={"Upgrade": "websocket", "Sec-WebSocket-Version": _VERSION},
        )
    digest = hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()
    found = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": base64.b64encode(digest).decode()}
    if protocol in _values(request, _PROTOCOL):
        found[_PROTOCOL] = protocol
    return found


def _values(request: web.Request, header: str) -> list[str]:
    return [one.strip() for one in ",".join(request.headers.getall(header, [])).split(",")]


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except (binascii.Error, ValueError):  # ValueError if it is not ASCII
        return False
