"""Events and gaps as lines of text for people, and of JSON for programs."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from neurograph_client import Event, Gap, GapReason
from neurograph_client.terminal.formatting import GAP_REASONS, item_as_json, item_as_text


TIME = "2026-11-23T11:40:53.631940+00:00"


def event(data: Any, *, event_type: str | None = "some.type", timestamp: str = TIME) -> Event[Any]:
    message = {
        "type": "event",
        "channel": "notes",
        "offset": 7,
        "event_type": event_type,
        "timestamp": timestamp,
        "data": data,
    }
    return Event("notes", "e1", 7, event_type, timestamp, data, message)


def data_text(data: Any) -> str:
    """Return data as they are printed for people."""
    line = item_as_text(event(data, event_type=None), colour=False)
    return line.removesuffix("\n").split("  ", maxsplit=2)[2].split("#7  ")[1]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"a": 1, "b": "x", "c": None, "d": True}, "a=1 b=x d=true"),
        ({"said": "two words", "none": "", "quoted": 'a"b'}, r'said="two words" none="" quoted="a\"b"'),
        ({"of": {"a": [1, 2]}}, 'of={"a":[1,2]}'),
        ("just  text", "just  text"),
        ([1, 2], "[1,2]"),
        (None, "null"),
        ({}, "{}"),
        ({"a": "\x1b[31m"}, r"a=\x1b[31m"),
        ({"a": "\u202e"}, r"a=\u202e"),
    ],
)
def test_an_object_is_printed_as_names_and_values(data: Any, text: str) -> None:
    assert text == data_text(data)


def test_an_object_of_very_many_members_is_shortened() -> None:
    text = data_text({f"k{n}": n for n in range(1000)})

    assert text.endswith("k39=39 … (960 more)")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(data=json_values, event_type=st.none() | st.text(), timestamp=st.text())
def test_an_event_is_printed_as_one_line_without_control_characters(
    data: Any, event_type: str | None, timestamp: str
) -> None:
    given = event(data, event_type=event_type, timestamp=timestamp)
    for line in (item_as_json(given), item_as_text(given, colour=False)):
        assert line.endswith("\n")
        assert line.removesuffix("\n").isprintable()
    assert {**given.message, "epoch": "e1"} == json.loads(item_as_json(given))


@pytest.mark.parametrize(
    ("gap", "text"),
    [
        (Gap("notes", "e", 4, 15, 12, "evicted"), "12 events #4 to #15 missing: no longer in"),
        (Gap("notes", "e", 4, 4, 1, "bus_loss"), "1 event #4 to #4 missing: lost on the bus"),
        (Gap("notes", "e", None, 9, None, "epoch"), "events up to #9 missing: the channel's"),
        (Gap("notes", "e", None, None, None, "epoch"), "gap: events missing: the channel's"),
    ],
)
def test_a_gap_says_what_is_missing_and_why(gap: Gap, text: str) -> None:
    assert text in item_as_text(gap, colour=False)


def test_the_name_of_a_channel_is_shown_without_escapes() -> None:
    gap = Gap("kv%40host.%1B%C3%A4", "e1", None, 7, None, "epoch")

    assert "  kv@host.\\x1bä  " in item_as_text(gap, colour=False)


def test_every_reason_of_a_gap_has_a_text() -> None:
    assert set(get_args(GapReason)) == set(GAP_REASONS)


def test_errors_are_highlighted() -> None:
    red = "\x1b[31mlog.error"

    assert red in item_as_text(event({}, event_type="log.error"), colour=True)
    assert red not in item_as_text(event({}, event_type="log.info"), colour=True)


def test_bytes_are_base64_in_json_and_counted_in_text() -> None:
    event = Event("camera", "e", 1, None, "2026-11-28T12:00:00Z", b"\xff\xd8\xff", {"data": b"\xff\xd8\xff"})

    assert '"/9j/"' in item_as_json(event)
    assert "3 bytes" in item_as_text(event, colour=False)
