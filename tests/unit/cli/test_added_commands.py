"""The subcommands of other packages: how `gateway` finds them, and what it does without them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from gateway.cli import PACKAGES, main
from tests.support.command import environment


ROOT = Path(__file__).parents[3]

Add = Callable[..., None]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The installed packages without those that add subcommands."""
    for path in Path(click.__file__).parents[1].iterdir():
        if "neurograph_" not in path.name:
            (tmp_path / path.name).symlink_to(path)
    return tmp_path


def gateway(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `gateway` with these packages alone."""
    variables = environment({"PYTHONPATH": f"{ROOT}:{site}"})
    return subprocess.run(
        [sys.executable, "-S", "-m", "gateway", *arguments], capture_output=True, text=True, timeout=60, env=variables
    )


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Add]:
    """Install a package `addition` with an entry point, in this process: ``add("hello = addition:hello", code)``."""

    def install(entry_point: str, code: str = "") -> None:
        (tmp_path / "addition.py").write_text(code)
        metadata = tmp_path / "addition-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: addition\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[gateway.commands]\n{entry_point}\n")
        monkeypatch.syspath_prepend(tmp_path)

    yield install
    sys.modules.pop("addition", None)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize("arguments", [["check", "--port", "0"], ["version"], ["serve", "--help"]])
def test_the_gateways_own_commands_do_not_load_the_others(arguments: list[str]) -> None:
    code = f"""
import sys
from gateway.cli import main
main({arguments!r}, standalone_mode=False)
loaded = {{"neurograph_client", "neurograph_publisher"}} & sys.modules.keys()
sys.exit(f"imported: {{loaded}}" if loaded else 0)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment())

    assert 0 == ended.returncode, ended.stderr


@pytest.mark.parametrize(("name", "folder"), PACKAGES.items())
def test_a_command_without_its_package_says_how_to_get_it(site: Path, name: str, folder: str) -> None:
    ended = gateway(site, name, "metrics", "--last", "5")
    remedy = f"it needs, from this project's source: pip install './{folder}[terminal]'"

    assert 1 == ended.returncode
    assert f"Error: `gateway {name}` is not available: {remedy}\n" == ended.stderr


def test_help_lists_commands_whose_packages_are_missing(site: Path) -> None:
    ended = gateway(site, "--help")
    text = " ".join(ended.stdout.split())

    assert 0 == ended.returncode, ended.stderr
    for name, folder in PACKAGES.items():
        assert f"{name} (Not available: it needs, from this project's source: pip install './{folder}" in text


def test_an_installed_package_can_add_a_command(add: Add) -> None:
    code = "import click\n\n@click.command()\ndef hello():\n    'Say hello.'\n    click.echo('hello')\n"
    add("hello = addition:hello", code)

    assert "hello\n" == invoke("hello").stdout
    assert "Say hello." in invoke("--help").stdout


@pytest.mark.parametrize(
    ("entry_point", "code", "reason"),
    [
        ("hello = addition:hello", "raise LookupError('broken')", "LookupError('broken')"),
        ("hello = addition:nothing", "", "AttributeError"),
        ("hello = nowhere:hello", "", "No module named 'nowhere'"),
        ("hello = addition:hello", "hello = 1", "is not a click command"),
    ],
)
def test_a_broken_command_breaks_no_other(add: Add, entry_point: str, code: str, reason: str) -> None:
    add(entry_point, code)
    broken, helped = invoke("hello"), invoke("--help")

    assert 1 == broken.exit_code
    assert broken.stderr.startswith("Error: `gateway hello` is not available: ")
    assert reason in broken.stderr
    assert "Traceback" not in broken.stderr
    assert 0 == invoke("serve", "--help").exit_code
    assert (0, "") == (helped.exit_code, helped.stderr)


def test_no_package_replaces_a_command_of_the_gateway(add: Add) -> None:
    add("version = addition:version", "raise LookupError('broken')")

    assert invoke("version").stdout.startswith("neurograph-gateway ")


def test_the_variables_of_added_commands_are_not_settings_of_the_gateway() -> None:
    variables = {"GATEWAY_URL": "http://there", "GATEWAY_TOKEN": "x", "GATEWAY_BUS": "tcp://there:1"}
    result = CliRunner().invoke(main, ["check", "--port", "0"], env=variables)

    assert 0 == result.exit_code
    assert "GATEWAY_" not in result.output
