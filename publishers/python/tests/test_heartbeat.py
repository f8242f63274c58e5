"""Heartbeats: gateways learn which numbers were used, and that somebody is still there."""

from __future__ import annotations

import gc
import os
import threading

import pytest
import zmq
from neurograph_publisher import Publisher, PublisherError

from .bus import Bus


def threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "neurograph-publisher"]


def test_a_new_subscriber_is_greeted_before_the_next_event(bus: Bus) -> None:
    with Publisher(connect=bus.endpoint, heartbeat_seconds=3600) as publisher:
        bus.await_publisher(publisher)
        publisher.publish("robots", 1)
        topic, payload = bus.socket.recv_multipart()
        assert topic == b"$heartbeat"
        assert b'"sequences":{}' in payload
        assert bus.read()[0] == "robots"


def test_a_heartbeat_names_the_newest_number_of_each_topic(bus: Bus) -> None:
    with Publisher(
        connect=bus.endpoint, heartbeat_seconds=0.05, name="core", replay=10
    ) as publisher:
        bus.await_publisher(publisher)
        for _ in range(3):
            publisher.publish("robots", 1)
        publisher.publish("logs.a", 1)
        beat = bus.beat()
        while beat["sequences"] != {"robots": 3, "logs.a": 1}:
            beat = bus.beat()

    assert beat["incarnation"] == f"{publisher.incarnation:016x}"
    assert (beat["name"], beat["interval"]) == ("core", 0.05)
    assert beat["replay"].startswith("tcp://127.0.0.1:")


def test_they_come_again_and_again_and_end_with_a_farewell(bus: Bus) -> None:
    with Publisher(connect=bus.endpoint, heartbeat_seconds=0.02) as publisher:
        bus.await_publisher(publisher)
        publisher.publish("robots", 1)
        intervals = [bus.beat()["interval"] for _ in range(5)]
    last = bus.beat()
    while last["interval"]:
        last = bus.beat()

    assert intervals == [0.02] * 5
    assert last["sequences"] == {"robots": 1}


def test_envelopes_say_whether_heartbeats_come(bus: Bus) -> None:
    for seconds, flags in ((1.0, 1), (0.0, 0)):
        with Publisher(connect=bus.endpoint, heartbeat_seconds=seconds) as publisher:
            bus.await_publisher(publisher)
            publisher.publish("robots", 1)
            assert bus.read()[2][0] == flags


def test_many_topics_are_named_in_several_heartbeats(bus: Bus) -> None:
    with Publisher(connect=bus.endpoint, heartbeat_seconds=0.2) as publisher:
        bus.await_publisher(publisher)
        for number in range(2500):
            publisher.publish(f"t{number}", 1)
        while True:
            parts = [bus.beat()]
            while parts[-1].get("more"):
                parts.append(bus.beat())
            if sum(len(part["sequences"]) for part in parts) == 2500:
                break

    assert [len(part["sequences"]) for part in parts] == [1000, 1000, 500]


def test_topics_are_bounded(bus: Bus) -> None:
    with Publisher(connect=bus.endpoint, heartbeat_seconds=0) as publisher:
        for number in range(10_000):
            publisher.publish(f"t{number}", 1)
        with pytest.raises(PublisherError, match="10000 topics have been used"):
            publisher.publish("one.more", 1)
        assert publisher.publish("t7", 1)


def test_nothing_is_left_running(bus: Bus) -> None:
    with Publisher(connect=bus.endpoint, heartbeat_seconds=0.01) as publisher:
        assert len(threads()) == 1
    for thread in threads():
        thread.join(10)

    assert publisher.closed
    assert threads() == []


def test_without_heartbeats_there_is_no_thread(bus: Bus) -> None:
    with Publisher(connect=bus.endpoint, heartbeat_seconds=0):
        assert threads() == []


def test_a_forked_child_ends_without_it(bus: Bus) -> None:
    with Publisher(connect=bus.endpoint, heartbeat_seconds=0.01, replay=10) as publisher:
        bus.await_publisher(publisher)
        child = os.fork()
        if not child:
            publisher.close()
            gc.collect()
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        publisher.publish("robots", 1)
        assert bus.read()[0] == "robots"


def test_watched_tells_what_anybody_would_get() -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with Publisher(bind="tcp://127.0.0.1:*") as publisher:
        gateway = context.socket(zmq.SUB)
        gateway.connect(publisher.endpoint)
        gateway.subscribe(b"$")
        _settle(gateway, lambda: publisher.wait_for_subscriber(0))
        assert not publisher.watched("camera")
        gateway.subscribe(b"camera")
        _settle(gateway, lambda: publisher.watched("camera"))
        assert publisher.watched("camera.left"), "ZeroMQ's subscriptions are prefixes"
        assert not publisher.watched("logs")
        gateway.unsubscribe(b"camera")
        _settle(gateway, lambda: not publisher.watched("camera"))
    context.destroy(linger=0)


def _settle(socket: zmq.Socket[bytes], condition: object) -> None:
    """Wait for a condition; a SUB sends its subscriptions when its own thread touches it."""
    assert callable(condition)
    for _ in range(2000):
        socket.get(zmq.EVENTS)
        if condition():
            return
        socket.poll(5)
        while socket.poll(0):
            socket.recv_multipart()
    raise AssertionError("it did not come about")


@pytest.mark.parametrize(
    "wrong", [{"heartbeat_seconds": -1}, {"heartbeat_seconds": 0, "replay": 1}, {"replay": -1}]
)
def test_numbers_that_cannot_be_used_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(PublisherError, match=r"heartbeat_seconds|replay"):
        Publisher(connect="tcp://127.0.0.1:5556", **wrong)  # type: ignore[arg-type]  # that is the point
