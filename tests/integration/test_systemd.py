"""The gateway as a service of systemd: what it tells, and how little its unit allows it."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Launch
from tests.support.waiting import DEADLINE_SECONDS, scaled


UNIT = Path(__file__).resolve().parents[2] / "ops" / "systemd" / "neurograph-gateway.service"
EXPOSURE_MAX = 1.1


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """Where systemd listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(scaled(DEADLINE_SECONDS))
        yield listening


async def told(systemd: socket.socket) -> dict[str, str]:
    lines = (await asyncio.to_thread(systemd.recv, 4096)).decode().splitlines()
    return dict(line.split("=", 1) for line in lines)


async def test_systemd_learns_when_it_is_ready_that_it_runs_and_when_it_stops(
    systemd: socket.socket, launch: Launch
) -> None:
    gateway = await launch(environment={"NOTIFY_SOCKET": systemd.getsockname()})
    first, second = await told(systemd), await told(systemd)
    gateway.kill(15)
    messages = [first, second]
    while "STOPPING" not in messages[-1]:
        messages.append(await told(systemd))

    states = {tuple(message) for message in messages}
    assert {("READY", "STATUS"), ("WATCHDOG",), ("STOPPING",)} == states
    assert {f"listening at {gateway.url}"} == {message["STATUS"] for message in messages if "READY" in message}


async def test_without_systemd_a_lost_socket_is_no_problem(launch: Launch, tmp_path: Path) -> None:
    gateway = await launch(environment={"NOTIFY_SOCKET": str(tmp_path / "nobody")})

    assert 200 == (await gateway.request("GET", "/healthz")).status


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (Debian: systemd)")
def test_the_unit_is_valid_and_allows_little(tmp_path: Path) -> None:
    """Verified with a program that exists: the gateway is not installed here."""
    unit, port = tmp_path / UNIT.name, tmp_path / UNIT.with_suffix(".socket").name
    unit.write_text(UNIT.read_text().replace("/opt/neurograph-gateway/bin/gateway", "/bin/true"))
    port.write_text(UNIT.with_suffix(".socket").read_text())
    verified = subprocess.run(["systemd-analyze", "verify", unit, port], capture_output=True, text=True, check=False)
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", unit], capture_output=True, text=True, check=True
    )

    assert (0, "") == (verified.returncode, verified.stderr)
    assert float(re.findall(r"Overall exposure level .*: ([\d.]+)", judged.stdout)[0]) <= EXPOSURE_MAX
