"""The gateway's own events: clients that come, go, subscribe and unsubscribe."""

from __future__ import annotations

from tests.conftest import Connect, Launch, OpenRaw
from tests.support.record import Message
from tests.support.ws import Client


async def _next_of(watcher: Client, client_id: str) -> Message:
    while True:
        event = await watcher.until("event", channel="connections")
        if event["data"]["client_id"] == client_id:
            return event


async def test_connects_subscriptions_and_disconnects_are_published(launch: Launch, connect: Connect) -> None:
    """connected, subscribed, unsubscribed, disconnected, in order, each with the current total."""
    gateway = await launch()
    watcher = await connect("connections", to=gateway)
    client = await connect(to=gateway, user_id="ada")
    await client.subscribe("metrics", "logs.*")
    await client.ask({"type": "unsubscribe", "channels": ["logs.*", "never"]}, "unsubscribed")
    await client.close()
    events = [await _next_of(watcher, client.client_id) for _ in range(4)]

    kinds = ["client.connected", "client.subscribed", "client.unsubscribed", "client.disconnected"]
    assert kinds == [e["event_type"] for e in events]
    assert [e["data"]["user_id"] for e in events] == ["ada"] * 4
    assert [e["data"]["total_connections"] for e in events] == [2, 2, 2, 1]
    assert events[1]["data"]["channels"] == ["metrics", "logs.*"]
    assert events[2]["data"]["channels"] == ["logs.*"]
    assert events[3]["data"]["code"] == 1000
    assert events[3]["data"]["seconds"] > 0
    assert watcher.channel("connections").faults() == []


async def test_a_client_that_vanishes_is_published(launch: Launch, connect: Connect, raw: OpenRaw) -> None:
    """A connection that was cut is a disconnect with code 1006."""
    gateway = await launch()
    watcher = await connect("connections", to=gateway)
    await watcher.expect("subscribed")
    peer = await raw(to=gateway)
    connected = await watcher.until("event", event_type="client.connected")
    if connected["data"]["client_id"] == watcher.client_id:
        connected = await watcher.until("event", event_type="client.connected")
    peer.close()
    gone = await watcher.until("event", event_type="client.disconnected")

    assert connected["data"]["client_id"] == gone["data"]["client_id"]
    assert gone["data"]["code"] == 1006


async def test_a_refused_subscription_is_not_published(launch: Launch, connect: Connect) -> None:
    """Only what changed is an event."""
    gateway = await launch()
    watcher = await connect("connections", to=gateway)
    client = await connect(to=gateway)
    await client.refused({"type": "subscribe", "channels": ["bad name"]})
    await client.subscribe("good")
    await _next_of(watcher, client.client_id)
    event = await _next_of(watcher, client.client_id)

    assert (event["event_type"], event["data"]["channels"]) == ("client.subscribed", ["good"])


async def test_secrets_are_not_published(launch: Launch, connect: Connect) -> None:
    """What watchers see of others opens no session."""
    gateway = await launch()
    watcher = await connect("connections", to=gateway)
    client = await connect("metrics", to=gateway)
    await client.close()
    await watcher.until("event", event_type="client.disconnected")

    assert client.session not in str(watcher.everything)
