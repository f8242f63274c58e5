"""How deep values are nested is found in a time that grows with their size."""

from __future__ import annotations

import json
import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.protocol.nesting import check_nesting


anything = st.recursive(
    st.none() | st.booleans() | st.text() | st.integers() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def nested(value: Any) -> int:
    """Count the levels of lists and objects in a value."""
    if isinstance(value, dict):
        return 1 + max(map(nested, value.values()), default=0)
    return 1 + max(map(nested, value), default=0) if isinstance(value, list) else 0


@given(anything, st.integers(0, 20), st.integers(1, 24))
def test_a_payload_is_too_deep_if_its_values_have_more_levels(value: Any, more: int, levels_max: int) -> None:
    payload = b"[" * more + json.dumps(value).encode() + b"]" * more
    if nested(value) + more > levels_max:
        with pytest.raises(ValueError, match=f"more than {levels_max} levels"):
            check_nesting(payload, levels_max)
    else:
        check_nesting(payload, levels_max)


def lines_run(payload: bytes) -> int:
    """Count the lines of Python that run while a payload of too many levels is checked."""
    count = [0]

    def trace(frame: FrameType, *_: object) -> Any:
        if frame.f_code is not check_nesting.__code__:
            return None
        count[0] += 1
        return trace

    before = sys.gettrace()  # that of a run with coverage
    sys.settrace(trace)
    try:
        with pytest.raises(ValueError, match="levels"):
            check_nesting(payload, 128)
    finally:
        sys.settrace(before)
    return count[0]


def test_what_follows_a_level_too_many_is_not_looked_at() -> None:
    """Reading a megabyte of brackets took 50 ms, in which no event was sent."""
    assert lines_run(b"[" * 1_000_000) == lines_run(b"[" * 10_000)


def test_brackets_in_strings_are_no_levels() -> None:
    check_nesting(rb'["[[[[\\", "\"[[[[", {"[[[[": 1}]', 2)


def test_a_level_too_many_is_found_behind_whatever_brackets_there_are() -> None:
    for before in range(40):
        payload = b"[" + b"[]" * before + b"[" * 12 + b"]" * 13
        check_nesting(payload, 13)
        with pytest.raises(ValueError, match="more than 12 levels"):
            check_nesting(payload, 12)


def test_a_string_that_does_not_end_is_looked_at_once() -> None:
    """Once for each quote in it, 16 KB took seconds, and these would take hours."""
    check_nesting(b'["' + b'\\"' * 500_000 + b"[" * 200, 128)
