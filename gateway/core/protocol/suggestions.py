"""What a misspelt name may have meant."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches


_SEGMENT_CHARS_MIN = 4
"""Shorter segments differ by one character without being misspelt."""
_ANY_DIGIT = str.maketrans("123456789", "000000000")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that suggests the known name nearest to `name`; empty if none is near."""
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def similar_channels(name: str, channels: Iterable[str]) -> Iterator[str]:
    """Yield the channels of which `name` may be a misspelling.

    They differ in upper and lower case, or by one edit in one segment: a character too many, too few, wrong, or
    exchanged with the next. Names that differ only in digits are siblings, such as those of hosts. Takes about a
    microsecond per channel; `get_close_matches` would take 50."""
    lower = name.casefold()
    size = len(lower)
    for one in channels:
        if abs(len(one) - size) > 1 or one == name:
            continue
        other = one.casefold()
        if other == lower or _one_edit(lower, other):
            yield one


def _one_edit(name: str, other: str) -> bool:
    if name[0] != other[0] and name[-1] != other[-1]:  # most names end here
        return False
    segments, others = name.split("."), other.split(".")
    if len(segments) != len(others):
        return False
    differing = [pair for pair in zip(segments, others, strict=True) if pair[0] != pair[1]]
    if len(differing) != 1:
        return False
    [(one, two)] = differing
    if min(len(one), len(two)) < _SEGMENT_CHARS_MIN or one.translate(_ANY_DIGIT) == two.translate(_ANY_DIGIT):
        return False
    at = next((n for n, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
    exchanged = one[at : at + 2] == two[at : at + 2][::-1] and one[at + 2 :] == two[at + 2 :]
    return exchanged or two[at + 1 :] in {one[at:], one[at + 1 :]} or one[at + 1 :] == two[at:]
