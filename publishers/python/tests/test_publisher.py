"""The messages of a publisher, read from a real socket."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import threading
from types import ModuleType
from typing import Any

import pytest
import zmq
from neurograph_publisher import Publisher, PublisherError

from tests.support.waiting import DEADLINE_SECONDS, scaled

from .bus import Bus


def test_messages_are_numbered_per_topic_from_one(bus: Bus, publisher: Publisher) -> None:
    for topic in ["a", "b", "a", "a"]:
        assert publisher.publish(topic, {"x": 1})
    read = [bus.read() for _ in range(4)]

    assert [(topic, e[2]) for topic, _, e in read] == [("a", 1), ("b", 1), ("a", 2), ("a", 3)]
    assert {e[1] for _, _, e in read} == {publisher.incarnation}


def test_each_start_is_another_incarnation() -> None:
    with Publisher(bind="tcp://127.0.0.1:*") as one, Publisher(bind="tcp://127.0.0.1:*") as other:
        assert one.incarnation != other.incarnation


def test_a_publisher_may_bind_and_gateways_connect() -> None:
    with Publisher(bind="tcp://127.0.0.1:*") as publisher:
        bus = Bus(connect=publisher.endpoint)
        bus.await_publisher(publisher)
        publisher.publish("a", 1)

        assert bus.read()[:2] == ("a", 1)
        bus.close()


@pytest.mark.parametrize("topic", ["", "a b", "a..b", ".a", "a.", "ä", "$all", "a\n", "x" * 129])
def test_an_invalid_topic_is_refused_before_it_is_sent(publisher: Publisher, topic: str) -> None:
    with pytest.raises(PublisherError, match="not a topic"):
        publisher.publish(topic, 1)
    assert publisher.published == 0


def test_an_oversized_event_is_refused_and_uses_no_number(bus: Bus, publisher: Publisher) -> None:
    largest = 1_048_576 - len('""')
    with pytest.raises(PublisherError, match="payload_bytes_max"):
        publisher.publish("large", "x" * (largest + 1))
    with pytest.raises(PublisherError, match="event_type"):
        publisher.publish("large", 1, "x" * 129)
    publisher.publish("large", "x" * largest)

    _, data, (_, _, sequence, _) = bus.read()
    assert (len(data), sequence) == (largest, 1)


def test_what_is_no_json_is_refused(publisher: Publisher) -> None:
    with pytest.raises(PublisherError, match="robots"):
        publisher.publish("robots", object())


def test_many_threads_lose_and_mix_nothing(bus: Bus, publisher: Publisher) -> None:
    def publish(topic: str) -> None:
        for number in range(500):
            publisher.publish(topic, number)

    threads = [threading.Thread(target=publish, args=(f"t{n % 2}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    sequences: dict[str, list[int]] = {"t0": [], "t1": []}
    for _ in range(2000):
        topic, _, (_, _, sequence, _) = bus.read()
        sequences[topic].append(sequence)
    for thread in threads:
        thread.join()

    assert sequences == {"t0": list(range(1, 1001)), "t1": list(range(1, 1001))}


async def test_publishing_does_not_hold_up_an_event_loop(bus: Bus, publisher: Publisher) -> None:
    """Nobody reads meanwhile, and every call returns."""
    for number in range(1000):
        publisher.publish("a", number)
        if not number % 100:
            await asyncio.sleep(0)

    assert publisher.published + publisher.dropped == 1000


def test_at_the_mark_every_message_is_either_received_or_counted_as_dropped() -> None:
    bus = Bus(high_water_mark=10)
    try:
        with Publisher(connect=bus.endpoint, high_water_mark=10, heartbeat_seconds=0) as publisher:
            bus.await_publisher(publisher)
            total = 0
            while not publisher.dropped or total < 1000:  # kernel buffers hold some, too
                publisher.publish("a", "x" * 1000)
                total += 1
            received = [bus.read()[2][2] for _ in range(publisher.published)]

            assert bus.socket.poll(200) == 0
            assert len(received) + publisher.dropped == total
            assert received == sorted(set(received)), "in order, and with the holes visible"
            # The sequence went on over the dropped ones.
            assert publisher.publish("a", "last")
            assert bus.read()[2][2] == total + 1
    finally:
        bus.close()


def test_without_a_subscriber_nothing_is_a_drop() -> None:
    with Publisher(bind="tcp://127.0.0.1:*", high_water_mark=5) as publisher:
        assert not publisher.wait_for_subscriber(0)
        assert all(publisher.publish("a", n) for n in range(100))
        assert publisher.dropped == 0


def test_what_cannot_work_is_said_at_once(bus: Bus) -> None:
    with pytest.raises(PublisherError, match="either"):
        Publisher()
    with pytest.raises(PublisherError, match="either"):
        Publisher(connect="tcp://127.0.0.1:1", bind="tcp://127.0.0.1:2")
    with pytest.raises(PublisherError, match=r"127\.0\.0\.1"):
        Publisher(bind=bus.endpoint)
    with pytest.raises(PublisherError, match="carrier"):
        Publisher(connect=["carrier://pigeon"])


def test_closing_twice_is_closing_once_and_nothing_goes_out_after_it(bus: Bus) -> None:
    publisher = Publisher(connect=bus.endpoint)
    publisher.close()
    publisher.close()

    assert publisher.closed
    with pytest.raises(PublisherError, match="closed"):
        publisher.publish("a", 1)


def _publish_in_child(publisher: Publisher) -> None:
    publisher.close()
    try:
        publisher.publish("a", 1)
    except PublisherError as error:
        os._exit(7 if "fork" in str(error) else 1)
    os._exit(0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # forking is what is tested
def test_use_after_a_fork_is_an_error(publisher: Publisher) -> None:
    """Even if another thread held the lock at the fork."""
    child = multiprocessing.get_context("fork").Process(target=_publish_in_child, args=(publisher,))
    with publisher._lock:
        child.start()
    child.join(scaled(DEADLINE_SECONDS))

    assert child.exitcode == 7


def test_waiting_for_a_subscriber_holds_nobody_up() -> None:
    with Publisher(bind="tcp://127.0.0.1:*") as publisher:
        waiter = threading.Thread(target=publisher.wait_for_subscriber, args=(30,), daemon=True)
        waiter.start()
        for number in range(1000):
            assert publisher.publish("a", number)
        assert waiter.is_alive()
        bus = Bus(connect=publisher.endpoint)
        while waiter.is_alive():
            bus.socket.get(zmq.EVENTS)
            waiter.join(0.01)
        bus.close()


def test_one_stalled_gateway_costs_another_nothing() -> None:
    """Each endpoint has a queue of its own."""
    healthy, stalled = Bus(), Bus(high_water_mark=10)
    try:
        with Publisher(
            connect=[healthy.endpoint, stalled.endpoint], high_water_mark=1000, linger_seconds=0
        ) as publisher:
            healthy.await_publisher(publisher, stalled)
            total = 0
            while publisher.dropped < 1000:
                publisher.publish("a", "x" * 1000)
                total += 1
                assert total == healthy.read()[2][2]

            assert total == publisher.published + publisher.dropped
    finally:
        healthy.close()
        stalled.close()


@pytest.mark.parametrize("topic", [b"a", None, 3])
def test_a_topic_that_is_no_text_is_refused_like_any_other(publisher: Publisher, topic: Any) -> None:
    with pytest.raises(PublisherError, match="not a topic"):
        publisher.publish(topic, 1)


@pytest.mark.parametrize(
    "numbers",
    [
        {"high_water_mark": -1},
        {"high_water_mark": 2**31},
        {"linger_seconds": -1.0},
        {"linger_seconds": float("inf")},
        {"linger_seconds": float("nan")},
        {"heartbeat_seconds": -1.0},
        {"heartbeat_seconds": 0.001},
        {"heartbeat_seconds": float("nan")},
    ],
)
def test_a_number_that_cannot_be_used_is_refused_with_its_name(numbers: dict[str, Any]) -> None:
    with pytest.raises(PublisherError, match=next(iter(numbers))):
        Publisher(bind="tcp://127.0.0.1:*", **numbers)


def test_closing_from_many_threads_is_closing_once() -> None:
    publisher = Publisher(bind="tcp://127.0.0.1:*")
    errors: list[BaseException] = []

    def close() -> None:
        try:
            publisher.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(scaled(DEADLINE_SECONDS))

    assert errors == []
    assert publisher.closed


@pytest.mark.parametrize("binds", ["publisher", "gateway"])
def test_an_ipv6_endpoint_works_whoever_binds(binds: str) -> None:
    def prepare(socket: zmq.Socket[bytes]) -> None:
        socket.setsockopt(zmq.IPV6, 1)

    if binds == "gateway":
        bus = Bus(bind="tcp://[::1]:*", prepare=prepare)
        publisher = Publisher(connect=bus.endpoint)
    else:
        publisher = Publisher(bind="tcp://[::1]:*")
        bus = Bus(connect=publisher.endpoint, prepare=prepare)
    with publisher:
        bus.await_publisher(publisher)
    bus.close()


def test_a_process_patched_by_gevent_is_refused(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkey = ModuleType("gevent.monkey")
    monkey.is_module_patched = lambda name: name == "threading"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gevent.monkey", monkey)

    with pytest.raises(PublisherError, match="gevent has patched this process"):
        Publisher(connect=bus.endpoint)
