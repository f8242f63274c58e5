"""Standard streams that are closed, full, or not read: one sentence or nothing, and never a traceback."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.forkserver import search_path, start
from tests.support.waiting import DEADLINE_SECONDS, eventually


def run(arguments: str, *, unbuffered: bool = False) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": search_path("gateway"), "PYTHONUNBUFFERED": "1" if unbuffered else ""}
    line = f"{sys.executable} -m gateway {arguments}"
    return subprocess.run(line, shell=True, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("unbuffered", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_command_whose_output_cannot_be_written_says_so(unbuffered: bool) -> None:
    ended = run("version >/dev/full", unbuffered=unbuffered)

    assert ended.stderr == "Error: the output cannot be written: No space left on device\n"
    assert ended.returncode == 1


@pytest.mark.parametrize("redirection", [pytest.param(">&- 2>&-", marks=pytest.mark.long), "<&- 2>/dev/full >&-"])
def test_closed_streams_are_no_failure(redirection: str) -> None:
    ended = run(f"version {redirection}")

    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_closed_standard_error_gets_no_socket() -> None:
    """What a library writes to it would go to a client."""
    script = (
        "from gateway.cli import main, streams; import os; streams.open_closed(); print(os.readlink('/proc/self/fd/2'))"
    )
    ended = run(f'version >/dev/null; {sys.executable} -c "{script}" 2>&-')

    assert ended.stdout == "/dev/null\n"


async def test_a_gateway_whose_log_nobody_reads_serves_and_ends(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    socket = tmp_path / "bus"
    arguments = ["serve", "--port", "0", "--bind", f"ipc://{socket}", "--set", "logging.level=debug"]
    gateway = start(arguments, stdin=reading, stdout=writing, stderr=writing, environment={})
    try:
        await eventually(socket.exists)
        gateway.send_signal(signal.SIGTERM)

        assert gateway.wait(DEADLINE_SECONDS) in {0, -signal.SIGTERM}
    finally:
        gateway.kill()
        os.close(reading)
        os.close(writing)


# A shell starts what runs in the background with SIGINT ignored, and perhaps these tests, too.
_SERVE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "import gateway.__main__ as command; print(flush=True); command.main()"
)


@pytest.mark.parametrize("seconds", [0.05, 0.15, 0.3, 0.5])
def test_ctrl_c_ends_a_start_quietly(seconds: float, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, "serve", "--port", "0", "--bind", f"ipc://{tmp_path}/bus"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)  # the moment is what is tested: any is possible
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=DEADLINE_SECONDS)

    assert "Traceback" not in errors
    assert "Aborted" not in errors
    assert process.returncode in {0, 130}
