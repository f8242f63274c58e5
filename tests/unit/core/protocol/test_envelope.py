"""The envelope: 32 bytes, the same in every language."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.protocol.envelope import SIZE, Envelope, unpack


VECTORS = Path(__file__).parents[4] / "publishers/conformance/vectors/envelope.json"

_u64 = st.integers(0, 2**64 - 1)


@given(
    st.builds(
        Envelope, incarnation=_u64, sequence=st.integers(1, 2**64 - 1), sent_ns=_u64, flags=st.integers(0, 2**32 - 1)
    )
)
def test_what_was_packed_is_unpacked(envelope: Envelope) -> None:
    assert envelope == unpack(envelope.pack())


@given(st.binary(max_size=2 * SIZE))
def test_other_bytes_are_refused_with_a_reason(frame: bytes) -> None:
    if len(frame) != SIZE or not frame.startswith(b"NGE1"):
        with pytest.raises(ValueError, match="an envelope"):
            unpack(frame)


def test_a_sequence_begins_at_one() -> None:
    with pytest.raises(ValueError, match="from 1"):
        unpack(Envelope(incarnation=7, sequence=0, sent_ns=1).pack())


def test_the_shared_vectors_hold() -> None:
    """The publishers of all languages are tested with the same file."""
    vectors = json.loads(VECTORS.read_text())
    for vector in vectors["valid"]:
        expected = Envelope(
            incarnation=int(vector["incarnation"]),
            sequence=int(vector["sequence"]),
            sent_ns=int(vector["time_ns"]),
            flags=int(vector["flags"]),
        )
        assert expected == unpack(bytes.fromhex(vector["hex"]))
        assert vector["hex"] == expected.pack().hex()
    for vector in vectors["invalid"]:
        with pytest.raises(ValueError, match="an envelope"):
            unpack(bytes.fromhex(vector["hex"]))
