"""A strict parser of the frames that a client sends (RFC 6455, sections 5 to 7)."""

import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from gateway.core.protocol.frames import Violation, is_close_code


_FIN, _COMPRESSED, _RESERVED, _MASKED = 0x80, 0x40, 0x30, 0x80
_CONTROL_BYTES_MAX = 125
_HEADER_BYTES = 6
_LONG_HEADER_BYTES = {126: 8, 127: 14}
_new_decoder = codecs.getincrementaldecoder("utf-8")


class Opcode(IntEnum):
    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


_OPCODES = {opcode.value: opcode for opcode in Opcode}
_CONTROL = frozenset({Opcode.CLOSE, Opcode.PING, Opcode.PONG})


class Message(NamedTuple):
    """A complete message, or a control frame; `text` is the decoded data of a TEXT message."""

    opcode: Opcode
    data: bytes
    text: str = ""

    @property
    def close_code(self) -> int:
        return int.from_bytes(self.data[:2])


@dataclass(slots=True, eq=False, repr=False)
class Parser:
    """Parses one client's bytes into messages, however the bytes are split.

    Call `feed` with what was received, then `read` until it yields nothing. A message has at most
    `message_bytes_max` bytes; each of its fragments counts as at least one. `inflate` decompresses a message,
    up to so many bytes; None if compression was not negotiated."""

    message_bytes_max: int
    inflate: Callable[[bytes, int], bytes] | None = None
    frames: int = 0
    """How many frames were read so far."""
    _buffer: bytearray = field(default_factory=bytearray)
    _opcode: Opcode | None = None
    """The opcode of the message whose first frame has begun."""
    _data: bytearray = field(default_factory=bytearray)
    """What was read of that message: one object, as each fragment may have a single byte."""
    _compressed: bool = False
    _size: int = 0
    _bytes_left: int = -1
    """How many bytes of the current data frame are still to be read; -1 between frames."""
    _final: bool = False
    _mask: bytes = b""
    _decoder: codecs.IncrementalDecoder | None = None
    """Checks a text message of which only a part was read."""

    @property
    def unread_bytes(self) -> int:
        """How many bytes were fed and not read."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def read(self, frames_max: int) -> Iterator[Message]:
        """Read so many frames at most; yield the messages that they complete. Read no more after a CLOSE.
        Raises Violation: unmasked frame (section 5.1), reserved bit or opcode (5.2), fragments out of order (5.4),
        fragmented or long control frame (5.5), close code that must not be sent (7.4), text that is not UTF-8 (8.1),
        too large a message. Each is raised as soon as the bytes at fault were fed, after the messages before them."""
        until = self.frames + frames_max
        while self.frames < until:
            if self._bytes_left < 0:
                opcode, header, length = self._header()
                if not header:
                    return
                if opcode in _CONTROL:
                    if len(self._buffer) < header + length:
                        return
                    self._mask = bytes(self._buffer[header - 4 : header])
                    del self._buffer[:header]
                    self.frames += 1
                    yield _control(opcode, self._take(length))
                    continue
                self._begin_frame(opcode, header, length)
            self._read_payload()
            if self._bytes_left > 0:
                return
            self._bytes_left = -1
            self.frames += 1
            if self._final:
                yield self._complete()

    def _header(self) -> tuple[Opcode, int, int]:
        """Return the next frame's opcode, the size of its header, and that of its payload; (…, 0, 0) if incomplete."""
        buffer = self._buffer
        if len(buffer) < 2:
            return Opcode.CONTINUATION, 0, 0
        opcode = self._check(buffer[0], buffer[1])
        length = buffer[1] & 0x7F
        header = _LONG_HEADER_BYTES.get(length, _HEADER_BYTES)
        if len(buffer) < header:
            return opcode, 0, 0
        if header != _HEADER_BYTES:
            length = int.from_bytes(buffer[2 : header - 4])
        return opcode, header, length

    def _begin_frame(self, opcode: Opcode, header: int, length: int) -> None:
        """Read the header of a data frame."""
        if self._size + max(length, 1) > self.message_bytes_max:
            raise Violation(1009, f"a message must have at most {self.message_bytes_max} bytes")
        self._size += max(length, 1)
        first = self._buffer[0]
        if self._opcode is None:
            self._opcode, self._compressed = opcode, bool(first & _COMPRESSED)
        self._final = bool(first & _FIN)
        self._bytes_left = length
        self._mask = bytes(self._buffer[header - 4 : header])
        del self._buffer[:header]

    def _read_payload(self) -> None:
        """Read what is there of a data frame; check it now if the rest of the message is not there yet."""
        payload = self._take(min(self._bytes_left, len(self._buffer)))
        self._bytes_left -= len(payload)
        self._data += payload
        if self._opcode is not Opcode.TEXT or self._compressed:
            return
        if self._decoder is None:
            if self._final and not self._bytes_left:
                return  # the whole message is there: `_complete` decodes it
            self._decoder = _new_decoder()
            payload = bytes(self._data)
        try:
            self._decoder.decode(payload)
        except UnicodeDecodeError:
            raise _not_text() from None

    def _take(self, length: int) -> bytes:
        """Return the next bytes of a payload, without their masking (section 5.3)."""
        mask, masked = self._mask, self._buffer[:length]
        del self._buffer[:length]
        turn = length % 4
        self._mask = mask[turn:] + mask[:turn]
        cover = (mask * (length // 4 + 1))[:length]
        return (int.from_bytes(masked) ^ int.from_bytes(cover)).to_bytes(length)

    def _check(self, first: int, second: int) -> Opcode:
        opcode = _OPCODES.get(first & 0x0F)
        if opcode is None:
            raise Violation(1002, f"opcode {first & 0x0F:#x} is reserved")
        if first & _RESERVED:
            raise Violation(1002, "a reserved bit is set")
        if first & _COMPRESSED and (self.inflate is None or opcode not in {Opcode.TEXT, Opcode.BINARY}):
            raise Violation(1002, "the compression bit is set where it must not be")
        if not second & _MASKED:
            raise Violation(1002, "a client's frame must be masked")
        if opcode in _CONTROL:
            if not first & _FIN:
                raise Violation(1002, "a control frame must not be fragmented")
            if second & 0x7F > _CONTROL_BYTES_MAX:
                raise Violation(1002, f"a control frame has at most {_CONTROL_BYTES_MAX} bytes")
        elif opcode is Opcode.CONTINUATION and self._opcode is None:
            raise Violation(1002, "a continuation frame must follow a first fragment")
        elif opcode is not Opcode.CONTINUATION and self._opcode is not None:
            raise Violation(1002, "a message must not begin before the one before it has ended")
        return opcode

    def _complete(self) -> Message:
        data, opcode = bytes(self._data), self._opcode
        assert opcode is not None
        self._opcode, self._size, self._decoder = None, 0, None
        self._data = bytearray()
        if self._compressed:
            assert self.inflate is not None
            data = self.inflate(data, self.message_bytes_max)
        return Message(opcode, data, _text(data) if opcode is Opcode.TEXT else "")


def _control(opcode: Opcode, payload: bytes) -> Message:
    message = Message(opcode, payload)
    if opcode is Opcode.CLOSE and payload:
        if len(payload) == 1:
            raise Violation(1002, "a close frame's payload must not have 1 byte")
        if not is_close_code(message.close_code):
            raise Violation(1002, f"close code {message.close_code} must not be sent")
        _text(payload[2:])
    return message


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _not_text() from None


def _not_text() -> Violation:
    return Violation(1007, "text must be UTF-8")
