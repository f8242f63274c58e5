"""One WebSocket, from its `connected` message to its end."""

import asyncio
import itertools
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from ssl import SSLCertVerificationError
from typing import Any, Self

import aiohttp
import orjson

from neurograph_client.codes import CloseCode
from neurograph_client.encoding import MSGPACK, from_msgpack, subprotocols, to_json, to_msgpack
from neurograph_client.errors import NotConnectedError, RequestRefusedError
from neurograph_client.transport import Transport


Message = dict[str, Any]
Frame = aiohttp.WSMessage | aiohttp.http.WSMessageTextBytes
Take = Callable[[Message], bool]

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
"""A larger message from the gateway ends the connection."""
_CLOSE_SECONDS = 1.0
_SILENT_HEARTBEATS = 2.5
_FINAL = {CloseCode.PROTOCOL_ERROR, CloseCode.BINARY, CloseCode.INVALID_TEXT, CloseCode.TOO_LARGE}
_FINAL_RANGE = range(4500, 5000)
ABNORMAL = 1006
_WORTH_ANOTHER_TRY = {408, 425, 429}

_NO_ERRNO = (aiohttp.ClientConnectorDNSError, aiohttp.ClientSSLError)
"""Errors whose number is not one of the operating system's."""

_TEXT, _BINARY = aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY
_loads = orjson.loads


@dataclass(frozen=True, slots=True)
class Disconnect:
    """How a connection ended, and what the gateway said about coming back.

    `code` is a close code, or the HTTP status of a refusal; `after` is in seconds.
    """

    code: int
    reason: str
    reconnect: bool = True
    after: float | None = None


class Connection:
    """A connection that has got its `connected` message.

    Whoever calls `read` gets every message but the answers to requests, which go to who asked.
    """

    def __init__(
        self, http: aiohttp.ClientSession, ws: "aiohttp.ClientWebSocketResponse[bool]", hello: Message
    ) -> None:
        self.hello = hello
        self.followed: set[str] = set()
        """What the gateway has confirmed that this connection follows."""
        self.closed = asyncio.Event()
        """Whether the socket was let go of."""
        self._http = http
        self._ws = ws
        # aiohttp releases both at the closing handshake, and then does not wait for their end: TLS has one of its own.
        self._protocol = None if ws._conn is None else ws._conn.protocol
        self._socket = None if self._protocol is None else self._protocol.transport
        self._is_packed = ws.protocol == MSGPACK
        """Whether the gateway agreed to MessagePack; an older one goes on with JSON."""
        self._from_binary = from_msgpack if self._is_packed else _with_bytes
        self._closing: Message | None = None
        self._heard = False
        self._watching: asyncio.TimerHandle | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._answers: dict[int, Callable[[Message | Exception], object]] = {}
        self._numbers = itertools.count(1)

    @classmethod
    async def open(
        cls, address: str, *, transport: Transport, headers: Mapping[str, str], within: float
    ) -> "Self | Disconnect":
        """Connect, and wait for `connected`; returns how it ended if that does not come."""
        http = transport.session(aiohttp.ClientTimeout(connect=within))
        try:
            async with asyncio.timeout(within):
                ws = await http.ws_connect(
                    address,
                    headers=headers,
                    timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_SECONDS),
                    autoping=False,
                    compress=transport.compression_bits,
                    max_msg_size=MESSAGE_BYTES_MAX,
                    decode_text=False,
                    protocols=subprotocols(transport.encoding),
                )
                connection = cls(http, ws, {})
                welcome = await connection._welcome()
        except aiohttp.WSServerHandshakeError as error:
            await http.close()
            wrong = 400 <= error.status < 500 and error.status not in _WORTH_ANOTHER_TRY
            reason = _phrase(error.status)
            return Disconnect(error.status, reason, reconnect=not wrong)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            await http.close()
            return Disconnect(ABNORMAL, reason_of(error))
        except BaseException:
            await http.close()
            raise
        if isinstance(welcome, Disconnect):
            await connection.close()
            return welcome
        connection.hello = welcome
        return connection

    async def _welcome(self) -> "Message | Disconnect":
        while True:
            frame = await self._ws.receive()
            if frame.type in {_TEXT, _BINARY}:
                message: Message = _loads(frame.data) if frame.type is _TEXT else self._from_binary(frame.data)
                if message["type"] == "connected":
                    return message
                self._note_closing(message)
            elif not await self._control(frame):
                return self._ended()

    # -- reading -------------------------------------------------------------------------------

    async def read(self, event: Take, other: Take) -> Disconnect:
        """Hand every event to `event`, other messages to `other`, until the connection ends.

        Where they return True, nothing more is read until `go_on` is called, unless somebody waits
        for an answer: it may be the very one who is to make room.
        """
        try:
            async with asyncio.timeout(None) as limit:
                self._watch(limit)
                await self._read(event, other)
        except TimeoutError:
            return Disconnect(ABNORMAL, "silent for too long")
        except (KeyError, TypeError, ValueError) as error:
            return Disconnect(ABNORMAL, f"the gateway was not understood: {error!r}")
        finally:
            if self._watching is not None:
                self._watching.cancel()
        return self._ended()

    def _watch(self, limit: asyncio.Timeout) -> None:
        """Look again and again whether anything came; who does not read hears nothing."""
        loop = asyncio.get_running_loop()
        if self._watching is not None and not self._heard:
            limit.reschedule(loop.time())
        self._heard = not self._room.is_set()
        period = float(self.hello["heartbeat_seconds"]) * _SILENT_HEARTBEATS
        self._watching = loop.call_later(period, self._watch, limit)

    def go_on(self) -> None:
        """Read on, if reading was paused."""
        self._room.set()

    async def _read(self, event: Take, other: Take) -> None:
        receive, from_binary = self._ws.receive, self._from_binary
        while True:
            frame = await receive()
            self._heard = True
            if frame.type is _TEXT:
                message = _loads(frame.data)
            elif frame.type is _BINARY:
                message = from_binary(frame.data)
            elif await self._control(frame):
                continue
            else:
                return
            if message["type"] == "event":
                full = event(message)
            else:
                full = other(message)
                self._note_closing(message)
                self._answer(message)
            if full and not self._answers:
                self._room.clear()
                await self._room.wait()
                self._heard = True

    async def _control(self, frame: Frame) -> bool:
        """Answer a ping; returns whether more is to come."""
        if frame.type is aiohttp.WSMsgType.PING:
            with suppress(ConnectionError):  # it is lost meanwhile: what arrived before is read, then its end
                await self._ws.pong(frame.data)
        return frame.type in {aiohttp.WSMsgType.PING, aiohttp.WSMsgType.PONG}

    def _note_closing(self, message: Message) -> None:
        if message["type"] == "closing":
            self._closing = message

    def _ended(self) -> Disconnect:
        code = self._ws.close_code or ABNORMAL
        closing = self._closing
        if closing is not None:
            after = closing["after_ms"] / 1000 if closing["after_ms"] else None
            return Disconnect(closing["code"], closing["reason"], closing["reconnect"], after)
        reason = "connection lost" if code == ABNORMAL else "closed"
        return Disconnect(code, reason, may_reconnect(code))

    # -- speaking ------------------------------------------------------------------------------

    async def send(self, message: Message, answered: Callable[[Message | Exception], object]) -> int:
        """Send a message; `answered` is called with the answer, or with why none came.

        Returns the number that the answer is known by.

        Raises:
            NotConnectedError: The connection is gone.
        """
        number = next(self._numbers)
        self._answers[number] = answered
        self.go_on()
        try:
            numbered = {**message, "id": number}
            if self._is_packed:
                await self._ws.send_bytes(to_msgpack(numbered))
            else:
                await self._ws.send_str(to_json(numbered).decode())
        except (aiohttp.ClientError, OSError) as error:
            self._answers.pop(number, None)
            raise NotConnectedError(str(error)) from error
        return number

    async def ask(self, message: Message, *, within: float) -> Message:
        """Send a message and return its answer; if it is refused for a while, send it again after that.

        Raises:
            NotConnectedError: The connection is gone, or ended before the answer.
            RequestRefusedError: The answer is an error.
            TimeoutError: No answer came in time.
        """
        async with asyncio.timeout(within):
            while True:
                try:
                    return await self._ask(message)
                except RequestRefusedError as refused:
                    if refused.retry_after is None:
                        raise
                    await asyncio.sleep(refused.retry_after)

    async def _ask(self, message: Message) -> Message:
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def answered(found: Message | Exception) -> None:
            if answer.done():
                return
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        number = 0
        try:
            number = await self.send(message, answered)
            return await answer
        finally:
            self._answers.pop(number, None)

    def _answer(self, message: Message) -> None:
        answered = self._answers.pop(message.get("id", 0), None)
        if answered is not None:
            answered(refusal(message) if message["type"] == "error" else message)

    async def close(self, *, politely: bool = False) -> None:
        """Let go of the socket; with a closing handshake if it is the application that leaves."""
        self.closed.set()
        answers, self._answers = self._answers, {}
        for answered in answers.values():
            answered(NotConnectedError("the connection was lost before the answer"))
        try:
            if politely:
                await self._ws.close()
        finally:
            await self._http.close()
            await self._ws.close()  # says nothing any more; it lets go of what it holds
            if politely:
                await self._await_end()

    async def _await_end(self) -> None:
        """Wait until the socket is closed, as the loop may end right after; if the gateway does not answer, abort it."""
        if self._protocol is None or (ended := self._protocol.closed) is None:
            return
        _, waiting = await asyncio.wait({ended}, timeout=_CLOSE_SECONDS)
        if waiting and self._socket is not None:
            self._socket.abort()
            await asyncio.wait(waiting)
        ended.exception()  # how it ended is of no interest


def _with_bytes(data: bytes) -> Message:
    """Return an event from a binary message: the length of a header in 4 bytes, the header, and the bytes."""
    end = 4 + int.from_bytes(data[:4])
    event: Message = _loads(data[4:end])
    event["data"] = data[end:]
    return event


def reason_of(error: Exception) -> str:
    """Return why there is no connection in a few words, such as ``Connection refused``."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        wrong = error.certificate_error
        reason = wrong.verify_message if isinstance(wrong, SSLCertVerificationError) else str(wrong)
        return (
            f"the gateway's certificate is not trusted: {reason}; if it is the right one, give `ssl` a context that "
            "trusts it, `ssl.create_default_context(cafile=...)`, or name the file in SSL_CERT_FILE"
        )
    if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error, _NO_ERRNO):
        return os.strerror(error.errno) if error.errno else str(error)
    return str(error) or type(error).__name__


def may_reconnect(code: int) -> bool:
    """Whether a client may reconnect after a close with this code, where the gateway did not say."""
    return code not in _FINAL and code not in _FINAL_RANGE


def _phrase(status: int) -> str:
    """Return the word for an HTTP status, such as ``unauthorized``."""
    try:
        return HTTPStatus(status).phrase.lower().replace(" ", "_")
    except ValueError:
        return "refused"


def refusal(error: Message) -> RequestRefusedError:
    """Return an error message, or a problem document, as an exception."""
    return RequestRefusedError(
        error["code"],
        error.get("message") or error.get("detail") or "",
        status=error["status"],
        temporary=bool(error.get("temporary")),
        retry_after=error.get("retry_after"),
    )
