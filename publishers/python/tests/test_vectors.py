"""The test vectors of all languages are up to date with this publisher, which writes them."""

from __future__ import annotations

import runpy
from pathlib import Path


CONFORMANCE = Path(__file__).parents[2] / "conformance"


def test_the_vectors_are_those_of_this_publisher() -> None:
    script = runpy.run_path(str(CONFORMANCE / "make_vectors.py"))
    expected = script["documents"]()

    assert expected == {path.name: path.read_text() for path in CONFORMANCE.glob("vectors/*.json")}
