"""What users read is there also with -OO, with which Python drops docstrings."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

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


def test_help_and_summaries_are_the_same_without_docstrings() -> None:
    found: dict[str, Any] = {}
    exec(TEXTS, found)
    printed = subprocess.run(
        [sys.executable, "-OO", "-c", f"{TEXTS}\nimport json\nprint(json.dumps(texts))"],
        check=True,
        capture_output=True,
        text=True,
    )

    assert found["texts"] == json.loads(printed.stdout)
    assert "Examine the bus" in found["texts"]["commands"]["doctor"]
    assert "" not in found["texts"]["routes"]


def test_what_has_no_docstring_has_an_empty_one() -> None:
    assert "" == docstring(lambda: None)
