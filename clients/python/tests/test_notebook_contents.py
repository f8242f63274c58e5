"""What live widgets keep of the events, and what of it they send to pages."""

from __future__ import annotations

from typing import Any

from neurograph_client import Event, Gap
from neurograph_client.notebook.contents import (
    FIELDS_MAX,
    LINES_MAX,
    LINES_OF_FIELD_MAX,
    POINTS_MAX,
    VALUES_MAX,
    CurrentValues,
    Lines,
    Numbers,
    leaves,
)


def event(data: Any, channel: str = "robots.r2", second: int = 0) -> Event[Any]:
    return Event(channel, "e", 1, "moved", f"1970-01-01T00:00:{second:02}Z", data, {})


def test_leaves_have_the_names_that_filters_use() -> None:
    data = {"x": 1, "pose": {"y": [2]}, "a.b": {"c": 3}, "empty": {}}

    assert {"data.x": 1, "data.pose.y": [2], 'data["a.b"].c': 3, "data.empty": {}} == dict(leaves(data))
    assert [("data", 5)] == [*leaves(5)]


def test_numbers_are_kept_by_field_and_channel() -> None:
    numbers = Numbers()
    numbers.add([event({"x": 1, "name": "a", "ok": True}), event({"x": 2}, "robots.r3", 1), event([1])])

    wanted = [["data.x", "robots.r2", [(0, 1)]], ["data.x", "robots.r3", [(1000, 2)]]]
    assert wanted == numbers.changes()["series"]
    assert [] == numbers.changes()["series"]
    assert wanted == numbers.changes(all=True)["series"]


def test_only_the_chosen_fields_are_shown() -> None:
    for contents, part in ((Numbers(["data.y"]), "series"), (CurrentValues(["data.y"]), "values")):
        contents.add([event({"x": 1, "y": 2})])
        assert ["data.y"] == [one[0] if part == "series" else one[1] for one in contents.changes()[part]]


def test_numbers_are_bounded_and_what_is_omitted_is_counted() -> None:
    numbers = Numbers()
    numbers.add([event({"x": n}) for n in range(2 * POINTS_MAX)])
    numbers.add([event({f"f{n}": n for n in range(50)})])
    numbers.add([event({"x": n}, f"robots.r{n}") for n in range(50)])
    found = numbers.changes()

    lines_of_x = [points for field, _, points in found["series"] if field == "data.x"]
    assert (POINTS_MAX, LINES_OF_FIELD_MAX) == (len(lines_of_x[0]), len(lines_of_x))
    assert len({field for field, _, _ in found["series"]}) == FIELDS_MAX
    assert found["omitted"] > 0


def test_the_newest_value_of_each_field_is_shown() -> None:
    values = CurrentValues()
    values.add([event({"x": 1, "y": "a b"}), event({"x": 2}, second=1)])

    at = "1970-01-01T00:00:0{}Z"
    wanted = [["robots.r2", "data.x", "2", at.format(1)], ["robots.r2", "data.y", '"a b"', at.format(0)]]
    assert wanted == values.changes()["values"]
    values.add([event({"x": 3}, second=2)])
    assert [["robots.r2", "data.x", "3", at.format(2)]] == values.changes()["values"]
    values.add([event({f"f{n}": n for n in range(1000)})])
    assert VALUES_MAX == len(values.changes(all=True)["values"])


def test_lines_say_what_events_hold_and_what_is_missing() -> None:
    lines = Lines()
    lines.add([event({"x": 1.5, "pose": {"y": 2}}), Gap("robots.r2", "e", 2, 4, 3, "evicted"), event(b"\xff\xff")])
    first, gap, last = lines.changes()["lines"]

    assert ["event", "1970-01-01T00:00:00Z", "robots.r2", "moved", "x=1.5 pose.y=2"] == first
    assert ["gap", "gap: 3 events #2 to #4 missing: no longer in the gateway's log"] == [gap[0], gap[-1]]
    assert "2 bytes" == last[-1]
    lines.add([event(n) for n in range(1000)])
    assert [str(n) for n in range(1000 - LINES_MAX, 1000)] == [line[-1] for line in lines.changes()["lines"]]
