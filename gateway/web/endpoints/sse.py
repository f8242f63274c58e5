"""Server-Sent Events (HTML standard, section 9.2): the same stream over plain HTTP.

For `curl` and the browser's EventSource. Each event's id holds the positions of all channels that
the client follows, so whoever comes back with it, to whichever gateway, misses nothing.
"""

import msgspec
from aiohttp import web
from msgspec import UNSET, Struct, UnsetType

from gateway.core.protocol import messages
from gateway.core.protocol.errors import CloseCode, ErrorCode, RequestError
from gateway.core.protocol.frames import text_payloads
from gateway.core.protocol.messages import Position
from gateway.core.sessions import requests
from gateway.core.sessions.permissions import Action
from gateway.logs import logger
from gateway.web import admission
from gateway.web.authentication import IDENTITY
from gateway.web.context import CONTEXT
from gateway.web.sockets.connection import Connection


log = logger("gateway.sse")

ID_BYTES_MAX = 7000
"""The id comes back in a header, and aiohttp takes 8,190 bytes. Longer ones are left out."""

_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would keep events until its buffer is full
}


class _Seen(Struct):
    """What positions are read from."""

    type: str
    channel: str = ""
    offset: int = 0
    to: int | None = None
    epoch: str | UnsetType = UNSET
    positions: dict[str, Position] | UnsetType = UNSET


_decode = msgspec.json.Decoder(_Seen).decode
_encode = msgspec.json.encode


class EventStream:
    """One client's stream: messages as events, and how far the client has come."""

    def __init__(self) -> None:
        self._positions: dict[str, tuple[str, int]] = {}

    def encode(self, frames: bytes) -> bytes:
        """Return what text frames become: one chunk with an event for each."""
        return _chunk(b"".join([self._event(payload) for payload in text_payloads(frames)]))

    def ping(self) -> bytes:
        """Return a comment."""
        return _chunk(b":\n\n")

    def farewell(self, message: messages.ClosingMessage) -> bytes:
        """Return the last event, and when to come back."""
        data = b"event: closing\ndata: %b\n\n" % _encode(message)
        return _chunk(b"retry: %d\n%b" % (message.after_ms, data))

    def _event(self, payload: bytes) -> bytes:
        seen = _decode(payload)
        name = b"" if seen.type == "event" else b"event: %b\n" % seen.type.encode()
        self._note(seen)
        number = self._id()
        if number:
            name += b"id: %b\n" % number
        # A publisher's own line breaks are white space between JSON's tokens.
        return b"%bdata: %b\n\n" % (name, payload.replace(b"\r", b" ").replace(b"\n", b" "))

    def _note(self, seen: _Seen) -> None:
        if seen.positions is not UNSET:
            self._positions |= {
                name: (place.epoch, place.offset) for name, place in seen.positions.items()
            }
        elif seen.type in {"event", "gap"}:
            epoch, offset = self._positions.get(seen.channel, ("", 0))
            if seen.epoch is not UNSET and seen.epoch != epoch:
                epoch, offset = seen.epoch, 0
            reached = seen.offset if seen.type == "event" else seen.to
            self._positions[seen.channel] = (epoch, offset if reached is None else reached)

    def _id(self) -> bytes:
        """Return all positions as ``channel=epoch:offset,…``."""
        text = ",".join([f"{name}={e}:{n}" for name, (e, n) in self._positions.items()]).encode()
        return text if len(text) <= ID_BYTES_MAX else b""


def positions_of(text: str) -> dict[str, Position]:
    """Read the id of an event.

    Raises:
        RequestError: It is none.
    """
    positions: dict[str, Position] = {}
    for part in text.split(","):
        name, equals, place = part.partition("=")
        epoch, colon, offset = place.partition(":")
        if not (equals and colon and offset.isascii() and offset.isdigit() and len(offset) <= 16):
            raise RequestError(
                ErrorCode.INVALID_FIELD,
                f"Last-Event-ID: {part[:80]!r} is not channel=epoch:offset, as this gateway gave it",
            )
        positions[name] = Position(epoch, int(offset))
    return positions


def _chunk(data: bytes) -> bytes:
    """Return a part of the body (RFC 9112, section 7.1); aiohttp ends it."""
    return b"%x\r\n%b\r\n" % (len(data), data)


async def events(request: web.Request) -> web.StreamResponse:
    """Serve one client at ``/events``; see docs/protocol.md, part 3."""
    context = request.app[CONTEXT]
    who = request[IDENTITY]
    connect_request = admission.read(request.query, who)
    last_id = request.headers.get("Last-Event-ID") or request.query.get("lastEventId")
    if last_id:
        connect_request = admission.at(connect_request, positions_of(last_id))
    if not connect_request.channels:
        raise RequestError(ErrorCode.INVALID_FIELD, "channels: name some, as in ?channels=metrics")
    asked = [one.channel for one in requests.split(connect_request.subscribe)]
    if all(who.permissions.within(name) == frozenset() for name in asked):
        who.require(Action.SUBSCRIBE, asked[0])  # nothing would come
    response = web.StreamResponse(headers=_HEADERS)
    response.force_close()  # the connection ends with the stream
    await response.prepare(request)
    if request.transport is None:
        return response
    connection = Connection(
        request,
        EventStream(),
        hub=context.hub,
        heartbeat=context.heartbeat,
        sockets=context.sockets,
        limits=context.config.clients,
        spread_seconds=admission.spread_seconds(context),
        now_ns=context.now_ns(),
    )
    refused = admission.refusal(context, connection.address)
    if refused is not None:  # in the stream, as an EventSource does not come back after a status
        connection.end(refused)
        context.metrics.closed(refused, 0)
        return response
    try:
        await admission.arrive(context, connection, connect_request)
        await connection.gone()
    except Exception:
        log.exception("stream_failed", client_id=connection.client_id)
        connection.end(CloseCode.INTERNAL)
    finally:
        admission.leave(context, connection, remember=False)
    return response
