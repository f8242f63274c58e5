"""Events that carry bytes."""

from __future__ import annotations

from typing import Any

import pytest
from neurograph_publisher import Publisher, PublisherError

from .bus import Bus


def test_bytes_travel_as_base64_within_an_event(bus: Bus, publisher: Publisher) -> None:
    publisher.publish_bytes(
        "camera", b"\xff\xd8\xff", "image/jpeg", event_type="frame", timestamp="2026-11-28T12:00:00Z"
    )
    publisher.publish_bytes("camera", memoryview(b""))

    _, first, _ = bus.read()
    _, second, _ = bus.read()
    assert first == {
        "event_type": "frame",
        "timestamp": "2026-11-28T12:00:00Z",
        "content_type": "image/jpeg",
        "data_base64": "/9j/",
    }
    assert second.keys() == {"timestamp", "data_base64"}


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("camera", "text", "bytes-like"),
        ("a b", b"", "not a topic"),
        ("metrics", b"", "standard channel"),
        ("camera", bytes(1_048_576), "payload_bytes_max"),
    ],
)
def test_invalid_arguments_of_publish_bytes_are_refused(
    publisher: Publisher, topic: str, payload: Any, reason: str
) -> None:
    with pytest.raises(PublisherError, match=reason):
        publisher.publish_bytes(topic, payload)
    assert publisher.published == 0
