"""The pipe between parent and worker: length-prefixed messages over an inherited socket pair.

No message is dropped, and no sender waits: what a peer has not read yet is kept, up to a limit. The
pipe to a peer that is further behind is closed, so that it does not slow down the others."""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

import msgspec

from gateway.runtime.logs import logger
from gateway.workers.messages import Answer, Message, encode


UNREAD_BYTES_MAX = 64 * 1024 * 1024
_FLOWS_BYTES = 1024 * 1024
_HEAD = 4

T = TypeVar("T")
log = logger("gateway.workers")


def framed(message: Message) -> bytes:
    """Return a message as it is written, to be sent to several peers."""
    body = encode(message)
    return len(body).to_bytes(_HEAD) + body


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A message that cannot be decoded, with what its beginning says, and the reason."""

    kind: str
    number: int
    reason: str
    fields: list[Any] = field(default_factory=list)
    """What it is made of, as far as it is MessagePack."""


def kind_and_number(message: Message | Unreadable) -> tuple[str, int]:
    """Return the name of a message's class, and its number, 0 if it has none."""
    if isinstance(message, Unreadable):
        return message.kind, message.number
    return type(message).__name__, getattr(message, "number", 0)


class Pipe(asyncio.Protocol, Generic[T]):
    """One end of it.

    `on_messages` is called with all that one wake-up brought, `on_lost` once when the pipe is closed."""

    def __init__(
        self,
        decoder: msgspec.msgpack.Decoder[T],
        *,
        unread_bytes_max: int = UNREAD_BYTES_MAX,
        on_messages: Callable[[list[T | Unreadable]], object],
        on_lost: Callable[[], object],
    ) -> None:
        self._decode = decoder.decode
        self._unread_bytes_max = unread_bytes_max
        self.on_messages = on_messages
        self._on_lost = on_lost
        self._buffer = bytearray()
        self._received = self._written = 0
        """Bytes."""
        self._seen = (0, 0, 0)
        """Bytes received, read by the peer, and not read yet, when `has_progressed` was called last."""
        self._flows = asyncio.Event()
        self._flows.set()
        self._transport: asyncio.Transport | None = None

    async def open(self, sock: socket.socket) -> None:
        """Use one half of a socket pair."""
        sock.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=sock)

    def send(self, message: Message) -> None:
        self.write(framed(message))

    def write(self, frame: bytes) -> None:
        """Send a message that is `framed` already."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(frame)
        self._written += len(frame)
        if transport.get_write_buffer_size() > self._unread_bytes_max:
            log.error("process_too_slow", unread_bytes=transport.get_write_buffer_size())
            transport.abort()

    def has_progressed(self) -> bool:
        """Return whether the peer has sent anything, or read on, since this was called last: a sign that it runs."""
        unread = self._transport.get_write_buffer_size() if self._transport is not None else 0
        received, read, unread_before = self._seen
        self._seen = (self._received, self._written - unread, unread)
        # The kernel takes some bytes for a peer that reads nothing; only behind those does it show who reads.
        return self._seen[0] != received or (unread_before > 0 and self._seen[1] != read)

    async def flows(self) -> None:
        """Wait until the peer has read most of what was sent."""
        await self._flows.wait()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio's side ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is none by class
        self._transport.set_write_buffer_limits(high=_FLOWS_BYTES)

    def pause_writing(self) -> None:
        self._flows.clear()

    def resume_writing(self) -> None:
        self._flows.set()

    def data_received(self, data: bytes) -> None:
        buffer, at = self._buffer, 0
        buffer += data
        self._received += len(data)
        messages: list[T | Unreadable] = []
        try:
            with memoryview(buffer) as view:
                while len(view) - at >= _HEAD:
                    end = at + _HEAD + int.from_bytes(view[at : at + _HEAD])
                    if end > len(view):
                        break
                    messages.append(self._read(view[at + _HEAD : end]))
                    at = end
            del buffer[:at]
            if messages:
                self.on_messages(messages)
        except Exception:
            # A part of it may be applied: the two sides' logs could differ from now on.
            log.exception("process_message_failed")
            self.abort()

    def _read(self, body: memoryview) -> T | Unreadable:
        try:
            return self._decode(body)
        except Exception as error:
            kind, number, fields = "", 0, []
            with contextlib.suppress(Exception):
                kind, *fields = msgspec.msgpack.decode(body)
                number = fields[0] if isinstance(fields[0], int) else 0
            return Unreadable(kind, number, repr(error), fields)

    def connection_lost(self, exc: Exception | None) -> None:
        self._flows.set()
        self._on_lost()


class Requests:
    """Requests over a pipe that wait for their answers, by number."""

    def __init__(self, send: Callable[[Message], object]) -> None:
        self._send = send
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Callable[[Answer | None], object]] = {}

    def send(self, request: Callable[[int], Message], on_answer: Callable[[Answer | None], object]) -> int:
        number = next(self._numbers)
        self._waiting[number] = on_answer
        self._send(request(number))
        return number

    async def ask(self, request: Callable[[int], Message], *, within: float | None) -> Answer | None:
        """Return the answer to a request; None if it does not come in time, or the pipe is closed.

        `within` None waits until the pipe is closed."""
        future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()

        def on_answer(answer: Answer | None) -> None:
            if not future.done():
                future.set_result(answer)

        number = self.send(request, on_answer)
        try:
            async with asyncio.timeout(within):
                return await future
        except TimeoutError:
            return None
        finally:
            self._waiting.pop(number, None)

    def on_answer(self, answer: Answer) -> None:
        """Pass an answer on; one that comes too late is ignored."""
        self._pass_on(answer.number, answer)

    def on_failure(self, number: int) -> None:
        """Answer a request with None: its answer cannot be used."""
        self._pass_on(number, None)

    def _pass_on(self, number: int, answer: Answer | None) -> None:
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            waiting(answer)

    def close(self) -> None:
        waiting, self._waiting = list(self._waiting.values()), {}
        for on_answer in waiting:
            on_answer(None)
