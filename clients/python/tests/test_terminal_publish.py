"""`gateway publish --url` publishes each event once, or says why not; `gateway request` prints the answer."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path

import pytest
from neurograph_client import Client

from tests.conftest import Connect, Launch
from tests.support import tokens
from tests.support.command import command, run
from tests.support.gateway import Gateway

from .conftest import NewProxy


def over(gateway: Gateway, *arguments: str) -> list[str]:
    return ["publish", "--url", gateway.url, *arguments]


def lines(*numbers: int) -> str:
    return "".join(f'{{"n": {n}}}\n' for n in numbers)


async def test_each_line_is_published_with_its_type(gateway: Gateway, connect: Connect, channel: str) -> None:
    client = await connect(channel)
    status, publish = await run(*over(gateway, channel, "--type", "count"), given=lines(*range(30)))
    await client.events(channel, 30)

    assert (0, f"published 30 events on {channel}\n") == (status, publish.errors)
    assert [*range(30)] == client.channel(channel).numbers
    assert {"count"} == {one["event_type"] for one in client.channel(channel).events}


async def test_events_refused_by_the_rate_limit_are_published_later(launch: Launch) -> None:
    gateway = await launch(settings={"clients.publishes_per_second": 50, "clients.publishes_burst": 3})
    status, publish = await run(*over(gateway, "chat"), given=lines(*range(12)))
    async with Client(gateway.url) as client:
        history = await client.history("chat")

    assert (0, "published 12 events on chat; 12 of them reached nobody\n") == (status, publish.errors)
    assert [*range(12)] == [one.data["n"] for one in history]  # type: ignore[union-attr]  # no gaps here


async def test_lines_that_the_gateway_refuses_are_reported_and_the_others_published(
    gateway: Gateway, connect: Connect
) -> None:
    client = await connect("logs")
    good = '{"level": "info", "message": "hello"}\n'
    status, publish = await run(*over(gateway, "logs", "--type", "log.info"), given=good + '{"level": 7}\nno\n' + good)
    await client.events("logs", 2)
    second, third, published, error = publish.errors.splitlines()

    assert 1 == status
    assert second.startswith("line 2: Expected `str`, got `int`")
    assert third.startswith("line 3: not JSON")
    assert ("published 2 events on logs", "Error: 2 lines not valid") == (published, error)


async def test_an_argument_that_the_gateway_refuses_ends_it_with_2(gateway: Gateway) -> None:
    status, publish = await run(*over(gateway, "logs", '{"level": 7}', "--type", "log.info"))

    assert 2 == status
    assert "Error: Invalid value for DATA: Expected `str`, got `int`" in publish.errors


async def test_a_refusal_of_all_events_ends_publish_and_names_the_line(launch: Launch, tmp_path: Path) -> None:
    gateway = await launch(settings=tokens.SETTINGS)
    token = tmp_path / "token"
    token.write_text(tokens.token("viewer"))
    status, publish = await run(*over(gateway, "chat", "--token-file", str(token)), given=lines(1, 2))

    assert 1 == status
    assert re.fullmatch(rf"Error: line 1: {gateway.url} answered 403: forbidden: .*chat.*\n", publish.errors)


async def test_a_mandatory_event_without_a_subscriber_is_an_error(gateway: Gateway, channel: str) -> None:
    status, publish = await run(*over(gateway, channel, "1", "--mandatory"))

    assert 1 == status
    assert "answered 503: no_subscribers: no client subscribes to" in publish.errors


async def test_lost_connections_neither_lose_nor_duplicate_events(
    gateway: Gateway, proxy: NewProxy, connect: Connect, channel: str
) -> None:
    between, client = await proxy(gateway), await connect(channel)
    async with command("publish", "--url", between.url, channel, "--wait", "60") as publish:
        for n in range(20):
            publish.type(lines(n))
            if n % 5 == 4:
                await client.events(channel, n + 1)
                between.cut()
        publish.end_of_input()
        assert 0 == await publish.exited()

    assert "disconnected (connection lost); trying again\nreconnected\n" in publish.errors
    assert [*range(20)] == client.channel(channel).numbers


async def test_a_missing_answer_is_an_error_that_names_the_line(launch: Launch) -> None:
    gateway = await launch()
    async with command(*over(gateway, "chat", "--wait", "5")) as publish:
        publish.type(lines(1))
        await gateway.holds("chat", 1)
        gateway.kill(signal.SIGSTOP)
        publish.type(lines(2))
        assert 1 == await publish.exited()
        gateway.kill(signal.SIGCONT)

    assert re.search(r"Error: line [12]: .*did not answer within 5 s; the event may or may not", publish.errors)


async def test_without_a_gateway_it_ends_with_1_and_the_reason() -> None:
    status, publish = await run("publish", "--url", "http://127.0.0.1:9", "chat", "1", "--wait", "0.2")

    assert 1 == status
    assert "Error: no gateway at http://127.0.0.1:9: " in publish.errors


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--url", "http://127.0.0.1:9", "--bus", "ipc:///x"], "--bus has no meaning if --url is given"),
        (["--mandatory"], "--mandatory has no meaning if there is no --url"),
        (["--token-file", "x"], "--token-file has no meaning if there is no --url"),
        (["--url", "http://127.0.0.1:9", "--token", "x", "--token-file", "x"], "not both"),
        (["--file", "/dev/null"], "give DATA or --file, not both"),
        (["--follow"], "--follow needs --file"),
    ],
)
async def test_options_that_contradict_each_other_are_refused(given: list[str], says: str) -> None:
    status, publish = await run("publish", "chat", "1", *given)

    assert 2 == status
    assert says in publish.errors


# -- requests -------------------------------------------------------------------------------------


async def test_a_request_prints_its_answer(gateway: Gateway, channel: str) -> None:
    async with Client(gateway.url) as core, core.subscribe(channel) as asked:

        async def answer() -> None:
            request = await anext(asked)
            to = request.message["reply_to"]  # type: ignore[union-attr]  # no gap comes here
            data = {"double": 2 * request.data}  # type: ignore[union-attr]
            reply = {"client_id": to["client_id"], "event": {"event_type": "reply", "data": data, **to}}
            await gateway.request("POST", "/api/v1/websocket/broadcast", body=reply)

        answering = asyncio.create_task(answer())
        status, request = await run("request", channel, "21", "--url", gateway.url, "--wait", "60")
        await answering

    assert (0, "") == (status, request.errors)
    assert {"double": 42} == json.loads(request.output)["data"]


async def test_a_request_fails_with_the_reason(gateway: Gateway, channel: str) -> None:
    nobody, refused = await run("request", channel, "1", "--url", gateway.url)
    async with Client(gateway.url) as core, core.subscribe(channel) as asked:
        silent, silence = await run("request", channel, "1", "--url", gateway.url, "--wait", "5")
        assert "reply_to" in (await anext(asked)).message  # type: ignore[union-attr]
    wrong, usage = await run("request", channel, "no", "--url", gateway.url)

    assert (1, 1, 2) == (nobody, silent, wrong)
    assert "no_subscribers: no client subscribes to" in refused.errors
    assert f"Error: {channel}: no answer in 5 s\n" == silence.errors
    assert "DATA: not JSON" in usage.errors
