"""Events and gaps as lines, for people and for programs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from neurograph_client import Event, Gap

from gateway.cli.lines import as_json, for_people


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


def words(data: Any) -> str:
    """What people are told of data."""
    line = for_people(event(data, event_type=None), colour=False)
    return line.removesuffix("\n").split("  ", maxsplit=2)[2].split("#7  ")[1]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"a": 1, "b": "x", "c": None, "d": True}, "a=1 b=x d=true"),
        (
            {"said": "two words", "none": "", "quoted": 'a"b'},
            r'said="two words" none="" quoted="a\"b"',
        ),
        ({"of": {"a": [1, 2]}}, 'of={"a":[1,2]}'),
        ("just  text", "just  text"),
        ([1, 2], "[1,2]"),
        (None, "null"),
        ({}, "{}"),
        ({"a": "\x1b[31m"}, r"a=\x1b[31m"),
        ({"a": "\u202e"}, r"a=\u202e"),
    ],
)
def test_data_are_told_as_names_and_values(data: Any, told: str) -> None:
    assert told == words(data)


def test_an_object_of_very_many_members_is_shortened() -> None:
    told = words({f"k{n}": n for n in range(1000)})

    assert told.endswith("k39=39 … (960 more)")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(data=json_values, event_type=st.none() | st.text(), timestamp=st.text())
def test_no_event_can_write_a_control_character_or_a_second_line(
    data: Any, event_type: str | None, timestamp: str
) -> None:
    given = event(data, event_type=event_type, timestamp=timestamp)
    for line in (as_json(given), for_people(given, colour=False)):
        assert line.endswith("\n")
        assert line.removesuffix("\n").isprintable()
    assert {**given.message, "epoch": "e1"} == json.loads(as_json(given))


@pytest.mark.parametrize(
    ("gap", "told"),
    [
        (Gap("notes", "e", 4, 15, 12, "evicted"), "12 events #4 to #15 missing: no longer held"),
        (Gap("notes", "e", 4, 4, 1, "bus_loss"), "1 event #4 to #4 missing: lost on the bus"),
        (Gap("notes", "e", None, 9, None, "epoch"), "events up to #9 missing: the channel's"),
        (Gap("notes", "e", None, None, None, "epoch"), "gap: events missing: the channel's"),
    ],
)
def test_a_gap_says_what_is_missing_and_why(gap: Gap, told: str) -> None:
    assert told in for_people(gap, colour=False)


def test_errors_stand_out() -> None:
    red = "\x1b[31mlog.error"

    assert red in for_people(event({}, event_type="log.error"), colour=True)
    assert red not in for_people(event({}, event_type="log.info"), colour=True)
