"""docs/decoders.md: its tables are what `make sources` writes, and its examples work."""

from __future__ import annotations

import re
import struct
import sys
import textwrap
from pathlib import Path

import pytest

from gateway.config import ConfigError, load
from gateway.config.sources import endpoints
from gateway.wiring import build_logs, build_pipeline, build_source, load_decoder
from ops.sources.__main__ import TARGET, document, run
from ops.sources.cases import CASES, Case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.publisher)
def test_what_a_publisher_sends_is_read_as_expected(case: Case) -> None:
    events, rejections, lost = run(case)

    assert [] == rejections
    assert list(case.events) == events
    assert case.lost == lost


def test_the_tables_are_up_to_date() -> None:
    """If this fails, write them again: make sources."""
    assert document() == TARGET.read_text()


def blocks() -> dict[str, str]:
    """The examples, by the name of the file that their first line names; the first one is a configuration."""
    found = {}
    for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", TARGET.read_text(), re.MULTILINE):
        for part in re.split(r"^(?=# [\w.]+$)", textwrap.dedent(block).strip(), flags=re.MULTILINE):
            name = re.match(r"# ([\w.]+)\n", part)
            if part:
                found[name[1] if name else "first.toml"] = part
    return found


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, entry_points: str) -> None:
    """Install a package with a decoder, in this process."""
    (folder / "my_decoder.py").write_text(code)
    metadata = folder / "my_decoder-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-decoder\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[gateway.decoders]\n{entry_points}\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "my_decoder", raising=False)


def test_the_first_example_is_a_valid_configuration(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(blocks()["first.toml"])

    assert ["bitcoin", ""] == [one.source.preset for one in endpoints(load(path, {}, {})) if one.source is not None]


def test_the_decoder_of_the_document_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = blocks()
    [(name, value)] = re.findall(r'^(\w+) = "(.*)"$', examples["pyproject.toml"], re.MULTILINE)
    install(tmp_path, monkeypatch, examples["my_decoder.py"], f"{name} = {value}")
    path = tmp_path / "gateway.toml"
    path.write_text(examples["gateway.toml"])
    config = load(path, {}, {})
    [settings] = config.bus.sources
    pipeline = build_pipeline(config, build_logs(config))

    tick = pipeline.receive_from(build_source(config, settings), [[struct.pack(">IfIf", 1, 0.5, 2, 1.5)]], now_ns=1)

    assert ["sensors.1", "sensors.2"] == [event.channel for event in tick.events]
    assert tick.events[1].fields.endswith(b'"data":{"value": 1.5}')


def test_a_decoder_that_is_not_installed_is_named_with_those_that_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="'nobody' is not a decoder; no installed package has"):
        load_decoder("nobody")
    install(tmp_path, monkeypatch, "raise OSError('broken')", "broken = my_decoder:decode")
    with pytest.raises(ConfigError, match="expected one of broken"):
        load_decoder("nobody")
    with pytest.raises(ConfigError, match="cannot be imported: OSError"):
        load_decoder("broken")
