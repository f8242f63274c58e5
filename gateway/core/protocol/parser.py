"""A strict parser of the frames that a client sends (RFC 6455, sections 5 to 7)."""

from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import NamedTuple

from gateway.core.protocol.frames import Violation, is_close_code


_FIN, _COMPRESSED, _RESERVED, _MASKED = 0x80, 0x40, 0x30, 0x80
_CONTROL_BYTES_MAX = 125
_HEADER_BYTES = 6
_LONG_HEADER_BYTES = {126: 8, 127: 14}


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


class Parser:
    """Parses one client's bytes into messages, however the bytes are split.

    A message has at most `message_bytes_max` bytes; each of its fragments counts as at least one.
    `inflate` decompresses a message, up to so many bytes; None if compression was not negotiated."""

    __slots__ = (
        "_buffer",
        "_compressed",
        "_fragments",
        "_inflate",
        "_message_bytes_max",
        "_needed",
        "_opcode",
        "_size",
    )

    def __init__(self, *, message_bytes_max: int, inflate: Callable[[bytes, int], bytes] | None = None) -> None:
        self._buffer = bytearray()
        self._needed = 2
        self._message_bytes_max = message_bytes_max
        self._inflate = inflate
        self._opcode: Opcode | None = None
        """The opcode of the message whose first fragments were received."""
        self._fragments: list[bytes] = []
        self._compressed = False
        self._size = 0

    def feed(self, data: bytes) -> Iterator[Message]:
        """Parse the next bytes; yield the messages that are complete. Do not feed more after a CLOSE.
        Raises Violation: unmasked frame (section 5.1), reserved bit or opcode (5.2), fragments out of order (5.4),
        fragmented or long control frame (5.5), close code that must not be sent (7.4), text that is not UTF-8 (8.1),
        too large a message."""
        buffer = self._buffer
        buffer += data
        while len(buffer) >= self._needed:
            opcode = self._check(buffer[0], buffer[1])
            length = buffer[1] & 0x7F
            header = _LONG_HEADER_BYTES.get(length, _HEADER_BYTES)
            if len(buffer) < header:
                self._needed = header
                return
            if header != _HEADER_BYTES:
                length = int.from_bytes(buffer[2 : header - 4])
            if opcode not in _CONTROL and self._size + max(length, 1) > self._message_bytes_max:
                raise Violation(1009, f"a message must have at most {self._message_bytes_max} bytes")
            if len(buffer) < header + length:
                self._needed = header + length
                return
            first, payload = buffer[0], _unmasked(buffer, header, length)
            del buffer[: header + length]
            self._needed = 2
            if opcode in _CONTROL:
                yield _control(opcode, payload)
            else:
                if self._opcode is None:
                    self._opcode, self._compressed = opcode, bool(first & _COMPRESSED)
                self._fragments.append(payload)
                self._size += max(length, 1)
                if first & _FIN:
                    yield self._complete()

    def _check(self, first: int, second: int) -> Opcode:
        opcode = _OPCODES.get(first & 0x0F)
        if opcode is None:
            raise Violation(1002, f"opcode {first & 0x0F:#x} is reserved")
        if first & _RESERVED:
            raise Violation(1002, "a reserved bit is set")
        if first & _COMPRESSED and (self._inflate is None or opcode not in {Opcode.TEXT, Opcode.BINARY}):
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
        data, opcode = b"".join(self._fragments), self._opcode
        assert opcode is not None
        self._opcode, self._size = None, 0
        self._fragments.clear()
        if self._compressed:
            assert self._inflate is not None
            data = self._inflate(data, self._message_bytes_max)
        return Message(opcode, data, _text(data) if opcode is Opcode.TEXT else "")


def _unmasked(buffer: bytearray, header: int, length: int) -> bytes:
    """Return the payload behind a header, without its masking (section 5.3)."""
    mask = bytes(buffer[header - 4 : header]) * (length // 4 + 1)
    masked = int.from_bytes(buffer[header : header + length])
    return (masked ^ int.from_bytes(mask[:length])).to_bytes(length)


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
        raise Violation(1007, "text must be UTF-8") from None
