"""What this project depends on."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ops import audit
from ops.audit import Package


Says = Callable[[object, object], None]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put the metadata of a package where an import would find it."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(*fields: str, version: str = "1.0") -> None:
        info = tmp_path / f"declares-{version}.dist-info"
        info.mkdir()
        head = ["Metadata-Version: 2.4", "Name: declares", f"Version: {version}"]
        (info / "METADATA").write_text("\n".join([*head, *fields, ""]))

    return install


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Says:
    """Have pip-audit and npm answer this, as they are found by the audit."""

    def say(python: object, npm: object) -> None:
        for name, answer in (("python", python), ("npm", npm)):
            program = tmp_path / name
            program.write_text(f"#!{executable}\nprint({json.dumps(answer)!r})\n")
            program.chmod(0o755)

    executable = sys.executable
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return say


def test_the_lock_files_have_all_that_is_asked_for() -> None:
    assert [] == list(audit.not_locked())


def test_a_lock_file_that_lacks_a_package_or_has_it_in_a_version_that_is_not_allowed_is_named(tmp_path: Path) -> None:
    groups = {**{key: [] for key in ("terminal", "build", "notebook", "dev")}, "run": ["A-b>=2", "c"], "test": ["d"]}
    (tmp_path / "pyproject.toml").write_text(
        "[dependency-groups]\n" + "".join(f"{name} = {wanted}\n" for name, wanted in groups.items())
    )
    for name in audit.LOCKED:
        (tmp_path / name).write_text("a-b==2.1 \\\n    --hash=x\nc==1\n")
    (tmp_path / "requirements.lock").write_text("a-b==1.9\nc==1\n")

    found = list(audit.not_locked(tmp_path))
    assert [("requirements.lock", "A-b"), ("requirements-test.lock", "d")] == [
        (one.split()[0], one.split()[2].rstrip(",")) for one in found
    ]


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("Apache-2.0 AND MIT", True),
        ("GPL-3.0-only OR MIT", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("GPL-3.0-only", False),
        ("GPL-3.0-only AND MIT", False),
        ("GPL-3.0-only AND (Apache-2.0 OR MIT)", False),
        ("(GPL-3.0-only OR (MIT AND LicenseRef-mine)) AND MIT", False),
        ("", False),
        (None, False),
    ],
)
def test_a_licence_is_met_with_allowed_ones_alone(licence: str | None, allowed: bool) -> None:
    assert allowed == Package("it", "1", licence).is_allowed


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        (["License-Expression: MIT", "License: Mine"], "MIT"),
        (["Classifier: License :: OSI Approved :: MIT License", "License: Mine"], "MIT"),
        (["Classifier: License :: OSI Approved", "License: Apache 2.0"], "Apache-2.0"),
        (["Classifier: License :: OSI Approved :: Odd License"], "Odd License"),
        ([], None),
    ],
)
def test_a_licence_is_what_the_expression_says_or_else_classifiers_or_else_the_text(
    installed: Callable[..., None], fields: list[str], licence: str | None
) -> None:
    installed(*fields)

    assert licence == audit.licence("declares", "1.0")


def test_of_a_version_that_is_not_installed_no_licence_is_known(installed: Callable[..., None]) -> None:
    installed("License-Expression: MIT", version="2.0")

    assert audit.licence("declares", "1.0") is None
    assert audit.licence("no-such-package", "1.0") is None


def test_a_licence_that_is_unknown_fails_by_the_packages_name(
    installed: Callable[..., None],
    tools: Says,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tools({}, {})
    lock = tmp_path / "requirements.lock"
    lock.write_text("declares==1.0\n")
    monkeypatch.setattr(audit, "LOCK", lock)
    installed("License: All mine")

    assert 1 == audit.main()
    assert "not allowed: declares\n" in capsys.readouterr().out


GOOD = {"dependencies": [{"name": "a", "vulns": []}]}
SKIPPED = {"name": "b", "skip_reason": "not found"}
BAD = {"name": "c", "vulns": [{"id": "CVE-1"}]}


@pytest.mark.parametrize(
    ("python", "npm", "said", "status"),
    [
        (GOOD, {"vulnerabilities": {}}, ["none known", "none known"], 0),
        ({"dependencies": [BAD]}, {}, ["c", "left out"], 1),
        ({"dependencies": [BAD, SKIPPED]}, {}, ["c", "left out"], 1),
        ({"dependencies": [*GOOD["dependencies"], SKIPPED]}, {}, ["left out", "left out"], 0),
        ({}, {"vulnerabilities": {"d": {}}}, ["left out", "d"], 1),
        ("", {"message": "405"}, ["left out", "left out"], 0),
    ],
)
def test_a_vulnerability_fails_and_what_could_not_be_asked_for_is_named(
    tools: Says,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    python: object,
    npm: object,
    said: list[str],
    status: int,
) -> None:
    tools(python, npm)
    monkeypatch.setattr(audit, "LOCK", tmp_path / "requirements.lock")
    audit.LOCK.write_text("")

    assert status == audit.main()
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("vuln")]
    assert said == [line.split(": ")[1] for line in told]
