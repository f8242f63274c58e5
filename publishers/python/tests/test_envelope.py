"""The third frame, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

from neurograph_publisher import envelope


VECTORS = Path(__file__).parents[2] / "conformance/vectors/envelope.json"


def test_the_envelope_equals_the_shared_vectors() -> None:
    for vector in json.loads(VECTORS.read_text())["valid"]:
        packed = envelope.pack(
            incarnation=int(vector["incarnation"]),
            sequence=int(vector["sequence"]),
            time_ns=int(vector["time_ns"]),
            flags=int(vector["flags"]),
        )
        assert packed.hex() == vector["hex"], vector["name"]
