"""Build the artefacts of a release in dist/ from the last commit: packages, an SBOM of the gateway, and checksums.

The same commit gives the same bytes: times are the commit's, and only files of the commit are read.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from ops import sbom


ROOT = Path(__file__).parent.parent
GATEWAY = (
    *("gateway", "docs", "ops/gateway.example.toml", "ops/systemd"),
    *("hatch_build.py", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"),
)
"""What the gateway's packages are built from. Without the other packages' folders they name a version: see hatch_build.py."""
PYTHON = ("clients/python", "publishers/python")
TYPESCRIPT = "clients/typescript"
CHECKSUMS = "SHA256SUMS"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder", nargs="?", type=Path, default=ROOT / "dist", help="the folder, which is emptied first"
    )
    parser.add_argument("--python-only", action="store_true", help="without the npm package")
    arguments = parser.parse_args()
    if len(found := {*versions()}) != 1:
        print(f"dist: the packages have different versions: {', '.join(sorted(found))}", file=sys.stderr)
        return 1
    if git("status", "--porcelain"):
        print("dist: uncommitted changes are left out", file=sys.stderr)
    if not arguments.python_only and shutil.which("npm") is None:
        print(
            "dist: npm is not installed; install it, or leave out the TypeScript client: --python-only", file=sys.stderr
        )
        return 1
    build(arguments.folder.absolute(), python_only=arguments.python_only)
    print(*sorted(path.name for path in arguments.folder.iterdir()), sep="\n")
    return 0


def versions() -> Iterator[str]:
    """Yield the version of each package; a release has one."""
    sources = ("gateway", *(f"{folder}/src/{name}" for folder, name in zip(PYTHON, sbom.OWN[1:], strict=True)))
    for source in sources:
        found = re.search(r'^__version__ = "(.+)"$', (ROOT / source / "__init__.py").read_text(), re.MULTILINE)
        yield found[1] if found else f"none in {source}/__init__.py"
    for folder in PYTHON:
        yield tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]["version"]
    yield sbom.package_json(ROOT / TYPESCRIPT)["version"]


def build(folder: Path, *, python_only: bool) -> None:
    """Empty the folder, and build everything there."""
    shutil.rmtree(folder, ignore_errors=True)
    os.umask(0o022)  # npm packs the modes as they are
    folder.mkdir(parents=True)
    time = int(git("log", "-1", "--format=%ct"))
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(time), "TZ": "UTC"}
    with tempfile.TemporaryDirectory() as temporary:
        for name, paths in (("gateway", GATEWAY), *((folder, (folder,)) for folder in PYTHON)):
            source = export(Path(temporary) / Path(name).name / "source", paths)
            project = source if name == "gateway" else source / name
            run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], project, environment)
            shutil.rmtree(source)
        if not python_only:
            project = export(Path(temporary) / "typescript", [TYPESCRIPT]) / TYPESCRIPT
            run(["npm", "ci", "--no-audit", "--no-fund", "--silent", "--prefer-offline"], project, environment)
            run(["npm", "pack", "--silent", "--pack-destination", str(folder)], project, environment)
    version = next(versions())
    (folder / f"neurograph-gateway-{version}.cdx.json").write_text(sbom.document(version=version, time=time))
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in sorted(folder.iterdir())]
    (folder / CHECKSUMS).write_text("\n".join(sums) + "\n")


def export(into: Path, paths: Iterable[str]) -> Path:
    """Write these paths of the last commit into a new folder."""
    into.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", "HEAD", *paths], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "--no-same-permissions"], cwd=into, input=archive, check=True)
    return into


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Run a command of the build; its output is shown only if it fails."""
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        raise SystemExit(f"dist: {command[0]} failed in {folder}")


if __name__ == "__main__":
    sys.exit(main())
