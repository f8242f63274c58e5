"""A bus that binds, and a publisher that is connected to it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from neurograph_publisher import Publisher
from neurograph_publisher import publisher as module


sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.conftest import channel as channel
from tests.conftest import connect as connect
from tests.conftest import gateway as gateway
from tests.conftest import launch as launch

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


@pytest.fixture
def only_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the regular wake-ups of a publisher's thread, so that it acts only if something wakes it."""
    monkeypatch.setattr(module, "_ATTEND_SECONDS", 3600.0)
