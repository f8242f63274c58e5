"""Clients' frames, however their bytes are split."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.protocol.deflate import inflate
from gateway.core.protocol.frames import Violation
from gateway.core.protocol.parser import Message, Opcode, Parser
from tests.support.raw import encode_frame


MAX = 100_000
FRAMES_MAX = 10**6


def masked(first: int, payload: bytes = b"", *, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    fin, reserved = bool(first & 0x80), first >> 4 & 0x7
    return encode_frame(first & 0xF, payload, fin=fin, reserved=reserved, key=mask)


def feed(parser: Parser, data: bytes) -> list[Message]:
    parser.feed(data)
    return list(parser.read(FRAMES_MAX))


def feed_all(parser: Parser, pieces: Iterable[bytes]) -> list[Message]:
    return [message for piece in pieces for message in feed(parser, piece)]


def parsed(pieces: Iterable[bytes], *, packed: bool = False) -> list[Message]:
    return feed_all(Parser(message_bytes_max=MAX, inflate=inflate if packed else None), pieces)


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


_text = st.text(max_size=300)
_mask = st.binary(min_size=4, max_size=4)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[bytes, list[Message]]:
    """Bytes that a client may send, and the messages in them."""
    data, meant = b"", list[Message]()
    for text in draw(st.lists(_text, max_size=5)):
        whole = text.encode()
        opcode = draw(st.sampled_from([Opcode.TEXT, Opcode.BINARY]))
        cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=4)))
        parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        for n, part in enumerate(parts):
            if draw(st.booleans()):
                control, payload = (draw(st.sampled_from([Opcode.PING, Opcode.PONG])), draw(st.binary(max_size=125)))
                data += masked(0x80 | control, payload, mask=draw(_mask))
                meant.append(Message(control, payload))
            fin = 0x80 if n == len(parts) - 1 else 0
            data += masked(fin | (0 if n else opcode), part, mask=draw(_mask))
        meant.append(Message(opcode, whole, text if opcode is Opcode.TEXT else ""))
    if draw(st.booleans()):
        code = draw(st.sampled_from([1000, 1001, 3000, 4999])).to_bytes(2)
        data += masked(0x88, code + b"bye")
        meant.append(Message(Opcode.CLOSE, code + b"bye"))
    return data, meant


@given(conversations(), st.lists(st.integers(1, 400), max_size=20))
def test_messages_are_the_same_however_their_bytes_are_cut(
    conversation: tuple[bytes, list[Message]], cuts: list[int]
) -> None:
    data, meant = conversation
    pieces = []
    for cut in cuts:
        pieces.append(data[:cut])
        data = data[cut:]

    assert parsed([*pieces, data]) == meant


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, MAX])
def test_every_length_is_parsed(size: int) -> None:
    [message] = parsed([masked(0x82, bytes(range(256)) * (size // 256) + b"x" * (size % 256))])

    assert (message.opcode, len(message.data)) == (Opcode.BINARY, size)
    assert message.data[:256] == (bytes(range(256)) * (size // 256) + b"x" * (size % 256))[:256]


def test_a_close_frame_may_be_empty() -> None:
    assert [message.close_code for message in parsed([masked(0x88)])] == [0]
    assert [message.close_code for message in parsed([masked(0x88, b"\x03\xe8")])] == [1000]


FORBIDDEN = {
    "unmasked": (1002, b"\x81\x02hi"),
    "compressed though not agreed on": (1002, masked(0xC1, b"hi")),
    "reserved bit 2": (1002, masked(0xA1, b"hi")),
    "reserved bit 3": (1002, masked(0x91, b"hi")),
    "reserved data opcode": (1002, masked(0x83, b"hi")),
    "reserved control opcode": (1002, masked(0x8B)),
    "fragmented ping": (1002, masked(0x09, b"hi")),
    "long ping": (1002, masked(0x89, b"x" * 126)),
    "nothing to go on with": (1002, masked(0x80, b"hi")),
    "a message within a message": (1002, masked(0x01, b"hi") + masked(0x81, b"hi")),
    "close with one byte": (1002, masked(0x88, b"x")),
    "close with a reason that is no text": (1007, masked(0x88, b"\x03\xe8\xff")),
    "no UTF-8": (1007, masked(0x81, b"\xff")),
    "half a character": (1007, masked(0x81, "\u20ac".encode()[:2])),
    "too large": (1009, masked(0x81, b"x" * (MAX + 1))),
    "too large in parts": (1009, masked(0x01, b"x" * MAX) + masked(0x00, b"x")),
    "a length of 2^63": (1009, struct.pack("!BBQ", 0x81, 0xFF, 2**63) + bytes(4)),
    **{
        f"close {code}": (1002, masked(0x88, code.to_bytes(2)))
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    },
}


@pytest.mark.parametrize(("code", "data"), FORBIDDEN.values(), ids=FORBIDDEN)
@pytest.mark.parametrize("step", [1, 2, 1000])
def test_what_rfc_6455_forbids_is_a_violation(code: int, data: bytes, step: int) -> None:
    """Earlier messages are parsed; too large a message is found before all of it is received."""
    parser = Parser(message_bytes_max=MAX)
    assert len(feed(parser, masked(0x81, b"fine before"))) == 1
    pieces = [data[at : at + step] for at in range(0, len(data), step)]

    with pytest.raises(Violation) as caught:
        feed_all(parser, pieces)

    assert caught.value.code == code


def test_empty_fragments_are_limited() -> None:
    parser = Parser(message_bytes_max=1000)
    feed(parser, masked(0x01))

    with pytest.raises(Violation) as caught:
        feed_all(parser, [masked(0x00)] * 1001)

    assert caught.value.code == 1009


def test_too_large_a_message_is_a_violation_at_its_header() -> None:
    with pytest.raises(Violation):
        parsed([masked(0x81, b"x" * (MAX + 1))[:14]])


def test_a_compressed_message_may_come_in_fragments() -> None:
    packed = deflated(b"hello " * 50)
    data = masked(0x41, packed[:5]) + masked(0x89, b"!") + masked(0x80, packed[5:])
    ping, message = parsed([data], packed=True)

    assert ping == Message(Opcode.PING, b"!")
    assert message.text == "hello " * 50
    assert [one.text for one in parsed([masked(0x81, b"plain")], packed=True)] == ["plain"]


@pytest.mark.parametrize(
    ("code", "data"),
    [
        pytest.param(1002, masked(0xC9, b"hi"), id="a compressed ping"),
        pytest.param(1002, masked(0x01, b"a") + masked(0xC0, b"b"), id="a compressed fragment"),
        pytest.param(1007, masked(0xC1, b"\xff\xff\xff"), id="rubbish"),
        pytest.param(1007, masked(0xC1, deflated(b"\xff")), id="no UTF-8 in it"),
        pytest.param(1009, masked(0xC1, deflated(bytes(5_000_000))), id="a bomb"),
    ],
)
def test_what_rfc_7692_forbids_is_a_violation(code: int, data: bytes) -> None:
    with pytest.raises(Violation) as caught:
        parsed([data], packed=True)

    assert caught.value.code == code


def test_messages_before_a_violation_are_read_first() -> None:
    parser = Parser(message_bytes_max=MAX)
    parser.feed(masked(0x81, b"one") + masked(0x89, b"two") + masked(0x83) + masked(0x81, b"never"))
    reading = parser.read(FRAMES_MAX)

    assert [next(reading).data, next(reading).data] == [b"one", b"two"]
    with pytest.raises(Violation):
        next(reading)


def test_no_more_frames_are_read_at_once_than_are_asked_for() -> None:
    """A fragment is a frame like any other; what is not read stays."""
    parser = Parser(message_bytes_max=MAX)
    parser.feed(masked(0x01, b"a") + masked(0x00, b"b") * 5 + masked(0x80, b"c") + masked(0x8A))

    assert ([*parser.read(3)], parser.frames) == ([], 3)
    assert [message.text for message in parser.read(4)] == ["abbbbbc"]
    assert (parser.frames, parser.unread_bytes) == (7, 6)
    assert [message.opcode for message in parser.read(4)] == [Opcode.PONG]


EURO = "\u20ac".encode()
BEYOND_UNICODE = b"\xf4\x90"
INVALID_SO_FAR = {
    "in a later fragment": [masked(0x01, b"text" + EURO), masked(0x00, BEYOND_UNICODE)],
    "over two fragments": [masked(0x01, b"text" + EURO[:2]), masked(0x00, b"x")],
    "at the boundary of a fragment": [masked(0x01, b"text\xf4"), masked(0x00, b"\x90")],
    "in a frame of which the rest has not come": [masked(0x81, b"text" + BEYOND_UNICODE + b"rest")[:-4]],
    "in a frame that comes byte by byte": [bytes([one]) for one in masked(0x81, b"t" + BEYOND_UNICODE + b"rest")[:-4]],
}


@pytest.mark.parametrize("pieces", INVALID_SO_FAR.values(), ids=INVALID_SO_FAR)
def test_text_that_is_not_utf_8_is_a_violation_before_its_message_is_complete(pieces: list[bytes]) -> None:
    with pytest.raises(Violation) as caught:
        parsed(pieces)

    assert caught.value.code == 1007


def test_an_unfinished_message_takes_about_its_size_however_small_its_fragments_are() -> None:
    count = 8_000
    parser = Parser(message_bytes_max=65_536)
    data = masked(0x01, b"x") + masked(0x00, b"x") * (count - 1)
    tracemalloc.start()
    for at in range(0, len(data), 70_000):
        feed(parser, data[at : at + 70_000])
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert parser.frames == count
    assert size < 2 * count
