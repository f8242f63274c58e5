"""Heartbeats of a publisher, read from a real socket."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest
from neurograph_publisher import Publisher, PublisherError

from tests.support.waiting import DEADLINE_SECONDS, scaled

from .bus import HEARTBEAT, Bus
from .test_interruptions import interrupted_by


RARELY = 3600.0
"""An interval longer than any test: a heartbeat that arrives has another cause."""


def attendants() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "neurograph-publisher"]


@pytest.mark.usefixtures("only_woken")
def test_a_new_subscriber_gets_a_heartbeat_with_each_topics_number_at_once() -> None:
    """It arrives without a new event, and before the interval has passed."""
    with Publisher(bind="tcp://127.0.0.1:*", heartbeat_seconds=RARELY, name="core") as publisher:
        for topic in ["metrics", "logs.a", "metrics"]:
            publisher.publish(topic, 1)
        bus = Bus(connect=publisher.endpoint)

        assert bus.heartbeat() == {
            "incarnation": f"{publisher.incarnation:016x}",
            "name": "core",
            "interval": RARELY,
            "replay": None,
            "sequences": {"metrics": 2, "logs.a": 1},
        }
        bus.close()


def test_the_heartbeat_comes_before_the_next_event(bus: Bus) -> None:
    with Publisher(connect=bus.endpoint, heartbeat_seconds=RARELY) as publisher:
        bus.await_publisher(publisher)
        publisher.publish("a", 1)

        assert bus.frames()[0] == HEARTBEAT
        assert bus.frames()[0] == b"a"


def test_at_most_one_event_precedes_a_heartbeat_under_load() -> None:
    """ZeroMQ may handle a subscription while it sends that event."""
    with Publisher(bind="tcp://127.0.0.1:*", heartbeat_seconds=RARELY) as publisher:
        enough = threading.Event()

        def flood() -> None:
            while not enough.is_set():
                publisher.publish("a", 1)

        flooder = threading.Thread(target=flood)
        flooder.start()
        for _ in range(50):
            bus = Bus(connect=publisher.endpoint)
            first = [bus.frames()[0] for _ in range(2)]
            bus.close()
            assert HEARTBEAT in first
        enough.set()
        flooder.join()


def test_every_subscriber_and_every_subscription_has_its_heartbeat() -> None:
    """A subscription that another subscriber already has causes a heartbeat, too."""
    with Publisher(bind="tcp://127.0.0.1:*", heartbeat_seconds=RARELY) as publisher:
        one, other = (Bus(connect=publisher.endpoint) for _ in range(2))
        assert one.heartbeat()
        assert other.heartbeat()
        other.socket.subscribe(b"logs")
        assert other.heartbeat()
        other.socket.unsubscribe(b"")
        other.socket.subscribe(b"")
        assert other.heartbeat()
        one.close()
        other.close()


def test_every_endpoint_has_its_heartbeats() -> None:
    one, other = Bus(), Bus()
    with Publisher(connect=[one.endpoint, other.endpoint], heartbeat_seconds=0.05):
        for bus in (one, other, one, other):
            assert bus.heartbeat()["interval"] == 0.05
    for bus in (one, other):
        bus.close()


def test_heartbeats_continue_without_events_and_have_the_newest_numbers(bus: Bus) -> None:
    with Publisher(connect=bus.endpoint, heartbeat_seconds=0.02) as publisher:
        bus.await_publisher(publisher)
        for _ in range(7):
            publisher.publish("a", 1)
        heard = [bus.heartbeat()["sequences"] for _ in range(10)]

    assert heard[-1] == {"a": 7}


def test_a_closing_publisher_sends_a_farewell_after_its_last_event(bus: Bus) -> None:
    with Publisher(connect=bus.endpoint, heartbeat_seconds=RARELY) as publisher:
        bus.await_publisher(publisher)
        publisher.publish("a", 1)
    assert bus.read()[0] == "a"
    farewell = bus.heartbeat()

    assert farewell["interval"] == 0
    assert farewell["sequences"] == {"a": 1}


def test_many_topics_are_named_in_several_messages_in_a_row() -> None:
    with Publisher(bind="tcp://127.0.0.1:*", heartbeat_seconds=RARELY) as publisher:
        for number in range(2500):
            publisher.publish(f"t{number}", 1)
        publisher.publish("t7", 2)
        bus = Bus(connect=publisher.endpoint)
        parts = [bus.heartbeat() for _ in range(3)]
        bus.close()

    assert [len(part["sequences"]) for part in parts] == [1000, 1000, 500]
    assert [part.get("more") for part in parts] == [True, True, None]
    together = {topic: number for part in parts for topic, number in part["sequences"].items()}
    assert together == {f"t{number}": 1 for number in range(2500)} | {"t7": 2}


def test_envelopes_show_whether_heartbeats_are_sent(bus: Bus) -> None:
    with Publisher(connect=bus.endpoint) as publisher:
        bus.await_publisher(publisher)
        publisher.publish("a", 1)
        assert bus.read()[2][0] == 1


def test_heartbeats_can_be_turned_off(bus: Bus) -> None:
    with Publisher(connect=bus.endpoint, heartbeat_seconds=0) as publisher:
        bus.await_publisher(publisher)
        publisher.publish("a", 1)
        publisher.publish("a", 2)
        kinds = [len(bus.frames()) for _ in range(2)]
        flags = publisher._flags

    assert kinds == [3, 3]
    assert flags == 0
    assert bus.socket.poll(100) == 0, "a message arrived, though heartbeats, and so the farewell, are turned off"


def test_heartbeats_dropped_at_the_high_water_mark_do_not_count_as_events() -> None:
    stalled = Bus(high_water_mark=10)
    with Publisher(connect=stalled.endpoint, high_water_mark=10, linger_seconds=0, heartbeat_seconds=0.01) as publisher:
        stalled.await_publisher(publisher)
        called = 0
        while publisher.dropped < 1000:
            publisher.publish("a", "x" * 1000)
            called += 1

        assert publisher.published + publisher.dropped == called
    stalled.close()


@pytest.mark.usefixtures("only_woken")
def test_its_thread_ends_with_the_publisher(bus: Bus) -> None:
    before = attendants()
    with Publisher(connect=bus.endpoint, replay=1):
        assert len(attendants()) == len(before) + 1

    assert attendants() == before


FORGETFUL = """
import sys
from neurograph_publisher import Publisher
publisher = Publisher(connect=sys.argv[1], replay=10, heartbeat_seconds=3600)
publisher.wait_for_subscriber(60)
for number in range(1000):
    publisher.publish("a", number)
"""


def test_an_open_publisher_is_closed_when_the_interpreter_exits(bus: Bus) -> None:
    with subprocess.Popen([sys.executable, "-c", FORGETFUL, bus.endpoint]) as process:
        numbers = [bus.read()[1] for _ in range(1000)]
        farewell = bus.heartbeat()
        assert process.wait(scaled(DEADLINE_SECONDS)) == 0

    assert numbers == list(range(1000))
    assert farewell["interval"] == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # forking is what is tested
def test_a_forked_child_sends_no_heartbeats_and_exits_while_its_parent_continues(bus: Bus) -> None:
    with Publisher(connect=bus.endpoint, replay=10, heartbeat_seconds=0.02) as publisher:
        bus.await_publisher(publisher)
        child = os.fork()
        if not child:
            signal.alarm(20)
            publisher.close()
            os._exit(len(attendants()))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        publisher.publish("a", 1)
        while bus.heartbeat()["sequences"] != {"a": 1}:
            pass


def test_signal_handlers_that_publish_do_not_deadlock_with_heartbeats(bus: Bus) -> None:
    with Publisher(connect=bus.endpoint, replay=100, heartbeat_seconds=0.01) as publisher:
        bus.await_publisher(publisher)
        with interrupted_by(lambda: publisher.publish("b", 1)):
            for number in range(5000):
                publisher.publish("a", number)
        publisher.publish("end", 1)
        last: dict[str, int] = {}
        while "end" not in last:
            topic, _, (_, _, sequence, _) = bus.read()
            last[topic] = sequence
        farewell: dict[str, Any] = {}
        publisher.close()
        while farewell.get("interval") != 0:
            farewell = bus.heartbeat()

    assert farewell["sequences"] == last
    assert last["a"] == 5000
    assert last["b"] > 1


@pytest.mark.long
def test_a_topic_beyond_100_000_is_refused_and_earlier_ones_still_work() -> None:
    with Publisher(bind="tcp://127.0.0.1:*") as publisher:
        for number in range(100_000):
            publisher.publish(f"t{number}", 1)
        with pytest.raises(PublisherError, match="one topic too many"):
            publisher.publish("more", 1)

        assert publisher.publish("t0", 2)
        assert publisher.published == 100_001


@pytest.mark.parametrize("name", ["", "x" * 65, "two\nlines"])
def test_an_invalid_name_is_refused(name: str) -> None:
    with pytest.raises(PublisherError, match="name"):
        Publisher(bind="tcp://127.0.0.1:*", name=name)


def test_a_publisher_without_a_name_gets_a_default_one(bus: Bus) -> None:
    with Publisher(connect=bus.endpoint):
        assert f":{os.getpid()}" in bus.heartbeat()["name"]
