"""Compressed messages: the negotiation, and that each is compressed once."""

from __future__ import annotations

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.protocol.deflate import Compressor, inflate, negotiate
from gateway.core.protocol.frames import Violation, binary_frame, each_frame, text_frame, text_payloads


ANSWER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


@pytest.mark.parametrize(
    ("offered", "bits", "answer"),
    [
        ("permessage-deflate", 15, ANSWER),
        ("permessage-deflate; client_max_window_bits", 15, ANSWER),
        ("permessage-deflate; client_max_window_bits=10", 15, ANSWER),
        ('permessage-deflate; client_max_window_bits="10"', 15, ANSWER),
        ("permessage-deflate;server_no_context_takeover;client_no_context_takeover", 15, ANSWER),
        ("permessage-deflate; server_max_window_bits=10", 10, f"{ANSWER}; server_max_window_bits=10"),
        ("x-other, permessage-deflate", 15, ANSWER),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", 15, ANSWER),
        ("permessage-deflate; unknown=1, permessage-deflate", 15, ANSWER),
    ],
)
def test_an_acceptable_offer_is_accepted(offered: str, bits: int, answer: str) -> None:
    assert negotiate(offered) == (bits, answer)


@pytest.mark.parametrize(
    "offered",
    [
        "",
        "x-webkit-deflate-frame",
        "permessage-deflate-2",
        "permessage-deflate; unknown",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_max_window_bits; client_max_window_bits",
        "permessage-deflate; ;",
        "permessage-deflate; a b",
    ],
)
def test_other_offers_are_declined(offered: str) -> None:
    assert negotiate(offered) is None


@given(st.text(max_size=100))
def test_any_text_is_accepted_or_declined(offered: str) -> None:
    assert negotiate(offered) is None or "permessage-deflate" in offered


def unpacked(frames: bytes, bits: int = 15) -> list[bytes]:
    """Decompress each message by itself, with a window of so many bits."""
    found = []
    at = 0
    for payload in text_payloads(frames):
        packed = frames[at] & 0x40
        size = len(payload)
        at += size + (2 if size < 126 else 4 if size < 65536 else 10)
        if packed:
            payload = zlib.decompressobj(-bits).decompress(payload + b"\x00\x00\xff\xff")
        found.append(payload)
    return found


@given(st.lists(st.text(max_size=3000).map(str.encode), max_size=5), st.integers(9, 15))
def test_a_client_reads_what_was_written_whatever_its_window(texts: list[bytes], bits: int) -> None:
    encode = Compressor(100, on_compressed=int).encoder(bits)

    assert unpacked(encode(b"".join(map(text_frame, texts))), bits) == texts


def test_small_and_incompressible_messages_stay_uncompressed() -> None:
    saved: list[int] = []
    compressor = Compressor(12, on_compressed=saved.append)
    encode = compressor.encoder(15)
    small, dense = text_frame(b"x" * 11), text_frame(b"0123456789ab")

    assert encode(small) == small
    assert encode(dense) == dense
    assert len(encode(text_frame(b"x" * 1000))) < 30
    assert saved[0] == 0
    assert saved[1] > 950


def test_a_message_is_compressed_once_for_all_views_and_windows_that_fit_it() -> None:
    packed: list[int] = []
    compressor = Compressor(10, on_compressed=packed.append)
    one, two = (text_frame(json.dumps({"n": n, "pad": "x" * 300}).encode()) for n in (1, 2))
    seen = [compressor.encoder(bits) for bits in (9, 12, 15)]
    first = [encode(one + two) for encode in seen]
    alone = [encode(two) for encode in seen]

    assert len(packed) == 2
    assert len(set(first)) == len(set(alone)) == 1
    assert first[0].endswith(alone[0])


def test_the_same_bytes_object_is_not_encoded_again() -> None:
    compressor = Compressor(10, on_compressed=int)
    encode = compressor.encoder(15)
    frames = b"".join(text_frame(b"x" * 100) for _ in range(10))

    assert encode(frames) is encode(frames)
    assert compressor.encoder(15) is encode


def test_the_cache_is_limited() -> None:
    packed: list[int] = []
    compressor = Compressor(10, on_compressed=packed.append)
    for n in range(100):
        compressor.frame(text_frame(b"%d" % n + b"x" * 200_000), 15)

    assert 3_000_000 < compressor.cache.bytes < 5_000_000
    assert len(compressor.cache) < 25
    compressor.frame(text_frame(b"99" + b"x" * 200_000), 15)
    assert len(packed) == 100


@given(st.binary(max_size=2000))
def test_any_bytes_are_decompressed_or_a_violation(data: bytes) -> None:
    unpacked, code = b"", 1007
    try:
        unpacked = inflate(data, 1000)
    except Violation as violation:
        code = violation.code

    assert len(unpacked) <= 1000
    assert code in {1007, 1009}


def test_binary_messages_stay_uncompressed() -> None:
    encode = Compressor(1, on_compressed=int).encoder(15)
    text, binary = text_frame(b"a" * 1000), binary_frame(b"b" * 1000)

    assert list(each_frame(encode(text + binary)))[1] == binary
