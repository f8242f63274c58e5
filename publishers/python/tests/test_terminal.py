"""`gateway publish` publishes each event to the gateway's clients, or says why not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from pathlib import Path

import pytest

from tests.conftest import Connect, Launch
from tests.support.addresses import free_port, free_tcp, ipc
from tests.support.command import command, run
from tests.support.curve import Ring
from tests.support.gateway import Gateway
from tests.support.waiting import eventually
from tests.support.ws import Client


def to(gateway: Gateway, *arguments: str) -> list[str]:
    return ["publish", "--bus", gateway.bus_in, *arguments]


async def data_of(client: Client, channel: str, count: int) -> list[object]:
    """Wait for `count` events of a channel, and return their data."""
    await client.events(channel, count)
    return [event["data"] for event in client.channel(channel).events]


@pytest.mark.parametrize(
    ("given", "comes"),
    [
        (['{"x": 1.5}'], {"x": 1.5}),
        (["9007199254740993"], 9007199254740993),
        (['"ä\\u001b"'], "ä\x1b"),
        (["--text", "{ no json"], "{ no json"),
        (['{"a": 1}', "--type", "some.type"], {"a": 1}),
    ],
)
async def test_an_event_on_the_command_line_reaches_the_clients(
    gateway: Gateway, connect: Connect, channel: str, given: list[str], comes: object
) -> None:
    client = await connect(channel)
    status, publish = await run(*to(gateway, channel, *given))

    assert [comes] == await data_of(client, channel, 1)
    assert (0, "") == (status, publish.output)
    assert f"published 1 event on {channel}\n" == publish.errors
    [event] = client.channel(channel).events
    assert ("some.type" if "--type" in given else None) == event.get("event_type")


async def test_each_line_of_input_is_an_event(gateway: Gateway, connect: Connect, channel: str) -> None:
    client = await connect(channel)
    lines = "".join(f'{{"n": {n}}}\n' for n in range(5000))
    status, publish = await run(*to(gateway, channel), given="\ufeff" + lines + "\n  \n" + '{"n": 5000}')
    await client.events(channel, 5001)

    assert list(range(5001)) == client.channel(channel).numbers
    assert [] == client.channel(channel).gaps
    assert (0, f"published 5,001 events on {channel}\n") == (status, publish.errors)


async def test_a_line_is_published_as_soon_as_it_is_read(gateway: Gateway, connect: Connect, channel: str) -> None:
    client = await connect(channel)
    async with command(*to(gateway, channel, "-")) as publish:
        for number in range(3):
            publish.type(f'{{"n": {number}}}\n')
            await client.events(channel, number + 1)
        publish.interrupt()

        assert 130 == await publish.exited()
        assert f"published 3 events on {channel}\n" == publish.errors
        assert [0, 1, 2] == client.channel(channel).numbers


async def test_the_lines_of_a_file_are_published(
    gateway: Gateway, connect: Connect, channel: str, tmp_path: Path
) -> None:
    client = await connect(channel)
    file = tmp_path / "lines"
    file.write_text('{"n": 0}\n\n{"n": 1}')
    status, publish = await run(*to(gateway, channel, "--file", str(file)))
    await client.events(channel, 2)

    assert (0, f"published 2 events on {channel}\n") == (status, publish.errors)
    assert [0, 1] == client.channel(channel).numbers


async def test_a_file_is_followed_also_when_it_is_replaced(
    gateway: Gateway, connect: Connect, channel: str, tmp_path: Path
) -> None:
    client = await connect(channel)
    file, other = tmp_path / "lines", tmp_path / "other"
    file.write_text('{"n": 0}\n')
    async with command(*to(gateway, channel, "--file", str(file), "--follow")) as publish:
        await client.events(channel, 1)
        with file.open("a") as added:
            added.write('{"n": 1}\n{"n"')
            added.flush()
            await client.events(channel, 2)
            added.write(": 2}\n")
        await client.events(channel, 3)
        other.write_text('{"n": 3}\n')
        other.replace(file)
        await client.events(channel, 4)
        file.write_text('{"n":4}\n')  # shorter: it was cut
        await client.events(channel, 5)
        publish.interrupt()
        assert 130 == await publish.exited()

    assert [*range(5)] == client.channel(channel).numbers


async def test_invalid_lines_are_reported_by_number_and_the_others_published(
    gateway: Gateway, connect: Connect, channel: str
) -> None:
    client = await connect(channel)
    lines = [b"1", b"{", b"2", b"\xff", b'{"event_type": "x", "data": 1, "channel": "other"}', b"3"]
    status, publish = await run(*to(gateway, channel), given=b"\r\n".join(lines))

    assert [1, 2, 3] == await data_of(client, channel, 3)
    assert 1 == status
    errors = publish.errors.splitlines()
    numbered = [" ".join(line.split()[:2]) for line in errors[:3]]
    assert ["line 2:", "line 4:", "line 5:"] == numbered
    assert [f"published 3 events on {channel}", "Error: 3 lines not valid"] == errors[3:]


async def test_of_many_invalid_lines_the_first_ten_are_reported(gateway: Gateway, channel: str) -> None:
    status, publish = await run(*to(gateway, channel), given="nonsense\n" * 500)

    assert 1 == status
    assert 11 == len(publish.errors.splitlines())
    assert "Error: 500 lines not valid" == publish.errors.splitlines()[-1]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (["notes", "hello"], "--text sends it as a string"),
        (["notes", ""], "--text sends it as a string"),
        (["metrics", '{"cpu_percent": 1}'], "--type system_metrics"),
        (["metrics", '{"cpu_percent": "x"}', "--type", "system_metrics"], "cpu_percent"),
        (["logs", '{"level": "info"}', "--type", "log.info"], "message"),
        (["no channel", "1"], "'no channel' is not a topic"),
        (["$everyone", "1"], "is not a topic"),
        (["notes", "1", "--bus", "nonsense"], "nonsense"),
        (["notes", "1", "--curve", "/nowhere", "/nowhere"], "/nowhere"),
    ],
)
async def test_an_event_that_a_gateway_would_reject_is_not_sent_and_exits_with_2(
    gateway: Gateway, given: list[str], error: str
) -> None:
    before = await gateway.rejections()
    status, publish = await run(*to(gateway, *given))

    assert 2 == status
    assert error in publish.errors.splitlines()[-1]
    assert "Traceback" not in publish.errors
    assert before == await gateway.rejections()


async def test_an_event_that_is_too_large_is_refused(gateway: Gateway, channel: str) -> None:
    large = b'"' + b"x" * 40_000_000 + b'"\n'
    status, publish = await run(*to(gateway, channel), given=large + b"1\n")

    assert 1 == status
    first, *rest = publish.errors.splitlines()
    assert first.startswith("line 1: ")
    assert "more than the 1048576 of `ingest.payload_bytes_max`" in first
    assert [f"published 1 event on {channel}", "Error: 1 line not valid"] == rest


async def test_publishing_without_a_gateway_exits_with_1() -> None:
    nowhere = f"tcp://127.0.0.1:{free_port()}"
    where = {"GATEWAY_BUS": nowhere}
    status, publish = await run("publish", "notes", "1", "--wait", "0.3", variables=where)

    assert 1 == status
    assert f"Error: no gateway at {nowhere} subscribed to notes within 0.3 s\n" == publish.errors


async def test_it_waits_for_a_gateway_that_starts_later(launch: Launch, connect: Connect, tmp_path: Path) -> None:
    endpoint = ipc(tmp_path, "in")
    async with command("publish", "notes", "1", "--bus", endpoint, "--wait", "30") as publish:
        gateway = await launch(bind=endpoint)

        assert 0 == await publish.exited()
    client = await connect(to=gateway)
    await client.subscribe("notes", last=1)
    assert [1] == await data_of(client, "notes", 1)


async def test_lines_read_while_the_gateway_restarts_are_published_afterwards(
    launch: Launch, connect: Connect, channel: str, tmp_path: Path
) -> None:
    gateway = await launch(bind=ipc(tmp_path, "in"))
    client = await connect(channel, to=gateway)
    async with command(*to(gateway, channel, "--wait", "30")) as publish:
        publish.type('{"n": 0}\n')
        await client.events(channel, 1)
        gateway.kill(15)
        await gateway.exited()
        publish.type('{"n": 1}\n{"n": 2}\n')
        await gateway.restart()
        publish.type('{"n": 3}\n')
        publish.end_of_input()

        assert 0 == await publish.exited()
        assert f"published 4 events on {channel}\n" == publish.errors

    async def held() -> bool:
        path = f"/api/v1/websocket/channels/{channel}/events"
        answer = await gateway.request("GET", path)
        events = json.loads(answer.text).get("events", [])
        return [1, 2, 3] == [event["data"]["n"] for event in events if event["type"] == "event"]

    await eventually(held)


@pytest.mark.long
async def test_a_stalled_gateway_makes_publish_exit_with_1(launch: Launch, connect: Connect, channel: str) -> None:
    """It reads nothing, while more lines arrive than the queue and the sockets hold."""
    gateway = await launch()
    client = await connect(channel, to=gateway)
    async with command(*to(gateway, channel, "--wait", "0.5")) as publish:
        publish.type("1\n")
        await client.events(channel, 1)
        gateway.kill(signal.SIGSTOP)
        with contextlib.suppress(BrokenPipeError):
            await asyncio.to_thread(publish.type, "1\n" * 500_000)

        assert 1 == await publish.exited()
        assert "received nothing for 0.5 s" in publish.errors.splitlines()[-1]
    gateway.kill(signal.SIGKILL)


async def test_events_that_no_gateway_received_make_publish_exit_with_1(
    launch: Launch, connect: Connect, channel: str
) -> None:
    gateway = await launch()
    client = await connect(channel, to=gateway)
    async with command(*to(gateway, channel, "--wait", "1")) as publish:
        publish.type("1\n")
        await client.events(channel, 1)
        gateway.kill(signal.SIGSTOP)
        await asyncio.to_thread(publish.type, f'"{"x" * 500_000}"\n' * 40)  # more than the sockets hold
        publish.end_of_input()

        assert 1 == await publish.exited()
        assert "did not receive all events within 1 s" in publish.errors.splitlines()[-1]
    gateway.kill(signal.SIGKILL)


async def test_gateways_may_connect_to_it(gateway: Gateway, connect: Connect, channel: str) -> None:
    client = await connect(channel)
    status, _ = await run("publish", "--bind", gateway.bus_out, channel, "1")

    assert 0 == status
    assert [1] == await data_of(client, channel, 1)


async def test_keys_encrypt_and_wrong_ones_are_refused(launch: Launch, connect: Connect, tmp_path: Path) -> None:
    ring = Ring(tmp_path)
    known = ring.listing("known", "shell")
    keys = {"connect": "", "bus.curve_key_file": ring.secret("gateway"), "bus.curve_client_keys_dir": known}
    gateway = await launch(settings=keys, connect=[], bind=free_tcp())
    client = await connect("notes", to=gateway)
    server = str(ring.public("gateway"))
    known_key, other = str(ring.secret("shell")), str(ring.secret("stranger"))
    good, _ = await run(*to(gateway, "notes", "1", "--curve", known_key, server))
    strange = ["--curve", other, server, "--wait", "40"]
    bad, refused = await run(*to(gateway, "notes", "2", *strange))

    assert (0, 1) == (good, bad)
    assert [1] == await data_of(client, "notes", 1)
    assert "refused the connection" in refused.errors
