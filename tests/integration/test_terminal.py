"""The commands that talk to a running gateway, each as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest

from clients.conformance.proxy import Proxy
from tests.conftest import Launch
from tests.support.addresses import free_port
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.tokens import SETTINGS, token
from tests.support.waiting import eventually, scaled


class Command:
    """One `gateway …`; what it says is kept, line by line."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.arguments = [sys.executable, "-m", "gateway", *arguments]
        mine = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}
        self.environment = {**mine, "COLUMNS": "100", **(environment or {})}
        self.out: list[str] = []
        self.err: list[str] = []

    async def start(self, *, terminal: bool = False) -> Command:
        self._terminal, theirs = pty.openpty() if terminal else (-1, asyncio.subprocess.PIPE)
        self.process = await asyncio.create_subprocess_exec(
            *self.arguments,
            env=self.environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=theirs,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self.process.stderr is not None
        self._reading = [asyncio.create_task(_lines(self.process.stderr, self.err))]
        if terminal:
            os.close(theirs)
            reader = asyncio.StreamReader()
            await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(self._terminal, "rb", 0)
            )
        else:
            assert self.process.stdout is not None
            reader = self.process.stdout
        self._reading.append(asyncio.create_task(_lines(reader, self.out)))
        return self

    async def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        await self.process.stdin.drain()

    async def ended(self) -> int:
        """Wait for its end; the exit status."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        async with asyncio.timeout(scaled(20)):
            code = await self.process.wait()
            await asyncio.gather(*self._reading)
        return code

    async def lines(self, count: int) -> list[str]:
        """Wait for so many lines on standard output."""
        await eventually(lambda: len(self.out) >= count, saying=lambda: f"{self.out} {self.err}")
        return self.out

    @property
    def objects(self) -> list[Any]:
        return [json.loads(line) for line in self.out]

    def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()


async def _lines(reader: asyncio.StreamReader, into: list[str]) -> None:
    with suppress(OSError):  # a terminal whose other end has gone
        async for line in reader:  # not all at once: they are looked at as they come
            into.append(line.decode().rstrip("\r\n"))  # noqa: PERF401


Run = Callable[..., Any]


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    """Start a command: ``await run("tail", "metrics")``."""
    made: list[Command] = []

    async def start(
        *arguments: str, terminal: bool = False, environment: dict[str, str] | None = None
    ) -> Command:
        made.append(Command(*arguments, environment=environment))
        return await made[-1].start(terminal=terminal)

    yield start
    for one in made:
        one.kill()
        await one.process.wait()


# -- tail ----------------------------------------------------------------------------------------


async def test_tail_prints_events_as_json_lines_when_piped(
    gateway: Gateway, bus: Publisher, channel: str, run: Run
) -> None:
    for n in range(5):
        bus.send(channel, {"n": n})
    await held(gateway, channel, 5)
    tail = await run("tail", channel, "--last", "3", "-n", "4", "--url", gateway.url)
    await tail.lines(3)
    bus.send(channel, {"n": 5})
    code = await tail.ended()

    assert (0, [2, 3, 4, 5], []) == (code, [one["data"]["n"] for one in tail.objects], tail.err)
    assert {(channel, "event")} == {(one["channel"], one["type"]) for one in tail.objects}
    assert all(one["epoch"] for one in tail.objects)


async def test_tail_goes_on_behind_a_position(
    gateway: Gateway, bus: Publisher, channel: str, run: Run
) -> None:
    for n in range(5):
        bus.send(channel, n)
    await held(gateway, channel, 5)
    first = await run("tail", channel, "--last", "5", "-n", "1", "--url", gateway.url)
    await first.ended()
    [event] = first.objects
    since = f"{event['epoch']}:{event['offset']}"
    rest = await run("tail", channel, "--since", since, "-n", "4", "--url", gateway.url)

    assert 0 == await rest.ended()
    assert [1, 2, 3, 4] == [one["data"] for one in rest.objects]


async def test_tail_filters_at_the_gateway(
    gateway: Gateway, bus: Publisher, channel: str, run: Run
) -> None:
    for n in range(10):
        bus.send(channel, {"n": n})
    await held(gateway, channel, 10)
    tail = await run(
        *("tail", channel, "--last", "10", "--filter", "data.n % 1 == 0 || data.n > 7"),
        *("-n", "2", "--url", gateway.url),
    )
    wrong = await tail.ended()
    good = await run(
        "tail", channel, "--last", "10", "--filter", "data.n > 7", "-n", "2", "--url", gateway.url
    )

    assert 0 == await good.ended()
    assert [8, 9] == [one["data"]["n"] for one in good.objects]
    assert (2, 1) == (wrong, len(tail.err))
    assert tail.err[0].startswith("error: invalid_filter: ")


async def test_tail_comes_back_after_a_cut_and_prints_nothing_twice(
    launch: Launch, run: Run
) -> None:
    gateway = await launch()
    publisher = await Publisher(gateway.bus_in).subscribed()
    async with Proxy(gateway.port) as proxy:
        tail = await run("tail", "robots", "--url", proxy.url)
        await eventually(lambda: followers(gateway, "robots"), saying="it follows")
        publisher.send("robots", 1, enveloped=True)
        await tail.lines(1)
        proxy.refusing = True
        proxy.cut()
        await eventually(lambda: len(tail.err) > 0, saying="it says so")
        publisher.send("robots", 2, enveloped=True)
        proxy.refusing = False
        await tail.lines(2)
        publisher.send("robots", 3, enveloped=True)
        await tail.lines(3)
        tail.process.send_signal(signal.SIGINT)
        code = await tail.ended()
    publisher.close()

    assert [1, 2, 3] == [one["data"] for one in tail.objects]
    assert (130, ["waiting", "connected"]) == (code, [line.split()[0] for line in tail.err])


async def test_tail_says_what_is_missing(launch: Launch, run: Run) -> None:
    gateway = await launch()
    publisher = await Publisher(gateway.bus_in).subscribed()
    tail = await run("tail", "robots", "-n", "2", "--url", gateway.url)
    await eventually(lambda: followers(gateway, "robots"), saying="it follows")
    publisher.send("robots", 1, enveloped=True)
    await tail.lines(1)
    publisher.sequences["robots"] += 3
    publisher.send("robots", 5, enveloped=True)
    code = await tail.ended()
    publisher.close()

    assert (0, ["event", "gap", "event"]) == (code, [one["type"] for one in tail.objects])
    assert (3, "bus_loss") == (tail.objects[1]["count"], tail.objects[1]["reason"])


async def test_tail_is_for_people_on_a_terminal_and_takes_no_orders_from_events(
    gateway: Gateway, bus: Publisher, channel: str, run: Run
) -> None:
    """Colours, one line each; control characters and turns of direction come out escaped."""
    bus.send(channel, {"evil": "\x1b[31m\x07\x9b\u202e", "nice": "Grüße 💡", "long": "x" * 500})
    await held(gateway, channel, 1)
    for arguments in ([], ["--json"]):
        tail = await run(
            *("tail", channel, "--last", "1", "-n", "1", "--url", gateway.url, *arguments),
            terminal=True,
        )
        code = await tail.ended()
        [line] = tail.out

        assert 0 == code
        assert "\\u001b[31m\\u0007\\u009b\\u202e" in line
        assert "Grüße 💡" in line
        assert "\x1b[31m" not in line
        assert not {"\x07", "\x9b", "\u202e"} & set(line)
        if arguments:
            assert "x" * 500 == json.loads(line)["data"]["long"]
        else:
            assert "\x1b[1m" in line
            assert line.endswith("…")


async def test_tail_ends_quietly_when_its_reader_does(
    gateway: Gateway, bus: Publisher, channel: str
) -> None:
    for n in range(3):
        bus.send(channel, n)
    await held(gateway, channel, 3)
    command = f"{sys.executable} -m gateway tail {channel} --last 3 --url {gateway.url} | head -n 1"
    shell = await asyncio.create_subprocess_shell(
        command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    bus_task = asyncio.create_task(_keep_publishing(bus, channel))
    out, err = await asyncio.wait_for(shell.communicate(), scaled(20))
    bus_task.cancel()

    assert 1 == len(out.splitlines())
    assert b"" == err


async def _keep_publishing(bus: Publisher, channel: str) -> None:
    while True:
        bus.send(channel, "more")
        await asyncio.sleep(0.05)


async def test_tail_waits_for_a_gateway_that_is_not_there(run: Run) -> None:
    tail = await run("tail", "--url", f"http://127.0.0.1:{free_port()}")
    await eventually(lambda: tail.err, saying="it says so")
    tail.process.send_signal(signal.SIGINT)

    assert 130 == await tail.ended()
    assert 1 == len(tail.err)
    assert tail.err[0].startswith("waiting for http://127.0.0.1:")


async def test_tail_brings_a_token_and_shows_it_nowhere(
    launch: Launch, run: Run, tmp_path: Any
) -> None:
    gateway = await launch(settings=SETTINGS)
    good, wrong = token("admin"), token("admin") + "x"
    gateway.token = good
    await gateway.broadcast(1, "?channel=notes")
    file = tmp_path / "token"
    file.write_text(good + "\n")
    asked = ["tail", "notes", "--last", "1", "-n", "1", "--url", gateway.url]
    by_file = await run(*asked, "--token-file", str(file))
    by_environment = await run(*asked, environment={"GATEWAY_TOKEN": good})
    none = await run(*asked)
    refused = await run(*asked, "--token", wrong)

    assert [0, 0, 1, 1] == [await one.ended() for one in (by_file, by_environment, none, refused)]
    assert "unauthorized" in none.err[0]
    assert "unauthorized" in refused.err[0]
    assert wrong not in "".join(refused.err)


# -- publish -------------------------------------------------------------------------------------


async def test_publish_puts_one_event_on_the_bus(launch: Launch, run: Run) -> None:
    gateway = await launch()
    one = await run("publish", "notes", '{"hello": 1}', "--bus", gateway.bus_in)
    assert 0 == await one.ended()
    typed = await run(
        *("publish", "metrics", '{"cpu_percent": 1.5}', "--type", "system_metrics"),
        environment={"GATEWAY_BUS": gateway.bus_in},
    )
    assert 0 == await typed.ended()
    await held(gateway, "notes", 1)
    await held(gateway, "metrics", 1)
    [event] = (await history(gateway, "metrics"))["events"]

    assert {"hello": 1} == (await history(gateway, "notes"))["events"][0]["data"]
    assert ("system_metrics", {"cpu_percent": 1.5}) == (event["event_type"], event["data"])


async def test_publish_takes_a_stream_of_lines_as_they_come(launch: Launch, run: Run) -> None:
    gateway = await launch()
    stream = await run("publish", "notes", "--bus", gateway.bus_in)
    await stream.say('{"n": 1}\n\n{"n": 2}\n')
    await held(gateway, "notes", 2)
    await stream.say("".join(f'{{"n": {n}}}\n' for n in range(3, 2003)))
    code = await stream.ended()
    await held(gateway, "notes", 2002)

    assert (0, ["2002 published on notes"]) == (code, stream.err)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["notes", "hello"], "--text"),
        (["metrics", '{"cpu_percent": 1}'], "--type"),
        (["metrics", '{"cpu_percent": "a"}', "--type", "system_metrics"], "cpu_percent"),
        (["no such name", "1"], "no such name"),
    ],
)
async def test_publish_refuses_what_the_gateway_would(
    launch: Launch, run: Run, arguments: list[str], said: str
) -> None:
    gateway = await launch()
    publish = await run("publish", *arguments, "--bus", gateway.bus_in)

    assert 2 == await publish.ended()
    assert 1 == len(publish.err)
    assert said in publish.err[0]


async def test_publish_speaks_curve(launch: Launch, run: Run, tmp_path: Any) -> None:
    for name in ("gateway", "shell"):
        made = await run("keys", str(tmp_path), "--name", name)
        assert 0 == await made.ended()
    listed = tmp_path / "publishers"
    listed.mkdir()
    (tmp_path / "shell.key").rename(listed / "shell.key")
    gateway = await launch(
        connect=[],
        bind=f"tcp://127.0.0.1:{free_port()}",
        settings={
            "connect": "",
            "bus.curve_key_file": tmp_path / "gateway.key_secret",
            "bus.curve_clients": listed,
        },
    )
    keys = ("--curve", str(tmp_path / "shell.key_secret"), str(tmp_path / "gateway.key"))
    publish = await run("publish", "notes", "1", "--bus", gateway.bus_in, *keys)

    assert 0 == await publish.ended()
    await held(gateway, "notes", 1)


async def test_publish_says_when_nobody_listens(run: Run, tmp_path: Any) -> None:
    publish = await run("publish", "notes", "1", "--bus", f"ipc://{tmp_path}/x", "--wait", "0.2")

    assert 1 == await publish.ended()
    assert ["error: nobody listens"] == [line[:21] for line in publish.err]


# -- status and completion -----------------------------------------------------------------------


async def test_status_shows_bus_channels_and_clients(
    gateway: Gateway, bus: Publisher, channel: str, run: Run
) -> None:
    bus.send(channel, 1)
    await held(gateway, channel, 1)
    table = await run("status", "--url", gateway.url, environment={"COLUMNS": "200"})
    as_json = await run("status", "--json", "--url", gateway.url)

    assert 0 == await table.ended()
    assert 0 == await as_json.ended()
    text = "\n".join(table.out)
    assert "neurograph-gateway" in table.out[0]
    assert channel in text
    assert gateway.bus_in in text
    assert "version" in json.loads("\n".join(as_json.out))


async def test_status_looks_again_and_again(
    gateway: Gateway, bus: Publisher, channel: str, run: Run
) -> None:
    status = await run(
        *("status", "--watch", "--every", "0.1", "--url", gateway.url),
        terminal=True,
        environment={"LINES": "60", "COLUMNS": "200"},
    )
    await eventually(lambda: status.out, saying="it shows something")
    bus.send(channel, 1)
    await eventually(
        lambda: any(channel in line for line in status.out), saying="a channel that is new"
    )
    status.process.send_signal(signal.SIGINT)

    assert 130 == await status.ended()
    assert [] == status.err


async def test_status_says_when_there_is_no_gateway(run: Run) -> None:
    status = await run("status", "--url", f"http://127.0.0.1:{free_port()}")

    assert 1 == await status.ended()
    assert 1 == len(status.err)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_a_shell_completes_commands_and_options(run: Run, shell: str) -> None:
    script = await run("completion", shell)
    asked = await run(
        environment={
            "_GATEWAY_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": "gateway ta" if shell != "fish" else "gateway",
            "COMP_CWORD": "1" if shell != "fish" else "ta",
        }
    )

    assert (0, 0) == (await script.ended(), await asked.ended())
    assert "_GATEWAY_COMPLETE" in "\n".join(script.out)
    assert "tail" in "\n".join(asked.out)


# -- what the gateway has ------------------------------------------------------------------------


async def history(gateway: Gateway, channel: str) -> Any:
    return await gateway.get_json(f"/api/v1/websocket/channels/{channel}/events?limit=1000")


async def held(gateway: Gateway, channel: str, count: int) -> None:
    """Wait until the gateway's log has had so many events."""

    async def there() -> bool:
        answer = await gateway.request("GET", f"/api/v1/websocket/channels/{channel}")
        return answer.status == 200 and answer.json["position"]["offset"] >= count

    await eventually(there, saying=f"{count} events of {channel}")


async def followers(gateway: Gateway, channel: str) -> bool:
    answer = await gateway.request("GET", f"/api/v1/websocket/channels/{channel}/presence")
    return bool(answer.json["subscribers"])
