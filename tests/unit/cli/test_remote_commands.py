"""The commands that speak to a gateway: what they cost the others, and what they need."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from gateway.cli import main
from tests.support.command import environment


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment()
    )


@pytest.mark.parametrize("arguments", [["--help"], ["check"], ["version"], ["tail", "--help"]])
def test_the_other_commands_start_without_what_these_need(arguments: list[str]) -> None:
    code = f"""
import sys
from gateway.cli import main
main({arguments!r}, standalone_mode=False)
needed = {{"neurograph_client", "neurograph_publisher", "gateway.cli.following"}}
sys.exit(f"imported: {{needed & sys.modules.keys()}}" if needed & sys.modules.keys() else 0)
"""
    ended = python(code)

    assert 0 == ended.returncode, ended.stderr


@pytest.mark.parametrize(
    ("arguments", "package"),
    [
        (["tail"], "neurograph-client"),
        (["publish", "notes", "1"], "neurograph-publisher"),
    ],
)
def test_a_missing_package_is_named_with_how_to_get_it(arguments: list[str], package: str) -> None:
    code = f"""
import sys
sys.modules[{package.replace("-", "_")!r}] = None  # as if it were not installed
from gateway.cli import main
main({arguments!r})
"""
    ended = python(code)
    told = f"Error: this command needs the package {package}: pip install 'neurograph-gateway[terminal]'\n"

    assert (1, told) == (ended.returncode, ended.stderr)


def test_the_variables_of_these_commands_are_no_settings_of_the_gateway() -> None:
    variables = {
        "GATEWAY_URL": "http://there",
        "GATEWAY_TOKEN": "x",
        "GATEWAY_BUS": "tcp://there:1",
    }
    result = CliRunner().invoke(main, ["check", "--port", "0"], env=variables)

    assert 0 == result.exit_code
    assert "GATEWAY_" not in result.output


def test_a_token_that_the_environment_holds_is_shown_nowhere() -> None:
    result = CliRunner().invoke(main, ["status", "--help"], env={"GATEWAY_TOKEN": "secret"})

    assert 0 == result.exit_code
    assert "secret" not in result.output
