"""Filters, rates and current values: each view sees what it asked for, and is told of the rest."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.log.log import Retention
from gateway.core.protocol.events import Event
from tests.support.core import SECOND, Core, Peer, make_hub


def publish(hub: Core, *values: Any, host: str = "a", at: float = 0.0) -> None:
    """Bring events in one tick at a time in seconds."""
    payloads = [
        b'{"event_type":"x","data":{"host":"%b","n":%d}}' % (host.encode(), n) for n in values
    ]
    hub.tick([[b"robots", payload] for payload in payloads], now_ns=round(at * SECOND))


def flush(hub: Core, at: float) -> None:
    hub.fanout.flush(now_ns=round(at * SECOND))


def numbers(messages: list[dict[str, Any]]) -> list[int]:
    return [one["data"]["n"] for one in messages if one["type"] == "event"]


def conflated(messages: list[dict[str, Any]]) -> list[tuple[int, int, int]]:
    return [(m["from"], m["to"], m["count"]) for m in messages if m.get("reason") == "conflated"]


def follow(hub: Core, name: str = "p", **options: Any) -> Peer:
    peer = Peer(hub, name)
    peer.connect()
    peer.say(type="subscribe", channels=["robots"], **options)
    peer.take()
    return peer


def test_a_filter_lets_through_what_meets_it() -> None:
    hub = make_hub()
    peer = follow(hub, filter="data.n > 2")
    publish(hub, 1, 2, 3, 4)

    assert numbers(peer.take()) == [3, 4]


def test_a_filter_holds_for_history_and_for_what_was_owed_to_a_lagging_client() -> None:
    hub = make_hub()
    publish(hub, 1, 2, 3, 4)
    peer = Peer(hub, "p")
    peer.connect()
    history = peer.say(type="subscribe", channels=["robots"], filter="data.n % 2 == 0", last=4)
    assert history[0]["code"] == "invalid_filter", "there is no arithmetic"
    history = peer.say(type="subscribe", channels=["robots"], filter="data.n in [2, 4, 6]", last=4)
    peer.writing_paused = True
    publish(hub, 5, 6)
    publish(hub, 7)
    peer.read_on()

    assert numbers(history) == [2, 4]
    assert numbers(peer.take())[-1:] == [6]


def test_who_wanted_not_even_the_first_event_learns_its_epoch() -> None:
    """What follows is numbered in it, and the position must be told with it."""
    hub = make_hub(epoch="own")
    peer = follow(hub, filter="data.n > 1")
    publish(hub, 1, 2)
    first, second = peer.take()

    assert (first["type"], first["reason"], first["epoch"]) == ("gap", "filtered", "own")
    assert (second["offset"], "epoch" in second) == (2, False)


def test_a_filter_that_cannot_decide_leaves_out_and_is_counted() -> None:
    hub = make_hub()
    peer = follow(hub, filter="data.nope == 1")
    publish(hub, 1, 2)

    assert numbers(peer.take()) == []
    assert hub.fanout.take_tally().filter_errors == 2


def test_each_event_is_judged_once_by_each_condition_however_many_follow() -> None:
    hub = make_hub()
    views = ["data.nope == 1"] * 5 + ["data.nope == 2"]
    for number, text in enumerate(views):
        peer = Peer(hub, f"p{number}")
        peer.connect("metrics" if number % 2 else "logs")
        peer.say(type="subscribe", channels=["robots"], filter=text)
    publish(hub, 1)

    assert len(list(hub.fanout.cohorts)) == 3
    assert hub.fanout.take_tally().filter_errors == 2


def test_a_channel_that_is_named_itself_is_seen_as_it_was_asked_for() -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    peer.connect("*")
    peer.say(type="subscribe", channels=["robots"], filter="data.n == 2")
    peer.take()
    publish(hub, 1, 2)

    assert numbers(peer.take()) == [2]


def test_of_several_wildcards_any_lets_pass() -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    peer.connect()
    peer.say(type="subscribe", channels=["*"], filter="data.n == 1")
    peer.say(type="subscribe", channels=[">"], filter="data.n == 3")
    peer.take()
    publish(hub, 1, 2, 3)

    assert numbers(peer.take()) == [1, 3]


def test_with_a_rate_the_first_comes_at_once_and_then_the_newest() -> None:
    hub = make_hub()
    peer = follow(hub, rate=2)
    for n in range(10):
        publish(hub, n, at=1 + n / 10)
    assert numbers(peer.take()) == [0, 5], "at 1.0 and at 1.5 s"
    assert hub.fanout.due_ns == 2 * SECOND
    flush(hub, 2.0)

    assert numbers(peer.take()) == [9]
    assert hub.fanout.due_ns is None


def test_what_newer_events_stand_for_is_told_and_counted() -> None:
    hub = make_hub()
    peer = follow(hub, rate=1)
    publish(hub, 1, at=1)
    publish(hub, 2, 3, 4, at=1.5)
    peer.take()
    flush(hub, 2.0)
    messages = peer.take()

    assert (conflated(messages), numbers(messages)) == ([(2, 4, 2)], [4])
    assert hub.fanout.take_tally().conflated == 2


def test_with_a_key_each_subject_has_its_newest() -> None:
    hub = keyed()
    peer = follow(hub, rate=1)
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


def test_the_current_value_is_there_however_old_it_is() -> None:
    hub = keyed(events_max=3)
    publish(hub, 1, host="quiet")
    publish(hub, *range(10, 20), host="loud")
    peer = Peer(hub, "p")
    peer.connect()
    said = peer.say(type="subscribe", channels=["robots"], last=1)
    publish(hub, 20, host="loud")

    assert numbers(said) == [1, 19]
    assert said[0]["positions"]["robots"]["offset"] == 0
    assert [gap["reason"] for gap in said if gap["type"] == "gap"] == ["conflated"]
    assert numbers(peer.take())[-1] == 20


def test_current_values_are_bounded_and_the_longest_unchanged_goes() -> None:
    hub = keyed(keys_max=3)
    for n, host in enumerate("abcda"):
        publish(hub, n, host=host)
    log = hub.logs.by_name["robots"]

    assert [entry.key for entry in log.current(log.start)] == ['"c"', '"d"', '"a"']
    assert log.forgotten == 2


def test_who_joins_a_view_that_is_held_back_gets_each_event_once() -> None:
    hub = make_hub()
    first = follow(hub, "first", rate=1)
    publish(hub, 1, at=1)
    publish(hub, 2, at=1.2)
    second = follow(hub, "second", rate=1)
    publish(hub, 3, at=1.4)
    flush(hub, 2.0)
    publish(hub, 4, at=2.1)
    flush(hub, 3.0)

    assert numbers(first.take()) == [1, 3, 4]
    assert numbers(second.take()) == [3, 4]


def test_a_quiet_channels_last_event_is_not_lost_with_the_connection() -> None:
    """It was held back when the client was last known to listen."""
    hub = make_hub()
    peer = follow(hub, rate=1)
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
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.booleans(), st.booleans()),
        max_size=60,
    ),
    st.sampled_from([0.5, 1.0, 4.0]),
)
def test_conflation_accounts_for_every_event(
    steps: list[tuple[str, int, bool, bool]], rate: float
) -> None:
    """Whatever comes when: delivered and replaced add up, and the newest of each key comes last."""
    hub = keyed()
    peer = follow(hub, rate=rate)
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
    told = [gap["count"] or 0 for gap in messages if gap.get("reason") == "conflated"]
    assert len(delivered) + sum(told) == n


def test_an_event_without_the_key_is_a_subject_of_its_own() -> None:
    hub = keyed()
    hub.logs.admit("robots")
    hub.logs.append([Event("robots", b'"data":1', 0), Event("robots", b'"data":2', 0)])
    publish(hub, 3, host="a")
    log = hub.logs.by_name["robots"]

    assert [entry.at.offset for entry in log.current(log.start)] == [2, 3]


def epochs_named(messages: list[dict[str, Any]]) -> list[str]:
    """What names an epoch, and events, in order: ``event`` stands for one whose epoch was named."""
    found, known = [], False
    for message in messages:
        if message["type"] in {"event", "gap"}:
            known = known or "epoch" in message
            found.append(message["type"] if known else f"{message['type']} without an epoch")
    return found


def test_a_lagging_reader_with_a_rate_learns_the_epoch_of_a_channel_that_opened_meanwhile() -> None:
    """No position was named for it: the wildcard was subscribed to before the channel was open."""
    hub = make_hub(epoch="own")
    peer = Peer(hub, "p")
    peer.connect()
    peer.say(type="subscribe", channels=["*"], rate=1)
    peer.take()
    peer.writing_paused = True
    publish(hub, 1, 2, 3, at=1)
    peer.read_on()

    assert epochs_named(peer.take()) == ["gap", "event", "gap"]


def test_a_live_reader_with_a_rate_learns_the_epoch_of_a_channel_that_opens() -> None:
    hub = make_hub(epoch="own")
    peer = Peer(hub, "p")
    peer.connect()
    peer.say(type="subscribe", channels=["*"], rate=1)
    peer.take()
    publish(hub, 1, 2, 3, at=1)
    publish(hub, 4, 5, at=1.1)
    flush(hub, 2.0)

    assert epochs_named(peer.take()) == ["gap", "event", "gap", "event", "gap"]


def test_a_rate_and_a_filter_that_let_nothing_pass_yet_still_name_the_epoch() -> None:
    hub = make_hub(epoch="own")
    peer = Peer(hub, "p")
    peer.connect()
    peer.say(type="subscribe", channels=["*"], rate=1, filter="data.n > 3")
    peer.take()
    for paused in (False, True):
        peer.writing_paused = paused
        publish(hub, 1, 2, at=1)
    peer.read_on()
    publish(hub, 4, at=3)

    assert epochs_named(peer.take()) == ["gap", "event"]


def test_what_a_rate_held_back_is_conflated_also_where_the_log_has_moved_on() -> None:
    hub = make_hub(retentions={"robots": Retention(events_max=2)})
    peer = follow(hub, rate=1)
    publish(hub, 0, at=1)
    publish(hub, *range(1, 9), at=1.1)
    flush(hub, 2.0)
    messages = peer.take()

    assert numbers(messages) == [0, 8]
    assert [(m["from"], m["to"]) for m in messages if m["type"] == "gap"] == [(2, 9)]
