"""All logs together are bounded: a silent channel makes room for another, and the largest logs are cut."""

from __future__ import annotations

import tracemalloc

import pytest

from gateway.core.log.logs import SILENT_NS, Logs
from gateway.core.log.retention import Retention
from gateway.core.log.sources import ORIGIN
from gateway.core.protocol.events import STANDARD, Event
from gateway.core.protocol.messages import Position
from tests.support.core import SECOND, Core, Peer, make_hub


CHANNELS_MAX = len(STANDARD) + 2


def publish(hub: Core, channel: str, number: int = 1, *, now_ns: int, incarnation: int | None = None) -> bool:
    """Publish an event, if its channel can open."""
    if not hub.logs.admit(channel):
        return False
    hub.logs.append([Event(channel, b'"data":{}', now_ns, 0, incarnation, number)])
    return True


def hub_with(*channels: str, now_ns: int = SECOND) -> Core:
    hub = make_hub(channels_max=CHANNELS_MAX)
    for at, channel in enumerate(channels):
        publish(hub, channel, now_ns=now_ns + at)
    return hub


def open_channels(hub: Core) -> set[str]:
    return set(hub.logs.by_name) - {*STANDARD, "$everyone"}


def wait(hub: Core, now_ns: int) -> None:
    hub.logs.evict(now_ns=now_ns)


LATER = 2 * SILENT_NS


def test_the_longest_silent_channel_makes_room() -> None:
    hub = hub_with("first", "second")
    wait(hub, LATER)

    assert publish(hub, "third", now_ns=LATER)
    assert open_channels(hub) == {"second", "third"}
    assert hub.logs.closed == 1


def test_a_channel_that_was_silent_for_a_short_time_only_is_kept() -> None:
    hub = hub_with("first", "second")
    wait(hub, SILENT_NS)

    assert not publish(hub, "third", now_ns=SILENT_NS)
    assert open_channels(hub) == {"first", "second"}


def test_a_channel_is_kept_as_long_as_its_history() -> None:
    kept = Retention(age_ns_max=3 * LATER)
    hub = make_hub(channels_max=CHANNELS_MAX, retentions={"first": kept, "second": Retention(age_ns_max=SECOND)})
    publish(hub, "first", now_ns=SECOND)
    publish(hub, "second", now_ns=SECOND)
    wait(hub, 3 * SECOND)

    assert publish(hub, "third", now_ns=3 * SECOND)
    assert open_channels(hub) == {"first", "third"}


def test_a_channel_that_a_client_subscribes_to_is_kept_also_while_it_is_disconnected() -> None:
    hub = hub_with("first", "second")
    peer = Peer(hub, "peer")
    peer.connect("first")
    peer.disconnect()
    wait(hub, LATER)

    assert publish(hub, "third", now_ns=LATER)
    assert not publish(hub, "fourth", now_ns=LATER)
    assert open_channels(hub) == {"first", "third"}


def test_a_channel_that_speaks_again_before_its_turn_is_kept() -> None:
    hub = hub_with("first", "second")
    wait(hub, LATER)
    publish(hub, "third", now_ns=LATER)
    publish(hub, "second", now_ns=LATER)

    assert not publish(hub, "fourth", now_ns=LATER)


def test_a_position_of_a_closed_channel_is_refused_also_when_it_opens_again() -> None:
    hub = hub_with("first", "second")
    peer = Peer(hub, "peer")
    peer.connect("first")
    position = Position("e1", 1)
    assert peer.session is not None
    peer.send(type="unsubscribe", channels=["first"])
    peer.disconnect()
    wait(hub, LATER)
    publish(hub, "third", now_ns=LATER)
    peer.connect("first", since={"first": position})
    assert {"first": False} in [one.get("recovered") for one in peer.take()]
    peer.send(type="unsubscribe", channels=["first"])
    wait(hub, 2 * LATER)
    publish(hub, "first", now_ns=2 * LATER)
    late = Peer(hub, "late")
    late.connect("first", since={"first": position})

    [subscribed] = [one for one in late.take() if one["type"] == "subscribed"]
    assert subscribed["recovered"] == {"first": False}
    assert subscribed["positions"]["first"]["epoch"] != "e1"


def test_a_publishers_numbers_go_on_where_its_channel_opens_again() -> None:
    hub = make_hub(channels_max=CHANNELS_MAX)
    publish(hub, "first", 5, now_ns=SECOND, incarnation=0xA)
    publish(hub, "second", now_ns=2 * SECOND)
    wait(hub, LATER)
    publish(hub, "third", now_ns=LATER)
    wait(hub, 2 * LATER)
    publish(hub, "first", 6, now_ns=2 * LATER, incarnation=0xA)
    peer = Peer(hub, "peer")
    peer.connect("first", since={"first": Position(f"{0xA:016x}", 5)})

    received = peer.take()
    assert {"first": True} in [one.get("recovered") for one in received]
    assert [6] == [one["offset"] for one in received if one["type"] == "event"]


def test_a_flood_of_new_channels_scans_the_open_ones_once_a_second() -> None:
    hub = hub_with("first", "second")
    scans = 0

    def count(log: object) -> bool:
        nonlocal scans
        scans += 1
        return False

    hub.logs._is_old = count  # type: ignore[method-assign]
    wait(hub, LATER)
    for number in range(1000):
        hub.logs.admit(f"new{number}")

    assert scans == len(hub.logs.by_name)


def test_all_logs_together_stay_below_the_limit_and_the_largest_give_way() -> None:
    logs = Logs(epoch="e1", channels_max=20, total_bytes_max=100_000, retention=Retention(events_max=10**6))
    cuts: list[int] = []
    logs.on_cut.append(cuts.append)
    for name in ("small", "large", "larger"):
        logs.admit(name)
    logs.append([Event("small", b'"data":"%b"' % (b"x" * 1000), 1) for _ in range(10)])
    before = logs.by_name["small"].bytes
    for number in range(500):
        logs.append([Event("large", b'"data":"%b"' % (b"x" * 1000), number)])
        logs.append([Event("larger", b'"data":"%b"' % (b"x" * 2000), number)])
        assert logs.bytes <= 100_000

    assert logs.bytes == sum(log.bytes for log in logs.by_name.values()) > 80_000
    assert logs.by_name["small"].bytes == before
    assert abs(logs.by_name["large"].bytes - logs.by_name["larger"].bytes) < 10_000
    assert logs.cut_bytes > 1_000_000
    assert len(cuts) < 500, "some at a time"


@pytest.mark.parametrize("size", [1, 100, 5_000])
def test_the_limit_of_all_logs_is_about_the_memory_that_they_take(size: int) -> None:
    logs = Logs(epoch="e1", channels_max=20, total_bytes_max=2_000_000, retention=Retention(events_max=10**6))
    logs.admit("robots")
    logs.admit("others")
    tracemalloc.start()
    try:
        for number in range(4_000_000 // (size + 300)):
            text = b'"data":"%b"' % (b"x" * size)
            logs.append([Event("robots", text, number), Event("others", text, number)])
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert logs.cut_bytes > 0
    assert 0.8 < taken / logs.bytes < 1.2


def test_readers_that_needed_what_was_cut_get_a_gap() -> None:
    hub = make_hub()
    hub.logs._total_bytes_max = 10_000
    peer = Peer(hub, "peer")
    peer.connect("first")
    peer.disconnect()
    hub.logs.admit("first")
    hub.logs.append([Event("first", b'"data":"%b"' % (b"x" * 1000), 1) for _ in range(20)])
    peer.take()
    peer.connect("first", since={"first": Position("e1", 0)})

    [gap] = [one for one in peer.take() if one["type"] == "gap"]
    assert (gap["from"], gap["reason"]) == (1, "evicted")


def test_what_closed_channels_held_counts_no_more() -> None:
    hub = hub_with("first", "second")
    wait(hub, LATER)
    before = hub.logs.bytes
    size = hub.logs.by_name["first"].bytes
    hub.logs.close("first")

    assert hub.logs.bytes == before - size


def keyed_event(number: int, size: int) -> Event:
    return Event("robots", b'"data":{"k":%d,"x":"%b"}' % (number, b"x" * size), 1)


def test_current_values_beyond_the_history_have_its_limit_of_bytes() -> None:
    """Else each of 1,000 keys could hold an event of the largest size for ever."""
    retention = Retention(events_max=2, bytes_max=10_000, key=("data", "k"), keys_max=1_000)
    logs = Logs(epoch="e1", channels_max=20, retention=retention)
    logs.admit("robots")
    log = logs.by_name["robots"]
    for number in range(100):
        logs.append([keyed_event(number, 1_000)])
        assert log.bytes == logs.bytes <= 2 * 10_000
    values = log.current(ORIGIN)

    assert [one.at for one in values] == list(range(101 - len(values), 101)), "the newest stay"
    assert 8 <= len(values) == 100 - log.values_dropped
    for number in range(90, 100):
        logs.append([keyed_event(number, 10)])
    assert log.bytes == sum(one.size for one in log.current(ORIGIN))


def test_current_values_count_for_the_limit_of_all_logs() -> None:
    retention = Retention(events_max=2, key=("data", "k"), keys_max=1_000)
    logs = Logs(epoch="e1", channels_max=20, total_bytes_max=50_000, retention=retention)
    logs.admit("robots")
    for number in range(200):
        logs.append([keyed_event(number, 1_000)])
        assert logs.bytes <= 50_000
    assert len(logs.by_name["robots"].current(ORIGIN)) >= 35
    logs.close("robots")

    assert logs.bytes == sum(log.bytes for log in logs.by_name.values()) == 0


def test_a_replica_holds_the_same_current_values_and_counts_their_bytes() -> None:
    retention = Retention(events_max=2, bytes_max=10_000, key=("data", "k"))
    original, replica = (Logs(epoch="e1", channels_max=20, retention=retention) for _ in range(2))
    original.admit("robots")
    for number in range(100):
        original.append([keyed_event(number, 1_000)])
    for _ in range(2):  # a second time for a log that could not be read
        replica.load_state(original.by_name["robots"].state)
    ours, theirs = original.by_name["robots"], replica.by_name["robots"]

    assert ours.current(ORIGIN) == theirs.current(ORIGIN)
    assert (ours.bytes, ours.values_dropped) == (theirs.bytes, theirs.values_dropped)
    assert replica.bytes == original.bytes
