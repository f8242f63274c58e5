"""Clients say what they want to follow; a bad message is answered and harms nothing."""

from __future__ import annotations

import pytest

from tests.conftest import Connect, Launch, NewPublisher
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.record import Message
from tests.support.waiting import eventually


async def test_the_first_message_tells_all_that_a_client_needs(connect: Connect) -> None:
    """Identity, session, server, heartbeat and limits come with `connected`."""
    hello = (await connect()).hello

    assert {
        "type",
        "client_id",
        "user_id",
        "timestamp",
        "session",
        "session_ttl_seconds",
        "resumed",
        "server",
        "heartbeat_seconds",
        "limits",
        "roles",
        "token_expires",
    } == set(hello)
    assert len(hello["session"]) >= 22
    assert hello["session"] != hello["client_id"]
    assert (hello["resumed"], hello["user_id"], hello["token_expires"]) == (False, None, None)
    assert (hello["heartbeat_seconds"], hello["session_ttl_seconds"]) == (30.0, 300.0)
    assert hello["limits"] == {"message_bytes_max": 65536, "subscriptions_max": 128}
    assert {"name", "version"} == set(hello["server"])


async def test_a_client_may_name_its_user(connect: Connect) -> None:
    """While no authentication is configured, ?user_id= is believed."""
    client = await connect(user_id="ada")

    assert client.hello["user_id"] == "ada"


async def test_two_clients_have_different_ids(connect: Connect) -> None:
    """Client ids and session secrets are never the same."""
    one, two = await connect(), await connect()

    assert one.client_id != two.client_id
    assert one.session != two.session


async def test_subscribing_starts_delivery(bus: Publisher, connect: Connect, channel: str) -> None:
    """Nothing comes before `subscribed`, and everything after it, from the position that it names."""
    early = await connect(channel)
    await early.expect("subscribed")
    bus.send(channel, {"n": 1})
    await early.events(channel, 1)
    client = await connect()

    answer = await client.subscribe(channel, id="s-1")
    bus.send(channel, {"n": 2})
    await client.events(channel, 1)

    assert answer["id"] == "s-1"
    assert [channel] == answer["channels"]
    assert answer["positions"][channel]["offset"] == 1
    assert answer["positions"][channel]["epoch"]
    assert (answer["recovered"], answer["denied"]) == ({}, [])
    assert client.channel(channel).offsets == [2]


async def test_the_query_subscribes_on_connecting(bus: Publisher, connect: Connect, channel: str) -> None:
    """?channels=a,b is a subscribe message in all but form."""
    client = await connect(channel, channel + "b")
    answer = await client.expect("subscribed")
    bus.send(channel + "b", {"n": 1})

    assert {channel, channel + "b"} == set(answer["channels"])
    assert channel + "b" == (await client.expect("event"))["channel"]


async def test_the_query_takes_last(bus: Publisher, connect: Connect, channel: str) -> None:
    """?last=2 starts with the two newest events."""
    first = await connect(channel)
    bus.send_numbered(channel, range(5))
    await first.events(channel, 5)
    client = await connect(channel, last=2)
    await client.events(channel, 2)
    await client.ping()

    assert client.channel(channel).numbers == [3, 4]


async def test_a_bad_query_is_answered_and_the_connection_kept(connect: Connect) -> None:
    """Channels that are none get an error after `connected`, not a refused handshake."""
    client = await connect("not a channel!")

    assert (await client.expect("error"))["code"] == "invalid_channel"
    await client.ping()


@pytest.mark.parametrize("query", [{"last": "many"}, {"last": "-1"}, {"since": "nonsense"}])
async def test_a_bad_query_field_is_named(connect: Connect, query: dict[str, str]) -> None:
    """A query value that cannot be read is an invalid_field that names it."""
    client = await connect("metrics", **query)
    error = await client.expect("error")

    assert error["code"] == "invalid_field"
    assert next(iter(query)) in error["message"]
    await client.ping()


@pytest.mark.parametrize("name", ["x", 7, 0, "", "ü" * 100])
async def test_answers_echo_the_messages_id(connect: Connect, name: object) -> None:
    """Strings and integers come back as they were sent, in every kind of answer."""
    client = await connect()
    asked: list[tuple[Message, str]] = [
        ({"type": "subscribe", "channels": ["metrics"]}, "subscribed"),
        ({"type": "unsubscribe", "channels": ["metrics"]}, "unsubscribed"),
        ({"type": "get_subscriptions"}, "subscriptions"),
        ({"type": "ping"}, "pong"),
        ({"type": "subscribe", "channels": ["?"]}, "error"),
        ({"type": "no_such_type"}, "error"),
    ]
    for message, answer in asked:
        assert name == (await client.ask({**message, "id": name}, answer))["id"]


async def test_answers_without_an_id_have_none(connect: Connect) -> None:
    """The field is left out, not null."""
    client = await connect()

    assert "id" not in await client.subscribe("metrics")
    assert "id" not in await client.ping()
    assert "id" not in await client.refused({"type": "no_such_type"})


async def test_unsubscribing_ends_delivery(bus: Publisher, connect: Connect, channel: str) -> None:
    """What was not subscribed is not named, and after `unsubscribed` nothing of the channel comes."""
    client = await connect(channel, channel + "b")
    await client.expect("subscribed")
    answer = await client.ask({"type": "unsubscribe", "channels": [channel, "never.subscribed"]}, "unsubscribed")
    bus.send(channel, {"n": 1})
    bus.send(channel + "b", {"n": 2})
    await client.events(channel + "b", 1)

    assert [channel] == answer["channels"]
    assert client.channel(channel).events == []


async def test_subscriptions_can_be_asked_for(connect: Connect) -> None:
    """The list names what was subscribed, wildcards as they are, each once."""
    client = await connect("metrics")
    await client.expect("subscribed")
    await client.subscribe("logs.*", "metrics")
    answer = await client.ask({"type": "get_subscriptions"}, "subscriptions")

    assert sorted(answer["channels"]) == ["logs.*", "metrics"]


async def test_a_channel_may_be_subscribed_twice_and_comes_once(bus: Publisher, connect: Connect, channel: str) -> None:
    """Overlapping subscriptions, wildcards among them, never double an event."""
    client = await connect(channel)
    await client.expect("subscribed")
    await client.subscribe(channel)
    await client.subscribe("test.*", channel, channel)
    bus.send_numbered(channel, range(20))
    await client.events(channel, 20)
    await client.ask({"type": "unsubscribe", "channels": ["test.*"]}, "unsubscribed")
    bus.send_numbered(channel, range(20, 40))
    await client.events(channel, 40)
    await client.ping()

    assert list(range(40)) == client.channel(channel).numbers


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("{c}.*", ["{c}.a", "{c}.b"], ["{c}", "{c}.a.b", "{c}x.a"]),
        ("{c}.>", ["{c}.a", "{c}.a.b"], ["{c}", "{c}x.a"]),
        ("{c}.*.z", ["{c}.a.z"], ["{c}.a", "{c}.a.z.z", "{c}.z"]),
    ],
)
async def test_wildcards_select_channels(
    bus: Publisher, connect: Connect, channel: str, pattern: str, matching: list[str], others: list[str]
) -> None:
    """`*` is one segment, `>` the rest; channels that open later are selected too."""
    client = await connect()
    await client.subscribe(pattern.format(c=channel), channel + ".end")
    for name in [*others, *matching]:
        bus.send(name.format(c=channel), {"n": 1})
    bus.send(channel + ".end", {"n": 2})
    await client.until("event", channel=channel + ".end")

    seen = {m["channel"] for m in client.everything if m["type"] == "event"}
    assert {name.format(c=channel) for name in matching} == seen - {channel + ".end"}


async def test_everything_can_be_subscribed(bus: Publisher, connect: Connect, channel: str) -> None:
    """`>` selects every channel, those yet to come too."""
    client = await connect(">")
    await client.expect("subscribed")
    bus.send(channel, {"n": 1})
    bus.send("status", {"status": "up"}, event_type="status.up")
    await client.until("event", channel=channel)
    await client.until("event", channel="status")


async def test_last_starts_with_the_newest_events(bus: Publisher, connect: Connect, channel: str) -> None:
    """`last` for the message, or for one channel of it; no gap is told, for none was promised."""
    first = await connect(channel, channel + "b")
    bus.send_numbered(channel, range(10))
    bus.send_numbered(channel + "b", range(10))
    await first.events(channel + "b", 10)
    client = await connect()
    answer = await client.subscribe({"channel": channel, "last": 1}, channel + "b", last=3)
    bus.send(channel, {"n": 10})
    await client.events(channel, 2)
    await client.events(channel + "b", 3)

    assert client.channel(channel).numbers == [9, 10]
    assert client.channel(channel + "b").numbers == [7, 8, 9]
    assert answer["positions"][channel]["offset"] == 9
    assert answer["positions"][channel + "b"]["offset"] == 7
    assert answer["recovered"] == {}
    assert client.channel(channel).gaps == []


async def test_last_of_a_wildcard_is_per_channel(bus: Publisher, connect: Connect, channel: str) -> None:
    """`last: 1` of a pattern is the current value of each channel that it selects."""
    first = await connect(f"{channel}.>")
    await first.expect("subscribed")
    for name in "abc":
        bus.send_numbered(f"{channel}.{name}", range(4))
    await first.events(f"{channel}.c", 4)
    client = await connect()
    await client.subscribe(f"{channel}.*", last=1)
    for name in "abc":
        await client.events(f"{channel}.{name}", 1)
    await client.ping()

    assert [client.channel(f"{channel}.{name}").numbers for name in "abc"] == [[3]] * 3


async def test_last_may_ask_for_more_than_there_is(bus: Publisher, connect: Connect, channel: str) -> None:
    """Then all comes that is held; 0 is the same as none."""
    first = await connect(channel)
    bus.send_numbered(channel, range(3))
    await first.events(channel, 3)
    much, none = await connect(channel, last=100_000), await connect(channel, last=0)
    await much.events(channel, 3)
    await none.expect("subscribed")
    await none.ping()

    assert much.channel(channel).numbers == [0, 1, 2]
    assert none.channel(channel).events == []


async def test_pong_tells_the_positions(bus: Publisher, connect: Connect, channel: str) -> None:
    """All events up to the positions of a pong came before it; quiet channels are named too."""
    client = await connect(channel, channel + "quiet")
    await client.expect("subscribed")
    bus.send_numbered(channel, range(3))
    await client.events(channel, 3)
    pong = await client.ping()

    assert pong["positions"][channel]["offset"] == 3
    assert pong["positions"][channel + "quiet"]["offset"] == 0
    assert pong["positions"][channel]["epoch"]


async def test_positions_of_wildcards_name_the_channels(
    launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    """`positions` has an entry for each channel that a pattern selects now."""
    gateway = await launch()
    one = await publisher(gateway.bus_in)
    first = await connect("w.>", to=gateway)
    await first.expect("subscribed")
    one.send("w.a", {"n": 1})
    one.send("w.b", {"n": 1})
    await first.events("w.b", 1)
    client = await connect(to=gateway)
    answer = await client.subscribe("w.*")

    assert answer["channels"] == ["w.*"]
    assert {k: v["offset"] for k, v in answer["positions"].items()} == {"w.a": 1, "w.b": 1}


async def test_what_a_client_left_is_released(launch: Launch, connect: Connect) -> None:
    """After a client is gone the status counts neither it nor its subscriptions."""
    gateway: Gateway = await launch()
    client = await connect("metrics", "logs", to=gateway)
    await client.expect("subscribed")
    before = await gateway.status()
    await client.close()

    async def released() -> bool:
        after = await gateway.status()
        return bool(after["connections"] == 0 and after["subscriptions"] == 0)

    await eventually(released)
    assert (before["connections"], before["subscriptions"]) == (1, 2)
