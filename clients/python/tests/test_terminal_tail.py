"""`gateway tail` prints events as text or JSON, complete over reconnects; and how it ends."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Connect, Launch, NewPublisher
from tests.support import tokens
from tests.support.addresses import free_port
from tests.support.command import Command, command, environment, run
from tests.support.gateway import Gateway
from tests.support.proxy import Proxy
from tests.support.publisher import Publisher
from tests.support.waiting import DEADLINE_SECONDS, eventually, scaled


COLOUR = "\x1b["


async def subscribed(gateway: Gateway, channel: str) -> None:
    """Wait until a client has subscribed to a channel."""

    async def has_subscriber() -> bool:
        found = await gateway.get_json("/api/v1/websocket/channels")
        return any(one["name"] == channel and one["subscribers"] for one in found["channels"])

    await eventually(has_subscriber)


def show(gateway: Gateway, *arguments: str) -> list[str]:
    return ["tail", "--url", gateway.url, *arguments]


# -- output -----------------------------------------------------------------------------------


async def test_in_a_pipe_each_event_is_the_gateways_message_on_a_line_of_json(
    gateway: Gateway, bus: Publisher, channel: str
) -> None:
    bus.send(channel, {"n": 1, "text": "ä"}, event_type="some.type", extra=[1])
    await gateway.holds(channel, 1)
    status, tail = await run(*show(gateway, channel, "--last", "1", "-n", "1"))

    [message] = tail.messages
    assert 0 == status
    assert ("event", channel, 1, "some.type") == tuple(
        message[name] for name in ("type", "channel", "offset", "event_type")
    )
    assert ({"n": 1, "text": "ä"}, [1]) == (message["data"], message["extra"])
    assert "ä" in tail.output
    assert "" == tail.errors


async def test_on_a_terminal_an_event_is_a_coloured_line_for_people(
    gateway: Gateway, bus: Publisher, channel: str
) -> None:
    bus.send(channel, {"x": 1.5, "of": {"a": [1]}, "said": "ä b", "none": None})
    await gateway.holds(channel, 1)
    async with command(*show(gateway, channel, "--last", "1", "-n", "1"), terminal=True) as tail:
        assert 0 == await tail.exited()

        [line] = tail.lines
        words = re.sub(r"\x1b\[[0-9;]*m", "", line).split()
        assert COLOUR in line
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}", words[0])
        assert [channel, "#1", "test.event", "x=1.5", 'of={"a":[1]}', 'said="ä', 'b"'] == words[1:]


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
async def test_colours_can_be_turned_off(
    gateway: Gateway, bus: Publisher, channel: str, variables: dict[str, str]
) -> None:
    bus.send(channel)
    await gateway.holds(channel, 1)
    arguments = show(gateway, channel, "--last", "1", "-n", "1")
    async with command(*arguments, terminal=True, variables=variables) as tail:
        await tail.exited()

        assert channel in tail.output
        assert COLOUR not in tail.output


async def test_json_on_a_terminal_is_as_in_a_pipe(gateway: Gateway, bus: Publisher, channel: str) -> None:
    bus.send(channel, {"n": 1})
    await gateway.holds(channel, 1)
    arguments = show(gateway, channel, "--last", "1", "-n", "1", "--json")
    async with command(*arguments, terminal=True) as tail:
        await tail.exited()

        assert [1] == tail.numbers


NASTY = "\x1b]0;owned\x07\x1b[2J\r\n\x9b31m\x7f\u202e\u2028\U000e0001é"


@pytest.mark.parametrize("options", [[], ["--json"]])
async def test_control_characters_never_reach_a_terminal_raw(
    gateway: Gateway, bus: Publisher, channel: str, options: list[str]
) -> None:
    data = {NASTY: NASTY, "list": [NASTY], "n": 1}
    bus.send(channel, data, event_type=NASTY)
    bus.send(channel, NASTY)
    await gateway.holds(channel, 2)
    arguments = show(gateway, channel, "--last", "2", "-n", "2", *options)
    quiet = {"NO_COLOR": "1"}
    async with command(*arguments, terminal=True, variables=quiet) as tail:
        await tail.exited()

        assert 2 == len(tail.lines)
        assert all(line.removesuffix("\r").isprintable() for line in tail.lines)
        assert "é" in tail.output
        if options:
            assert [data, NASTY] == [message["data"] for message in tail.messages]


async def test_long_values_are_shortened_on_a_terminal_only(gateway: Gateway, bus: Publisher, channel: str) -> None:
    data = {"long": "x" * 100_000, "many": list(range(10_000)), "n": 1}
    bus.send(channel, data)
    await gateway.holds(channel, 1)
    arguments = show(gateway, channel, "--last", "1", "-n", "1")
    async with command(*arguments, terminal=True) as tail:
        await tail.exited()
        assert len(tail.output) < 1000
        assert "(99,800 more)" in tail.output
        assert "n=1" in tail.output
    _, piped = await run(*arguments)

    assert [data] == [message["data"] for message in piped.messages]


# -- subscriptions -----------------------------------------------------------------------------


async def test_without_channels_it_subscribes_to_all(gateway: Gateway, bus: Publisher, channel: str) -> None:
    async with command(*show(gateway)) as tail:
        await subscribed(gateway, "logs")
        bus.send(channel, {"n": 1})
        await gateway.broadcast({"everyone": True, "event": {"event_type": "note", "data": {"n": 2}}})

        await tail.until(lambda tail: {channel, "$everyone"} <= {one["channel"] for one in tail.messages})


async def test_a_filter_selects_events(gateway: Gateway, bus: Publisher, channel: str) -> None:
    bus.send_numbered(channel, range(10))
    await gateway.holds(channel, 10)
    filtered = ["--last", "10", "--filter", "data.n >= 7", "-n", "3"]
    _, tail = await run(*show(gateway, channel, *filtered))

    assert [7, 8, 9] == tail.numbers


async def test_tail_ends_after_a_count_of_events(gateway: Gateway, bus: Publisher, channel: str) -> None:
    bus.send_numbered(channel, range(10))
    await gateway.holds(channel, 10)
    status, tail = await run(*show(gateway, channel, "--last", "5", "--count", "2"))

    assert (0, [5, 6]) == (status, tail.numbers)


async def test_it_resumes_after_the_position_of_an_event(gateway: Gateway, bus: Publisher, channel: str) -> None:
    bus.send_numbered(channel, range(10), enveloped=True)
    await gateway.holds(channel, 10)
    _, first = await run(*show(gateway, channel, "--last", "10", "-n", "4"))
    last = first.messages[-1]
    position = f"{last['epoch']}:{last['offset']}"
    _, lone = await run(*show(gateway, channel, "--since", position, "-n", "6"))
    _, named = await run(*show(gateway, channel, "--since", f"{channel}={position}", "-n", "6"))

    assert [0, 1, 2, 3] == first.numbers
    assert [4, 5, 6, 7, 8, 9] == lone.numbers == named.numbers


async def test_it_resumes_after_a_position_in_each_of_several_sources(
    gateway: Gateway, publisher: NewPublisher, channel: str
) -> None:
    first, second = [await publisher(gateway.bus_in) for _ in range(2)]
    first.send_numbered(channel, range(5), enveloped=True)
    await gateway.holds(channel, 5)
    second.send_numbered(channel, range(10, 15), enveloped=True)
    await gateway.holds(channel, 5, epoch=second.epoch)
    position = f"{first.incarnation:016x}:3:{second.incarnation:016x}:1"
    _, tail = await run(*show(gateway, channel, "--since", position, "-n", "6"))

    assert [3, 4, 11, 12, 13, 14] == tail.numbers
    assert "" == tail.errors


async def test_a_gap_is_a_line_of_its_own(launch: Launch, publisher: NewPublisher, channel: str) -> None:
    gateway = await launch(settings={"history.events_max": 5})
    bus = await publisher(gateway.bus_in)
    bus.send_numbered(channel, range(1, 21), enveloped=True)
    await gateway.holds(channel, 20)
    position = f"{bus.incarnation:016x}:3"
    arguments = show(gateway, channel, "--since", position, "-n", "5")
    _, tail = await run(*arguments)
    async with command(*arguments, terminal=True) as shown:
        await shown.exited()

        assert "gap: 12 events #4 to #15 missing: no longer in the gateway's log" in shown.lines[0]
    assert {
        "type": "gap",
        "channel": channel,
        "epoch": f"{bus.incarnation:016x}",
        "from": 4,
        "to": 15,
        "count": 12,
        "reason": "evicted",
    } == tail.messages[0]
    assert [16, 17, 18, 19, 20] == tail.numbers


async def test_a_loss_on_the_bus_is_a_gap_in_its_place(launch: Launch, publisher: NewPublisher, channel: str) -> None:
    gateway = await launch()
    bus = await publisher(gateway.bus_in)
    bus.send(channel, {"n": 1}, enveloped=True)
    await gateway.holds(channel, 1)
    async with command(*show(gateway, channel, "--last", "1", "-n", "2")) as tail:
        await tail.until(lambda tail: tail.lines)
        bus.sequences[channel] += 3
        bus.send(channel, {"n": 5}, enveloped=True)

        assert 0 == await tail.exited()
        assert ["event", "gap", "event"] == [one["type"] for one in tail.messages]
        assert (3, "bus_loss") == (tail.messages[1]["count"], tail.messages[1]["reason"])


# -- connections -------------------------------------------------------------------------------


async def test_it_waits_for_a_gateway_and_says_so_once(launch: Launch, publisher: NewPublisher, channel: str) -> None:
    port = free_port()
    async with command("tail", "--url", f"http://127.0.0.1:{port}", channel) as tail:
        await tail.until(lambda tail: "no gateway at" in tail.errors)
        gateway = await launch(port=port)
        bus = await publisher(gateway.bus_in)
        await tail.until(lambda tail: "connected" in tail.errors)
        bus.send_numbered(channel, range(1))
        await subscribed(gateway, channel)
        bus.send_numbered(channel, range(1, 5))

        await tail.until(lambda tail: [1, 2, 3, 4] == tail.numbers[-4:])
        assert 1 == tail.errors.count("no gateway at")
        assert ["connected"] == tail.errors.splitlines()[1:]


def _has(count: int) -> Callable[[Command], bool]:
    return lambda tail: count == len(tail.lines)


async def test_after_a_lost_connection_it_resumes(gateway: Gateway, bus: Publisher, channel: str) -> None:
    async with Proxy(gateway.port) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        bus.send_numbered(channel, range(1))
        await gateway.holds(channel, 1)
        async with command("tail", "--url", url, channel, "--last", "1") as tail:
            await tail.until(lambda tail: tail.lines)
            for cut in range(3):
                bus.send_numbered(channel, range(100 * cut + 1, 100 * cut + 51))
                proxy.cut()
                bus.send_numbered(channel, range(100 * cut + 51, 100 * cut + 101))
                await tail.until(_has(101 + 100 * cut))

            assert list(range(301)) == tail.numbers
            notices = ["disconnected (connection lost); trying again", "reconnected"]
            assert 3 * notices == tail.errors.splitlines()


# -- exit status -------------------------------------------------------------------------------


async def test_ctrl_c_closes_the_connection_and_ends_it_with_130(
    launch: Launch, publisher: NewPublisher, connect: Connect, channel: str
) -> None:
    gateway = await launch()
    watcher = await connect("connections", to=gateway)
    bus = await publisher(gateway.bus_in)
    bus.send(channel, {"n": 1})
    await gateway.holds(channel, 1)
    async with command(*show(gateway, channel, "--last", "1")) as tail:
        await tail.until(lambda tail: tail.lines)
        tail.interrupt()

        assert 130 == await tail.exited()
        assert "" == tail.errors
        await eventually(
            lambda: [
                event
                for event in watcher.channel("connections").events
                if event["event_type"] == "client.disconnected" and event["data"]["code"] == 1000
            ]
        )


async def test_ctrl_c_ends_the_wait_for_a_gateway() -> None:
    async with command("tail", "--url", f"http://127.0.0.1:{free_port()}") as tail:
        await tail.until(lambda tail: "no gateway" in tail.errors)
        tail.interrupt()

        assert 130 == await tail.exited()
        assert "Traceback" not in tail.errors


def piped_to_head(gateway: Gateway, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Pipe tail into `head -1`; the exit status is that of tail."""
    line = 'set -o pipefail; "$@" | head -1'
    tail = [sys.executable, "-m", "gateway", *show(gateway, *arguments)]
    return subprocess.run(
        ["bash", "-c", line, "bash", *tail],
        capture_output=True,
        text=True,
        timeout=scaled(DEADLINE_SECONDS),
        env=environment(),
    )


@pytest.mark.parametrize("count", [1, pytest.param(1000, marks=pytest.mark.long)])
async def test_it_ends_with_0_when_the_reader_closes_the_pipe(
    gateway: Gateway, bus: Publisher, channel: str, count: int
) -> None:
    """It also ends after a single event, when it has nothing more to write."""
    bus.send_numbered(channel, range(count))
    await gateway.holds(channel, count)
    ended = await asyncio.to_thread(piped_to_head, gateway, channel, "--last", str(count))

    assert (0, "") == (ended.returncode, ended.stderr)
    assert 0 == json.loads(ended.stdout)["data"]["n"]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (["--filter", "data.x =="], "invalid_filter: filter: expected an operand"),
        (["--rate", "-1"], "rate"),
        (["--last", "-3"], "-3 is not a number of events; for the newest 3 write --last 3"),
        (["no such channel"], "no such channel"),
        (["--since", "nonsense"], "'nonsense' is not CHANNEL=EPOCH:OFFSET"),
        (["--since", "e:1,logs=e:2"], "each needs its channel"),
        (["--url", "ftp://nonsense"], "expected an address like"),
        (["--url", "http://me:secret@127.0.0.1"], "expected an address like"),
    ],
)
async def test_a_wrong_option_is_an_error_and_ends_it_with_2(gateway: Gateway, wrong: list[str], error: str) -> None:
    status, tail = await run(*show(gateway, "metrics", *wrong))

    assert 2 == status
    assert error in tail.errors.splitlines()[-1]
    assert "Traceback" not in tail.errors
    assert "secret" not in tail.errors
    assert "" == tail.output


# -- tokens -------------------------------------------------------------------------------------


async def test_a_token_comes_from_the_environment_or_a_file(
    launch: Launch, publisher: NewPublisher, tmp_path: Path
) -> None:
    gateway = await launch(settings=tokens.SETTINGS)
    bus = await publisher(gateway.bus_in)
    bus.send("logs", {"level": "info", "message": "hello"})
    gateway.token = tokens.token("admin")
    await gateway.holds("logs", 1)
    file = tmp_path / "token"
    file.write_text(tokens.token("developer") + "\n")
    arguments = show(gateway, "logs", "--last", "1", "-n", "1")
    given, _ = await run(*arguments, variables={"GATEWAY_TOKEN": file.read_text().strip()})
    filed, _ = await run(*arguments, "--token-file", str(file))
    bare, refused = await run(*arguments)

    assert (0, 0, 1) == (given, filed, bare)
    assert "GATEWAY_TOKEN" in refused.errors


async def test_a_token_is_in_no_error(launch: Launch, tmp_path: Path) -> None:
    gateway = await launch(settings=tokens.SETTINGS)
    expired = tokens.token("developer", seconds=-100)
    file = tmp_path / "token"
    file.write_text(expired)
    flagged, one = await run(*show(gateway, "--token", expired))
    filed, other = await run(*show(gateway, "--token-file", str(file)))
    broken, third = await run(*show(gateway, "--token", expired + "\x1b"))
    both, fourth = await run(*show(gateway, "--token", expired, "--token-file", str(file)))

    assert (1, 1, 2, 2) == (flagged, filed, broken, both)
    for tail in (one, other, third, fourth):
        assert expired not in tail.errors
        assert tail.errors


async def test_a_token_file_is_read_anew_for_every_connection(
    launch: Launch, publisher: NewPublisher, tmp_path: Path
) -> None:
    gateway = await launch(settings=tokens.SETTINGS)
    bus = await publisher(gateway.bus_in)
    bus.send("logs", {"level": "info", "message": "one"})
    gateway.token = tokens.token("admin")
    await gateway.holds("logs", 1)
    file = tmp_path / "token"
    file.write_text(tokens.token("developer"))
    async with Proxy(gateway.port) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        arguments = ["--url", url, "--token-file", str(file), "logs", "--last", "1"]
        async with command("tail", *arguments) as tail:
            await tail.until(lambda tail: tail.lines)
            file.write_text("nonsense")
            proxy.cut()

            assert 1 == await tail.exited()
            assert "401" in tail.errors
            assert "nonsense" not in tail.errors
