"""The conformance cases of all clients, with this client and JSON."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from clients.conformance.runner import Message, cases, play


DRIVER = [sys.executable, str(Path(__file__).with_name("driver.py"))]


@pytest.mark.parametrize("case", cases(), ids=lambda case: str(case["name"]))
async def test_a_case(case: Message) -> None:
    assert await play(case, DRIVER, encoding="json") is None
