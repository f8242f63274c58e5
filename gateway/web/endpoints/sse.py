"""Server-Sent Events (HTML standard, section 9.2), at ``/events``: the same stream over plain HTTP.

For `curl` and the browser's EventSource. The last event of each write has an id, with the positions of all
channels that the client is subscribed to. A client that reconnects with it, to any gateway, misses nothing."""

import re
from dataclasses import replace

import msgspec
from aiohttp import HttpVersion11, web
from msgspec import UNSET, Raw, Struct, UnsetType

from gateway.core.protocol import messages
from gateway.core.protocol.channels import is_name, is_wildcard
from gateway.core.protocol.errors import CloseCode, RequestError
from gateway.core.protocol.frames import text_payloads
from gateway.core.protocol.messages import Position
from gateway.core.protocol.positions import position_text, read_position
from gateway.core.sessions import requests
from gateway.core.sessions.permissions import Action
from gateway.core.sessions.requests import ConnectRequest
from gateway.runtime.logs import logger
from gateway.web import admission
from gateway.web.authentication import IDENTITY
from gateway.web.context import CONTEXT
from gateway.web.problems import invalid_field


log = logger("gateway.sse")

HEAD_LINE_BYTES_MAX = 8_190
"""What proxies and servers take as one line of a request's head, if `clients.header_bytes_max` allows no less."""
_NAMES_BYTES = 190
"""What is in that line beside the id and the address: the method, the version, the name of the parameter or header."""
_TOO_LONG = b"too-long"
"""An id that cannot be read: one who reconnects with it starts anew, and is told so."""

_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store, no-transform",  # a proxy that compresses would collect events
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
    """The format of one client's stream, and the positions that it has reached.

    `has_chunks` is whether the request's HTTP version has chunked coding: 1.1 has, 1.0 has not. An id has at most
    `id_bytes_max`. A longer one is left out if the client `has_id`: then it reconnects with an earlier one, and gets some
    events again. Else it gets an id that says that its positions are not known."""

    def __init__(
        self, *, has_chunks: bool = True, id_bytes_max: int = HEAD_LINE_BYTES_MAX, has_id: bool = False
    ) -> None:
        self._id_bytes_max = id_bytes_max
        self._has_id = has_id
        self._positions: dict[str, Position] = {}
        self._ended: dict[str, set[str]] = {}
        """Sources that ended, by channel. They stay in the id until something comes of another source: without them, their
        events would come again to one who reconnects at that moment."""
        self._reached: dict[str, int] = {}
        """Offsets that are not in `_positions` yet, of events that name no source, by channel: of many, only the last
        counts."""
        self._part = _chunk if has_chunks else bytes

    def encode(self, frames: bytes) -> bytes:
        """Return one part of the body, with an event for each text frame; the last one has an id.

        With an id for each event, 100 channels would make 22 times as many bytes."""
        events = [self._event(payload) for payload in text_payloads(frames)]
        if events and (event_id := self._id()):
            events[-1] = b"id: %b\n%b" % (event_id, events[-1])
        return self._part(b"".join(events))

    def ping(self) -> bytes:
        """Return a comment, which clients ignore."""
        return self._part(b":\n\n")

    def last_bytes(self, message: messages.ClosingMessage) -> bytes:
        """Return the last event, with the time after which to reconnect."""
        data = b"event: closing\ndata: %b\n\n" % _encode(message)
        return self._part(b"retry: %d\n%b" % (message.after_ms, data))

    def _event(self, payload: bytes) -> bytes:
        message = _decode(payload)
        fields = b"" if message.type == "event" else b"event: %b\n" % message.type.encode()
        self._advance(message)
        if message.type == "connected":
            payload = _without_session(payload)
        # Line breaks in a publisher's JSON are white space between its tokens.
        return b"%bdata: %b\n\n" % (fields, payload.replace(b"\r", b" ").replace(b"\n", b" "))

    def _advance(self, message: _Message) -> None:
        if message.type == "event" and message.epoch is UNSET:
            self._reached[message.channel] = message.offset
            return
        self._note_reached()
        if message.type in {"event", "gap"}:
            self._move(
                message.channel, message.epoch, message.offset if message.type == "event" else _decode_to(message.to)
            )
        elif message.positions is not UNSET:
            self._positions |= _decode_positions(message.positions)

    def _note_reached(self) -> None:
        for channel, offset in self._reached.items():
            self._move(channel, UNSET, offset)
        self._reached.clear()

    def _move(self, channel: str, source: str | UnsetType, reached: int | None) -> None:
        """Note how far a source has come, that of the channel's position if it is not named; None if it has ended."""
        before = self._positions.get(channel, _NOWHERE)
        epoch = before.epoch if source is UNSET else source
        offsets = {epoch: before.offset} if source is UNSET else before.offsets  # unnamed: no other source is live
        if reached is None:
            self._ended.setdefault(channel, set()).add(epoch)
            return
        for id_ in self._ended.pop(channel, ()):
            offsets.pop(id_, None)
        offsets[epoch] = max(offsets.get(epoch, 0), reached)
        others = {id_: offset for id_, offset in offsets.items() if id_ != epoch and offset}
        self._positions[channel] = Position(epoch, offsets[epoch], others or UNSET)

    def _id(self) -> bytes:
        self._note_reached()
        text = ",".join([f"{name}={position_text(at)}" for name, at in self._positions.items()])
        if len(text) > self._id_bytes_max:
            return b"" if self._has_id else _TOO_LONG
        self._has_id = self._has_id or bool(text)
        return text.encode()


def _without_session(payload: bytes) -> bytes:
    """Return a `connected` message without what only a WebSocket has: a session to resume."""
    found = msgspec.json.decode(payload, type=dict[str, Raw])
    return _encode({name: value for name, value in found.items() if name not in {"session", "session_ttl_seconds"}})


def read_event_id(text: str) -> dict[str, Position]:
    """Return the positions in the id of an event. Raises RequestError: the id is invalid."""
    positions = {}
    for part in text.split(","):
        name, equals, position = part.partition("=")
        try:
            positions[name] = read_position(position)
        except ValueError:
            equals = ""
        if not equals:
            raise invalid_field(f"Last-Event-ID: {part[:80]!r} is not a position; expected channel=epoch:offset")
    return positions


def _resumed(connect_request: ConnectRequest, last_id: str) -> ConnectRequest:
    """Return a connect request that continues after the event with an id.

    An EventSource sends the same id for ever, and gives up at an error. So after an id that cannot be
    read, the channels start anew, with `recovered: false`."""
    try:
        positions = read_event_id(last_id)
    except RequestError:
        positions = {name: _NOWHERE for name in connect_request.channels or () if is_name(name)}
    return replace(connect_request, since=positions)


def _has_id(connect_request: ConnectRequest) -> bool:
    """Return whether a client that reconnects with the same id again gets all that it misses."""
    since = connect_request.since
    return since is not None and all(is_wildcard(name) or name in since for name in connect_request.channels)


def _id_bytes_max(request: web.Request, header_bytes_max: int) -> int:
    """Return how long an id may be to come back as a header, or in the address of the same request."""
    address = sum([len(part) + 1 for part in re.split("[?&]", request.raw_path) if not part.startswith("lastEventId=")])
    return min(header_bytes_max, HEAD_LINE_BYTES_MAX) - _NAMES_BYTES - address


def _chunk(data: bytes) -> bytes:
    """Return a chunk of the body (RFC 9112, section 7.1); aiohttp sends the last one."""
    return b"%x\r\n%b\r\n" % (len(data), data)


async def events(request: web.Request) -> web.StreamResponse:
    """The same stream as Server-Sent Events; the header `Last-Event-ID` resumes it."""
    context, identity = request.app[CONTEXT], request[IDENTITY]
    connect_request = admission.read_connect_request(request.query, identity)
    last_id = request.headers.get("Last-Event-ID") or request.query.get("lastEventId")
    if last_id:
        connect_request = _resumed(connect_request, last_id)
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
    stream = EventStream(
        has_chunks=request.version >= HttpVersion11,
        id_bytes_max=_id_bytes_max(request, context.config.clients.header_bytes_max),
        has_id=_has_id(connect_request),
    )
    connection = admission.connect(context, request, stream)
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
