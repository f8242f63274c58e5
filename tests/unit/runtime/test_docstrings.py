"""What users read is there also with -OO, with which Python drops docstrings."""

from __future__ import annotations

import json
import linecache
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.runtime.docstrings import docstring


TEXTS = """
from gateway.cli import main
from gateway.web.routes import ROUTES
import click

context = click.Context(main)
commands = [main, *(main.get_command(context, name) for name in main.commands)]
texts = {
    "commands": {command.name: command.get_help(context) for command in commands},
    "routes": [one.summary for one in ROUTES if one.is_in_openapi],
}
"""


def texts(*options: str) -> dict[str, Any]:
    """Return what a new interpreter shows: in this one, a test may have run a command, which changes its help."""
    command = [sys.executable, *options, "-c", f"{TEXTS}\nimport json\nprint(json.dumps(texts))"]
    printed: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return printed


@pytest.mark.long
def test_help_and_summaries_are_the_same_without_docstrings() -> None:
    found = texts()

    assert found == texts("-OO")
    assert "Examine the bus" in found["commands"]["doctor"]
    assert "" not in found["routes"]


def test_what_has_no_docstring_has_an_empty_one() -> None:
    assert "" == docstring(lambda: None)


@pytest.fixture
def _without_docstrings(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python says with -OO."""
    monkeypatch.setattr(sys, "flags", SimpleNamespace(optimize=2))


@pytest.mark.usefixtures("_without_docstrings")
def test_a_docstring_that_python_dropped_is_read_from_the_source() -> None:
    def documented() -> None:
        """Say something."""

    documented.__doc__ = None

    assert "Say something." == docstring(documented)


@pytest.mark.usefixtures("_without_docstrings")
def test_what_has_no_source_either_has_an_empty_docstring() -> None:
    made: dict[str, Any] = {}
    exec("def documented():\n    'Say something.'\n", made)

    assert "" == docstring(made["documented"])


@pytest.mark.parametrize(
    "source", ["first = 1\nsecond = 2\n", "def other():\n    'Say another thing.'\n", "def ():\n    pass\n"]
)
@pytest.mark.usefixtures("_without_docstrings")
def test_what_python_takes_for_its_source_does_not_have_its_docstring(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.13 takes the text of `python -c` for the source of all that `exec` made."""
    made: dict[str, Any] = {}
    exec("def documented():\n    'Say something.'\n", made)
    monkeypatch.setitem(linecache.cache, "<string>", (len(source), None, source.splitlines(keepends=True), "<string>"))

    assert "" == docstring(made["documented"])
