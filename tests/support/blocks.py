"""The code blocks of the documents, fenced or indented."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("clients/**/*.md"), *ROOT.glob("publishers/**/*.md")]
)
_BLOCK = re.compile(
    r"^```(?P<language>\w*)\n(?P<fenced>.*?)^```$|(?<=\n\n)(?P<indented>(?: {4}[^\n]*\n|\n(?= {4}))+)", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """One block of code."""

    document: str
    language: str
    text: str

    @property
    def first(self) -> str:
        """Its first line, by which it is known."""
        return self.text.split("\n", 1)[0].strip()

    def __str__(self) -> str:
        return f"{self.document}: {self.first}"


def blocks() -> Iterator[Block]:
    for path in DOCUMENTS:
        if "node_modules" not in path.parts:
            for found in _BLOCK.finditer(path.read_text()):
                text = found["fenced"] or textwrap.dedent(found["indented"]).rstrip("\n") + "\n"
                yield Block(str(path.relative_to(ROOT)), found["language"] or "", text)
