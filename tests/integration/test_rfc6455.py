"""The WebSocket protocol as RFC 6455 has it, also where aiohttp is less strict."""

from __future__ import annotations

import base64
import hashlib
import struct

import pytest

from tests.conftest import Connect, OpenRaw
from tests.support.raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, encode_frame


ASK = b'{"type": "ping", "id": 7}'


async def test_the_handshake_is_answered(raw: OpenRaw) -> None:
    """101 with the accept key that RFC 6455, section 4.2.2, computes; no extension unasked."""
    peer = await raw(upgrade=False)
    key = base64.b64encode(b"0123456789abcdef").decode()
    status, headers = await peer.upgrade(Sec_WebSocket_Key=key)
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()

    assert status == 101
    assert base64.b64encode(digest).decode() == headers["sec-websocket-accept"]
    assert "sec-websocket-extensions" not in headers
    assert (await peer.read_message())["type"] == "connected"


VIOLATIONS = {
    "unmasked text": (1002, encode_frame(TEXT, ASK, masked=False)),
    "unmasked ping": (1002, encode_frame(PING, b"x", masked=False)),
    "unmasked close": (1002, encode_frame(CLOSE, b"\x03\xe8", masked=False)),
    "unmasked after masked": (1002, encode_frame(PONG) + encode_frame(TEXT, ASK, masked=False)),
    "rsv1": (1002, encode_frame(TEXT, ASK, reserved=4)),
    "rsv2": (1002, encode_frame(TEXT, ASK, reserved=2)),
    "rsv3": (1002, encode_frame(TEXT, ASK, reserved=1)),
    "rsv on a control frame": (1002, encode_frame(PING, b"", reserved=4)),
    "opcode 3": (1002, encode_frame(3, ASK)),
    "opcode 7": (1002, encode_frame(7, ASK)),
    "opcode 11": (1002, encode_frame(11)),
    "opcode 15": (1002, encode_frame(15)),
    "fragmented ping": (1002, encode_frame(PING, b"x", fin=False)),
    "fragmented close": (1002, encode_frame(CLOSE, b"\x03\xe8", fin=False)),
    "ping too long": (1002, encode_frame(PING, b"x" * 126)),
    "close too long": (1002, encode_frame(CLOSE, b"\x03\xe8" + b"x" * 124)),
    "continuation of nothing": (1002, encode_frame(CONTINUATION, ASK)),
    "text within text": (1002, encode_frame(TEXT, b"{", fin=False) + encode_frame(TEXT, b"}")),
    "close of one byte": (1002, encode_frame(CLOSE, b"\x03")),
    "binary": (1003, encode_frame(BINARY, b"\x00\x01")),
    "empty binary": (1003, encode_frame(BINARY)),
    "fragmented binary": (1003, encode_frame(BINARY, b"\x00", fin=False) + encode_frame(CONTINUATION, b"\x01")),
    "invalid utf-8": (1007, encode_frame(TEXT, b'{"type": "\xff"}')),
    "surrogate": (1007, encode_frame(TEXT, b'"\xed\xa0\x80"')),
    "truncated utf-8": (1007, encode_frame(TEXT, b'"\xc3')),
    "invalid utf-8 over fragments": (1007, encode_frame(TEXT, b'"\xc3', fin=False) + encode_frame(CONTINUATION, b'"')),
    "invalid utf-8 in a close reason": (1007, encode_frame(CLOSE, b"\x03\xe8\xff")),
    "oversize": (1009, encode_frame(TEXT, b" " * 65537)),
    "announced oversize": (1009, encode_frame(TEXT, b"", length=1 << 30)),
    "oversize over fragments": (
        1009,
        encode_frame(TEXT, b" " * 40000, fin=False) + encode_frame(CONTINUATION, b" " * 40000),
    ),
}


@pytest.mark.parametrize(("code", "data"), VIOLATIONS.values(), ids=VIOLATIONS)
async def test_a_violation_is_closed_with_its_code(raw: OpenRaw, code: int, data: bytes) -> None:
    """The peer gets the reason, then the close frame; no message of the frame at fault is answered."""
    peer = await raw()
    await peer.send_bytes(data)
    ending = await peer.read_ending()

    assert code == ending.code
    assert [message["type"] for message in ending.messages] == ["closing"]
    assert ending.closing is not None
    assert (code, False) == (ending.closing["code"], ending.closing["reconnect"])
    assert ending.closing["reason"]


def echoed(number: int) -> bytes:
    """Return a message that the gateway answers with its number."""
    return encode_frame(TEXT, b'{"type": "ping", "id": %d}' % number)


FRAGMENTS = encode_frame(TEXT, b'{"type": "ping",', fin=False) + encode_frame(CONTINUATION, b' "id": 1}')
BEHIND_A_MESSAGE = {
    "3.2": (echoed(1) + encode_frame(TEXT, ASK, reserved=2) + encode_frame(PING), 1),
    "3.3": (echoed(1) + encode_frame(TEXT, ASK, reserved=3) + encode_frame(PING), 1),
    "3.4": (echoed(1) + encode_frame(TEXT, ASK, reserved=4) + encode_frame(PING), 1),
    "4.1.3": (echoed(1) + encode_frame(5) + encode_frame(PING), 1),
    "4.1.4": (echoed(1) + encode_frame(6, ASK) + encode_frame(PING), 1),
    "4.1.5": (echoed(1) + encode_frame(7, ASK) + encode_frame(PING), 1),
    "4.2.3": (echoed(1) + encode_frame(13) + encode_frame(PING), 1),
    "4.2.4": (echoed(1) + encode_frame(14, ASK) + encode_frame(PING), 1),
    "4.2.5": (echoed(1) + encode_frame(15, ASK) + encode_frame(PING), 1),
    "5.15": (FRAGMENTS + encode_frame(CONTINUATION, b"fragment", fin=False) + echoed(2), 1),
    "many": (b"".join(map(echoed, range(1, 100))) + encode_frame(3), 99),
}


@pytest.mark.parametrize("octets", [0, 1], ids=["in one segment", "octet by octet"])
@pytest.mark.parametrize(("data", "answers"), BEHIND_A_MESSAGE.values(), ids=BEHIND_A_MESSAGE)
async def test_messages_before_a_violation_are_answered(raw: OpenRaw, data: bytes, answers: int, octets: int) -> None:
    """The names are those of the cases in the Autobahn test suite; what follows the violation is not answered."""
    peer = await raw()
    for at in range(0, len(data), octets or len(data)):
        await peer.send_bytes(data[at : at + (octets or len(data))])
    ending = await peer.read_ending()

    assert ending.code == 1002
    assert [message.get("id") for message in ending.messages[:-1]] == [*range(1, answers + 1)]
    assert [frame.opcode for frame in ending.frames].count(PONG) == 0


COSMOS, BEYOND_UNICODE, EDITED = "κόσμε".encode(), b"\xf4\x90\x80\x80", b"edited"
NOT_UTF_8_SO_FAR = {
    "6.4.1": encode_frame(TEXT, COSMOS, fin=False) + encode_frame(CONTINUATION, BEYOND_UNICODE, fin=False),
    "6.4.2": encode_frame(TEXT, COSMOS + b"\xf4", fin=False) + encode_frame(CONTINUATION, b"\x90", fin=False),
    "6.4.3": encode_frame(TEXT, COSMOS + BEYOND_UNICODE + EDITED)[: -len(EDITED)],
    "6.4.4": encode_frame(TEXT, COSMOS + BEYOND_UNICODE + EDITED)[: -len(EDITED) - 2],
}


@pytest.mark.parametrize("data", NOT_UTF_8_SO_FAR.values(), ids=NOT_UTF_8_SO_FAR)
async def test_text_that_cannot_become_utf_8_is_closed_before_its_message_ends(raw: OpenRaw, data: bytes) -> None:
    """Autobahn's cases again: the rest of the message is never sent."""
    peer = await raw()
    await peer.send_bytes(data)

    assert (await peer.read_ending()).code == 1007


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535])
async def test_a_reserved_close_code_is_refused(raw: OpenRaw, code: int) -> None:
    """Codes that must not be on the wire are a protocol error."""
    peer = await raw()
    await peer.send_close(code)

    assert (await peer.read_ending()).code == 1002


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1008, 1011, 3000, 3999, 4000, 4999])
async def test_a_proper_close_is_answered_alike(raw: OpenRaw, code: int) -> None:
    """The peer's code comes back, without a `closing` message: who closes knows why."""
    peer = await raw()
    await peer.send_close(code, b"bye")
    ending = await peer.read_ending()

    assert code == ending.code
    assert ending.messages == []


async def test_a_close_without_a_code_is_answered(raw: OpenRaw) -> None:
    """An empty close frame is fine; the answer carries no code, or 1000."""
    peer = await raw()
    await peer.send_close(None)
    ending = await peer.read_ending()

    assert ending.frames[-1].opcode == CLOSE
    assert ending.code in {None, 1000}


async def test_nothing_comes_after_the_answer_to_a_close(raw: OpenRaw) -> None:
    """The gateway's close frame is its last frame, and the connection ends after it."""
    peer = await raw()
    await peer.send_bytes(encode_frame(CLOSE, b"\x03\xe8") + encode_frame(TEXT, ASK))
    ending = await peer.read_ending()

    assert [frame.opcode for frame in ending.frames] == [CLOSE]


async def test_a_text_in_fragments_is_one_message(raw: OpenRaw) -> None:
    """Fragments, an empty one among them, with control frames in between."""
    peer = await raw()
    await peer.send_frame(TEXT, ASK[:5], fin=False)
    await peer.send_frame(PING, b"between")
    await peer.send_frame(CONTINUATION, b"", fin=False)
    await peer.send_frame(CONTINUATION, ASK[5:])
    pong = await peer.read_frame()
    answer = await peer.read_message()

    assert (pong.opcode, pong.payload) == (PONG, b"between")
    assert (answer["type"], answer["id"]) == ("pong", 7)


async def test_a_character_may_be_split_over_fragments(raw: OpenRaw) -> None:
    """UTF-8 is checked over the whole message."""
    peer = await raw()
    text = '{"type": "ping", "id": "ü€😀"}'.encode()
    await peer.send_frame(TEXT, text[:1], fin=False)
    for at in range(1, len(text) - 1):
        await peer.send_frame(CONTINUATION, text[at : at + 1], fin=False)
    await peer.send_frame(CONTINUATION, text[-1:])

    assert (await peer.read_message())["id"] == "ü€😀"


async def test_frames_may_come_byte_by_byte(raw: OpenRaw) -> None:
    """TCP promises no boundaries."""
    peer = await raw()
    for byte in encode_frame(TEXT, ASK) + encode_frame(PING, b"p"):
        await peer.send_bytes(bytes([byte]))

    assert (await peer.read_message())["id"] == 7
    assert (await peer.read_frame()).payload == b"p"


async def test_many_frames_may_come_at_once(raw: OpenRaw) -> None:
    """All are answered, in order."""
    peer = await raw()
    await peer.send_bytes(b"".join(encode_frame(TEXT, b'{"type": "ping", "id": %d}' % n) for n in range(200)))

    assert list(range(200)) == [(await peer.read_message())["id"] for _ in range(200)]


@pytest.mark.parametrize("size", [0, 1, 125])
async def test_a_ping_is_answered_with_its_payload(raw: OpenRaw, size: int) -> None:
    """Byte for byte, up to the longest that is allowed."""
    peer = await raw()
    payload = bytes(range(125))[:size]
    await peer.send_frame(PING, payload)
    frame = await peer.read_frame()

    assert (PONG, payload, True, 0) == (frame.opcode, frame.payload, frame.fin, frame.reserved)


async def test_an_unasked_pong_is_ignored(raw: OpenRaw) -> None:
    """A unidirectional heartbeat, RFC 6455, section 5.5.3."""
    peer = await raw()
    await peer.send_frame(PONG, b"unasked")
    await peer.send_frame(TEXT, ASK)

    assert (await peer.read_message())["id"] == 7


async def test_the_largest_message_is_accepted(raw: OpenRaw) -> None:
    """Exactly as many bytes as `connected` says, in one frame or in several."""
    peer = await raw()
    message = ASK + b" " * (65536 - len(ASK))
    await peer.send_frame(TEXT, message)
    await peer.send_frame(TEXT, message[:65535], fin=False)
    await peer.send_frame(CONTINUATION, message[65535:])

    assert [(await peer.read_message())["id"] for _ in range(2)] == [7, 7]


async def test_frames_of_the_gateway_are_well_formed(raw: OpenRaw) -> None:
    """Unmasked, final, without reserved bits, the shortest length form."""
    peer = await raw()
    await peer.send_json({"type": "subscribe", "channels": ["a" * 120 + str(n) for n in range(9)]})
    frame = await peer.read_frame()

    assert (frame.opcode, frame.fin, frame.reserved, frame.masked) == (TEXT, True, 0, False)
    assert len(frame.payload) > 125


async def test_a_violation_harms_nobody_else(raw: OpenRaw, connect: Connect) -> None:
    """Others on the same gateway go on."""
    client = await connect("status")
    peer = await raw()
    await peer.send_bytes(struct.pack(">H", 0xFFFF) * 1000)
    await peer.read_ending()

    await client.subscribe("metrics")


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_WebSocket_Version": "12"},
        {"Sec_WebSocket_Key": "too short"},
        {"Upgrade": "h2c"},
        {"Connection": "keep-alive"},
    ],
)
async def test_a_bad_handshake_is_refused(raw: OpenRaw, headers: dict[str, str]) -> None:
    """A 4xx answer, with no WebSocket after it."""
    peer = await raw(upgrade=False)
    status, _ = await peer.upgrade(**headers)

    assert 400 <= status < 500
