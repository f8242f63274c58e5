"""What a stranger may send, drawn from a seeded generator: a little wrong, or altogether."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from tests.support.raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, encode_frame


HEAD = (
    "GET /ws?channels=metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\n\r\n"
)
_OPCODES = (TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG)
_TYPES = ("subscribe", "unsubscribe", "get_subscriptions", "ping", "auth")
_FIELDS = ("channels", "since", "last", "filter", "rate", "id", "token")
_NAMES = (
    "metrics",
    "fuzz.a",
    "*",
    ">",
    "a.*.b",
    "$everyone",
    "$personal",
    "",
    "a b",
    "é",
    "x" * 200,
)
_FILTERS = (
    "data.x > 1",
    "x >",
    "(" * 500,
    "a" * 2000,
    "1/0",
    "'\\ud800'",
    "has(x",
    "!" * 900,
    "\x00",
)


class Strange:
    """Draws one strange thing after another; the same seed draws the same ones."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        frames: tuple[Callable[[], bytes], ...] = (
            self._noise,
            self._flipped,
            self._lying_length,
            self._reserved,
            self._fragments,
            self._unmasked,
            self._no_unicode,
            self._cut,
            self._close,
            *[self._message] * 4,
        )
        # The first frame that breaks the rules is the last that is read: most break none.
        self._kinds = frames if self.rng.random() < 0.3 else (self._message,)

    def head(self) -> bytes:
        """The beginning of a connection, most often a good one."""
        head = HEAD.encode()
        if self.rng.random() < 0.9:
            return head
        return self._damaged(head) if self.rng.random() < 0.5 else self._noise() + b"\r\n\r\n"

    def blob(self) -> bytes:
        """What is sent next."""
        return self.rng.choice(self._kinds)()

    # -- frames --------------------------------------------------------------------------------

    def _noise(self) -> bytes:
        return self.rng.randbytes(self.rng.randrange(1, 300))

    def _damaged(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(self.rng.randrange(1, 4)):
            changed[self.rng.randrange(len(changed))] ^= 1 << self.rng.randrange(8)
        return bytes(changed)

    def _flipped(self) -> bytes:
        return self._damaged(self._message())

    def _lying_length(self) -> bytes:
        length = self.rng.choice([0, 1, 125, 126, 65_535, 65_537, 2**31, 2**62, 2**63, 2**64 - 1])
        return encode_frame(self.rng.choice(_OPCODES), b"abc", length=length)

    def _reserved(self) -> bytes:
        return encode_frame(self.rng.randrange(16), b"{}", reserved=self.rng.randrange(8))

    def _fragments(self) -> bytes:
        parts = [
            encode_frame(self.rng.choice(_OPCODES), b'{"type"', fin=self.rng.random() < 0.4)
            for _ in range(self.rng.randrange(1, 20))
        ]
        return b"".join(parts)

    def _unmasked(self) -> bytes:
        return encode_frame(TEXT, b'{"type":"ping"}', masked=False)

    def _no_unicode(self) -> bytes:
        bad = self.rng.choice([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xc0\xaf"])
        return encode_frame(TEXT, b'{"type":"ping","id":"' + bad + b'"}')

    def _cut(self) -> bytes:
        data = self._message()
        return data[: self.rng.randrange(len(data))]

    def _close(self) -> bytes:
        code = self.rng.choice([0, 999, 1000, 1004, 1005, 1006, 1015, 2000, 4999, 65_535])
        return encode_frame(CLOSE, code.to_bytes(2) + self._noise()[: self.rng.randrange(200)])

    # -- messages ------------------------------------------------------------------------------

    def _message(self) -> bytes:
        return encode_frame(TEXT, self._text().encode("utf-8", "surrogatepass"))

    def _text(self) -> str:
        match self.rng.randrange(8):
            case 0:
                return self.rng.choice(["[" * 5000, '{"type":' * 900, "NaN", "1e999", '"', "", " "])
            case 1:
                fields = [f'"type":"{self.rng.choice(_TYPES)}"' for _ in range(3)]
                return "{" + ",".join(fields) + "}"
            case _:
                message = {"type": self.rng.choice((*_TYPES, *_TYPES, "event", "", 1))}
                for name in self.rng.sample(_FIELDS, self.rng.randrange(len(_FIELDS))):
                    message[name] = self._likely(name) if self.rng.random() < 0.7 else self._any()
                return json.dumps(message)

    def _likely(self, field: str) -> Any:
        """About what belongs there."""
        rng = self.rng
        match field:
            case "channels":
                names = [rng.choice(_NAMES) for _ in range(rng.randrange(6))]
                return [
                    name if rng.random() < 0.7 else {"channel": name, "last": self._any()}
                    for name in names
                ]
            case "since":
                place = {"epoch": rng.choice(["", "a", "0" * 16]), "offset": self._number()}
                return place if rng.random() < 0.5 else {rng.choice(_NAMES): place}
            case "filter":
                return rng.choice(_FILTERS)
            case "last" | "rate":
                return self._number()
            case "token":
                return rng.choice(["", "a.b.c", "x" * 9000, "ey.ey.ey"])
            case _:
                return rng.choice([1, "a", "b" * 200, None])

    def _number(self) -> Any:
        return self.rng.choice([0, -1, 1, 0.5, 1e308, 2**53, 2**63 - 1, 2**64, 10**400, "1", True])

    def _any(self) -> Any:
        deep: Any = []
        for _ in range(self.rng.randrange(60)):
            deep = [deep]
        return self.rng.choice([None, True, [], {}, "", "\ud800", "\x00", deep, self._number()])
