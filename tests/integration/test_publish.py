"""Events that clients publish over their WebSocket."""

from __future__ import annotations

import pytest

from tests.conftest import Connect, Launch
from tests.integration.conftest import Pair
from tests.support.gateway import Gateway
from tests.support.tokens import SETTINGS, bearer, token


NOTE = {"event_type": "note", "data": {"text": "hello"}}


def publish(channel: str, event: object = NOTE, **more: object) -> dict[str, object]:
    return {"type": "publish", "channel": channel, "event": event, **more}


async def test_an_event_reaches_the_channels_subscribers_and_the_answer_has_its_position(
    gateway: Gateway, connect: Connect, channel: str
) -> None:
    ada, bob = await connect(), await connect(channel)
    await bob.expect("subscribed")
    answer = await ada.ask(publish(channel, id=7), "published")
    [event] = await bob.events(channel, 1)

    assert (7, channel, 1) == (answer["id"], answer["channel"], answer["recipients"])
    assert (event["offset"], event["epoch"]) == (answer["position"]["offset"], answer["position"]["epoch"])
    assert NOTE.items() <= event.items()


@pytest.mark.parametrize(
    ("message", "code", "says"),
    [
        (publish("metrics", {"event_type": "system_metrics", "data": {"cpu_percent": "hot"}}), "invalid_event", "cpu"),
        (publish("$everyone"), "invalid_channel", "$everyone"),
        (publish("chat", idempotency_key=""), "invalid_field", "idempotency_key"),
        ({"type": "publish", "channel": "chat"}, "invalid_field", "event"),
    ],
)
async def test_what_cannot_be_published_is_refused_with_the_reason(
    connect: Connect, message: dict[str, object], code: str, says: str
) -> None:
    client = await connect()
    error = await client.refused({**message, "id": "x"})

    assert (code, "x") == (error["code"], error["id"])
    assert says in error["message"]


async def test_a_client_may_publish_only_where_its_token_permits(launch: Launch, connect: Connect) -> None:
    gateway = await launch(settings=SETTINGS)
    ada = await connect(to=gateway, headers=bearer(token(permissions={"publish": ["chat.*"]})))
    answer = await ada.ask(publish("chat.a"), "published")
    error = await ada.refused(publish("core.commands"))

    assert 1 == answer["position"]["offset"]
    assert ("forbidden", "none of your roles may publish on core.commands") == (error["code"], error["message"])


async def test_too_many_at_once_are_refused_for_a_while(launch: Launch, connect: Connect) -> None:
    settings = {"clients.publishes_burst": 2, "clients.publishes_per_second": 0.01}
    client = await connect(to=await launch(settings=settings))
    for _ in range(2):
        await client.ask(publish("chat"), "published")
    error = await client.refused(publish("chat"))

    assert "rate_limited" == error["code"]
    assert error["retry_after"] > 1


async def test_over_http_a_key_in_the_header_publishes_once(gateway: Gateway, channel: str) -> None:
    path, headers = f"/api/v1/websocket/broadcast?channel={channel}", {"Idempotency-Key": channel}
    answers = [await gateway.request("POST", path, body=NOTE, headers=headers) for _ in range(2)]
    refused = await gateway.request("POST", path, body={"other": 1}, headers=headers)

    assert [1, 1] == [one.json["position"]["offset"] for one in answers]
    assert (400, "invalid_field") == (refused.status, refused.json["code"])


async def test_at_any_worker_an_event_is_published_once_for_each_key(pair: Pair) -> None:
    """The parent numbers the events and knows the keys, so a retry may come by another worker."""
    first, second = await pair("chat")
    for one in (first, second):
        await one.expect("subscribed")
    message = publish("chat", idempotency_key="k1", id=1)
    answers = [await one.ask(message, "published") for one in (first, second)]
    refused = await second.refused(publish("chat", "other", idempotency_key="k1"))
    await first.ask(publish("chat", "last"), "published")
    events = await second.events("chat", 2)

    assert answers[0] == {**answers[1], "timestamp": answers[0]["timestamp"]}
    assert 1 == answers[0]["position"]["offset"]
    assert "invalid_field" == refused["code"]
    assert [NOTE["data"], "last"] == [event["data"] for event in events]
