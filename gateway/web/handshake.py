"""The opening handshake of a WebSocket (RFC 6455, section 4.2)."""

import base64
import binascii
import hashlib

from aiohttp import web

from gateway.core import deflate
from gateway.core.inbound import Parser
from gateway.web.inbox import Inbox
from gateway.web.transport import Protocol


_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION = "13"


async def upgrade(
    request: web.Request, *, protocol: str, message_bytes_max: int, compression: bool
) -> tuple[web.StreamResponse, Inbox, int | None]:
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
    assert isinstance(stream, Protocol)
    parser = Parser(
        message_bytes_max=message_bytes_max, inflate=deflate.inflate if agreed else None
    )
    inbox = Inbox(stream, parser)
    stream.set_parser(inbox)  # type: ignore[arg-type]  # of it only feed_data and feed_eof are used
    stream.keep_alive(False)
    return answer, inbox, agreed[0] if agreed else None


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
