"""The wire between parent and worker: length-prefixed messages over an inherited socket pair.

Nothing is dropped and nothing waits for the other side: what a peer has not read yet is kept, up to
a limit. A peer further behind is given up, rather than slowing down all others.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Generic, TypeVar, cast

import msgspec

from gateway.logs import logger


UNREAD_BYTES_MAX = 64 * 1024 * 1024
_FLOWS_BYTES = 1024 * 1024
_HEAD = 4

T = TypeVar("T")
log = logger("gateway.workers")

_encode = msgspec.msgpack.Encoder().encode


def framed(message: msgspec.Struct) -> bytes:
    """Return a message as it is written, to be sent to several peers."""
    body = _encode(message)
    return len(body).to_bytes(_HEAD) + body


class Pipe(asyncio.Protocol, Generic[T]):
    """One end. `on_messages` is called with all that one wake-up brought, `on_lost` once at the end."""

    def __init__(
        self,
        decoder: msgspec.msgpack.Decoder[T],
        *,
        unread_bytes_max: int = UNREAD_BYTES_MAX,
        on_messages: Callable[[list[T]], object],
        on_lost: Callable[[], object],
    ) -> None:
        self._decode = decoder.decode
        self._unread_bytes_max = unread_bytes_max
        self.on_messages = on_messages
        self._on_lost = on_lost
        self._buffer = bytearray()
        self._flows = asyncio.Event()
        self._flows.set()
        self._transport: asyncio.Transport | None = None

    async def open(self, sock: socket.socket) -> None:
        """Begin to speak over one half of a socket pair."""
        sock.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=sock)

    def send(self, message: msgspec.Struct) -> None:
        """Send a message, after all that was sent before."""
        self.write(framed(message))

    def write(self, frame: bytes) -> None:
        """Send a message that is `framed` already."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(frame)
        if transport.get_write_buffer_size() > self._unread_bytes_max:
            log.error("process_too_slow", unread_bytes=transport.get_write_buffer_size())
            transport.abort()

    async def flows(self) -> None:
        """Wait until the peer has read most of what was sent."""
        await self._flows.wait()

    def close(self) -> None:
        """End; what was sent is still delivered."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End at once."""
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
        messages: list[T] = []
        try:
            with memoryview(buffer) as view:
                while len(view) - at >= _HEAD:
                    end = at + _HEAD + int.from_bytes(view[at : at + _HEAD])
                    if end > len(view):
                        break
                    messages.append(self._decode(view[at + _HEAD : end]))
                    at = end
            del buffer[:at]
            if messages:
                self.on_messages(messages)
        except Exception:
            # Half of it may be done: what the two sides hold could differ from now on.
            log.exception("process_message_failed")
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._flows.set()
        self._on_lost()
