"""Counting what does not depend on the machine."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from _typeshed import TraceFunction


def calls(action: Callable[[], object]) -> int:
    """Count the function calls that an action makes."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    gc.disable()  # whoever watches the collector would be counted
    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(before)
        gc.enable()
    return count


def steps(action: Callable[[], object]) -> int:
    """Count the instructions of Python's byte code that an action runs: those of a loop each time."""
    count = 0

    def note(frame: FrameType, event: str, _argument: object) -> TraceFunction:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return note

    before = sys.gettrace()
    sys.settrace(note)
    try:
        action()
    finally:
        sys.settrace(before)
    return count
