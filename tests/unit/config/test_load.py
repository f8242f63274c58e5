"""From a file, the environment and flags to one configuration, or to all that is wrong."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from gateway.config import Config, ConfigError, Setting, load, settings
from gateway.config.model import History


Flags = Mapping[str, str | list[str]]


def problems(
    path: Path | None = None, environ: Mapping[str, str] | None = None, flags: Flags | None = None
) -> list[str]:
    """What is wrong with a configuration; each problem's line."""
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {}, flags or {})
    return [str(problem) for problem in caught.value.problems]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gateway.toml"


def test_without_anything_the_defaults_hold() -> None:
    assert Config() == load(None, {}, {})


def test_flags_win_over_the_environment_which_wins_over_the_file(file: Path) -> None:
    file.write_text("port = 1\n[history]\nevents_max = 1\nbytes_max = 1\n")

    config = load(file, {"GATEWAY_PORT": "2", "GATEWAY_HISTORY_EVENTS_MAX": "2"}, {"port": "3"})

    assert (3, 2, 1) == (config.port, config.history.events_max, config.history.bytes_max)


def test_the_environment_can_name_the_file(file: Path) -> None:
    file.write_text('host = "::1"\n')

    assert "::1" == load(None, {"GATEWAY_CONFIG": str(file)}, {}).host


def test_a_file_given_by_flag_stands_in_for_that_of_the_environment(file: Path) -> None:
    file.write_text("port = 9\n")

    assert 9 == load(file, {"GATEWAY_CONFIG": "/nowhere"}, {}).port


def test_endpoints_are_separated_by_commas_in_the_environment() -> None:
    config = load(None, {"GATEWAY_CONNECT": "tcp://127.0.0.1:1, ipc:///tmp/a"}, {})

    assert ("tcp://127.0.0.1:1", "ipc:///tmp/a") == config.connect


@pytest.mark.parametrize("setting", list(settings()), ids=lambda setting: setting.key)
def test_every_setting_takes_its_default_as_text_from_environment_and_flag(setting: Setting) -> None:
    """What documentation shows as the default can be typed in again, wherever texts are all there is."""
    default = setting.default
    text = ",".join(default) if isinstance(default, tuple) else str(default)

    assert Config() == load(None, {setting.variable: text}, {})
    assert Config() == load(None, {}, {setting.key: text})


def test_a_channel_overrides_what_every_channel_keeps_and_inherits_the_rest(file: Path) -> None:
    file.write_text(
        dedent("""
            [history]
            events_max = 5
            [channels.metrics]
            bytes_max = 7
            [channels."logs.debug"]
            events_max = 3
            [channels.logs.error]
            age_seconds_max = 60
        """)
    )

    config = load(file, {}, {"channels.logs.debug.bytes_max": "8"})

    assert History(events_max=5, bytes_max=7) == config.channels["metrics"]
    assert History(events_max=3, bytes_max=8) == config.channels["logs.debug"]
    assert History(events_max=5, age_seconds_max=60) == config.channels["logs.error"]
    assert History(events_max=5) == config.history


def test_a_problem_says_key_value_limit_default_and_origin(file: Path) -> None:
    file.write_text("[history]\nevents_max = 0\n")

    assert [f"history.events_max: 0 is below 1; leave it out for the default (1000) [{file}]"] == problems(file)


@pytest.mark.parametrize(
    ("environ", "flags", "origin"),
    [
        ({"GATEWAY_PORT": "-1"}, {}, "[environment variable GATEWAY_PORT]"),
        ({}, {"port": "-1"}, "[flag --port]"),
        ({}, {"history.events_max": "0"}, "[flag --set history.events_max]"),
    ],
)
def test_the_origin_is_the_variable_or_the_flag(environ: Mapping[str, str], flags: Flags, origin: str) -> None:
    [problem] = problems(None, environ, flags)

    assert problem.endswith(origin)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    found = problems(None, {"GATEWAY_PORT": "x"}, {"history.events_max": "0", "nonsense": "1"})

    assert ["port", "history.events_max", "nonsense"] == [line.split(":")[0] for line in found]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("port", "65536", "65536 is above 65535"),
        ("port", "8k", "'8k' is not a whole number"),
        ("port", "", "'' is not a whole number"),
        ("port", "1.5", "1.5 is not a whole number"),
        ("clients.heartbeat_seconds", "soon", "'soon' is not a number"),
        ("clients.heartbeat_seconds", "inf", "'inf' is not a finite number"),
        ("clients.heartbeat_seconds", "nan", "'nan' is not a finite number"),
        ("clients.heartbeat_seconds", "0", "0 is below 0.01"),
        ("insecure_allow_remote", "perhaps", "'perhaps' is neither true nor false"),
        ("logging.level", "loud", "'loud' is not one of debug, error, info, warning"),
    ],
)
def test_a_text_of_no_use_is_refused_with_the_reason(key: str, value: str, reason: str) -> None:
    [problem] = problems(None, {}, {key: value})

    assert problem.startswith(f"{key}: {reason}; leave it out for the default (")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('port = "8000"', "port: '8000' is not a whole number"),
        ("port = true", "port: True is not a whole number"),
        ("port = 8000.0", "port: 8000.0 is not a whole number"),
        ("host = 1", "host: 1 is neither a string nor a list of strings"),
        ("host = [1]", "host: [1] is not a list of strings"),
        ('host = "127.0.0.1,::1"', "host: '127.0.0.1,::1' is not a host"),
        ('connect = "tcp://127.0.0.1:1"', "connect: 'tcp://127.0.0.1:1' is not a list of strings"),
        ("connect = [1]", "connect: [1] is not a list of strings"),
        ('insecure_allow_remote = "true"', "insecure_allow_remote: 'true' is neither true nor"),
        ("history = 5", "history: 5 is not a table; write [history]"),
        ("[[channels]]\na = 1", "channels: [{'a': 1}] is not a table; write [channels]"),
        ("[shutdown]\ntimeout_seconds = nan", "shutdown.timeout_seconds: nan is not a finite number"),
    ],
)
def test_a_file_has_types_of_its_own(file: Path, line: str, reason: str) -> None:
    file.write_text(line + "\n")

    [problem] = problems(file)

    assert problem.startswith(reason)


def test_an_unknown_key_is_refused_with_the_nearest_known() -> None:
    [problem] = problems(None, {}, {"history.event_max": "5"})

    assert "history.event_max: no such setting; did you mean history.events_max?" in problem


def test_an_unknown_variable_is_refused_with_the_nearest_known() -> None:
    [problem] = problems(None, {"GATEWAY_HISTORY_EVENT_MAX": "5"})

    assert "did you mean GATEWAY_HISTORY_EVENTS_MAX?" in problem


def test_an_unknown_key_like_no_other_leads_to_the_example() -> None:
    [problem] = problems(None, {}, {"zzz": "5"})

    assert "gateway check --example" in problem


def test_an_unknown_setting_of_a_channel_is_refused_with_those_there_are() -> None:
    [problem] = problems(None, {}, {"channels.metrics.size": "5"})

    assert "a channel has events_max, bytes_max, age_seconds_max" in problem


@pytest.mark.parametrize("name", ["a b", "$everyone", "logs.*", ""])
def test_settings_of_what_cannot_be_a_channel_are_refused(name: str) -> None:
    [problem] = problems(None, {}, {f"channels.{name}.events_max": "5"})

    assert f"{name!r} is not a valid name of a channel" in problem


@pytest.mark.parametrize("service", ["GATEWAY", "GATEWAY_X", "GATEWAY_BUS"])
def test_the_variables_that_kubernetes_injects_are_no_settings_of_ours(service: str) -> None:
    """It does for each service, also for those whose names begin with "gateway"."""
    environ = {
        f"{service}_SERVICE_HOST": "10.0.0.1",
        f"{service}_SERVICE_PORT": "8000",
        f"{service}_SERVICE_PORT_HTTP": "8000",
        f"{service}_PORT": "tcp://10.0.0.1:8000",
        f"{service}_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        f"{service}_PORT_8000_TCP_PROTO": "tcp",
        f"{service}_PORT_8000_TCP_PORT": "8000",
        f"{service}_PORT_8000_TCP_ADDR": "10.0.0.1",
    }

    assert Config() == load(None, environ, {})


def test_a_port_in_the_environment_that_is_none_is_refused() -> None:
    assert "'http' is not a whole number" in problems(None, {"GATEWAY_PORT": "http"})[0]


def test_a_file_that_is_not_there_is_named(file: Path) -> None:
    [problem] = problems(file)

    assert f"config: {file} cannot be read (No such file or directory)" in problem


@pytest.mark.parametrize("content", [b"port 8000", b"\xff"])
def test_a_file_that_is_not_toml_is_named(file: Path, content: bytes) -> None:
    file.write_bytes(content)

    [problem] = problems(file)

    assert f"config: {file} is not a TOML file in UTF-8" in problem


def test_paths_in_a_file_are_relative_to_its_folder(file: Path) -> None:
    """Wherever the gateway is started. Those in variables and flags are relative to where it is."""
    file.write_text('[auth]\nsecret_file = "keys/secret"\n[tls]\nkey_file = "/etc/key"\ncert_file = "c"\n')
    config = load(file, {"GATEWAY_TLS_CERT_FILE": "mine"}, {})

    assert config.auth.secret_file == str(file.parent / "keys/secret")
    assert (config.tls.key_file, config.tls.cert_file) == ("/etc/key", "mine")


def test_a_file_may_begin_with_a_byte_order_mark(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfport = 7\n")

    assert load(file, {}, {}).port == 7
