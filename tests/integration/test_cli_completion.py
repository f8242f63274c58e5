"""`gateway completion`: commands, options and channels under the Tab key."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.addresses import free_port
from tests.support.command import environment, run
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.waiting import DEADLINE_SECONDS, scaled


@pytest.mark.long
async def test_bash_completes_commands_options_and_channels(
    gateway: Gateway, bus: Publisher, channel: str, tmp_path: Path
) -> None:
    bus.send(channel)
    program = tmp_path / "gateway"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m gateway "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    _, script = await run("completion", "bash")

    def completed(*words: str) -> set[str]:
        line = (
            'eval "$SCRIPT"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
            '_gateway_completion gateway; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        variables = environment({"PATH": path, "SCRIPT": script.output, "GATEWAY_URL": gateway.url})
        found = subprocess.run(
            ["bash", "-c", line, "bash", "gateway", *words],
            capture_output=True,
            text=True,
            timeout=scaled(DEADLINE_SECONDS),
            env=variables,
            check=True,
        )
        assert "" == found.stderr
        return set(found.stdout.split())

    assert {"tail"} == await asyncio.to_thread(completed, "ta")
    assert "--filter" in await asyncio.to_thread(completed, "tail", "--f")
    assert {channel} == await asyncio.to_thread(completed, "tail", channel)
    there = ["tail", "--url", f"http://127.0.0.1:{free_port()}", "test"]
    assert set() == await asyncio.to_thread(completed, *there)


async def test_zsh_and_fish_have_their_own_scripts() -> None:
    _, zsh = await run("completion", "zsh")
    _, fish = await run("completion", "fish")
    status, other = await run("completion", "tcsh")

    assert "#compdef gateway" in zsh.output
    assert "complete --no-files --command gateway" in fish.output
    assert 2 == status
    assert "'bash', 'zsh', 'fish'" in other.errors
