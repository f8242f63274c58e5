"""A real gateway, a real publisher, and a proxy that can cut the connections between client and gateway."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest


sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from clients.conformance.proxy import Proxy
from tests.conftest import bus as bus
from tests.conftest import channel as channel
from tests.conftest import connect as connect
from tests.conftest import gateway as gateway
from tests.conftest import launch as launch
from tests.conftest import publisher as publisher
from tests.conftest import shared_publisher as shared_publisher
from tests.support.gateway import Gateway


NewProxy = Callable[[Gateway], Awaitable[Proxy]]


@pytest.fixture
async def proxy() -> AsyncIterator[NewProxy]:
    """Start a proxy in front of a gateway: ``await proxy(gateway)``."""
    async with AsyncExitStack() as stack:

        async def start(gateway: Gateway) -> Proxy:
            return await stack.enter_async_context(Proxy(gateway.port))

        yield start
