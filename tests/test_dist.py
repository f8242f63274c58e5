"""What `make dist` builds: the same bytes each time, complete, and of one version."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from gateway import __version__


ROOT = Path(__file__).parent.parent
PACKAGES = ("neurograph_client", "neurograph_gateway", "neurograph_publisher")


def build(folder: Path, **variables: str) -> None:
    command = [sys.executable, "-m", "ops.dist", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env={**os.environ, **variables})


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build(folder)
    return folder


def requirements(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        lines = archive.read(name).decode().splitlines()
    return [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]


def test_it_has_everything(dist: Path) -> None:
    wheels = [f"{name}-{__version__}-py3-none-any.whl" for name in PACKAGES]
    sources = [f"{name}-{__version__}.tar.gz" for name in PACKAGES]
    others = ["SHA256SUMS", f"neurograph-client-{__version__}.tgz", f"neurograph-gateway-{__version__}.cdx.json"]

    assert sorted([*wheels, *sources, *others]) == sorted(path.name for path in dist.iterdir())
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=dist, check=True)


def test_the_same_commit_gives_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    """In another folder, time zone and with another mask of modes."""
    before = os.umask(0o077)
    try:
        build(tmp_path / "again", TZ="Asia/Tokyo")
    finally:
        os.umask(before)

    assert (dist / "SHA256SUMS").read_text() == (tmp_path / "again/SHA256SUMS").read_text()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_source_archive_builds_the_wheel(dist: Path, tmp_path: Path, package: str) -> None:
    with tarfile.open(dist / f"{package}-{__version__}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
        time = str(int(max(member.mtime for member in archive.getmembers())))
    [source] = tmp_path.iterdir()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, env={**os.environ, "SOURCE_DATE_EPOCH": time})
    wheel = f"{package}-{__version__}-py3-none-any.whl"

    assert (dist / wheel).read_bytes() == (tmp_path / wheel).read_bytes()


def test_the_gateway_needs_the_other_packages_of_its_version_and_no_folder(dist: Path) -> None:
    needed = requirements(dist / f"neurograph_gateway-{__version__}-py3-none-any.whl")

    own = [f"neurograph-{name}[terminal]=={__version__}" for name in ("client", "publisher")]
    assert own == [one for one in needed if one.startswith("neurograph")]
    assert [] == [
        one for package in PACKAGES for one in requirements(next(dist.glob(f"{package}-*.whl"))) if "@" in one
    ]


def test_a_wheel_has_its_licence_and_the_gateways_has_the_dashboard(dist: Path) -> None:
    for package in PACKAGES:
        [wheel] = dist.glob(f"{package}-*.whl")
        names = zipfile.ZipFile(wheel).namelist()
        assert f"{package}-{__version__}.dist-info/licenses/LICENSE" in names
        assert package != "neurograph_gateway" or {"gateway/web/static/index.html", "gateway/py.typed"} <= {*names}


def test_the_sbom_has_the_version_and_time_of_the_commit(dist: Path) -> None:
    about = json.loads((dist / f"neurograph-gateway-{__version__}.cdx.json").read_text())["metadata"]
    time = subprocess.run(["git", "log", "-1", "--format=%cI"], cwd=ROOT, check=True, capture_output=True, text=True)

    assert __version__ == about["component"]["version"]
    assert time.stdout[:4] == about["timestamp"][:4]
