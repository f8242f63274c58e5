"""What many subscriptions cost: each one the same, however many there are."""

from __future__ import annotations

from functools import partial

import pytest
from neurograph_client.batches import batches
from neurograph_client.feed import Feed, Options
from neurograph_client.feeds import Feeds
from neurograph_client.routes import Routes

from tests.support.counting import calls


def feed(*patterns: str) -> Feed:
    return Feed(patterns, Options(last=1), limit=10, on_room=lambda: None)


def many(count: int) -> list[Feed]:
    return [feed(f"panel.n{number}") for number in range(count)]


def confirm(feeds: list[Feed]) -> Routes:
    """Take the gateway's answer that confirms them all."""
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


def test_leaving_twice_as_many_subscriptions_takes_twice_as_many_calls() -> None:
    def leave(feeds: list[Feed], routes: Routes) -> None:
        for one in feeds:
            routes.remove(one)

    few, more = (calls(partial(leave, feeds, confirm(feeds))) for feeds in (many(100), many(200)))

    assert more <= 2.2 * few


def test_putting_twice_as_many_subscriptions_in_messages_takes_twice_as_many_calls() -> None:
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
def test_what_was_left_gets_nothing_more(patterns: tuple[str, ...]) -> None:
    feeds = Feeds()
    one = feed(*patterns)
    feeds.add(one)
    feeds.remove(one)
    feeds.remove(one)

    assert () == (*feeds, *feeds.wanting("a"), *feeds.wanting("a.b"), *feeds.naming("a.*"))


def test_channels_that_begin_after_everybody_left_are_forgotten() -> None:
    """An answer may come when what it confirms was left already; the positions go no further."""
    routes = Routes()
    routes.subscribed({"positions": {"a": {"epoch": "e", "offset": 7}}, "recovered": {}})
    routes.unsubscribed()

    assert {} == routes.since(lambda _: True, bytes_max=1000)
