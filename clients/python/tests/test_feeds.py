"""Routing events to subscriptions: each subscription costs the same, however many there are; positions by source."""

from __future__ import annotations

from functools import partial

import pytest
from neurograph_client.batches import batches
from neurograph_client.feed import Feed, Options
from neurograph_client.feeds import Feeds
from neurograph_client.items import Gap, Position
from neurograph_client.link import has_reached
from neurograph_client.routes import Routes

from tests.support.counting import calls


def feed(*patterns: str) -> Feed:
    return Feed(patterns, Options(last=1), limit=10, on_room=lambda: None)


def many(count: int) -> list[Feed]:
    return [feed(f"panel.n{number}") for number in range(count)]


def confirm(feeds: list[Feed]) -> Routes:
    """Handle an answer of the gateway that confirms all of them."""
    routes = Routes()
    answer = {"positions": {one.patterns[0]: {"epoch": "e", "offset": 7} for one in feeds}, "recovered": {}}
    routes.subscribed(answer)
    for one in feeds:
        routes.add(one)
    routes.subscribed(answer, feeds)
    return routes


def test_confirming_twice_as_many_subscriptions_takes_twice_as_many_calls() -> None:
    few, more = (calls(partial(confirm, many(count))) for count in (100, 200))

    assert more <= 2.2 * few


def test_ending_twice_as_many_subscriptions_takes_twice_as_many_calls() -> None:
    def remove_all(feeds: list[Feed], routes: Routes) -> None:
        for one in feeds:
            routes.remove(one)

    few, more = (calls(partial(remove_all, feeds, confirm(feeds))) for feeds in (many(100), many(200)))

    assert more <= 2.2 * few


def test_requesting_twice_as_many_subscriptions_takes_twice_as_many_calls() -> None:
    few, more = (calls(partial(batches, many(count), bytes_max=60_000)) for count in (100, 200))

    assert more <= 2.2 * few


def test_each_confirmed_subscription_begins_where_the_gateway_says() -> None:
    feeds = many(3)
    confirm(feeds)

    assert [("e", 7)] * 3 == [(at.epoch, at.offset) for one in feeds for at in one.starts.values()]


def test_a_channel_goes_to_those_that_name_it_and_those_whose_pattern_matches() -> None:
    feeds = Feeds()
    named, wild, other = feed("a.b"), feed("a.*", "c"), feed("a.c")
    for one in (named, wild, other):
        feeds.add(one)

    assert (named, wild) == feeds.wanting("a.b")
    assert (wild,) == feeds.naming("a.*")
    assert (wild,) == feeds.wanting("c")


@pytest.mark.parametrize("patterns", [("a",), ("a.*",), ("a", "a", "a.*")])
def test_an_ended_subscription_gets_no_channel(patterns: tuple[str, ...]) -> None:
    feeds = Feeds()
    one = feed(*patterns)
    feeds.add(one)
    feeds.remove(one)
    feeds.remove(one)

    assert () == (*feeds, *feeds.wanting("a"), *feeds.wanting("a.b"), *feeds.naming("a.*"))


def test_channels_confirmed_after_all_subscriptions_ended_are_forgotten() -> None:
    """An answer may arrive after the subscriptions that it confirms have ended; its positions are not resumed."""
    routes = Routes()
    routes.subscribed({"positions": {"a": {"epoch": "e", "offset": 7}}, "recovered": {}})
    routes.unsubscribed()

    assert {} == routes.since(lambda _: True, bytes_max=1000)


def event(offset: int, epoch: str | None = None) -> dict[str, object]:
    message = {"type": "event", "channel": "a", "offset": offset, "timestamp": "", "data": 1}
    return message if epoch is None else {**message, "epoch": epoch}


def end(epoch: str, count: int | None = None) -> dict[str, object]:
    gap = {"type": "gap", "channel": "a", "epoch": epoch, "from": None, "to": None}
    return {**gap, "count": count, "reason": "epoch"}


def follow(place: dict[str, object]) -> tuple[Routes, Feed]:
    routes, one = Routes(), feed("a")
    routes.add(one)
    routes.subscribed({"positions": {"a": place}, "recovered": {}}, [one])
    return routes, one


def since(routes: Routes) -> object:
    return routes.since(lambda _: True, bytes_max=1000)["a"]


def test_a_channel_resumes_after_the_position_in_each_of_its_sources() -> None:
    routes, _ = follow({"epoch": "x", "offset": 5, "others": {"y": 2}})
    for message in (event(6, "x"), event(1, "z"), event(3, "y")):
        routes.event(message)

    assert {"epoch": "y", "offset": 3, "others": {"x": 6, "z": 1}} == since(routes)


def test_an_event_without_an_epoch_means_that_no_other_source_is_live() -> None:
    routes, _ = follow({"epoch": "x", "offset": 5, "others": {"y": 2}})
    routes.event(event(6, "x"))
    routes.event(event(7))

    assert {"epoch": "x", "offset": 7} == since(routes)


def test_the_end_of_a_source_is_reported_once_unless_nothing_is_missing() -> None:
    routes, one = follow({"epoch": "x", "offset": 5, "others": {"y": 2, "z": 1}})
    for message in (end("y"), end("y"), end("z", count=0)):
        routes.gap(message)

    assert [("y", None)] == [(gap.epoch, gap.to) for gap in one.take_waiting() if isinstance(gap, Gap)]
    assert {"epoch": "x", "offset": 5} == since(routes)


def test_a_source_that_continued_and_ended_again_is_reported_again() -> None:
    routes, one = follow({"epoch": "x", "offset": 5, "others": {"y": 2}})
    for take, message in ((routes.gap, end("y")), (routes.event, event(3, "y")), (routes.gap, end("y"))):
        take(message)

    assert ["y", "y", "y"] == [item.epoch for item in one.take_waiting()]


def test_a_position_is_reached_in_each_of_its_sources() -> None:
    place = Position("x", 5, {"y": 2})

    assert has_reached({"a": Position("y", 2, {"x": 6})}, {"a": place})
    assert not has_reached({"a": Position("y", 1, {"x": 6})}, {"a": place})
    assert not has_reached({"a": Position("x", 6)}, {"a": place})


def test_positions_of_several_sources_are_text_and_json() -> None:
    place = Position("x", 5, {"y": 2})

    assert ("x:5:y:2", place) == (str(place), Position(**place.as_json()))
    assert {"epoch": "x", "offset": 5} == Position("x", 5).as_json()
