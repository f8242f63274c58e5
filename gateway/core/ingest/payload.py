"""Checks of valid JSON that not every reader can decode: numbers out of range.

An event's bytes are forwarded unchanged, so such an event would fail only later: in a filter, a key, a
worker or a client. Ingest rejects it."""

import json
from typing import NoReturn


_INTEGER_MIN, _INTEGER_MAX = -(2**63), 2**64 - 1
_SHOWN_CHARS = 40
MANY_DIGITS, EXPONENT = b"0" * 19, b"0e"
"""If the shape of a payload has neither of these, all its numbers are in range."""
SHAPE = bytes.maketrans(b"0123456789eE[{", b"0000000000ee{{")
"""Translates a payload into its shape: digits to 0, E to e, opening brackets to {."""


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
