"""Filters, rates and current values: each view gets what it selects, and gaps for the rest."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.log.retention import Retention
from gateway.core.protocol.events import Event
from tests.support.core import SECOND, Core, Peer, make_hub


def publish(hub: Core, *values: Any, host: str = "a", at: float = 0.0) -> None:
    """Publish events in one tick, at a time in seconds."""
    payloads = [b'{"event_type":"x","data":{"host":"%b","n":%d}}' % (host.encode(), n) for n in values]
    hub.tick([[b"robots", payload] for payload in payloads], now_ns=round(at * SECOND))


def flush(hub: Core, at: float) -> None:
    hub.fanout.flush(now_ns=round(at * SECOND))


def numbers(messages: list[dict[str, Any]]) -> list[int]:
    return [one["data"]["n"] for one in messages if one["type"] == "event"]


def conflated(messages: list[dict[str, Any]]) -> list[tuple[int, int, int]]:
    return [(m["from"], m["to"], m["count"]) for m in messages if m.get("reason") == "conflated"]


def subscribed_peer(hub: Core, name: str = "p", **options: Any) -> Peer:
    peer = Peer(hub, name)
    peer.connect()
    peer.send(type="subscribe", channels=["robots"], **options)
    peer.take()
    return peer


def test_a_filter_passes_the_events_that_match() -> None:
    hub = make_hub()
    peer = subscribed_peer(hub, filter="data.n > 2")
    publish(hub, 1, 2, 3, 4)

    assert numbers(peer.take()) == [3, 4]


def test_a_filter_applies_to_history_and_to_a_lagging_client() -> None:
    hub = make_hub()
    publish(hub, 1, 2, 3, 4)
    peer = Peer(hub, "p")
    peer.connect()
    history = peer.send(type="subscribe", channels=["robots"], filter="data.n % 2 == 0", last=4)
    assert history[0]["code"] == "invalid_filter", "there is no arithmetic"
    history = peer.send(type="subscribe", channels=["robots"], filter="data.n in [2, 4, 6]", last=4)
    peer.writing_paused = True
    publish(hub, 5, 6)
    publish(hub, 7)
    peer.read_on()

    assert numbers(history) == [2, 4]
    assert numbers(peer.take())[-1:] == [6]


def test_a_reader_whose_filter_rejects_the_first_event_learns_its_epoch() -> None:
    """Later events are numbered in it, and a position has it."""
    hub = make_hub(epoch="own")
    peer = subscribed_peer(hub, filter="data.n > 1")
    publish(hub, 1, 2)
    first, second = peer.take()

    assert (first["type"], first["reason"], first["epoch"]) == ("gap", "filtered", "own")
    assert (second["offset"], "epoch" in second) == (2, False)


def test_a_filter_that_fails_does_not_match_and_is_counted() -> None:
    hub = make_hub()
    peer = subscribed_peer(hub, filter="data.nope == 1")
    publish(hub, 1, 2)

    assert numbers(peer.take()) == []
    assert hub.fanout.take_tally().filter_errors == 2


def test_each_filter_evaluates_each_event_once_for_all_readers() -> None:
    hub = make_hub()
    views = ["data.nope == 1"] * 5 + ["data.nope == 2"]
    for number, text in enumerate(views):
        peer = Peer(hub, f"p{number}")
        peer.connect("metrics" if number % 2 else "logs")
        peer.send(type="subscribe", channels=["robots"], filter=text)
    publish(hub, 1)

    assert len(list(hub.fanout.cohorts)) == 3
    assert hub.fanout.take_tally().filter_errors == 2


def test_a_subscription_to_a_channel_itself_overrides_wildcards() -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    peer.connect("*")
    peer.send(type="subscribe", channels=["robots"], filter="data.n == 2")
    peer.take()
    publish(hub, 1, 2)

    assert numbers(peer.take()) == [2]


def test_an_event_passes_if_the_filter_of_any_wildcard_matches() -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    peer.connect()
    peer.send(type="subscribe", channels=["*"], filter="data.n == 1")
    peer.send(type="subscribe", channels=[">"], filter="data.n == 3")
    peer.take()
    publish(hub, 1, 2, 3)

    assert numbers(peer.take()) == [1, 3]


def test_with_a_rate_the_first_event_comes_at_once_and_later_the_newest() -> None:
    hub = make_hub()
    peer = subscribed_peer(hub, rate=2)
    for n in range(10):
        publish(hub, n, at=1 + n / 10)
    assert numbers(peer.take()) == [0, 5], "at 1.0 and at 1.5 s"
    assert hub.fanout.due_ns == 2 * SECOND
    flush(hub, 2.0)

    assert numbers(peer.take()) == [9]
    assert hub.fanout.due_ns is None


def test_conflated_events_are_reported_with_their_count() -> None:
    hub = make_hub()
    peer = subscribed_peer(hub, rate=1)
    publish(hub, 1, at=1)
    publish(hub, 2, 3, 4, at=1.5)
    peer.take()
    flush(hub, 2.0)
    messages = peer.take()

    assert (conflated(messages), numbers(messages)) == ([(2, 4, 2)], [4])
    assert hub.fanout.take_tally().conflated == 2


def test_with_a_key_the_newest_event_of_each_key_is_delivered() -> None:
    hub = keyed()
    peer = subscribed_peer(hub, rate=1)
    publish(hub, 0, host="a", at=1)
    for n in range(1, 4):
        publish(hub, n, host="a", at=1.1)
        publish(hub, 10 * n, host="b", at=1.1)
    peer.take()
    flush(hub, 2.0)
    messages = peer.take()

    assert numbers(messages) == [3, 30]
    assert conflated(messages) == [(2, 7, 4)]


def keyed(**limits: Any) -> Core:
    return make_hub(retentions={"robots": Retention(key=("data", "host"), **limits)})


def test_the_current_value_is_delivered_after_its_eviction() -> None:
    hub = keyed(events_max=3)
    publish(hub, 1, host="quiet")
    publish(hub, *range(10, 20), host="loud")
    peer = Peer(hub, "p")
    peer.connect()
    replies = peer.send(type="subscribe", channels=["robots"], last=1)
    publish(hub, 20, host="loud")

    assert numbers(replies) == [1, 19]
    assert replies[0]["positions"]["robots"]["offset"] == 0
    assert [gap["reason"] for gap in replies if gap["type"] == "gap"] == ["conflated"]
    assert numbers(peer.take())[-1] == 20


def test_a_current_value_that_the_filter_refuses_is_not_replaced_by_an_older_one() -> None:
    """The quiet host's value is older than both of the loud one: what is between is held as well."""
    hub = keyed()
    publish(hub, 1, host="quiet")
    publish(hub, 2, 3, host="loud")
    peer = Peer(hub, "p")
    peer.connect()
    replies = peer.send(type="subscribe", channels=["robots"], last=1, filter="data.n < 3")

    assert numbers(replies) == [1]
    assert conflated(replies) == [(1, 3, 1)]


def test_current_values_are_limited_and_the_oldest_is_dropped() -> None:
    hub = keyed(keys_max=3)
    for n, host in enumerate("abcda"):
        publish(hub, n, host=host)
    log = hub.logs.by_name["robots"]

    assert [entry.key for entry in log.current(log.start)] == ['"c"', '"d"', '"a"']
    assert (log.values_dropped, hub.logs.values_dropped) == (2, 2)


def test_a_reader_of_current_values_is_warned_that_some_were_dropped() -> None:
    hub = keyed(keys_max=3)
    peer = Peer(hub, "p")
    peer.connect()
    publish(hub, 1, 2, 3, host="a")
    [before] = [one for one in peer.send(type="subscribe", channels=["robots"], last=1) if one["type"] == "subscribed"]
    for n, host in enumerate("bcde"):
        publish(hub, n, host=host)
    peer.take()
    [after] = [one for one in peer.send(type="subscribe", channels=["robots"], last=1) if one["type"] == "subscribed"]

    assert "warnings" not in before
    assert ["`robots`: 2 current values were dropped" in warning for warning in after["warnings"]] == [True]


def test_a_reader_that_joins_a_cohort_that_holds_back_gets_each_event_once() -> None:
    hub = make_hub()
    first = subscribed_peer(hub, "first", rate=1)
    publish(hub, 1, at=1)
    publish(hub, 2, at=1.2)
    second = subscribed_peer(hub, "second", rate=1)
    publish(hub, 3, at=1.4)
    flush(hub, 2.0)
    publish(hub, 4, at=2.1)
    flush(hub, 3.0)

    assert numbers(first.take()) == [1, 3, 4]
    assert numbers(second.take()) == [3, 4]


def test_a_quiet_channels_last_event_is_not_lost_with_the_connection() -> None:
    """It was held back at the last confirmation of the client."""
    hub = make_hub()
    peer = subscribed_peer(hub, rate=1)
    publish(hub, 1, at=1)
    publish(hub, 2, at=1.2)
    session = peer.session
    assert session is not None
    session.on_ping(b"p", hub.heads())
    session.on_pong(b"p")
    peer.disconnect()
    peer.take()
    peer.connect(session=session.secret)

    assert numbers(peer.take()) == [2]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.booleans(), st.booleans()), max_size=60),
    st.sampled_from([0.5, 1.0, 4.0]),
)
def test_conflation_accounts_for_every_event(steps: list[tuple[str, int, bool, bool]], rate: float) -> None:
    """At any times: delivered and conflated events add up, and the newest of each key comes last."""
    hub = keyed()
    peer = subscribed_peer(hub, rate=rate)
    newest: dict[str, int] = {}
    n, at = 0, 1.0
    for host, count, stop, go in steps:
        at += 0.2
        peer.writing_paused = stop
        publish(hub, *range(n, n + count), host=host, at=at)
        if count:
            newest[host] = n + count - 1
        n += count
        flush(hub, at)
        if go:
            peer.read_on()
    peer.read_on()
    flush(hub, at + 10)
    messages = peer.take()
    delivered = [m for m in messages if m["type"] == "event"]
    offsets = [m["offset"] for m in delivered]

    assert offsets == sorted(set(offsets)), "none twice, none out of order"
    seen = {m["data"]["host"]: m["data"]["n"] for m in delivered}
    assert seen == newest
    conflated = [gap["count"] or 0 for gap in messages if gap.get("reason") == "conflated"]
    assert len(delivered) + sum(conflated) == n


def test_events_without_the_key_have_one_current_value() -> None:
    hub = keyed()
    hub.logs.admit("robots")
    hub.logs.append([Event("robots", b'"data":1', 0), Event("robots", b'"data":2', 0)])
    publish(hub, 3, host="a")
    log = hub.logs.by_name["robots"]

    assert [entry.offset for entry in log.current(log.start)] == [2, 3]


def epochs_named(messages: list[dict[str, Any]]) -> list[str]:
    """Return the types of messages, in order; fail for an event whose epoch is not known."""
    found, known = [], False
    for message in messages:
        if message["type"] in {"event", "gap"}:
            known = known or "epoch" in message
            found.append(message["type"] if known else f"{message['type']} without an epoch")
    return found


def test_a_lagging_reader_with_a_rate_learns_the_epoch_of_a_channel_that_opened_meanwhile() -> None:
    """The client has no position of it: it subscribed to the wildcard before the channel opened."""
    hub = make_hub(epoch="own")
    peer = Peer(hub, "p")
    peer.connect()
    peer.send(type="subscribe", channels=["*"], rate=1)
    peer.take()
    peer.writing_paused = True
    publish(hub, 1, 2, 3, at=1)
    peer.read_on()

    assert epochs_named(peer.take()) == ["event", "gap"]


def test_a_live_reader_with_a_rate_learns_the_epoch_of_a_channel_that_opens() -> None:
    hub = make_hub(epoch="own")
    peer = Peer(hub, "p")
    peer.connect()
    peer.send(type="subscribe", channels=["*"], rate=1)
    peer.take()
    publish(hub, 1, 2, 3, at=1)
    publish(hub, 4, 5, at=1.1)
    flush(hub, 2.0)

    assert epochs_named(peer.take()) == ["event", "gap", "event", "gap"]


def test_a_reader_with_a_rate_and_a_filter_that_matches_nothing_learns_the_epoch() -> None:
    hub = make_hub(epoch="own")
    peer = Peer(hub, "p")
    peer.connect()
    peer.send(type="subscribe", channels=["*"], rate=1, filter="data.n > 3")
    peer.take()
    for paused in (False, True):
        peer.writing_paused = paused
        publish(hub, 1, 2, at=1)
    peer.read_on()
    publish(hub, 4, at=3)

    assert epochs_named(peer.take()) == ["gap", "event"]


def test_events_that_are_held_back_and_evicted_are_reported_as_conflated() -> None:
    hub = make_hub(retentions={"robots": Retention(events_max=2)})
    peer = subscribed_peer(hub, rate=1)
    publish(hub, 0, at=1)
    publish(hub, *range(1, 9), at=1.1)
    flush(hub, 2.0)
    messages = peer.take()

    assert numbers(messages) == [0, 8]
    assert [(m["from"], m["to"]) for m in messages if m["type"] == "gap"] == [(2, 9)]


JPEG = b'{"event_type":"frame","data_base64":"/9j/"}'


def test_bytes_come_as_a_binary_message_to_clients_that_asked_and_as_base64_to_others() -> None:
    hub = make_hub()
    asked, other = subscribed_peer(hub, "asked", binary=True), subscribed_peer(hub, "other")
    hub.tick([[b"robots", b'{"n":1}'], [b"robots", JPEG]], now_ns=SECOND)

    plain, frame = asked.take()
    assert (plain["data"], frame["bytes"], frame["offset"]) == ({"n": 1}, b"\xff\xd8\xff", 2)
    assert frame.keys() == {"type", "channel", "offset", "event_type", "timestamp", "bytes"}
    assert [one.get("data_base64") for one in other.take()] == [None, "/9j/"]


@pytest.mark.parametrize("options", [{"last": 1}, {"last": 2}, {"last": 2, "rate": 1}])
def test_bytes_of_the_history_come_as_a_binary_message(options: dict[str, Any]) -> None:
    hub = make_hub()
    hub.tick([[b"robots", b'{"n":1}'], [b"robots", JPEG]], now_ns=SECOND)
    peer = Peer(hub, "p")
    peer.connect()

    messages = peer.send(type="subscribe", channels=["robots"], binary=True, **options)

    assert [one["bytes"] for one in messages if "bytes" in one] == [b"\xff\xd8\xff"]


def test_one_channel_of_a_message_may_ask_for_bytes_and_get_them_at_its_rate() -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    peer.connect()
    peer.send(type="subscribe", channels=["a", {"channel": "robots", "binary": True, "rate": 1}])
    hub.tick([[b"robots", JPEG], [b"a", JPEG]], now_ns=SECOND)

    found = peer.take()
    assert {one["channel"] for one in found if "bytes" in one} == {"robots"}
    assert {one["channel"] for one in found if "data_base64" in one} == {"a"}


def test_history_comes_whole_and_what_follows_at_the_rate() -> None:
    hub = make_hub()
    publish(hub, 1, 2, 3, 4)
    peer = Peer(hub, "p")
    peer.connect()

    history = peer.send(type="subscribe", channels=["robots"], last=3, rate=1)
    peer.take()
    publish(hub, 5, at=1)
    publish(hub, 6, at=1.1)
    publish(hub, 7, at=1.2)
    flush(hub, 2.5)

    assert numbers(history) == [2, 3, 4]
    assert numbers(peer.take()) == [5, 7]
