"""Audit the dependencies: their licences, known vulnerabilities, and whether the lock files meet the requirements.

Licences are those that installed packages declare, compared with a list of allowed ones. Vulnerabilities are
searched with pip-audit and npm, which need a network; without one the output says that this was left out.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements-dev.lock"
"""All dependencies; those of the gateway are among them."""
PROJECT = ROOT / "pyproject.toml"
LOCKED: Mapping[str, tuple[str, ...]] = {
    "requirements.lock": ("run", "terminal"),
    "requirements-build.lock": ("build",),
    "requirements-test.lock": ("run", "terminal", "test"),
    "requirements-dev.lock": ("run", "terminal", "dev"),
    "requirements-notebook.lock": ("notebook",),
}
"""The dependency groups of each lock file, as in ops/lock.sh. `npm ci` compares those of npm by itself."""
NPM = ROOT / "clients" / "typescript"
ASK_SECONDS_MAX = 120

ALLOWED = frozenset(
    {
        *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0"),
        *("MPL-2.0", "PSF-2.0", "Unlicense"),
    }
)
"""SPDX identifiers; MPL-2.0 has no conditions for mere use of a package."""
SPDX: Mapping[str, str] = {
    "apache 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
"""SPDX identifiers of the names that packages declare instead."""


@dataclass(frozen=True)
class Package:
    """A locked package and its declared licence, None if unknown."""

    name: str
    version: str
    licence: str | None

    @property
    def is_allowed(self) -> bool:
        """Whether its licence expression can be met with allowed licences."""
        left = self.licence or "unknown"
        while inner := re.search(r"\(([^()]*)\)", left):
            left = left.replace(inner[0], "MIT" if _is_met(inner[1]) else "refused")
        return _is_met(left)


def _is_met(expression: str) -> bool:
    """Tell whether one of the alternatives, without parentheses, has only allowed licences."""
    alternatives = re.split(r"\s+OR\s+", expression.strip())
    return any(ALLOWED.issuperset(re.split(r"\s+AND\s+", one)) for one in alternatives)


def locked_in(path: Path) -> Iterator[Requirement]:
    for line in re.findall(r"^\S+==[^\\\n]+", path.read_text(), re.MULTILINE):
        yield Requirement(line)


def not_locked(root: Path = ROOT) -> Iterator[str]:
    """Yield a sentence for each requirement of pyproject.toml that its lock file does not meet."""
    groups = tomllib.loads((root / PROJECT.name).read_text())["dependency-groups"]
    for name, wanted in LOCKED.items():
        found = {canonicalize_name(one.name): one.specifier for one in locked_in(root / name)}
        for requirement in sorted({one for group in wanted for one in asked_for(groups, group)}):
            asked = Requirement(requirement)
            version = str(found.get(canonicalize_name(asked.name), "")).removeprefix("==")
            if not version or version not in asked.specifier:
                held = f"has {asked.name} {version}" if version else f"lacks {asked.name}"
                yield f"{name} {held}, and pyproject.toml requires {requirement}: run `make lock`"


def asked_for(groups: Mapping[str, Any], name: str) -> Iterator[str]:  # Any: TOML
    """Yield the requirements of a group, with those of groups that it includes."""
    for one in groups[name]:
        if isinstance(one, str):
            yield one
        else:
            yield from asked_for(groups, one["include-group"])


def packages() -> Iterator[Package]:
    """Yield the locked packages for this platform."""
    for locked in locked_in(LOCK):
        if locked.marker is None or locked.marker.evaluate():
            version = str(locked.specifier).removeprefix("==")
            yield Package(locked.name, version, licence(locked.name, version))
    for path, package in json.loads((NPM / "package-lock.json").read_text())["packages"].items():
        if path:
            name = path.rpartition("node_modules/")[2]
            yield Package(name, package["version"], package.get("license"))


def licence(name: str, version: str) -> str | None:
    """Return the licence that an installed package declares, as an SPDX expression if possible.

    None if it declares none, or is installed in another version, which may have another licence.
    """
    try:
        about = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None
    if about["Version"] != version:
        return None
    prefix = "License :: OSI Approved :: "
    classifiers = about.get_all("Classifier") or []
    named = [one.removeprefix(prefix) for one in classifiers if one.startswith(prefix)]
    expressions, texts = (about.get_all(key) or [] for key in ("License-Expression", "License"))
    declared = [*expressions, " AND ".join(map(spdx, named)), *texts]
    found = [spdx(one) for one in declared if one and "\n" not in one]
    return found[0] if found else None


def spdx(said: str) -> str:
    """Return the SPDX identifier of a licence, or its name if that is unknown."""
    return SPDX.get(said.lower(), said)


def vulnerable() -> Iterator[tuple[str, str, bool]]:
    """Run the audit tools; yield the tool, its result, and whether there is a vulnerability."""
    pip_audit = [sys.executable, "-m", "pip_audit", "--progress-spinner=off", "--format=json"]
    answer = _ask([*pip_audit, "--no-deps", "--disable-pip", f"--requirement={LOCK}"])
    asked = answer.get("dependencies", [])
    named = [one["name"] for one in asked if one.get("vulns")]
    # If it cannot reach its database it omits packages and reports success.
    if named or (asked and all("vulns" in one for one in asked)):
        yield "pip-audit", ", ".join(named) or "none known", bool(named)
    else:
        yield "pip-audit", "left out: it needs a network, and `.venv/bin/pip install pip-audit`", False
    answer = _ask(["npm", "audit", "--json"])
    if "vulnerabilities" in answer:
        named = list(answer["vulnerabilities"])
        yield "npm audit", ", ".join(named) or "none known", bool(named)
    else:
        yield "npm audit", "left out: it needs npm and a network", False


def _ask(command: list[str]) -> Any:  # Any: JSON
    """Return the JSON output of a command, {} if it fails."""
    try:
        asked = subprocess.run(command, cwd=NPM, capture_output=True, text=True, timeout=ASK_SECONDS_MAX, check=False)
        answer = json.loads(asked.stdout)
        return answer if isinstance(answer, dict) else {}
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return {}


def main() -> int:
    """Print the result; the exit status is 1 if there is a problem."""
    found = sorted(packages(), key=lambda one: one.name)
    for package in found:
        mark = "  " if package.is_allowed else "! "
        print(f"{mark}{package.name:<28} {package.version:<16} {package.licence or 'unknown'}")
    refused = [package.name for package in found if not package.is_allowed]
    print(f"licences: {len(found)} packages, not allowed: {', '.join(refused) or 'none'}")
    stale = list(not_locked())
    print(f"lock files: {'; '.join(stale) or 'meet all requirements'}")
    vulnerabilities = list(vulnerable())
    for who, what, _ in vulnerabilities:
        print(f"vulnerabilities, {who}: {what}")
    return int(bool(refused or stale) or any(found for _, _, found in vulnerabilities))


if __name__ == "__main__":
    sys.exit(main())
