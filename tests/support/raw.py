"""A WebSocket peer on a bare socket: it sends any bytes, and reads only what a test reads."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import struct
from dataclasses import dataclass, field
from typing import Any

from tests.support.record import Message
from tests.support.waiting import DEADLINE_SECONDS, scaled


TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


@dataclass(frozen=True)
class Frame:
    """One frame as it came."""

    opcode: int
    payload: bytes
    fin: bool = True
    reserved: int = 0
    masked: bool = False


@dataclass
class Ending:
    """How the gateway ended a connection."""

    code: int | None
    """The code of its close frame; None without a close frame or without a code in it."""
    reason: str = ""
    messages: list[Message] = field(default_factory=list)
    """What it said before."""
    frames: list[Frame] = field(default_factory=list)

    @property
    def closing(self) -> Message | None:
        """The last message, if it was the announcement of the close."""
        last = self.messages[-1] if self.messages else None
        return last if last and last["type"] == "closing" else None


class Ended(Exception):
    """The gateway closed the TCP connection."""


def encode_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    masked: bool = True,
    length: int | None = None,
    key: bytes | None = None,
) -> bytes:
    """A frame's bytes. `length` lies about the payload's; `reserved` is 0 to 7; `key` masks it."""
    size = len(payload) if length is None else length
    head = bytes([(0x80 if fin else 0) | reserved << 4 | opcode])
    mask_bit = 0x80 if masked else 0
    if size < 126:
        head += bytes([mask_bit | size])
    elif size < 1 << 16:
        head += struct.pack(">BH", mask_bit | 126, size)
    else:
        head += struct.pack(">BQ", mask_bit | 127, size)
    if not masked:
        return head + payload
    key = key or os.urandom(4)
    cover = (key * (len(payload) // 4 + 1))[: len(payload)]
    return head + key + (int.from_bytes(payload) ^ int.from_bytes(cover)).to_bytes(len(payload))


class RawPeer:
    """A bare TCP connection to the gateway."""

    def __init__(self, port: int, *, receive_buffer: int = 0) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self.socket.setblocking(False)
        self.buffer = b""
        self.answers_pings = True
        self.answers_closes = True
        self.pings = 0

    # -- sending ----------------------------------------------------------------------------------

    async def send_bytes(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(scaled(DEADLINE_SECONDS)):
            await loop.sock_sendall(self.socket, data)

    async def send_frame(self, opcode: int, payload: bytes = b"", **how: Any) -> None:
        await self.send_bytes(encode_frame(opcode, payload, **how))

    async def send_json(self, message: object) -> None:
        await self.send_frame(TEXT, json.dumps(message).encode())

    async def send_close(self, code: int | None, reason: bytes = b"") -> None:
        payload = b"" if code is None else struct.pack(">H", code) + reason
        await self.send_frame(CLOSE, payload)

    async def upgrade(self, path: str = "/ws", **headers: str) -> tuple[int, dict[str, str]]:
        """Ask for a WebSocket; the answer's status and headers. `headers` add to or replace the usual."""
        usual = {
            "Host": "127.0.0.1",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Version": "13",
        }
        fields = {**usual, **{k.replace("_", "-"): v for k, v in headers.items()}}
        lines = [f"GET {path} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items()), "", ""]
        await self.send_bytes("\r\n".join(lines).encode())
        return await self._read_head()

    async def read_answer(self) -> int:
        """Read an HTTP answer with a `Content-Length`; return its status."""
        status, headers = await self._read_head()
        await self._take(int(headers["content-length"]), DEADLINE_SECONDS)
        return status

    async def _read_head(self) -> tuple[int, dict[str, str]]:
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += await self._receive()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        first, *rest = head.decode().split("\r\n")
        found = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in rest)}
        return int(first.split()[1]), found

    # -- receiving --------------------------------------------------------------------------------

    async def read_frame(self, *, within: float = DEADLINE_SECONDS) -> Frame:
        """The next frame, of whatever kind.

        Raises:
            Ended: The gateway closed the TCP connection instead.
        """
        two = await self._take(2, within)
        size = two[1] & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", await self._take(2, within))
        elif size == 127:
            (size,) = struct.unpack(">Q", await self._take(8, within))
        masked = bool(two[1] & 0x80)
        key = await self._take(4, within) if masked else b""
        payload = await self._take(size, within)
        if masked:
            payload = bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))
        return Frame(two[0] & 0x0F, payload, bool(two[0] & 0x80), two[0] >> 4 & 7, masked)

    async def read_message(self, *, within: float = DEADLINE_SECONDS) -> Message:
        """The next JSON message; pings are answered on the way, if ``answers_pings``."""
        while True:
            frame = await self.read_frame(within=within)
            if frame.opcode == TEXT:
                message: Message = json.loads(frame.payload)
                return message
            if frame.opcode == PING:
                await self._pinged(frame)
            elif frame.opcode != PONG:
                raise AssertionError(f"expected a text message, got {frame}")

    async def expect(self, kind: str, *, within: float = DEADLINE_SECONDS) -> Message:
        """The next message that is no event; it must be of this type."""
        while True:
            message = await self.read_message(within=within)
            if message["type"] == kind:
                return message
            assert message["type"] in {"event", "gap"}, message

    async def read_ending(self, *, within: float = DEADLINE_SECONDS) -> Ending:
        """Read up to the end of the TCP connection; answers a close frame, if ``answers_closes``."""
        ending = Ending(None)
        try:
            while True:
                frame = await self.read_frame(within=within)
                ending.frames.append(frame)
                if frame.opcode == TEXT:
                    ending.messages.append(json.loads(frame.payload))
                elif frame.opcode == PING:
                    await self._pinged(frame)
                elif frame.opcode == CLOSE:
                    if len(frame.payload) >= 2:
                        ending.code = int.from_bytes(frame.payload[:2], "big")
                        ending.reason = frame.payload[2:].decode()
                    if self.answers_closes:
                        await self._answer_close(frame)
        except (Ended, ConnectionResetError):
            return ending

    async def read_some(self) -> bytes:
        """The next bytes that come."""
        return await self._receive()

    async def read_to_end(self, *, within: float = DEADLINE_SECONDS) -> bytes:
        """All bytes up to the end of the TCP connection, which must come in time."""
        found = self.buffer
        try:
            while True:
                found += await self._receive(within)
        except (Ended, ConnectionResetError):
            return found

    def waiting(self) -> int:
        """Bytes that lie in this side's kernel buffer, unread."""
        try:
            return len(self.socket.recv(1 << 24, socket.MSG_PEEK))
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Cut the connection without a close frame."""
        self.socket.close()

    def reset(self) -> None:
        """Cut the connection with a TCP reset; harmless if it is closed."""
        if self.socket.fileno() >= 0:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.socket.close()

    # -- inside -----------------------------------------------------------------------------------

    async def _take(self, count: int, within: float) -> bytes:
        while len(self.buffer) < count:
            self.buffer += await self._receive(within)
        found, self.buffer = self.buffer[:count], self.buffer[count:]
        return found

    async def _receive(self, within: float = DEADLINE_SECONDS) -> bytes:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(scaled(within)):
            found = await loop.sock_recv(self.socket, 1 << 16)
        if not found:
            raise Ended
        return found

    async def _pinged(self, frame: Frame) -> None:
        self.pings += 1
        if self.answers_pings:
            await self.send_frame(PONG, frame.payload)

    async def _answer_close(self, frame: Frame) -> None:
        try:
            await self.send_frame(CLOSE, frame.payload[:2])
        except OSError:
            return


async def open_raw(port: int, path: str = "/ws", *, receive_buffer: int = 0) -> RawPeer:
    """A raw peer that has been upgraded and greeted."""
    peer = RawPeer(port, receive_buffer=receive_buffer)
    status, _ = await peer.upgrade(path)
    assert status == 101
    await peer.expect("connected")
    return peer
