"""The tables [[bus.sources]]: presets, what is wrong with them, and which endpoints there are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.config import Config, ConfigError, example, load
from gateway.config.model import Source
from gateway.config.sources import endpoints
from gateway.core.sources.presets import PRESETS
from gateway.core.sources.spec import problems


BITCOIN = "tcp://127.0.0.1:28332"


def read(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    return load(path, {}, {})


def from_flag(*tables: dict[str, object], **flags: str) -> Config:
    return load(None, {}, {"bus.sources": json.dumps(tables), **flags})


def wrong(*tables: dict[str, object], **flags: str) -> str:
    with pytest.raises(ConfigError) as caught:
        from_flag(*tables, **flags)
    [problem] = caught.value.problems
    return str(problem)


def test_a_table_in_the_file_is_a_source(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        f"""
        [[bus.sources]]
        endpoint = "{BITCOIN}"
        preset = "bitcoin"
        prefix = "btc"

        [[bus.sources]]
        endpoint = "ipc:///tmp/x"
        mode = "bind"
        rename = {{ "a" = "b" }}
        """,
    )

    one, two = config.bus.sources
    assert ("bitcoin", "btc", "le32", "connect") == (one.preset, one.prefix, one.sequence, one.mode)
    assert ("bind", {"a": "b"}) == (two.mode, two.rename)


def test_sources_can_be_given_as_json_in_the_environment() -> None:
    config = load(None, {"GATEWAY_BUS_SOURCES": json.dumps([{"endpoint": BITCOIN}])}, {})

    assert (Source(endpoint=BITCOIN),) == config.bus.sources


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_valid_table(name: str) -> None:
    [source] = from_flag({"endpoint": BITCOIN, "preset": name}).bus.sources

    assert [] == list(problems(source))


def test_the_source_in_the_example_may_be_uncommented(tmp_path: Path) -> None:
    lines = example().splitlines()
    start = lines.index("# [[bus.sources]]")
    block = [line.removeprefix("# ") for line in lines[start : lines.index("", start)]]

    assert (Source(endpoint=BITCOIN),) == read(tmp_path, "\n".join(block)).bus.sources


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({}, "bus.sources[0].endpoint: is missing"),
        ({"endpoint": BITCOIN, "preset": "bitcoins"}, "bus.sources[0].preset: 'bitcoins' is not a preset; expected"),
        ({"endpoint": BITCOIN, "payloads": "x"}, "no such setting; did you mean payload?"),
        ({"endpoint": BITCOIN, "payload": "xml"}, "'xml' is not one of auto, hex, json, msgpack, raw, text"),
        ({"endpoint": BITCOIN, "frames": "topic"}, "is not a list of strings"),
        ({"endpoint": BITCOIN, "rename": ["a"]}, "is not a table of strings"),
        ({"endpoint": BITCOIN, "topic": 5}, "5 is not a string"),
        ({"endpoint": BITCOIN, "sequence_first": 2}, "2 is not one of 0, 1"),
        ({"endpoint": "udp://x"}, "is neither a tcp:// nor an ipc:// endpoint"),
        ({"endpoint": "tcp://0.0.0.0:5", "mode": "bind"}, "can be reached from other machines"),
        ({"endpoint": BITCOIN, "split": ":"}, "bus.sources[0].split: ':' splits a single frame"),
    ],
)
def test_what_is_wrong_with_a_source_is_named(table: dict[str, object], named: str) -> None:
    assert named in wrong(table)


def test_sources_that_are_no_list_of_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"write \[\[bus.sources\]\]"):
        read(tmp_path, '[bus.sources]\nendpoint = "tcp://127.0.0.1:1"')
    with pytest.raises(ConfigError, match="is not a list of tables"):
        load(None, {}, {"bus.sources": "5"})
    with pytest.raises(ConfigError, match="is not JSON"):
        load(None, {}, {"bus.sources": "["})


def test_an_endpoint_has_one_source() -> None:
    assert "has a source already" in wrong({"endpoint": BITCOIN}, {"endpoint": "tcp://localhost:28332"})


def test_an_endpoint_with_a_source_is_opened_once() -> None:
    config = from_flag({"endpoint": "tcp://localhost:1"}, connect="tcp://127.0.0.1:1,tcp://127.0.0.1:2", bind="")

    assert [("tcp://127.0.0.1:2", False), ("tcp://localhost:1", True)] == [
        (one.address, one.source is not None) for one in endpoints(config)
    ]


@pytest.mark.parametrize("mode", ["connect", "bind"])
def test_a_source_at_the_default_bind_replaces_it(mode: str) -> None:
    config = from_flag({"endpoint": Config().bind, "mode": mode}, connect="")

    assert [(Config().bind, mode)] == [(one.address, one.mode) for one in endpoints(config)]


def test_a_source_that_connects_to_the_gateways_own_bind_is_refused() -> None:
    assert 'set mode = "bind"' in wrong({"endpoint": "tcp://127.0.0.1:9"}, bind="tcp://127.0.0.1:9")


def test_a_source_that_binds_what_the_gateway_connects_to_is_refused() -> None:
    assert 'set mode = "connect"' in wrong(
        {"endpoint": "tcp://127.0.0.1:9", "mode": "bind"}, connect="tcp://127.0.0.1:9"
    )


def test_curve_needs_the_keys_of_sources_too() -> None:
    flags = {"bus.curve_key_file": "/k", "bus.curve_client_keys_dir": "/d", "connect": "", "bind": ""}

    assert "bus.curve_server_key_file" in wrong({"endpoint": BITCOIN}, **flags)
