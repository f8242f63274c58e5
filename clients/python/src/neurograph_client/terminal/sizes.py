"""Sizes in bytes, as people write and read them."""

import re

import click


_UNITS = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}


def read_size(text: str) -> int:
    """Return the bytes that an option such as 100MB or 64KiB stands for."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if found is None or found[2] not in _UNITS or not float(found[1]):
        raise click.BadParameter(f"{text!r} is not a size such as 100MB or 64KiB")
    return int(float(found[1]) * _UNITS[found[2]])


def size(number: float) -> str:
    """Return a number of bytes for people: ``3.2 MB``."""
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.1f} {unit}" if unit != "B" else f"{number:.0f} B"
        number /= 1000
    return f"{number:.1f} GB"
