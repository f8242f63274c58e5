"""The WebSocket opening handshake (RFC 6455, section 4), and the queue of received messages."""

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aiohttp import web

from gateway.core.protocol import deflate
from gateway.core.protocol.frames import Violation
from gateway.core.protocol.parser import Message, Parser
from gateway.web.sockets.http import HttpProtocol


QUEUED_BYTES_MAX = 65_536
"""When more bytes than this are queued, reading from the socket pauses."""
FRAMES_AT_ONCE_MAX = 64
"""Frames that are read at once: tiny ones cost as much as others."""


class Received(NamedTuple):
    """The messages in some frames; `violation` is the close code if the next frame violates the protocol."""

    frames: int
    messages: list[Message]
    violation: int | None


@dataclass(slots=True, eq=False, repr=False)
class ReceiveQueue:
    """What a client has sent, queued until it is read; a full queue pauses reading from the socket."""

    _protocol: HttpProtocol
    _parser: Parser
    heard: bool = True
    """Set when the client sends anything."""
    paused: bool = False
    """Whether reading from the socket is paused."""
    _ahead: Received | None = None
    """What was read already, and is received next."""
    _ended: bool = False
    _violated: bool = False
    _waiter: asyncio.Future[None] | None = None

    def begins_with_violation(self) -> bool:
        """Return whether what was received so far violates the protocol, and holds no message before."""
        if self._ahead is None:
            self._ahead = self._read()
        return self._ahead is not None and self._ahead.violation is not None and not self._ahead.messages

    async def receive(self) -> Received | None:
        """Wait for frames, and return the messages in the next ones; None at the end.

        Data behind a violation is ignored."""
        while True:
            if (received := self._ahead or self._read()) is not None:
                self._ahead = None
                return received
            if self._ended:
                return None
            if self.paused:
                self._set_paused(False)
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def _read(self) -> Received | None:
        """Return what is in the next frames; None if none is complete."""
        if self._violated:
            return None
        before, messages, violation = self._parser.frames, [], None
        try:
            for message in self._parser.read(FRAMES_AT_ONCE_MAX):
                messages.append(message)  # noqa: PERF402  # those before a violation count
        except Violation as error:
            violation = error.code  # only the code: its traceback holds the data
            self._violated = True
        frames = self._parser.frames - before
        return Received(frames, messages, violation) if frames or violation else None

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Queue what the socket received (called by aiohttp)."""
        self.heard = True
        if not self._violated:
            self._parser.feed(data)
            if self._parser.unread_bytes > QUEUED_BYTES_MAX:
                self._set_paused(True)  # again, if aiohttp has resumed it behind an upgrade
            self._wake()
        return False, b""

    def feed_eof(self) -> None:
        """Note that no more data will be received (called by aiohttp)."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _set_paused(self, paused: bool) -> None:
        self.paused = paused
        transport = self._protocol.transport
        if transport is not None and not transport.is_closing():
            (transport.pause_reading if paused else transport.resume_reading)()


_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION = "13"
_EXTENSIONS = "Sec-WebSocket-Extensions"
_PROTOCOL = "Sec-WebSocket-Protocol"


async def upgrade(
    request: web.Request, *, protocols: Sequence[str], message_bytes_max: int, compression: bool
) -> tuple[web.StreamResponse, ReceiveQueue, int | None]:
    """Answer an opening handshake.

    Returns the response, the queue of the client's messages, and the base-2 logarithm of the window
    for compressed messages, or None if they are not compressed. The first of `protocols` that the client
    offers is chosen as subprotocol.
    Raises web.HTTPUpgradeRequired: the request is not an opening handshake."""
    response = web.StreamResponse(status=101, headers=_response_headers(request, protocols))
    agreed = None
    if compression:
        agreed = deflate.negotiate(",".join(request.headers.getall(_EXTENSIONS, [])))
    if agreed is not None:
        response.headers[_EXTENSIONS] = agreed[1]
    response.force_close()
    await response.prepare(request)
    response.headers.clear()  # they are sent, and would stay in memory for as long as the connection
    connection = request.protocol
    assert isinstance(connection, HttpProtocol)
    parser = Parser(message_bytes_max=message_bytes_max, inflate=deflate.inflate if agreed else None)
    receive_queue = ReceiveQueue(connection, parser)
    connection.upgrade(receive_queue)
    return response, receive_queue, agreed[0] if agreed else None


def _response_headers(request: web.Request, protocols: Sequence[str]) -> dict[str, str]:
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
    offered = offered_protocols(request)
    chosen = next((one for one in protocols if one in offered), None)
    if chosen is not None:
        found[_PROTOCOL] = chosen
    return found


def offered_protocols(request: web.Request) -> list[str]:
    """Return the subprotocols that a client offers, the one that it likes best first."""
    return _values(request, _PROTOCOL)


def _values(request: web.Request, header: str) -> list[str]:
    return [one.strip() for one in ",".join(request.headers.getall(header, [])).split(",")]


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except (binascii.Error, ValueError):  # ValueError if it is not ASCII
        return False
