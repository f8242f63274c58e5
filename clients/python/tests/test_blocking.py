"""The client without asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import subprocess
import sys
import threading
from typing import Any

import pytest
from neurograph_client import CAUGHT_UP, BlockingClient, Event, Gap, NotConnectedError, RequestRefusedError, connect

from tests.support.addresses import free_port
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.waiting import DEADLINE_SECONDS, eventually, scaled


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name == "neurograph-client"]


async def test_a_plain_loop_receives_events(gateway: Gateway, bus: Publisher, channel: str) -> None:
    bus.send_numbered(channel, range(1, 11))

    def follow() -> list[int]:
        found: list[int] = []
        for event in connect(gateway.url).events(channel, last=10):
            assert isinstance(event, Event)
            found.append(event.data["n"])
            if len(found) == 10:
                break
        return found

    assert await asyncio.to_thread(follow) == list(range(1, 11))
    gc.collect()
    assert threads() == []


async def test_a_loop_ends_after_a_count_or_a_timeout(gateway: Gateway, bus: Publisher, channel: str) -> None:
    bus.send_numbered(channel, range(1, 11))
    await gateway.holds(channel, 10)

    def follow() -> tuple[list[int], list[int]]:
        with connect(gateway.url) as client:
            some = [one.data["n"] for one in client.events(channel, last=10, count=3) if isinstance(one, Event)]
            rest = [one.data["n"] for one in client.events(channel, last=4, timeout=0.5) if isinstance(one, Event)]
            return some, rest

    assert ([1, 2, 3], [7, 8, 9, 10]) == await asyncio.to_thread(follow)


async def test_caught_up_comes_after_the_events_that_the_gateway_held(
    gateway: Gateway, bus: Publisher, channel: str
) -> None:
    """It also comes if the filter rejects every event, and if the channels have none."""
    bus.send_numbered(channel, range(1, 3001))
    await gateway.holds(channel, 1000)

    def follow(*channels: str, **options: Any) -> int:
        with connect(gateway.url, buffer=100) as client:
            for number, one in enumerate(client.events(*channels, caught_up=True, **options)):
                if one is CAUGHT_UP:
                    return number
        raise AssertionError("ended")

    held = (await gateway.get_json(f"/api/v1/websocket/channels/{channel}"))["events"]
    assert held == await asyncio.to_thread(follow, channel, last=100_000)
    assert 0 == await asyncio.to_thread(follow, channel, last=5, filter="data.n < 0")
    assert 0 == await asyncio.to_thread(follow, f"{channel}.none", "no.*")


def test_a_blocking_client_sends_requests_and_publishes(gateway: Gateway, channel: str) -> None:
    with connect(gateway.url) as client:
        assert client.ping().seconds > 0
        assert client.publish(channel, {"n": 1}, "t").recipients == 0
        assert client.broadcast("t", 1) >= 1
        assert client.subscriptions() == []
        assert client.status()["ready"] is True
        assert client.history(channel).next.offset == 1
        assert channel in [one["name"] for one in client.channels()]
        assert client.presence(channel)["subscribers"] == 0
        with pytest.raises(RequestRefusedError):
            next(iter(client.events("no channel")))
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.ping()
    assert threads() == []


async def test_a_closed_blocking_client_does_not_start_again(gateway: Gateway, channel: str) -> None:
    """Each method and the `with` statement raise an error that says how to make a new client, as with a closed file."""

    def use() -> None:
        client = connect(gateway.url)
        client.close()
        with pytest.raises(RuntimeError, match="`connect` makes a new one"), client:
            pass
        with pytest.raises(RuntimeError, match="`connect` makes a new one"):
            next(client.events(channel))
        with connect(gateway.url) as another:
            assert another.subscriptions() == []

    await asyncio.to_thread(use)


async def test_closing_from_another_thread_ends_the_loop(gateway: Gateway, channel: str) -> None:
    client = await asyncio.to_thread(connect, gateway.url)

    def follow(client: BlockingClient) -> list[object]:
        return list(client.events(channel))

    loop = asyncio.create_task(asyncio.to_thread(follow, client))

    async def followed() -> bool:
        return channel in await asyncio.to_thread(client.subscriptions)

    await eventually(followed)
    await asyncio.to_thread(client.close)

    assert await loop == []


def test_an_unreachable_gateway_is_an_error() -> None:
    with pytest.raises(NotConnectedError):
        connect(f"http://127.0.0.1:{free_port()}", timeout=0.3)
    assert threads() == []


def test_a_script_that_does_not_close_its_client_exits(gateway: Gateway, channel: str) -> None:
    script = f"""
from neurograph_client import connect
client = connect({gateway.url!r})
events = client.events({channel!r})
print(client.publish({channel!r}, 1).recipients)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=scaled(DEADLINE_SECONDS)
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


async def test_closing_ends_a_request_that_is_under_way(gateway: Gateway, channel: str) -> None:
    """The request returns an answer, or raises that the client was closed; it never blocks for ever."""

    def ask_on(client: BlockingClient, asking: threading.Event) -> None:
        with contextlib.suppress(RuntimeError, NotConnectedError):
            while True:
                asking.set()
                client.subscriptions()

    for _ in range(20):
        client, asking = await asyncio.to_thread(connect, gateway.url), threading.Event()
        asked = asyncio.create_task(asyncio.to_thread(ask_on, client, asking))
        await asyncio.to_thread(asking.wait)
        await asyncio.to_thread(client.close)
        await asyncio.wait_for(asked, scaled(DEADLINE_SECONDS))


async def test_a_callback_receives_events_in_the_background_until_it_is_stopped(
    gateway: Gateway, bus: Publisher, channel: str
) -> None:
    found: list[int] = []
    ends: list[Exception | None] = []

    def take(items: list[Event[Any] | Gap]) -> None:
        found.extend(one.data["n"] for one in items if isinstance(one, Event))

    with await asyncio.to_thread(connect, gateway.url) as client:
        end = await asyncio.to_thread(client.follow, take, channel, every=0.01, on_end=ends.append)
        await eventually(lambda: client.subscriptions() == [channel])
        bus.send_numbered(channel, range(1, 101))
        await eventually(lambda: len(found) == 100)
        end()
        await eventually(lambda: ends == [None])
        await eventually(lambda: client.subscriptions() == [])

    assert [*range(1, 101)] == found


async def test_an_exception_in_a_callback_ends_its_subscription(gateway: Gateway, channel: str) -> None:
    ends: list[Exception | None] = []

    def fail(_: list[Event[Any] | Gap]) -> None:
        raise LookupError("no such thing")

    with await asyncio.to_thread(connect, gateway.url) as client:
        client.follow(fail, channel, every=0.01, on_end=ends.append)
        await eventually(lambda: len(ends) == 1)

    assert isinstance(ends[0], LookupError)


async def test_callbacks_end_with_the_client(gateway: Gateway, channel: str) -> None:
    ends: list[Exception | None] = []
    client = await asyncio.to_thread(connect, gateway.url)
    client.follow(lambda items: None, channel, on_end=ends.append)
    client.close()

    assert [None] == ends
