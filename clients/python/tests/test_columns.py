"""The columns from which a DataFrame of events is made."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from neurograph_client import Event, Gap, connect
from neurograph_client.columns import OWN, Columns, path

from tests.support.gateway import Gateway
from tests.support.publisher import Publisher


TIME = "2026-01-01T00:00:00.000001Z"


def event(data: Any, offset: int = 1) -> Event[Any]:
    return Event("robots.r2", "e", offset, "moved", TIME, data, {})


def columns(*data: Any, **options: Any) -> dict[str, list[Any]]:
    """Return the columns of the events' data, without those that every event has."""
    made = Columns((event(one) for one in data), **options)
    return {name: list(column.all()) for name, column in made._columns() if name not in OWN}


def test_members_become_columns_with_the_names_that_filters_use() -> None:
    assert {"data.x": [1.5], "data.pose.y": [2]} == columns({"x": 1.5, "pose": {"y": 2}})


def test_arrays_empty_objects_and_plain_data_are_not_flattened() -> None:
    assert {"data": [[1], "b", None], "data.a": [None, None, [{"b": 1}]]} == columns([1], "b", {"a": [{"b": 1}]})
    assert {"data": [{}]} == columns({})


def test_a_row_has_no_value_for_a_member_that_its_event_lacks() -> None:
    assert {"data.x": [1, None, 3], "data.y": [None, 2, None]} == columns({"x": 1}, {"y": 2}, {"x": 3})


def test_a_member_may_be_an_object_in_one_event_and_a_value_in_another() -> None:
    assert {"data.a": [None, 2], "data.a.b": [1, None]} == columns({"a": {"b": 1}}, {"a": 2})


def test_a_member_that_is_always_null_keeps_its_column() -> None:
    assert {"data.x": [None, None]} == columns({"x": None}, {"x": None})


def test_different_members_never_share_a_column() -> None:
    assert {"data.a.b": [1], 'data["a.b"]': [2], 'data[""]': [3]} == columns({"a": {"b": 1}, "a.b": 2, "": 3})
    assert 'data["["]' == path("data", "[")


def test_without_flattening_all_data_is_in_one_column() -> None:
    assert {"data": [{"x": 1}]} == columns({"x": 1}, flatten=False)


def test_too_many_different_members_are_an_error_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"more than 3 different members, data\.d among them: flatten=False"):
        columns({"a": 1, "b": 2, "c": 3}, {"d": 4}, columns_max=3)


def test_columns_that_appear_later_are_as_long_as_the_others() -> None:
    data: list[Any] = [{"x": float(n)} for n in range(70_000)]
    found = columns(*data, {"x": 2**63, "late": 1}, {"late": None})

    assert [*map(float, range(70_000)), 2**63, None] == found["data.x"]
    assert [None] * 70_000 + [1, None] == found["data.late"]


def test_gaps_do_not_become_rows() -> None:
    gap = Gap("robots.r2", "e", 2, 4, 3, "evicted")
    made = Columns([event(1), gap, event(2, 5)])

    assert (2, [gap], 3) == (len(made), made.gaps, made.missing)


async def test_a_client_collects_what_the_gateway_holds(gateway: Gateway, bus: Publisher, channel: str) -> None:
    bus.send_numbered(channel, range(1, 2001))
    await gateway.holds(channel, 1000)

    def collect() -> tuple[int, list[int]]:
        with connect(gateway.url, buffer=100) as client:
            few = client.columns(channel, last=10, filter="data.n > 1995")
            found = {name: list(column.all()) for name, column in few._columns()}
            return len(client.columns(channel, last=5000)), found["data.n"]

    assert (1000, [1996, 1997, 1998, 1999, 2000]) == await asyncio.to_thread(collect)
