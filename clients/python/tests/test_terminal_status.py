"""`gateway status` prints the state of a gateway as tables or JSON, once or repeatedly."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner
from neurograph_client.terminal import status

from tests.conftest import Connect, Launch, NewPublisher
from tests.support import tokens
from tests.support.addresses import free_port
from tests.support.command import command, run
from tests.support.gateway import Gateway


async def test_status_shows_bus_channels_and_clients_in_tables(
    launch: Launch, publisher: NewPublisher, connect: Connect, channel: str
) -> None:
    gateway = await launch()  # a new one: the table shows only the busiest channels
    bus = await publisher(gateway.bus_in)
    client = await connect(channel, to=gateway, user_id="ada\x1b[2J")
    bus.send_numbered(channel, range(1234))
    await client.events(channel, 1234)
    code, shown = await run("status", "--url", gateway.url)
    rows = {line.split()[0]: line.split() for line in shown.lines if line}

    assert (0, "") == (code, shown.errors)
    assert ["gateway", "0.1.0", "ready"] == rows["gateway"][:3]
    assert ["bind", "connected"] == rows[gateway.bus_in][1:3]
    assert "1" == rows[channel][-2]
    assert rows[channel][-1].endswith(":1234")
    assert "ada\\x1b[2J" in shown.output
    assert "\x1b" not in shown.output


async def test_status_does_not_count_as_a_client(launch: Launch) -> None:
    gateway = await launch()
    await run("status", "--url", gateway.url)

    assert 0 == (await gateway.status())["sessions_remembered"]


async def test_status_as_json_is_what_rest_answers(gateway: Gateway) -> None:
    _, shown = await run("status", "--url", gateway.url, "--json")
    [found] = shown.messages

    assert {"time", "status", "channels", "publishers"} == found.keys()
    assert (await gateway.status()).keys() == found["status"].keys()
    assert "metrics" in {one["name"] for one in found["channels"]["channels"]}


async def test_status_without_a_gateway_is_an_error_with_exit_status_1() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    code, shown = await run("status", "--url", url)

    assert 1 == code
    assert f"Error: no gateway at {url}: Connection refused\n" == shown.errors


async def test_status_of_another_server_is_an_error(gateway: Gateway) -> None:
    code, shown = await run("status", "--url", gateway.url + "/elsewhere")

    assert 1 == code
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


async def test_a_token_file_that_is_removed_ends_it_with_1(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("some-token")
    arguments = ["status", "--url", gateway.url, "--token-file", str(file)]
    async with command(*arguments, "--watch", "--every", "0.1") as shown:
        await shown.until(lambda shown: "CHANNEL" in shown.output)
        file.unlink()

        assert 1 == await shown.exited()
        assert shown.errors.startswith("Error: the token cannot be used: [Errno 2] No such file")


async def test_a_watched_status_is_refreshed_with_rates_until_ctrl_c(
    launch: Launch, publisher: NewPublisher, channel: str
) -> None:
    gateway = await launch()
    bus = await publisher(gateway.bus_in)
    bus.send(channel)
    arguments = ["status", "--url", gateway.url, "--watch", "--every", "0.1"]
    async with command(*arguments, terminal=True) as shown:
        await shown.until(lambda shown: shown.output.count("\x1b[H") > 3)
        await shown.until(lambda shown: "RATE" in shown.output)
        shown.interrupt()

        assert 130 == await shown.exited()
        assert "" == shown.errors


async def test_a_watched_gateway_may_restart(launch: Launch, publisher: NewPublisher) -> None:
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


def test_a_token_in_the_environment_is_not_printed() -> None:
    result = CliRunner().invoke(status, ["--help"], env={"GATEWAY_TOKEN": "secret"})

    assert 0 == result.exit_code
    assert "secret" not in result.output
