"""What a client says on its WebSocket (RFC 6455, sections 5 to 7), taken apart strictly."""

from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import NamedTuple

from gateway.core.protocol.frames import Violation, is_close_code


_FIN, _PACKED, _RESERVED, _MASKED = 0x80, 0x40, 0x30, 0x80
_CONTROL_MAX = 125
_HEADERS = {126: 8, 127: 14}
_HEADER = 6


class Opcode(IntEnum):
    """What a frame is (section 5.2)."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


_OPCODES = {opcode.value: opcode for opcode in Opcode}
_CONTROL = frozenset({Opcode.CLOSE, Opcode.PING, Opcode.PONG})


class Message(NamedTuple):
    """A whole message, or a control frame; `text` is that of a TEXT message."""

    opcode: Opcode
    data: bytes
    text: str = ""

    @property
    def close_code(self) -> int:
        """The code of a CLOSE; 0 if it has none."""
        return int.from_bytes(self.data[:2])


class Parser:
    """Makes messages of a client's bytes, in whatever pieces they come.

    A message has at most `message_bytes_max` bytes, and each of its fragments counts as one byte at
    least. `inflate` unpacks a compressed message to at most so many bytes; None if compression was
    not agreed on.
    """

    __slots__ = (
        "_buffer",
        "_fragments",
        "_inflate",
        "_message_bytes_max",
        "_needed",
        "_opcode",
        "_packed",
        "_size",
    )

    def __init__(
        self, *, message_bytes_max: int, inflate: Callable[[bytes, int], bytes] | None = None
    ) -> None:
        self._buffer = bytearray()
        self._needed = 2
        self._message_bytes_max = message_bytes_max
        self._inflate = inflate
        self._opcode: Opcode | None = None
        """What the message is of which the first fragments have come."""
        self._fragments: list[bytes] = []
        self._packed = False
        self._size = 0

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take the next bytes; yield what is complete. Nothing may follow a CLOSE.

        Raises:
            Violation: Unmasked frame (section 5.1), reserved bit or opcode (5.2), fragments out of
                order (5.4), fragmented or long control frame (5.5), close code that must not be sent
                (7.4), text that is no UTF-8 (8.1), too large a message.
        """
        buffer = self._buffer
        buffer += data
        while len(buffer) >= self._needed:
            opcode = self._check(buffer[0], buffer[1])
            header = _HEADERS.get(buffer[1] & 0x7F, _HEADER)
            if len(buffer) < header:
                self._needed = header
                return
            length = (
                buffer[1] & 0x7F if header == _HEADER else int.from_bytes(buffer[2 : header - 4])
            )
            if opcode not in _CONTROL and self._size + max(length, 1) > self._message_bytes_max:
                raise Violation(1009, f"a message has at most {self._message_bytes_max} bytes")
            if len(buffer) < header + length:
                self._needed = header + length
                return
            first, payload = buffer[0], _unmasked(buffer, header, length)
            del buffer[: header + length]
            self._needed = 2
            if opcode in _CONTROL:
                yield _control(opcode, payload)
            else:
                self._add(opcode, payload, packed=bool(first & _PACKED))
                if first & _FIN:
                    yield self._complete()

    def _check(self, first: int, second: int) -> Opcode:
        opcode = _OPCODES.get(first & 0x0F)
        if opcode is None:
            raise Violation(1002, f"opcode {first & 0x0F:#x} is reserved")
        if first & _RESERVED:
            raise Violation(1002, "a reserved bit is set")
        if first & _PACKED and (
            self._inflate is None or opcode not in {Opcode.TEXT, Opcode.BINARY}
        ):
            raise Violation(1002, "a frame is marked as compressed where it cannot be")
        if not second & _MASKED:
            raise Violation(1002, "a client's frames must be masked")
        if opcode in _CONTROL:
            if not first & _FIN:
                raise Violation(1002, "a control frame must not be fragmented")
            if second & 0x7F > _CONTROL_MAX:
                raise Violation(1002, f"a control frame holds at most {_CONTROL_MAX} bytes")
        elif (opcode is Opcode.CONTINUATION) != (self._opcode is not None):
            raise Violation(1002, "fragments of messages come one after the other")
        return opcode

    def _add(self, opcode: Opcode, payload: bytes, *, packed: bool) -> None:
        if self._opcode is None:
            self._opcode, self._packed = opcode, packed
        self._fragments.append(payload)
        self._size += max(len(payload), 1)

    def _complete(self) -> Message:
        data, opcode = b"".join(self._fragments), self._opcode
        assert opcode is not None
        self._opcode, self._size = None, 0
        self._fragments.clear()
        if self._packed:
            assert self._inflate is not None
            data = self._inflate(data, self._message_bytes_max)
        return Message(opcode, data, _text(data) if opcode is Opcode.TEXT else "")


def _unmasked(buffer: bytearray, header: int, length: int) -> bytes:
    """Undo the masking (section 5.3) of the payload behind a header."""
    mask = bytes(buffer[header - 4 : header]) * (length // 4 + 1)
    masked = int.from_bytes(buffer[header : header + length])
    return (masked ^ int.from_bytes(mask[:length])).to_bytes(length)


def _control(opcode: Opcode, payload: bytes) -> Message:
    message = Message(opcode, payload)
    if opcode is Opcode.CLOSE and payload:
        if len(payload) == 1:
            raise Violation(1002, "a close frame's payload is empty or has 2 bytes and more")
        if not is_close_code(message.close_code):
            raise Violation(1002, f"close code {message.close_code} must not be sent")
        _text(payload[2:])
    return message


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Violation(1007, "text is UTF-8") from None
