"""A real gateway, a real publisher, and a real kernel; the test takes the part of the page."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest


sys.path.insert(0, str(Path(__file__).resolve().parents[4]))

from tests.conftest import bus as bus
from tests.conftest import channel as channel
from tests.conftest import gateway as gateway
from tests.conftest import launch as launch
from tests.conftest import publisher as publisher
from tests.conftest import shared_publisher as shared_publisher

from .kernel import Kernel


@pytest.fixture
async def kernel() -> AsyncIterator[Kernel]:
    """A new kernel, with the extension loaded."""
    async with Kernel() as running:
        yield running
