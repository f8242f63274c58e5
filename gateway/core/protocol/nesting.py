"""How deep the values of JSON are nested, found without decoding it: decoders end at levels of their own, or crash."""

import re
from itertools import accumulate
from operator import add


STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'
"""Matches a string, also one that does not end: else a search would go through the rest again for each quote in it."""

_find_string = re.compile(STRING, re.DOTALL)
_BITS = bytes.maketrans(b"[{]}", b"1100")
_NOT_BRACKETS = bytes(c for c in range(256) if chr(c) not in "[]{}")
_CHUNK_BRACKETS = 4096
"""Brackets looked at together: what follows the first that is too deep costs nothing."""
_GROUP = 8
"""Brackets that are one byte: one step of Python for all of them."""


def _levels(group: int) -> list[int]:
    """Return the level behind each bracket of a group, from that before the first."""
    bits = f"{group:0{_GROUP}b}"
    return list(accumulate(1 if bit == "1" else -1 for bit in bits))


_RISE = [_levels(group)[-1] for group in range(256)]
_PEAK = [max(_levels(group)) for group in range(256)]


def check_nesting(payload: bytes, levels_max: int) -> None:
    """Check how deep the values of a payload are nested; it need not be valid JSON.
    Raises ValueError: there are more than `levels_max` levels."""
    brackets = _find_string.sub(b"", payload).translate(_BITS, _NOT_BRACKETS)
    if brackets.count(b"1") <= levels_max:
        return
    level = 0
    for at in range(0, len(brackets), _CHUNK_BRACKETS):
        chunk = brackets[at : at + _CHUNK_BRACKETS]
        chunk += b"0" * (-len(chunk) % _GROUP)
        groups = int(chunk, 2).to_bytes(len(chunk) // _GROUP)
        levels = list(accumulate(map(_RISE.__getitem__, groups), initial=level))
        if max(map(add, levels, map(_PEAK.__getitem__, groups))) > levels_max:
            raise ValueError(f"values are nested in more than {levels_max} levels")
        level = levels[-1]
        if level < 0:
            return  # more is closed than opened: no decoder goes on from there
