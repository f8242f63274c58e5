"""What a publisher puts on the bus, read from a real socket."""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import zmq
from neurograph_publisher import GatewayLogHandler, Publisher, PublisherError, envelope


VECTORS = Path(__file__).parents[3] / "tests/conformance/vectors/envelope.json"
WITHIN_MS = 10_000

Message = tuple[str, Any, tuple[int, int, int, int]]


class Bus:
    """A gateway's side of the bus: binds a SUB and reads."""

    def __init__(self, *, high_water_mark: int = 100_000) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(zmq.SUB)
        self.socket.rcvhwm = high_water_mark
        self.socket.subscribe(b"")
        self.socket.bind("tcp://127.0.0.1:*")
        self.endpoint = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def read(self, *, within_ms: int = WITHIN_MS) -> Message:
        assert self.socket.poll(within_ms), "nothing came"
        topic, payload, frame = self.socket.recv_multipart()
        magic, flags, incarnation, sequence, time_ns = struct.unpack(">4sIQQQ", frame)
        assert magic == b"NGE1"
        return topic.decode(), json.loads(payload), (flags, incarnation, sequence, time_ns)

    def await_publisher(self, publisher: Publisher) -> None:
        """Wait until the publisher knows that this side has subscribed.

        A SUB sends its subscriptions only when its own thread touches it.
        """
        for _ in range(200):
            self.socket.get(zmq.EVENTS)
            if publisher.wait_for_subscriber(0.05):
                return
        raise AssertionError("no subscription came")

    def close(self) -> None:
        self._context.destroy(linger=0)


@pytest.fixture
def bus() -> Iterator[Bus]:
    bus = Bus()
    yield bus
    bus.close()


@pytest.fixture
def publisher(bus: Bus) -> Iterator[Publisher]:
    with Publisher(connect=bus.endpoint) as publisher:
        bus.await_publisher(publisher)
        yield publisher


def test_the_envelope_is_as_the_shared_vectors_say() -> None:
    for vector in json.loads(VECTORS.read_text())["valid"]:
        packed = envelope.pack(
            incarnation=int(vector["incarnation"]),
            sequence=int(vector["sequence"]),
            time_ns=int(vector["time_ns"]),
            flags=int(vector["flags"]),
        )
        assert packed.hex() == vector["hex"], vector["name"]


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
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with Publisher(bind="tcp://127.0.0.1:*") as publisher:
        sub = context.socket(zmq.SUB)
        sub.subscribe(b"")
        sub.connect(publisher.endpoint)
        for _ in range(200):
            sub.get(zmq.EVENTS)
            if publisher.wait_for_subscriber(0.05):
                break
        publisher.publish("a", 1)
        assert sub.poll(WITHIN_MS)
        assert sub.recv_multipart()[:2] == [b"a", b"1"]
    context.destroy(linger=0)


def test_every_kind_of_event_has_its_channel_and_type(bus: Bus, publisher: Publisher) -> None:
    publisher.signal("input.text", event_id="e1", priority=200, is_novel=True, mine=[1])
    publisher.action("reply", action_id=7, status="done", execution_time_ms=1.5)
    publisher.metrics(cpu_percent=12.5, memory_mb=100.0, gpu=3)
    publisher.log("ERROR", "broken", service="core", correlation_id="c")
    publisher.status("running", uptime_seconds=3.0, version="1")
    publisher.connection("connected", "client-1", user_id="ann")
    read = [bus.read() for _ in range(6)]

    assert [(topic, event["event_type"]) for topic, event, _ in read] == [
        ("signals", "signal.input.text"),
        ("actions", "action.reply"),
        ("metrics", "system_metrics"),
        ("logs", "log.error"),
        ("status", "status.running"),
        ("connections", "client.connected"),
    ]
    assert read[0][1]["data"] == {
        "event_id": "e1",
        "event_type": "signal.input.text",
        "priority": 200,
        "is_novel": True,
        "mine": [1],
    }
    assert read[2][1]["data"] == {"cpu_percent": 12.5, "memory_mb": 100.0, "gpu": 3}
    assert all(event["timestamp"].endswith("+00:00") for _, event, _ in read)


def test_any_json_goes_to_any_other_channel(bus: Bus, publisher: Publisher) -> None:
    publisher.publish("robots.r2", [1, None, "ü"])
    publisher.publish("robots.r2", {"x": 1}, event_type="moved", timestamp="2026-11-23T12:00:00Z")

    assert bus.read()[1] == [1, None, "ü"]
    assert bus.read()[1] == {
        "event_type": "moved",
        "timestamp": "2026-11-23T12:00:00Z",
        "data": {"x": 1},
    }


@pytest.mark.parametrize("topic", ["", "a b", "a..b", ".a", "a.", "ä", "$all", "a\n", "x" * 129])
def test_what_is_no_topic_is_refused_before_it_is_sent(publisher: Publisher, topic: str) -> None:
    with pytest.raises(PublisherError, match="not a topic"):
        publisher.publish(topic, 1)
    assert publisher.published == 0


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
        with Publisher(connect=bus.endpoint, high_water_mark=10) as publisher:
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
    child.join(10)

    assert child.exitcode == 7


def test_logging_from_within_a_publish_does_not_hold_it_up(bus: Bus, publisher: Publisher) -> None:
    """A signal handler that logs interrupts `publish` on its own thread, lock and all."""
    logger = logging.getLogger("core.signals")
    handler = GatewayLogHandler(publisher)
    logger.addHandler(handler)
    previous = signal.signal(signal.SIGALRM, lambda *_: logger.warning("interrupted"))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
    try:
        for number in range(20_000):
            publisher.publish("a", number)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        logger.removeHandler(handler)
    publisher.publish("end", 1)
    topics: dict[str, list[int]] = {"a": [], "logs": [], "end": []}
    while not topics["end"]:
        topic, _, (_, _, sequence, _) = bus.read()
        topics[topic].append(sequence)

    assert topics["a"] == list(range(1, 20_001))
    assert topics["logs"] == list(range(1, len(topics["logs"]) + 1))
    assert topics["logs"]


def test_waiting_for_a_subscriber_holds_nobody_up() -> None:
    with Publisher(bind="tcp://127.0.0.1:*") as publisher:
        waiter = threading.Thread(target=publisher.wait_for_subscriber, args=(30,), daemon=True)
        waiter.start()
        for number in range(1000):
            assert publisher.publish("a", number)
        assert waiter.is_alive()
        publisher._subscribed.add(b"")  # so that the thread ends
        waiter.join(10)
        assert not waiter.is_alive()


@pytest.mark.parametrize("timestamp", [17, datetime(2026, 11, 23, 12)])  # noqa: DTZ001  # that is the point
def test_a_timestamp_is_a_moment(publisher: Publisher, timestamp: Any) -> None:
    with pytest.raises(PublisherError, match="timestamp"):
        publisher.publish("a", 1, event_type="x", timestamp=timestamp)
    with pytest.raises(PublisherError, match="event_type"):
        publisher.publish("a", 1, timestamp="2026-11-23T12:00:00Z")


def test_log_records_arrive_on_the_logs_channel(bus: Bus, publisher: Publisher) -> None:
    logger = logging.getLogger("core.loop")
    handler = GatewayLogHandler(publisher, service="core")
    logger.addHandler(handler)
    try:
        try:
            raise ValueError("boom")
        except ValueError:
            logger.exception("failed with %d", 7, extra={"correlation_id": "job"})
    finally:
        logger.removeHandler(handler)
    topic, event, _ = bus.read()

    assert topic == "logs"
    assert event["event_type"] == "log.error"
    data = event["data"]
    assert (data["level"], data["message"], data["service"]) == ("error", "failed with 7", "core")
    assert (data["correlation_id"], data["logger"]) == ("job", "core.loop")
    assert "ValueError: boom" in data["exception"]


def test_a_handler_never_raises_into_the_application(
    capsys: pytest.CaptureFixture[str], bus: Bus
) -> None:
    publisher = Publisher(connect=bus.endpoint)
    publisher.close()
    logger = logging.getLogger("core.closed")
    handler = GatewayLogHandler(publisher)
    logger.addHandler(handler)
    logger.warning("nobody hears this")
    logger.removeHandler(handler)

    assert "PublisherError" in capsys.readouterr().err


def test_system_metrics_are_this_machines_and_the_process_ends_on_a_signal(bus: Bus) -> None:
    command = [sys.executable, "-m", "neurograph_publisher.system_metrics"]
    options = ["--connect", bus.endpoint, "--interval", "0.1"]
    with subprocess.Popen(command + options) as process:
        read = [bus.read() for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0

    for topic, event, _ in read:
        data = event["data"]
        assert (topic, event["event_type"]) == ("metrics", "system_metrics")
        assert 0 <= data["cpu_percent"] <= 100
        assert data["memory_mb"] > 1
        assert data["net_received_bytes_per_sec"] >= 0
    assert [e[2] for _, _, e in read] == [1, 2, 3]


def test_system_metrics_can_be_counted_and_say_what_is_wrong(bus: Bus) -> None:
    command = [sys.executable, "-m", "neurograph_publisher.system_metrics"]
    options = ["--connect", bus.endpoint, "--interval", "0.05", "--count", "2"]
    with subprocess.Popen([*command, *options]) as few:
        sequences = [bus.read()[2][2] for _ in range(2)]
        assert few.wait(10) == 0
    wrong = subprocess.run(
        [*command, "--connect", "nonsense"], capture_output=True, text=True, check=False
    )

    assert sequences == [1, 2]
    assert wrong.returncode == 1
    assert "nonsense" in wrong.stderr
