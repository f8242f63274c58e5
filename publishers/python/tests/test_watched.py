"""Whether a topic has a subscriber, according to the subscriptions that the publisher received."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq
from neurograph_publisher import Publisher, PublisherError

from tests.support.waiting import DEADLINE_SECONDS, eventually, scaled

from .bus import Bus
from .test_interruptions import interrupted_by


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher(bind="tcp://127.0.0.1:*", heartbeat_seconds=3600) as publisher:
        yield publisher


async def watched(publisher: Publisher, topic: str, *by: Bus, is_so: bool = True) -> None:
    """Wait until a topic is watched, or is not; a SUB sends its subscriptions only when its own thread uses it."""

    def found() -> bool:
        for bus in by:
            bus.socket.get(zmq.EVENTS)
        return publisher.watched(topic) == is_so

    await eventually(found, saying=topic)


async def test_a_topic_is_watched_while_a_prefix_of_it_is_subscribed_to(publisher: Publisher) -> None:
    assert not publisher.watched("camera")
    bus = Bus(connect=publisher.endpoint, subscribe=b"camera")
    await watched(publisher, "camera", bus)

    assert publisher.watched("camera.left")
    assert publisher.watched("cameras"), "a ZeroMQ subscription is a prefix: `camera` also matches `cameras`"
    assert not publisher.watched("came")
    assert not publisher.watched("logs")
    bus.socket.unsubscribe(b"camera")
    await watched(publisher, "camera", bus, is_so=False)
    bus.close()


async def test_a_gateway_that_only_wants_heartbeats_watches_nothing(publisher: Publisher) -> None:
    bus = Bus(connect=publisher.endpoint, subscribe=b"$")
    assert bus.heartbeat()
    assert publisher.wait_for_subscriber(scaled(DEADLINE_SECONDS))

    assert not publisher.watched("camera")
    bus.close()


async def test_a_subscription_to_everything_watches_everything(publisher: Publisher) -> None:
    bus = Bus(connect=publisher.endpoint)
    await watched(publisher, "camera", bus)

    assert publisher.watched("anything.else")
    bus.close()
    await watched(publisher, "camera", is_so=False)


async def test_a_topic_is_watched_until_the_last_subscriber_leaves(publisher: Publisher) -> None:
    one, other, third = (Bus(connect=publisher.endpoint, subscribe=b"$") for _ in range(3))
    for bus in (one, other):
        assert bus.heartbeat()
        bus.socket.subscribe(b"camera")
        bus.socket.subscribe(b"camera")
        assert bus.heartbeat(), "no heartbeat: the publisher has not handled the subscription"
    one.close()
    assert third.heartbeat()
    third.socket.subscribe(b"third")
    await watched(publisher, "third", third)
    assert publisher.watched("camera")
    other.close()
    await watched(publisher, "camera", is_so=False)
    third.close()


async def test_any_endpoint_is_enough() -> None:
    one, other = Bus(subscribe=b"camera"), Bus(subscribe=b"logs")
    with Publisher(connect=[one.endpoint, other.endpoint]) as publisher:
        await watched(publisher, "camera", one, other)
        await watched(publisher, "logs", one, other)

        assert not publisher.watched("metrics")
    one.close()
    other.close()


async def test_watched_may_be_called_from_a_signal_handler(publisher: Publisher) -> None:
    bus = Bus(connect=publisher.endpoint, subscribe=b"camera")
    await watched(publisher, "camera", bus)
    answers: set[bool] = set()
    with interrupted_by(lambda: answers.add(publisher.watched("camera"))):
        while not answers:
            publisher.publish("a", 1)
    bus.close()

    assert answers == {True}


def test_a_closed_publisher_is_not_watched_and_an_invalid_topic_is_an_error() -> None:
    bus = Bus()
    with Publisher(connect=bus.endpoint) as publisher:
        bus.await_publisher(publisher)
        with pytest.raises(PublisherError, match="not a topic"):
            publisher.watched("$heartbeat")
        assert publisher.watched("a")
    bus.close()

    assert not publisher.watched("a")
