"""The wheel installs into an empty environment, and the README's examples run there unchanged."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import aiohttp
import pytest

from tests.support.gateway import Gateway
from tests.support.waiting import DEADLINE_SECONDS, scaled


ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.long
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel; its requirements come from this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    python = folder / "env/bin/python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    install = ["install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([*pip, *install], check=True, capture_output=True)
    [packages] = (folder / "env/lib").glob("python*/site-packages")
    (packages / "lent.pth").write_text(str(Path(aiohttp.__file__).parents[1]) + "\n")
    where = "import neurograph_client as n; print(n.__file__)"
    found = subprocess.run([python, "-I", "-c", where], check=True, capture_output=True, text=True)
    assert found.stdout.startswith(str(packages)), (
        f"imported {found.stdout.strip()}, not the package of the wheel in {packages}"
    )
    return python


def test_the_wheel_holds_the_package_and_its_types(installed: Path) -> None:
    [wheel] = installed.parents[2].glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()

    assert "neurograph_client/py.typed" in names
    assert "neurograph_client/notebook/widgets.js" in names
    assert {"neurograph.py"} == {name for name in names if not name.startswith("neurograph_client")}


@pytest.mark.parametrize("example", EXAMPLES)
async def test_an_example_prints_events(installed: Path, gateway: Gateway, example: str) -> None:
    code = example.replace("http://127.0.0.1:8000", gateway.url)
    metrics = {"event_type": "system_metrics", "data": {"cpu_percent": 12.5}}
    process = await asyncio.create_subprocess_exec(installed, "-I", "-u", "-c", code, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(scaled(DEADLINE_SECONDS)):
            while True:
                await gateway.broadcast({"channel": "metrics", "event": metrics})
                try:
                    line = await asyncio.wait_for(process.stdout.readline(), 0.2)
                    break
                except TimeoutError:
                    continue
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()

    assert "12.5" in line.decode()
