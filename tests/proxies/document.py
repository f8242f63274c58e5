"""Writes the tables of docs/proxies.md."""

from __future__ import annotations

from pathlib import Path


TARGET = Path(__file__).parents[2] / "docs/proxies.md"
_END = "<!-- end -->\n"


def write(name: str, rows: list[str]) -> None:
    """Put a table in the place of that name."""
    text = TARGET.read_text()
    begin = f"<!-- {name}, written by make proxies -->\n"
    before, found, rest = text.partition(begin)
    assert found, f"{TARGET.name} has no place for {name}"
    TARGET.write_text("".join([before, begin, *(f"{row}\n" for row in rows), _END, rest.partition(_END)[2]]))
