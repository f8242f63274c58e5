"""The command line: what it prints, and how it ends."""

import socket
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from gateway import __version__
from gateway.cli import Commands, main
from gateway.cli.check import described, warnings
from gateway.config import Config, example
from gateway.config.model import Bus, Clients, History


def invoke(*arguments: str, environment: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, arguments, env=environment)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_version_is_that_of_the_package() -> None:
    assert f"neurograph-gateway {__version__} (Python" in invoke("version").stdout


def test_check_says_where_the_gateway_would_serve_and_what_from() -> None:
    result = invoke("check", "--port", "0", "--connect", "ipc:///a", "--connect", "ipc:///b")

    assert 0 == result.exit_code
    assert "http://127.0.0.1:<any free port>" in result.stdout
    assert "ipc:///a, where a publisher binds" in result.stdout
    assert "ipc:///b, where a publisher binds" in result.stdout
    assert "tcp://127.0.0.1:5556, where publishers connect" in result.stdout


def test_check_says_how_many_processes_hold_the_clients() -> None:
    several = invoke("check", "--port", "0", "--workers", "3")
    one = invoke("check", "--port", "0")

    assert "workers     3 processes serve the clients; one more receives the events\n" in several.stdout
    assert "workers" not in one.stdout


def test_check_takes_all_other_settings_by_key() -> None:
    result = invoke("check", "--set", "history.events_max=7", "--set", "channels.a.b.events_max=9")

    assert "7 events, 16777216 bytes per channel" in result.stdout
    assert "of a.b: 9 events" in result.stdout


def test_check_prints_the_annotated_example() -> None:
    assert example() == invoke("check", "--example").stdout


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_wrong_configuration_ends_with_status_2_and_names_every_key(command: str) -> None:
    result = invoke(command, "--port", "99999", environment={"GATEWAY_HISTORY_EVENTS_MAX": "0"})

    assert 2 == result.exit_code
    assert "" == result.stdout
    assert "  port: 99999 is above 65535" in result.stderr
    assert "  history.events_max: 0 is below 1" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_assignment_without_a_value_ends_with_status_2() -> None:
    result = invoke("check", "--set", "history.events_max")

    assert 2 == result.exit_code
    assert "'history.events_max' is not KEY=VALUE" in result.stderr


def test_serving_other_machines_takes_a_flag_that_says_what_it_is() -> None:
    assert 2 == invoke("check", "--host", "0.0.0.0").exit_code
    assert 0 == invoke("check", "--host", "0.0.0.0", "--insecure-allow-remote").exit_code


def test_help_shows_every_option_with_its_default() -> None:
    text = " ".join(invoke("serve", "--help").stdout.split())

    assert '[default: ["tcp://127.0.0.1:5555"]] Repeatable.' in text
    assert "[default: 8000]" in text


def test_check_warns_of_a_port_in_use(listener: socket.socket) -> None:
    port = listener.getsockname()[1]

    assert [f"port: 127.0.0.1:{port} is in use by another program"] == [
        line for line in warnings(Config(port=port, bind="")) if line.startswith("port")
    ]


def test_check_warns_of_a_bus_endpoint_in_use(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    config = Config(port=0, bind=f"tcp://127.0.0.1:{port}")

    assert [f"bind: 127.0.0.1:{port} is in use by another program"] == [
        line for line in warnings(config) if line.startswith("bind")
    ]


def test_check_warns_of_a_path_in_use(tmp_path: Path) -> None:
    """A path that nobody serves any more is bound again."""
    config = Config(port=0, bind=f"ipc://{tmp_path}/bus")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/bus")
        listener.listen()
        served = list(warnings(config))

    assert f"bind: ipc://{tmp_path}/bus is in use by another program" in served
    assert not any(line.startswith("bind") for line in warnings(config))


def test_check_warns_of_an_address_that_this_machine_does_not_have() -> None:
    found = list(warnings(Config(host="192.0.2.1", port=0, bind="")))

    assert found[0].startswith("port: cannot listen on 192.0.2.1:0 (")


def test_check_warns_of_a_folder_that_is_not_there() -> None:
    config = Config(port=0, bind="ipc:///nowhere/bus")

    assert "bind: there is no folder /nowhere for ipc:///nowhere/bus" in warnings(config)


def test_check_warns_of_more_clients_than_files_may_be_open() -> None:
    config = Config(port=0, bind="", clients=Clients(connections_max=2**30))

    assert any(line.startswith("clients.connections_max:") for line in warnings(config))


def test_check_warns_of_payloads_that_never_arrive() -> None:
    config = Config(port=0, bind="", bus=Bus(message_bytes_max=1000))

    assert any(line.startswith("ingest.payload_bytes_max:") for line in warnings(config))


def test_a_machine_that_fits_gets_no_warning() -> None:
    config = Config(port=0, bind="", clients=Clients(connections_max=1))

    assert [] == list(warnings(config))


def test_an_age_limit_is_said_where_there_is_one() -> None:
    config = Config(history=History(age_seconds_max=60), host="::1")

    assert any("bytes, 60 s per channel" in line for line in described(config))
    assert any("http://[::1]:8000" in line for line in described(config))


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("moment", ["start", "run", "end"])
def test_ctrl_c_ends_a_command_quietly_whenever_it_comes(moment: str) -> None:
    @click.pass_context
    def run(context: click.Context) -> None:
        if moment == "run":
            interrupt()
        context.find_root().call_on_close(interrupt)

    option = click.Option(["--option"], callback=interrupt if moment == "start" else None)
    commands = Commands(params=[option], commands=[click.Command("run", callback=run)])
    result = CliRunner().invoke(commands, ["run"])

    assert (130, "") == (result.exit_code, result.output.strip())


def test_what_a_command_returns_is_not_its_exit_status() -> None:
    commands = Commands(commands=[click.Command("run", callback=lambda: 7)])

    assert 0 == CliRunner().invoke(commands, ["run"]).exit_code
