"""Publishing over connections that are lost, and to gateways that restart."""

from __future__ import annotations

import asyncio
import signal

import pytest
from neurograph_client import Backoff, Client, ClosedError, NotConnectedError

from tests.conftest import Launch
from tests.support.gateway import Gateway
from tests.support.waiting import DEADLINE_SECONDS, eventually

from .conftest import NewProxy


SOON = Backoff(0.001, 0.005)


async def test_each_event_is_published_once_over_connections_that_are_lost(
    gateway: Gateway, proxy: NewProxy, channel: str
) -> None:
    """Answers may be lost with their connection; an event that is sent again is not published again."""
    between = await proxy(gateway)
    numbers = range(40)
    async with Client(between.url, backoff=SOON, timeout=DEADLINE_SECONDS) as client:
        for first in numbers[::4]:
            publishing = [asyncio.create_task(client.publish(channel, n)) for n in range(first, first + 4)]
            await asyncio.sleep(0)
            between.cut()
            answers = await asyncio.gather(*publishing)
            assert len({one.position for one in answers}) == 4
        history = await client.history(channel)

    assert client.connection_count > 1
    assert sorted(event.data for event in history) == list(numbers)  # type: ignore[union-attr]  # no gaps here


async def test_an_event_too_large_for_a_message_is_published(launch: Launch) -> None:
    gateway = await launch(settings={"clients.message_bytes_max": 1_000})
    async with Client(gateway.url) as client:
        small = await client.publish("robots", "x")
        large = await client.publish("robots", "x" * 10_000)

        assert client.connection_count == 1
    assert [1, 2] == [small.position.offset, large.position.offset]


async def test_a_gateway_that_restarts_before_its_answer_is_an_error(launch: Launch, proxy: NewProxy) -> None:
    """Whether the event was published is unknown, so the client does not send it again."""
    gateway = await launch()
    between = await proxy(gateway)
    async with Client(between.url, backoff=SOON, timeout=DEADLINE_SECONDS) as client:
        gateway.kill(signal.SIGSTOP)
        publishing = asyncio.create_task(client.publish("robots", 1))
        await asyncio.sleep(0)
        gateway.kill()
        await gateway.exited()
        await gateway.restart()
        between.port = gateway.port
        with pytest.raises(NotConnectedError, match="may or may not have been done"):
            await publishing
        after = await client.publish("robots", 2)

    assert 1 == after.position.offset


async def test_without_a_gateway_it_fails_with_the_reason(launch: Launch) -> None:
    gateway = await launch()
    async with Client(gateway.url, backoff=SOON, timeout=0.3) as client:
        gateway.kill()
        await eventually(lambda: client.state != "connected")
        with pytest.raises(NotConnectedError, match=r"no connection in 0\.3 s: Connection refused"):
            await client.publish("robots", 1)


async def test_a_client_that_is_closed_meanwhile_fails(launch: Launch) -> None:
    gateway = await launch()
    client = Client(gateway.url)
    with pytest.raises(NotConnectedError, match="not started"):
        await client.publish("robots", 1)
    async with client:
        gateway.kill(signal.SIGSTOP)
        publishing = asyncio.create_task(client.publish("robots", 1))
        await asyncio.sleep(0)
    with pytest.raises(ClosedError):
        await publishing
    gateway.kill(signal.SIGCONT)
