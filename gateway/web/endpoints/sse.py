"""Server-Sent Events (HTML standard, section 9.2), at ``/events``: the same stream over plain HTTP.

For `curl` and the browser's EventSource. The id of each event holds the positions of all channels that
the client is subscribed to. A client that reconnects with it, to any gateway, misses nothing."""

from dataclasses import replace

import msgspec
from aiohttp import web
from msgspec import UNSET, Raw, Struct, UnsetType

from gateway.core.protocol import messages
from gateway.core.protocol.errors import CloseCode
from gateway.core.protocol.frames import text_payloads
from gateway.core.protocol.messages import Position
from gateway.core.sessions import requests
from gateway.core.sessions.permissions import Action
from gateway.logs import logger
from gateway.web import admission
from gateway.web.authentication import IDENTITY
from gateway.web.context import CONTEXT
from gateway.web.problems import invalid_field


log = logger("gateway.sse")

ID_BYTES_MAX = 7000
"""The client returns the id in a header, for which aiohttp accepts 8,190 bytes. Longer ids are left out."""

_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # without it nginx collects events until its buffer is full
}


class _Message(Struct):
    """The fields of a message that change positions."""

    type: str
    channel: str = ""
    offset: int = 0
    epoch: str | UnsetType = UNSET
    # In an event these are its publisher's, and may be anything.
    to: Raw = Raw(b"null")
    positions: Raw | UnsetType = UNSET


_NOWHERE = Position("", 0)
_decode = msgspec.json.Decoder(_Message).decode
_decode_to = msgspec.json.Decoder(int | None).decode
_decode_positions = msgspec.json.Decoder(dict[str, Position]).decode
_encode = msgspec.json.encode


class EventStream:
    """The format of one client's stream, and the positions that it has reached."""

    def __init__(self) -> None:
        self._positions: dict[str, Position] = {}

    def encode(self, frames: bytes) -> bytes:
        """Return one chunk, with an event for each text frame."""
        return _chunk(b"".join([self._event(payload) for payload in text_payloads(frames)]))

    def ping(self) -> bytes:
        """Return a comment, which clients ignore."""
        return _chunk(b":\n\n")

    def last_bytes(self, message: messages.ClosingMessage) -> bytes:
        """Return the last event, with the time after which to reconnect."""
        data = b"event: closing\ndata: %b\n\n" % _encode(message)
        return _chunk(b"retry: %d\n%b" % (message.after_ms, data))

    def _event(self, payload: bytes) -> bytes:
        message = _decode(payload)
        fields = b"" if message.type == "event" else b"event: %b\n" % message.type.encode()
        self._advance(message)
        if event_id := self._id():
            fields += b"id: %b\n" % event_id
        # Line breaks in a publisher's JSON are white space between its tokens.
        return b"%bdata: %b\n\n" % (fields, payload.replace(b"\r", b" ").replace(b"\n", b" "))

    def _advance(self, message: _Message) -> None:
        if message.type in {"event", "gap"}:
            before = self._positions.get(message.channel, _NOWHERE)
            if message.epoch is not UNSET and message.epoch != before.epoch:
                before = Position(message.epoch, 0)
            reached = message.offset if message.type == "event" else _decode_to(message.to)
            self._positions[message.channel] = before if reached is None else Position(before.epoch, reached)
        elif message.positions is not UNSET:
            self._positions |= _decode_positions(message.positions)

    def _id(self) -> bytes:
        text = ",".join([f"{n}={at.epoch}:{at.offset}" for n, at in self._positions.items()])
        return text.encode() if len(text) <= ID_BYTES_MAX else b""


def read_event_id(text: str) -> dict[str, Position]:
    """Return the positions in the id of an event. Raises RequestError: the id is invalid."""
    positions = {}
    for part in text.split(","):
        name, equals, position = part.partition("=")
        epoch, colon, offset = position.partition(":")
        if not (equals and colon and offset.isascii() and offset.isdigit() and len(offset) <= 16):
            raise invalid_field(f"Last-Event-ID: {part[:80]!r} is not a position; expected channel=epoch:offset")
        positions[name] = Position(epoch, int(offset))
    return positions


def _chunk(data: bytes) -> bytes:
    """Return a chunk of the body (RFC 9112, section 7.1); aiohttp sends the last one."""
    return b"%x\r\n%b\r\n" % (len(data), data)


async def events(request: web.Request) -> web.StreamResponse:
    """The same stream as Server-Sent Events; the header `Last-Event-ID` resumes it."""
    context, identity = request.app[CONTEXT], request[IDENTITY]
    connect_request = admission.read_connect_request(request.query, identity)
    last_id = request.headers.get("Last-Event-ID") or request.query.get("lastEventId")
    if last_id:
        connect_request = replace(connect_request, since=read_event_id(last_id))
    if not connect_request.channels:
        raise invalid_field("channels: is empty; expected names, as in ?channels=metrics")
    names = [one.channel for one in requests.split(connect_request.subscribe)]
    if all(identity.permissions.within(name) == frozenset() for name in names):
        identity.require(Action.SUBSCRIBE, names[0])  # no event could be sent: fail
    response = web.StreamResponse(headers=_HEADERS)
    response.force_close()  # the connection ends with the stream
    await response.prepare(request)
    if request.transport is None:
        return response
    # A refusal is in the stream: an EventSource does not reconnect after an HTTP error.
    connection = admission.connect(context, request, EventStream())
    try:
        if connection.can_write:
            await context.admission.admit(context, connection, connect_request)
        await connection.wait_closed()
    except Exception:
        log.exception("stream_failed", client_id=connection.client_id)
        connection.close(CloseCode.INTERNAL)
    finally:
        admission.release(context, connection, remember=False)
    return response
