"""A bad message is answered with a stable code, changes nothing, and never ends the connection."""

from __future__ import annotations

import json

import pytest

from gateway.core.fanout.filters import TEXT_CHARS_MAX
from tests.conftest import Connect
from tests.support.publisher import Publisher


BAD = [
    ("invalid_json", "{"),
    ("invalid_json", ""),
    ("invalid_json", "NaN"),
    ("invalid_json", '{"type": "ping"} x'),
    ("invalid_field", "[]"),
    ("invalid_field", "17"),
    ("invalid_field", "null"),
    ("unknown_type", '{"type": "no_such_type"}'),
    ("unknown_type", '{"type": "event"}'),
    ("unknown_type", '{"type": ""}'),
    ("unknown_type", "{}"),
    ("unknown_type", '{"type": 3}'),
    ("invalid_field", '{"type": "subscribe"}'),
    ("invalid_field", '{"type": "subscribe", "channels": "metrics"}'),
    ("invalid_field", '{"type": "subscribe", "channels": []}'),
    ("invalid_field", '{"type": "subscribe", "channels": [3]}'),
    ("invalid_field", '{"type": "subscribe", "channels": [{"last": 1}]}'),
    ("invalid_field", '{"type": "subscribe", "channels": ["metrics"], "last": -1}'),
    ("invalid_field", '{"type": "subscribe", "channels": ["metrics"], "last": "1"}'),
    ("invalid_field", '{"type": "subscribe", "channels": ["metrics"], "since": 3}'),
    ("invalid_field", '{"type": "subscribe", "channels": ["metrics"], "since": {"offset": 3}}'),
    ("invalid_field", '{"type": "subscribe", "channels": ["metrics"], "since": {"epoch": "e", "offset": -1}}'),
    ("invalid_field", '{"type": "subscribe", "channels": ["a", "b"], "since": {"epoch": "e", "offset": 1}}'),
    ("invalid_field", '{"type": "subscribe", "channels": ["a.*"], "since": {"epoch": "e", "offset": 1}}'),
    ("invalid_field", '{"type": "subscribe", "channels": ["metrics"], "id": [1]}'),
    ("invalid_field", '{"type": "unsubscribe", "channels": 3}'),
    ("invalid_channel", '{"type": "subscribe", "channels": [""]}'),
    ("invalid_channel", '{"type": "subscribe", "channels": ["a b"]}'),
    ("invalid_channel", '{"type": "subscribe", "channels": ["a..b"]}'),
    ("invalid_channel", '{"type": "subscribe", "channels": ["a.>.b"]}'),
    ("invalid_channel", '{"type": "subscribe", "channels": ["a*"]}'),
    ("invalid_channel", '{"type": "subscribe", "channels": ["$personal"]}'),
    ("invalid_channel", json.dumps({"type": "subscribe", "channels": ["x" * 256]})),
    ("invalid_filter", '{"type": "subscribe", "channels": ["metrics"], "filter": "level = 3"}'),
    ("invalid_field", json.dumps({"type": "subscribe", "channels": ["a"], "filter": "x" * (TEXT_CHARS_MAX + 1)})),
    ("invalid_field", '{"type": "subscribe", "channels": ["metrics"], "rate": 0}'),
    ("unsupported", '{"type": "auth", "token": "x"}'),
]


@pytest.mark.parametrize(("code", "text"), BAD, ids=[f"{c}-{i}" for i, (c, _) in enumerate(BAD)])
async def test_a_bad_message_is_answered_with_a_stable_code(connect: Connect, code: str, text: str) -> None:
    """The connection is kept, and a good message after the bad one is served."""
    client = await connect("status")
    await client.expect("subscribed")
    await client.send_text(text)
    error = await client.expect("error")

    assert code == error["code"], error
    assert {"type", "code", "status", "message", "temporary"} <= set(error)
    assert 400 <= error["status"] < 600
    assert error["message"]
    assert error["temporary"] is False
    await client.subscribe("metrics")
    listed = await client.ask({"type": "get_subscriptions"}, "subscriptions")
    assert sorted(listed["channels"]) == ["metrics", "status"]


async def test_an_invalid_subscribe_changes_nothing(bus: Publisher, connect: Connect, channel: str) -> None:
    """One bad channel among good ones: none is subscribed."""
    client = await connect()
    error = await client.refused({"type": "subscribe", "channels": [channel, "bad name"], "id": 1})
    listed = await client.ask({"type": "get_subscriptions"}, "subscriptions")

    assert (error["code"], error["id"]) == ("invalid_channel", 1)
    assert "bad name" in error["message"]
    assert listed["channels"] == []


async def test_the_number_of_subscriptions_is_limited(connect: Connect) -> None:
    """128 go, one more does not; unsubscribing makes room, repeating takes none."""
    client = await connect()
    names = [f"limit.{n}" for n in range(128)]
    await client.subscribe(*names)
    error = await client.refused({"type": "subscribe", "channels": ["one.more"]})
    await client.subscribe(*names[:3])
    await client.ask({"type": "unsubscribe", "channels": names[:1]}, "unsubscribed")
    await client.subscribe("one.more")
    too_many = await client.refused({"type": "subscribe", "channels": [*names, "b", "c"]})
    listed = await client.ask({"type": "get_subscriptions"}, "subscriptions")

    assert "too_many_subscriptions" == error["code"] == too_many["code"]
    assert len(listed["channels"]) == 128


async def test_an_unknown_parameter_is_reported_and_the_others_count(connect: Connect) -> None:
    client = await connect("robots", lst=1)
    subscribed = await client.expect("subscribed")
    error = await client.expect("error")

    assert ["robots"] == subscribed["channels"]
    assert "lst: no such parameter; did you mean `last`?" == error["message"]


async def test_unknown_fields_are_ignored(connect: Connect) -> None:
    """Newer clients can talk to older gateways."""
    client = await connect()

    await client.subscribe("metrics", whatever={"a": [1]}, newer=True)
