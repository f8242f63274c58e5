"""Checks of valid JSON that not every reader can decode: numbers out of range, deep nesting.

An event's bytes are forwarded unchanged, so such an event would fail only later: in a filter, a key, a
worker or a client. Ingest rejects it."""

import json
import re
from itertools import accumulate
from typing import NoReturn


_INTEGER_MIN, _INTEGER_MAX = -(2**63), 2**64 - 1
_SHOWN_CHARS = 40
MANY_DIGITS, EXPONENT = b"0" * 19, b"0e"
"""If the shape of a payload has neither of these, all its numbers are in range."""
SHAPE = bytes.maketrans(b"0123456789eE[{", b"0000000000ee{{")
"""Translates a payload into its shape: digits to 0, E to e, opening brackets to {."""
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_NOT_BRACKETS = bytes(c for c in range(256) if chr(c) not in "[]{}")
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_LEVEL = {ord("["): 1, ord("]"): -1}
_REMOVED_LEVELS = 8
"""So many of the innermost levels are removed at once: most payloads have no more, and the others fewer brackets left."""

_CHUNK_BYTES = 4096
"""Brackets looked at together: what follows the first that is too deep costs nothing."""


def check_nesting(payload: bytes, levels_max: int) -> None:
    """Check how deep the values of a payload are nested; it need not be valid JSON.
    Raises ValueError: there are more than `levels_max` levels."""
    brackets = _STRING.sub(b"", payload).translate(_ONE_KIND, _NOT_BRACKETS)
    removed = 0
    while removed < min(_REMOVED_LEVELS, levels_max) and b"[]" in brackets:
        brackets = brackets.replace(b"[]", b"")
        removed += 1
    level = 0
    for at in range(0, len(brackets), _CHUNK_BYTES):
        chunk = map(_LEVEL.__getitem__, brackets[at : at + _CHUNK_BYTES])
        levels = list(accumulate(chunk, initial=level))
        if max(levels) + removed > levels_max:
            raise ValueError(f"values are nested in more than {levels_max} levels")
        level = levels[-1]
        if level < 0:
            return  # more is closed than opened: no decoder goes on from there


def check_numbers(payload: bytes) -> None:
    """Check the numbers of valid JSON; necessary if its shape has `MANY_DIGITS` or an `EXPONENT`.
    Raises ValueError: a number does not fit a double or a 64-bit integer."""
    json.loads(payload, parse_int=_check_integer, parse_float=_check_float)


def _check_integer(text: str) -> None:
    # int() does not accept more than 4,300 digits.
    if len(text) > 20 or not _INTEGER_MIN <= int(text) <= _INTEGER_MAX:
        _refuse(text, "a 64-bit integer")


def _check_float(text: str) -> None:
    if float(text) in {float("inf"), float("-inf")}:
        _refuse(text, "a double")


def _refuse(text: str, kind: str) -> NoReturn:
    shown = text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}… ({len(text)} characters)"
    raise ValueError(f"the number {shown} does not fit {kind}")
