"""Compressed payloads, and what a hostile one costs."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest

from gateway.core.sources.compression import make_decompress
from gateway.core.sources.errors import Unreadable
from gateway.core.sources.spec import Compression


KINDS: dict[Compression, Callable[[bytes], bytes]] = {"none": bytes, "zlib": zlib.compress, "gzip": gzip.compress}

each_kind = pytest.mark.parametrize("kind", ["zlib", "gzip"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_payload_is_decompressed(kind: Compression) -> None:
    assert b"x" * 100 == make_decompress(kind, bytes_max=100)(KINDS[kind](b"x" * 100))


def test_several_members_of_gzip_are_one_payload() -> None:
    assert b"abab" == make_decompress("gzip", bytes_max=100)(gzip.compress(b"ab") * 2)


@each_kind
def test_a_payload_that_grows_beyond_the_limit_is_refused(kind: Compression) -> None:
    with pytest.raises(Unreadable) as caught:
        make_decompress(kind, bytes_max=1000)(KINDS[kind](bytes(10_000_000)))

    assert "oversized" == caught.value.reason


@each_kind
@pytest.mark.parametrize("spoil", [lambda it: it[:-5], lambda it: b"", lambda it: b"{}", lambda it: it + b"x"])
def test_what_is_not_compressed_so_is_refused(kind: Compression, spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Unreadable) as caught:
        make_decompress(kind, bytes_max=1000)(spoil(KINDS[kind](b"text")))

    assert "bad_compression" == caught.value.reason


def test_the_other_kind_of_compression_is_named() -> None:
    with pytest.raises(Unreadable, match='compression = "gzip"'):
        make_decompress("zlib", bytes_max=1000)(gzip.compress(b"text"))
    with pytest.raises(Unreadable, match='compression = "none"'):
        make_decompress("zlib", bytes_max=1000)(b"{}")
