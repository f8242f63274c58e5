"""What is suggested for messages of unknown publishers has been tried, and the best comes first."""

from __future__ import annotations

import tomllib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.sources import read_sources
from gateway.core.protocol.envelope import Envelope
from gateway.core.sources.payload import is_json
from gateway.core.sources.presets import PRESETS
from gateway.core.sources.suggest import Frames, as_toml, suggest
from ops.sources.cases import CASES, Case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.publisher)
def test_every_known_publisher_gets_a_suggestion(case: Case) -> None:
    found = suggest(case.messages[0])

    assert found
    if case.settings is None:
        assert {} == found[0].settings
    elif "preset" in case.settings:
        assert case.settings == found[0].settings
        assert case.events[0][0] == found[0].channel


def test_every_preset_is_suggested_for_some_publisher() -> None:
    suggested = {found.settings.get("preset") for case in CASES for found in suggest(case.messages[0])}

    assert PRESETS.keys() == suggested - {None}


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([b"t", b"1"], {}),
        ([b"t", b"1", Envelope(1, 1, 1).pack()], {}),
        ([b"a/b", b"{}"], {"separator": "/"}),
        ([b"", b"{}"], {"empty_topic": "events"}),
        ([b"t", b"hello"], {"payload": "text"}),
        ([b"t", b"\x81\xa1a\x01"], {"payload": "msgpack"}),
        ([b"t", b"\xff\xd8\xff"], {"payload": "raw"}),
        ([b"t", b"[NaN]"], {"nan": "null"}),
        ([b"t", b"{}\n{}"], {"documents": "several"}),
        ([b'{"a":1}'], {"framing": "single", "topic": "events"}),
        ([b't {"a":1}'], {"framing": "single", "split": "json"}),
        ([b"t\thello"], {"framing": "single", "split": "\t", "payload": "text"}),
        ([b"t", bytes(7) + b"\x05", b"{}"], {"frames": ["topic", "sequence", "payload"], "sequence": "be64"}),
        ([b"t", b"{}", b"\x05\0\0\0"], {"frames": ["topic", "payload", "sequence"], "sequence": "le32"}),
        ([b"t", b"\xff" * 16, b"\x81\xa1a\x01"], {"frames": ["topic", "-", "payload"], "payload": "msgpack"}),
    ],
)
def test_the_first_suggestion_fits(frames: Frames, expected: dict[str, object]) -> None:
    assert expected == suggest(frames)[0].settings


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"a.b", b"a/b", b"{}", b"1", bytes(8)]), max_size=8))
def test_a_suggestion_is_a_valid_table_whose_data_is_json(frames: list[bytes]) -> None:
    for found in suggest(frames):
        assert is_json(found.data)
        table = tomllib.loads(as_toml({"endpoint": "tcp://127.0.0.1:5555", **found.settings}))["bus"]["sources"]
        [source], problems = read_sources(table, origin="", text=False)
        assert [] == problems
        assert {"endpoint": "tcp://127.0.0.1:5555"}.items() <= msgspec.to_builtins(source).items()
