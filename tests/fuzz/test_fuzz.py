"""A short attack; `make fuzz` has a long one."""

from __future__ import annotations

import os

import pytest

from tests.conftest import Launch
from tests.fuzz.attack import BLOBS, attack


CONNECTIONS = 2000 if os.environ.get("TEST_FULL") else 500


@pytest.mark.timeout(180)
async def test_strange_frames_and_messages_harm_nobody(launch: Launch) -> None:
    """A healthy client misses nothing, nothing of the gateway fails, and nothing is left behind."""
    gateway = await launch()
    outcome = await attack(gateway, connections=CONNECTIONS, seed=1)

    assert [] == outcome.faults
    assert CONNECTIONS * BLOBS == outcome.sent
    for answer in ("connected", "error invalid_json", "error invalid_field", "closing 1002", "400"):
        assert outcome.answers[answer], outcome.answers
