"""Messages to a channel, one client, one user, or everyone."""

from __future__ import annotations

import pytest

from tests.conftest import Connect, Launch
from tests.support.gateway import Gateway
from tests.support.waiting import eventually


EVENT = {"event_type": "test.direct", "data": {"n": 1}}
PATH = "/api/v1/websocket/broadcast"


async def test_a_broadcast_to_a_channel_reaches_its_subscribers(
    gateway: Gateway, connect: Connect, channel: str
) -> None:
    """It takes an offset like any event, and the answer counts the recipients."""
    one, two, other = await connect(channel), await connect("test.>"), await connect("status")
    for client in (one, two, other):
        await client.expect("subscribed")
    answer = await gateway.broadcast({"channel": channel, "event": EVENT})
    event = await one.expect("event")
    await two.events(channel, 1)
    await other.ping()

    assert (2, channel) == (answer["recipients"], answer["channel"])
    assert (1, event["offset"]) == (answer["position"]["offset"], 1)
    assert (event["event_type"], event["data"]) == ("test.direct", {"n": 1})
    assert other.channel(channel).events == []


async def test_the_first_form_of_broadcast_works(gateway: Gateway, connect: Connect) -> None:
    """?channel=metrics with the event object as body, as the first NeuroGraph server had it."""
    client = await connect("metrics")
    await client.expect("subscribed")
    body = {"event_type": "system_metrics", "data": {"cpu_percent": 3.5}}
    answer = await gateway.broadcast(body, "?channel=metrics")
    event = await client.expect("event")

    assert answer["recipients"] >= 1
    assert event["data"] == {"cpu_percent": 3.5}
    assert answer["position"]["offset"] == event["offset"]


async def test_a_message_to_one_client_reaches_it_alone(gateway: Gateway, connect: Connect) -> None:
    """It comes on $personal, without a subscription."""
    one, other = await connect(), await connect()
    answer = await gateway.broadcast({"client_id": one.client_id, "event": EVENT})
    event = await one.expect("event")
    await other.ping()

    assert answer["recipients"] == 1
    assert (event["channel"], event["offset"], event["data"]) == ("$personal", 1, {"n": 1})
    assert not [m for m in other.everything if m["type"] == "event"]


async def test_a_message_to_a_user_reaches_all_its_clients(gateway: Gateway, connect: Connect) -> None:
    """Two clients of one user, and none of another."""
    ada1, ada2 = await connect(user_id="ada-direct"), await connect(user_id="ada-direct")
    bob = await connect(user_id="bob-direct")
    answer = await gateway.broadcast({"user_id": "ada-direct", "event": EVENT})
    await ada1.events("$personal", 1)
    await ada2.events("$personal", 1)
    await bob.ping()

    assert answer["recipients"] == 2
    assert bob.channel("$personal").events == []


async def test_a_message_to_everyone_reaches_all(launch: Launch, connect: Connect) -> None:
    """It comes on $everyone, once to each client, with an offset of its own."""
    gateway = await launch()
    clients = [await connect(to=gateway), await connect(">", to=gateway), await connect("metrics", to=gateway)]
    answer = await gateway.broadcast({"everyone": True, "event": EVENT})
    for client in clients:
        await client.events("$everyone", 1)
        await client.ping()

    assert answer["recipients"] == 3
    assert [c.channel("$everyone").offsets for c in clients] == [[1]] * 3


async def test_any_json_can_be_sent(gateway: Gateway, connect: Connect) -> None:
    """What is no event object becomes `data` whole, on personal messages too."""
    client = await connect()
    for value in ([1, "two"], "text", 17, None, {"a": {"b": 1}}):
        await gateway.broadcast({"client_id": client.client_id, "event": value})
    events = await client.events("$personal", 5)

    assert [e["data"] for e in events] == [[1, "two"], "text", 17, None, {"a": {"b": 1}}]
    assert [e["offset"] for e in events] == [1, 2, 3, 4, 5]


async def test_pong_has_personal_positions(gateway: Gateway, connect: Connect) -> None:
    """The reserved channels have positions like any other."""
    client = await connect()
    await gateway.broadcast({"client_id": client.client_id, "event": EVENT})
    await client.events("$personal", 1)
    positions = (await client.ping())["positions"]

    assert positions["$personal"]["offset"] == 1
    assert "$everyone" in positions


async def test_an_unknown_client_is_an_error(gateway: Gateway) -> None:
    """404, with a problem document that names the code."""
    problem = await gateway.broadcast({"client_id": "nobody", "event": EVENT}, status=404)

    assert problem["code"] == "unknown_client"


async def test_an_unknown_user_has_no_recipients(gateway: Gateway) -> None:
    """Users are not registered anywhere: nobody is there, and that is the answer."""
    answer = await gateway.broadcast({"user_id": "nobody at all", "event": EVENT})

    assert answer["recipients"] == 0


async def test_a_broadcast_without_subscribers_is_kept_in_the_log(
    gateway: Gateway, connect: Connect, channel: str
) -> None:
    """No recipients now, and history for who comes later."""
    answer = await gateway.broadcast({"channel": channel, "event": EVENT})
    client = await connect(channel, last=1)
    await client.events(channel, 1)

    assert answer["recipients"] == 0


@pytest.mark.parametrize(
    ("body", "query", "status"),
    [
        ({"channel": "metrics", "event": {"event_type": "m", "data": {"cpu_percent": "x"}}}, "", 422),
        ({"channel": "metrics", "event": {"data": {}}}, "", 422),
        ({"channel": "own", "event": {"event_type": "m", "data": 1, "channel": "other"}}, "", 422),
        ({"data": {}}, "?channel=metrics", 422),
        ({"channel": "bad name", "event": EVENT}, "", 400),
        ({"channel": "a.*", "event": EVENT}, "", 400),
        (EVENT, "?channel=bad%20name", 400),
        ({"channel": "metrics"}, "", 400),
        ({"event": EVENT}, "", 400),
        ({"channel": "metrics", "everyone": True, "event": EVENT}, "", 400),
        ({"channel": 3, "event": EVENT}, "", 400),
        ([], "", 400),
        (17, "", 400),
    ],
)
async def test_a_bad_broadcast_is_refused(gateway: Gateway, body: object, query: str, status: int) -> None:
    """A problem document says what is wrong, and nobody gets anything."""
    answer = await gateway.request("POST", PATH + query, body=body)

    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.status == answer.json["status"]
    # 400 and 422 both say that the request is at fault; an event that is not valid is always 422
    assert answer.status == 422 if status == 422 else answer.status in {400, 422}


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b'{"event": NaN, "everyone": true}'])
async def test_a_broadcast_that_is_no_json_is_refused(gateway: Gateway, raw: bytes) -> None:
    """400, and the gateway goes on."""
    answer = await gateway.request("POST", PATH, raw=raw)

    assert answer.status == 400
    assert "code" in answer.json


async def test_a_broadcast_that_is_too_large_is_refused(gateway: Gateway) -> None:
    """The limit of the bus holds for REST too: 413, nothing delivered."""
    body = {"everyone": True, "event": "x" * 2_000_000}
    problem = await gateway.broadcast(body, status=413)

    assert problem["code"] == "too_large"


async def test_a_departed_client_is_remembered_then_counted(launch: Launch, connect: Connect) -> None:
    """A message to a client that may come back is accepted."""
    gateway = await launch()
    client = await connect(to=gateway)
    await client.close()

    async def gone() -> bool:
        return bool((await gateway.status())["connections"] == 0)

    await eventually(gone)
    await gateway.broadcast({"client_id": client.client_id, "event": EVENT})
    again = await connect(to=gateway, session=client.session)

    assert [e["data"] for e in await again.events("$personal", 1)] == [{"n": 1}]
