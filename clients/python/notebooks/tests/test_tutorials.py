"""The tutorial notebooks run from the first to the last cell, as a reader runs them, and close all connections."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import Launch
from tests.support.blocks import Block, blocks
from tests.support.waiting import DEADLINE_SECONDS, eventually, scaled

from .kernel import Kernel
from .test_magics import is_alone


FOLDER = Path(__file__).parents[4] / "docs/notebooks"
BOOKS = sorted(FOLDER.glob("*.ipynb"))

SHOWN = {
    "1-first-look": [
        "connected to",
        "ready",
        "robots.r1",
        "robot.moved",
        "ended after 5 events",
        "gap: ",
        "--filter CEL",
    ],
    "2-dataframes": ["data.pose.x", "datetime64[ns, UTC]", "(50, ", "(200, ", "shape: (2, 2)", "[]"],
    "3-live": ["application/vnd.jupyter.widget-view+json", "data.mood", "('stopped', 'stopped')", "True"],
}
"""Texts that the outputs contain, in this order."""


def outputs(book: Any) -> str:
    """Return all outputs of a notebook as one text."""
    found = []
    for cell in book.cells:
        for output in cell.get("outputs", []):
            found += [output.get("text", ""), *(f"{kind}: {text}" for kind, text in output.get("data", {}).items())]
    return "\n".join(found)


@pytest.mark.parametrize("block", [one for one in blocks() if one.text.startswith("%load_ext")], ids=str)
async def test_the_lines_of_a_document_show_a_live_chart(launch: Launch, kernel: Kernel, block: Block) -> None:
    gateway = await launch()
    shown = await kernel.run(block.text.replace("http://127.0.0.1:8000", gateway.url))

    assert "application/vnd.jupyter.widget-view+json" in shown.data[-1]
    assert "chart" == kernel.sent[kernel.widget()][0]["state"]["kind"]


def test_there_are_three_tutorials() -> None:
    assert [*SHOWN] == [path.stem for path in BOOKS]


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
async def test_a_tutorial_runs(launch: Launch, path: Path) -> None:
    gateway = await launch()
    book = nbformat.read(path, as_version=4)
    environment = {**os.environ, "GATEWAY_URL": gateway.url}
    client = NotebookClient(book, timeout=scaled(DEADLINE_SECONDS), kernel_name="python3")
    await client.async_execute(env=environment)
    await eventually(lambda: is_alone(gateway))

    text = outputs(book)
    for part in SHOWN[path.stem]:
        assert part in text, text
        text = text[text.index(part) :]


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_a_tutorial_is_kept_without_outputs(path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)

    assert [] == [cell for cell in book.cells if cell.get("outputs") or cell.get("execution_count")]
