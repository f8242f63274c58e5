"""`gateway status` and `gateway completion`: a gateway at a glance, and under the Tab key."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from pathlib import Path

from tests.conftest import Connect, Launch, NewPublisher
from tests.support import tokens
from tests.support.addresses import free_port
from tests.support.command import command, environment, run
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.waiting import DEADLINE_SECONDS, scaled


async def test_status_shows_bus_channels_and_clients_in_tables(
    gateway: Gateway, bus: Publisher, connect: Connect, channel: str
) -> None:
    client = await connect(channel, user_id="ada\x1b[2J")
    bus.send_numbered(channel, range(1234))
    await client.events(channel, 1234)
    status, shown = await run("status", "--url", gateway.url)
    rows = {line.split()[0]: line.split() for line in shown.lines if line}

    assert (0, "") == (status, shown.errors)
    assert ["gateway", "0.1.0", "ready"] == rows["gateway"][:3]
    assert ["bind", "connected"] == rows[gateway.bus_in][1:3]
    assert "1" == rows[channel][-2]
    assert rows[channel][-1].endswith(":1234")
    assert "ada\\x1b[2J" in shown.output
    assert "\x1b" not in shown.output


async def test_who_looks_is_not_counted(gateway: Gateway, connect: Connect) -> None:
    before = await gateway.status()
    await run("status", "--url", gateway.url)
    after = await gateway.status()

    assert before["sessions_remembered"] == after["sessions_remembered"]


async def test_status_as_json_is_what_rest_answers(gateway: Gateway) -> None:
    _, shown = await run("status", "--url", gateway.url, "--json")
    [found] = shown.messages

    assert {"time", "status", "channels", "publishers"} == found.keys()
    assert (await gateway.status()).keys() == found["status"].keys()
    assert "metrics" in {one["name"] for one in found["channels"]["channels"]}


async def test_status_without_a_gateway_says_so_and_ends_with_1() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    status, shown = await run("status", "--url", url)

    assert 1 == status
    assert f"Error: no gateway at {url}: Connection refused\n" == shown.errors


async def test_status_of_something_else_says_so(gateway: Gateway) -> None:
    status, shown = await run("status", "--url", gateway.url + "/elsewhere")

    assert 1 == status
    assert "answered 404" in shown.errors
    assert "Traceback" not in shown.errors


async def test_status_takes_a_token(launch: Launch) -> None:
    gateway = await launch(settings=tokens.SETTINGS)
    admin, wrong = tokens.token("admin"), tokens.token("admin", seconds=-100)
    good, shown = await run("status", "--url", gateway.url, variables={"GATEWAY_TOKEN": admin})
    bad, refused = await run("status", "--url", gateway.url, "--token", wrong)

    assert (0, 1) == (good, bad)
    assert "CHANNEL" in shown.output
    assert "401" in refused.errors
    assert wrong not in refused.errors


async def test_a_token_file_that_goes_away_is_told(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("some-token")
    arguments = ["status", "--url", gateway.url, "--token-file", str(file)]
    async with command(*arguments, "--watch", "--every", "0.1") as shown:
        await shown.until(lambda shown: "CHANNEL" in shown.output)
        file.unlink()

        assert 1 == await shown.exited()
        assert "Error: the token cannot be used: No such file or directory\n" == shown.errors


async def test_status_to_be_watched_is_drawn_again_with_rates_until_ctrl_c(
    gateway: Gateway, bus: Publisher, channel: str
) -> None:
    bus.send(channel)
    arguments = ["status", "--url", gateway.url, "--watch", "--every", "0.1"]
    async with command(*arguments, terminal=True) as shown:
        await shown.until(lambda shown: shown.output.count("\x1b[H") > 3)
        await shown.until(lambda shown: "RATE" in shown.output)
        shown.interrupt()

        assert 130 == await shown.exited()
        assert "" == shown.errors


async def test_a_watched_gateway_may_go_and_come_back(
    launch: Launch, publisher: NewPublisher
) -> None:
    gateway = await launch(port=free_port())
    url = gateway.url
    async with command("status", "--url", url, "--watch", "--every", "0.1") as shown:
        await shown.until(lambda shown: "CHANNEL" in shown.output)
        gateway.kill(15)
        await gateway.exited()
        await shown.until(lambda shown: "no gateway at" in shown.output)
        gone = len(shown.output)
        await gateway.restart()

        await shown.until(lambda shown: "CHANNEL" in shown.output[gone:])


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
