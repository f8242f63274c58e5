"""A bus that was bound, and a publisher that stands connected to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from neurograph_publisher import Publisher

from .bus import Bus


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
