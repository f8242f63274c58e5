"""`make run` shows a system that moves, within what the README says."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.support.addresses import free_port, free_tcp
from tests.support.waiting import DEADLINE_SECONDS, eventually, scaled


ROOT = Path(__file__).parent.parent


def start(*arguments: str, output: Path) -> subprocess.Popen[bytes]:
    """Start what `make run` starts."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with output.open("w") as file:
        command = [sys.executable, str(ROOT / "ops/run.py"), *arguments]
        return subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, env=environment)


def get(url: str) -> bytes:
    with urlopen(url) as answer:
        found: bytes = answer.read()
        return found


def newest(url: str) -> int:
    """The number of the newest event with this machine's metrics."""
    return int(json.loads(get(f"{url}/api/v1/websocket/channels/metrics"))["position"]["offset"])


async def test_the_page_and_events_are_there_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    port, output = free_port(), tmp_path / "output"
    url = f"http://127.0.0.1:{port}"
    process = start("--port", str(port), "--bus", free_tcp(), output=output)
    try:
        await eventually(lambda: url in output.read_text(), saying=output.read_text)
        assert b"<title>" in get(url)
        await eventually(lambda: newest(url) >= 2, saying=output.read_text)
        process.send_signal(signal.SIGINT)
        assert process.wait(scaled(DEADLINE_SECONDS)) == 0, output.read_text()
    finally:
        process.kill()
        process.wait()


def test_make_takes_another_port_and_another_bus() -> None:
    command = ["make", "--dry-run", "run", "PORT=8001", "BUS=ipc:///tmp/bus"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "ops/run.py --port 8001 --bus ipc:///tmp/bus" in shown


@pytest.mark.parametrize("setting", ["port", "bind"])
def test_an_address_in_use_is_named_with_how_to_choose_another(tmp_path: Path, setting: str) -> None:
    output = tmp_path / "output"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        # Port 0 is any that is free.
        other = ("--port", str(port)) if setting == "port" else ("--port", "0", "--bus", f"tcp://127.0.0.1:{port}")
        assert 1 == start(*other, output=output).wait(scaled(DEADLINE_SECONDS))

    assert f"{setting}: 127.0.0.1:{port} is in use by another program" in output.read_text()
    assert "make run PORT=8001 BUS=tcp://127.0.0.1:5557" in output.read_text()
    assert "Traceback" not in output.read_text()
