"""What a connection is made of: requests for a WebSocket, and frames, right and wrong."""

from __future__ import annotations

import base64
import json
import random
import struct
from collections.abc import Callable
from urllib.parse import quote

from tests.fuzz.spoilt import ODD_VALUES, good, spoilt
from tests.support.raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, encode_frame


_CONTROLS = [CLOSE, PING, PONG]
_NO_TEXTS = [
    *(b"\x80", b"\xff", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8"),
    *(b"\xe2\x82", b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80"),
]
_LENGTHS = [0, 1, 125, 126, 127, 65_535, 65_536, 65_537, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1]
_CODES = [0, 1, 999, 1000, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 3000, 4999, 5000, 65_535]


def frame(
    rng: random.Random,
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    masked: bool = True,
    length: int | None = None,
) -> bytes:
    """A frame's bytes; `length` is what it says of its payload, true or not."""
    key = rng.randbytes(4) if masked else None
    return encode_frame(opcode, payload, fin=fin, reserved=reserved, masked=masked, length=length, key=key)


def text(rng: random.Random, payload: bytes) -> bytes:
    """A text message in one frame or in several, with control frames between them."""
    if rng.random() < 0.8:
        return frame(rng, TEXT, payload)
    cuts = sorted(rng.randrange(len(payload) + 1) for _ in range(rng.randint(1, 4)))
    pieces = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
    sent = []
    for n, piece in enumerate(pieces):
        opcode, fin = (CONTINUATION if n else TEXT), n == len(pieces) - 1
        sent.append(frame(rng, opcode, piece, fin=fin))
        if not fin and rng.random() < 0.3:
            sent.append(frame(rng, rng.choice([PING, PONG]), rng.randbytes(rng.randint(0, 125))))
    return b"".join(sent)


def broken(rng: random.Random) -> bytes:
    """Something that is no frame, or that no frame may be; most of it ends a connection."""
    return rng.choice(_BREAKERS)(rng)


def _noise(rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice([1, 2, 7, 50, 500, 5000]))


def _flipped(rng: random.Random) -> bytes:
    sent = bytearray(text(rng, json.dumps(good(rng)).encode()))
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(min(len(sent), 14)) if rng.random() < 0.7 else rng.randrange(len(sent))
        sent[at] ^= 1 << rng.randrange(8)
    return bytes(sent)


def _wrong_length(rng: random.Random) -> bytes:
    payload = rng.randbytes(rng.choice([0, 5, 200]))
    return frame(rng, rng.choice([TEXT, BINARY, PING, CLOSE]), payload, length=rng.choice(_LENGTHS))


def _reserved(rng: random.Random) -> bytes:
    opcode = rng.choice([TEXT, 3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF])
    return frame(rng, opcode, b"{}", reserved=rng.randint(0 if opcode != TEXT else 1, 7))


def _fragments(rng: random.Random) -> bytes:
    """Continuations of nothing, messages within messages, controls in pieces, thousands of nothings."""
    match rng.randrange(5):
        case 0:
            return frame(rng, CONTINUATION, b"{}", fin=bool(rng.randrange(2)))
        case 1:
            return frame(rng, TEXT, b"{", fin=False) + frame(rng, TEXT, b"}")
        case 2:
            return frame(rng, rng.choice(_CONTROLS), b"", fin=False)
        case 3:
            nothing = frame(rng, CONTINUATION, b"", fin=False)
            return frame(rng, TEXT, b"", fin=False) + nothing * rng.choice([10, 2_000])
        case _:
            piece = frame(rng, CONTINUATION, b" " * 30_000, fin=False)
            return frame(rng, TEXT, b"{", fin=False) + piece * 3


def _unmasked(rng: random.Random) -> bytes:
    return frame(rng, rng.choice([TEXT, PING, CLOSE]), b"{}", masked=False)


def _no_text(rng: random.Random) -> bytes:
    wrong = rng.choice(_NO_TEXTS)
    if rng.random() < 0.5:
        return frame(rng, TEXT, b'{"type":"' + wrong + b'"}')
    return frame(rng, TEXT, b'{"' + wrong[:1], fin=False) + frame(rng, CONTINUATION, wrong[1:] + b'"')


def _closes(rng: random.Random) -> bytes:
    match rng.randrange(4):
        case 0:
            return frame(rng, CLOSE, b"x")
        case 1:
            return frame(rng, CLOSE, struct.pack(">H", rng.choice(_CODES)) + rng.choice(_NO_TEXTS))
        case 2:
            return frame(rng, CLOSE, b"\x03\xe8" + b"r" * rng.choice([123, 124, 500]))
        case _:
            return frame(rng, CLOSE, struct.pack(">H", rng.choice(_CODES)))


def _controls(rng: random.Random) -> bytes:
    many = [frame(rng, rng.choice([PING, PONG]), rng.randbytes(rng.randint(0, 125)))]
    return b"".join(many * rng.choice([1, 10, 200])) + frame(rng, PING, b"x" * 126)


def _large(rng: random.Random) -> bytes:
    return frame(rng, rng.choice([TEXT, BINARY]), b"[" * rng.choice([65_537, 70_000]))


def _cut(rng: random.Random) -> bytes:
    """A message that stops at any byte."""
    sent = text(rng, spoilt(rng))
    return sent[: rng.randrange(1, len(sent))]


_BREAKERS: list[Callable[[random.Random], bytes]] = [
    *(_noise, _flipped, _flipped, _wrong_length, _reserved, _fragments, _unmasked, _no_text),
    *(_closes, _controls, _large, _cut, _cut),
]


def head(rng: random.Random, session: str) -> bytes:
    """A request for a WebSocket that has to be answered by one, whatever its wishes are worth."""
    query = {}
    if rng.random() < 0.4:
        for name in ("channels", "since", "last", "rate", "filter", "user_id", "session", "token"):
            if rng.random() < 0.3:
                query[name] = _wish(rng, name, session)
    address = "/ws" + ("?" + "&".join(f"{k}={v}" for k, v in query.items()) if query else "")
    return _request(address[:7_000], rng.randbytes(16))


def _wish(rng: random.Random, name: str, session: str) -> str:
    match rng.randrange(5):
        case 0 if name == "session":
            return session
        case 0:
            return "".join(f"%{byte:02x}" for byte in rng.randbytes(rng.randint(1, 40)))
        case 1:
            return quote(json.dumps(good(rng).get(name, "metrics")), safe="")
        case 2 if name == "channels":
            return quote(",".join(["metrics", "signals", "a.*"] * rng.choice([1, 50])), safe="")
        case 3:
            return quote(json.dumps(rng.choice(ODD_VALUES)), safe="")
        case _:
            return rng.choice(["", "%", "%zz", "1", "-1", "1e5", "nan", "inf", "%00", "%0d%0aX:y", "null"])


def broken_head(rng: random.Random) -> bytes:
    """A request that is no request, or not for a WebSocket, or for one that nobody offers."""
    sent = bytearray(_request("/ws", rng.randbytes(16)))
    match rng.randrange(4):
        case 0:
            return bytes(sent[: rng.randrange(len(sent))])
        case 1:
            for _ in range(rng.randint(1, 6)):
                sent[rng.randrange(len(sent))] ^= 1 << rng.randrange(8)
        case 2:
            for _ in range(rng.randint(1, 3)):
                at = rng.randrange(len(sent))
                sent[at : at + rng.choice([0, 1, 5])] = rng.choice(_HEAD_SCRAPS)
        case _:
            lines = bytes(sent).split(b"\r\n")[:-2]
            lines.insert(rng.randrange(1, len(lines)), rng.choice(_HEADERS))
            if rng.random() < 0.5:
                del lines[rng.randrange(len(lines))]
            return b"\r\n".join([*lines, b"", b""])
    return bytes(sent)


_HEAD_SCRAPS = [
    *(b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b"\xff", b"\x80", b"%00", b"?" * 9000),
    *(b"HTTP/2.0", b"HTTP/1.0", b"PRI * HTTP/2.0", b"a" * 9000, b"\r\nX: y", b"\x16\x03\x01"),
]
_HEADERS = [
    *(b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 99999999999999999999"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: xchunked", b"Connection: close", b"Expect: x"),
    *(b"Sec-WebSocket-Version: 12", b"Sec-WebSocket-Version: x", b"Sec-WebSocket-Key: short"),
    *(b"Sec-WebSocket-Protocol: ,,,", b"Sec-WebSocket-Protocol: bearer.", b"Authorization: Bearer x"),
    *(b"Authorization: Basic \xff", b"Sec-WebSocket-Extensions: permessage-deflate; a=" + b"b" * 500),
    *(b"Upgrade: h2c", b"Host: ", b"X: " + b"y" * 9000, b"X\x00: y", b": y", b"Expect: 100-continue"),
    *(b"Origin: null", b"X-Forwarded-For: 1.2.3.4, \xff", b"Cookie: " + b"a=b; " * 500, b"Range: bytes=0-"),
]


def _request(address: str, key: bytes) -> bytes:
    return (
        f"GET {address} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {base64.b64encode(key).decode()}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()
