"""The format of each kind of event on the bus."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from neurograph_publisher import Publisher, PublisherError

from .bus import Bus


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
        ("actions", "action.executed"),
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
    assert bus.read()[1] == {"event_type": "moved", "timestamp": "2026-11-23T12:00:00Z", "data": {"x": 1}}


@pytest.mark.parametrize("timestamp", [17, datetime(2026, 11, 23, 12)])  # noqa: DTZ001  # without a time zone on purpose
def test_an_invalid_timestamp_is_refused(publisher: Publisher, timestamp: Any) -> None:
    with pytest.raises(PublisherError, match="timestamp"):
        publisher.publish("a", 1, event_type="x", timestamp=timestamp)
    with pytest.raises(PublisherError, match="event_type"):
        publisher.publish("a", 1, timestamp="2026-11-23T12:00:00Z")


def test_a_datetime_keeps_its_offset(bus: Bus, publisher: Publisher) -> None:
    moment = datetime(2026, 11, 23, 12, 0, 0, 5, tzinfo=UTC)
    publisher.publish("robots.r2", {"x": 1}, "moved", moment)

    assert bus.read()[1]["timestamp"] == "2026-11-23T12:00:00.000005+00:00"
