"""A lost session can be taken up again: identity, subscriptions, positions, and messages that waited."""

from __future__ import annotations

import asyncio

import pytest

from tests.conftest import Connect, Launch, NewPublisher, OpenRaw
from tests.support.publisher import Publisher
from tests.support.raw import CLOSE, PING, PONG
from tests.support.waiting import eventually


async def test_a_session_brings_back_identity_and_subscriptions(bus: Publisher, connect: Connect, channel: str) -> None:
    """Same client id and user, `resumed` is true, and `subscribed` names what was followed."""
    first = await connect(channel, "test.w.*", user_id="ada")
    await first.expect("subscribed")
    await first.lose()
    second = await connect(session=first.session)
    answer = await second.expect("subscribed")
    bus.send(channel, {"n": 1})
    await second.events(channel, 1)

    assert first.client_id == second.client_id
    assert second.hello["user_id"] == "ada"
    assert second.hello["resumed"] is True
    assert {channel, "test.w.*"} == set(answer["channels"])


async def test_what_was_published_meanwhile_is_delivered(bus: Publisher, connect: Connect, channel: str) -> None:
    """Without `since` it goes on from what the client is known to have: nothing is missing."""
    first = await connect(channel)
    await first.expect("subscribed")
    witness = await connect(channel)
    await witness.expect("subscribed")
    bus.send_numbered(channel, range(1, 11))
    await first.events(channel, 10)
    await first.lose()
    bus.send_numbered(channel, range(11, 31))
    await witness.events(channel, 30)
    second = await connect(session=first.session)
    answer = await second.expect("subscribed")
    bus.send(channel, {"n": 31})
    await second.until("event", channel=channel, offset=31)

    record = second.channel(channel)
    start = answer["positions"][channel]["offset"]
    assert start <= 10
    assert record.faults(after=start, until=31) == []
    assert record.gaps == []


async def test_a_session_with_since_goes_on_exactly_there(bus: Publisher, connect: Connect, channel: str) -> None:
    """The client knows best what it has: with `since` nothing comes twice."""
    first = await connect(channel)
    await first.expect("subscribed")
    bus.send_numbered(channel, range(1, 11))
    await first.events(channel, 10)
    position = (await first.ping())["positions"][channel]
    await first.lose()
    bus.send_numbered(channel, range(11, 21))
    second = await connect(session=first.session, since={channel: position})
    answer = await second.expect("subscribed")
    await second.events(channel, 10)
    await second.ping()

    assert {channel: True} == {channel: answer["recovered"][channel]}
    assert list(range(11, 21)) == second.channel(channel).offsets


async def test_what_was_not_acknowledged_is_delivered_again(
    launch: Launch, publisher: NewPublisher, raw: OpenRaw, connect: Connect
) -> None:
    """Events that a peer never read, between its last pong and the cut, are not lost with its socket."""
    fast = {"clients.heartbeat_seconds": 0.2, "clients.heartbeat_timeout_seconds": 0.2}
    gateway = await launch(settings=fast)
    bus = await publisher(gateway.bus_in)
    peer = await raw(to=gateway, upgrade=False)
    await peer.upgrade("/ws?channels=unread")
    hello = await peer.expect("connected")
    await peer.expect("subscribed")
    bus.send_numbered("unread", range(1, 6))
    for _ in range(5):
        await peer.expect("event")
    for _ in range(2):  # the second ping comes after the first pong was taken
        frame = await peer.read_frame()
        assert frame.opcode == PING
        await peer.send_frame(PONG, frame.payload)
    witness = await connect("unread", to=gateway)
    await witness.expect("subscribed")
    bus.send_numbered("unread", range(6, 11))
    await witness.events("unread", 5)
    peer.close()
    client = await connect(to=gateway, session=hello["session"])
    answer = await client.expect("subscribed")
    await client.until("event", offset=10)

    assert answer["positions"]["unread"]["offset"] <= 5
    assert client.channel("unread").faults(after=answer["positions"]["unread"]["offset"], until=10) == []


async def test_evicted_events_are_a_gap_for_a_session_too(
    launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    """A session that was disconnected for too long gets a gap for what it missed."""
    gateway = await launch(settings={"history.events_max": 20})
    bus = await publisher(gateway.bus_in)
    first = await connect("away", to=gateway)
    witness = await connect("away", to=gateway)
    await first.expect("subscribed")
    bus.send_numbered("away", range(1, 11))
    await first.events("away", 10)
    position = (await first.ping())["positions"]["away"]
    await first.lose()
    bus.send_numbered("away", range(11, 101))
    await witness.events("away", 100)
    second = await connect(to=gateway, session=first.session, since={"away": position})
    answer = await second.expect("subscribed")
    await second.events("away", 20)

    assert answer["recovered"]["away"] is False
    assert [(g["from"], g["to"], g["reason"]) for g in second.channel("away").gaps] == [(11, 80, "evicted")]
    assert second.channel("away").faults(after=10, until=100) == []


async def test_personal_messages_wait(launch: Launch, connect: Connect) -> None:
    """What was sent to an absent client, its user or everyone is there when it returns, in order."""
    gateway = await launch()
    first = await connect(to=gateway, user_id="ada")
    await first.lose()
    for n in range(10):
        target = {"client_id": first.client_id} if n % 2 else {"user_id": "ada"}
        await gateway.broadcast({**target, "event": {"event_type": "t", "data": {"n": n}}})
    await gateway.broadcast({"everyone": True, "event": {"event_type": "t", "data": {"n": 99}}})
    second = await connect(to=gateway, session=first.session)
    await second.events("$personal", 10)
    await second.events("$everyone", 1)
    await second.ping()

    assert list(range(10)) == second.channel("$personal").numbers
    assert second.channel("$everyone").numbers == [99]
    assert second.channel("$personal").faults(after=0, until=10) == []


async def test_personal_messages_that_wait_are_bounded(launch: Launch, connect: Connect) -> None:
    """The newest 1000 wait (here 20); those that made room are named by a gap."""
    gateway = await launch(settings={"sessions.messages_max": 20})
    first = await connect(to=gateway)
    await first.lose()
    for n in range(1, 51):
        await gateway.broadcast({"client_id": first.client_id, "event": {"n": n}})
    second = await connect(to=gateway, session=first.session)
    await second.events("$personal", 20)

    record = second.channel("$personal")
    assert list(range(31, 51)) == record.numbers
    assert [(g["from"], g["to"]) for g in record.gaps] == [(1, 30)]


async def test_personal_messages_that_were_received_do_not_come_again(launch: Launch, connect: Connect) -> None:
    """With `since` for $personal a session goes on after the last one seen."""
    gateway = await launch()
    first = await connect(to=gateway)
    for n in range(1, 6):
        await gateway.broadcast({"client_id": first.client_id, "event": {"n": n}})
    await first.events("$personal", 5)
    position = (await first.ping())["positions"]["$personal"]
    await first.lose()
    await gateway.broadcast({"client_id": first.client_id, "event": {"n": 6}})
    second = await connect(to=gateway, session=first.session, since={"$personal": position})
    await second.events("$personal", 1)
    await second.ping()

    assert second.channel("$personal").numbers == [6]


async def test_the_secret_is_rotated(connect: Connect) -> None:
    """Each connection has a fresh secret; once that was used, the one before opens nothing any more."""
    first = await connect("metrics")
    await first.lose()
    second = await connect(session=first.session)
    await second.lose()
    third = await connect(session=second.session)
    stale = await connect(session=first.session)

    assert first.session != second.session
    assert (stale.hello["resumed"], third.hello["resumed"]) == (False, True)
    assert stale.client_id != first.client_id == third.client_id


@pytest.mark.parametrize("flags", [[], ["--workers", "2"]], ids=["one process", "two workers"])
async def test_a_return_that_is_interrupted_can_be_repeated(
    launch: Launch, connect: Connect, raw: OpenRaw, flags: list[str]
) -> None:
    """The client never got the new secret: the one that it has opens the session, with what waits in it."""
    gateway = await launch(flags=flags)
    first = await connect("metrics", to=gateway, user_id="ann")
    await first.lose()
    await gateway.broadcast({"user_id": "ann", "event": {"event_type": "t", "data": {"n": 1}}})
    for _ in range(3):
        peer = await raw(to=gateway, upgrade=False)
        await peer.upgrade(f"/ws?session={first.session}")
        peer.reset()
    second = await connect(to=gateway, session=first.session)
    await second.events("$personal", 1)

    assert second.hello["resumed"] is True
    assert second.client_id == first.client_id


@pytest.mark.parametrize("secret", ["unknown", "x" * 4000, "ü%00"])
async def test_an_unknown_secret_gives_a_new_session(connect: Connect, secret: str) -> None:
    """`resumed` is false, and all else is as for a new client."""
    client = await connect("metrics", session=secret)

    assert client.hello["resumed"] is False
    assert (await client.expect("subscribed"))["channels"] == ["metrics"]


async def test_a_half_open_connection_is_taken_over(
    launch: Launch, publisher: NewPublisher, connect: Connect, raw: OpenRaw
) -> None:
    """The old connection is closed with 4500, without a reconnect; the new one gets everything."""
    gateway = await launch()
    bus = await publisher(gateway.bus_in)
    old = await connect("over", to=gateway)
    await old.expect("subscribed")
    new = await connect(to=gateway, session=old.session)
    await new.expect("subscribed")
    bus.send("over", {"n": 1})
    await new.events("over", 1)
    code = await old.closed()

    assert code == 4500
    assert old.closing is not None
    assert (old.closing["reason"], old.closing["reconnect"]) == ("session_taken_over", False)
    assert old.client_id == new.client_id
    assert old.channel("over").events == []
    assert (await gateway.status())["connections"] == 1


async def test_a_peer_that_never_answers_is_taken_over_too(launch: Launch, connect: Connect, raw: OpenRaw) -> None:
    """It does not wait until the old peer answers the close frame; the old socket is closed soon."""
    gateway = await launch()
    peer = await raw(to=gateway, upgrade=False)
    await peer.upgrade("/ws?channels=metrics")
    hello = await peer.expect("connected")
    client = await connect(to=gateway, session=hello["session"])
    await client.expect("subscribed")
    await client.ping()

    async def released() -> bool:
        return await gateway.metric("neurograph_gateway_connections") == 1

    await eventually(released)
    data = await peer.read_to_end()
    assert b"session_taken_over" in data
    peer.close()


async def test_a_session_expires(launch: Launch, connect: Connect) -> None:
    """After its time to live a session is forgotten, with all that it held."""
    gateway = await launch(settings={"sessions.ttl_seconds": 0.3})
    first = await connect("metrics", to=gateway)
    await first.lose()

    async def gone() -> bool:
        answer = await gateway.request(
            "POST", "/api/v1/websocket/broadcast", body={"client_id": first.client_id, "event": {"n": 1}}
        )
        return answer.status == 404

    await eventually(gone)
    second = await connect(to=gateway, session=first.session)
    assert second.hello["resumed"] is False
    assert second.hello["session_ttl_seconds"] == 0.3


async def test_remembered_sessions_are_bounded(launch: Launch, connect: Connect) -> None:
    """Beyond the limit the session lost longest ago is forgotten first."""
    gateway = await launch(settings={"sessions.disconnected_max": 3})
    lost = []
    for _ in range(5):
        client = await connect(to=gateway)
        await client.lose()

        async def alone() -> bool:
            return bool((await gateway.status())["connections"] == 0)

        await eventually(alone)
        lost.append(client.session)
    resumed = [(await connect(to=gateway, session=s)).hello["resumed"] for s in reversed(lost)]

    assert resumed == [True, True, True, False, False]


async def test_a_client_that_closes_may_come_back_too(connect: Connect) -> None:
    """A page that reloads closes with 1001 or 1000; its session waits all the same."""
    first = await connect("metrics")
    await first.close()
    second = await connect(session=first.session)

    assert second.hello["resumed"] is True


async def test_unsubscribed_channels_stay_unsubscribed(bus: Publisher, connect: Connect, channel: str) -> None:
    """A session brings back what was followed last, not what was followed once."""
    first = await connect(channel, channel + "b")
    await first.expect("subscribed")
    await first.ask({"type": "unsubscribe", "channels": [channel]}, "unsubscribed")
    await first.lose()
    second = await connect(session=first.session)

    assert [channel + "b"] == (await second.expect("subscribed"))["channels"]


async def test_secrets_are_never_logged(launch: Launch, connect: Connect, raw: OpenRaw) -> None:
    """Neither new secrets nor those that clients send are logged, also at the level debug."""
    gateway = await launch(settings={"logging.level": "debug"})
    first = await connect("metrics", to=gateway)
    second = await connect(to=gateway, session=first.session)
    unknown = "an-unknown-secret-of-a-client"
    third = await connect(to=gateway, session=unknown)
    for line in (f"GET /ws?session={unknown} HTTP/1.1\r\nbad", f"GET /ws?session={unknown} bad"):
        bare = await raw(to=gateway, upgrade=False)
        await bare.send_bytes(f"{line}\r\n\r\n".encode())
        await bare.read_to_end()
    for client in (first, second, third):
        await client.close()
    await gateway.request("GET", f"/nowhere?session={unknown}")
    log = "\n".join(gateway.lines)

    assert not any(s in log for s in (first.session, second.session, third.session, unknown))
    status = (await gateway.request("GET", "/api/v1/websocket/status")).text
    assert not any(s in status for s in (first.session, second.session, third.session))


async def test_resuming_under_full_load_misses_nothing(
    launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    """A client that is cut again and again under load accounts for every offset."""
    gateway = await launch(settings={"history.events_max": 200_000, "history.bytes_max": 1 << 28})
    bus = await publisher(gateway.bus_in)
    client = await connect("load", to=gateway)
    await client.expect("subscribed")
    sent, stop = 0, False

    async def pour() -> None:
        nonlocal sent
        while not stop:
            bus.send_numbered("load", range(sent + 1, sent + 21))
            sent += 20
            await asyncio.sleep(0.002)

    pouring = asyncio.create_task(pour())
    seen: list[int] = []
    for _ in range(10):
        await client.events("load", 50)
        position = (await client.ping())["positions"]["load"]
        await client.lose()
        seen += client.channel("load").offsets
        last = {**position, "offset": seen[-1]}
        client = await connect(to=gateway, session=client.session, since={"load": last})
        answer = await client.expect("subscribed")
        assert answer["recovered"]["load"] is True
    stop = True
    await pouring
    await client.until("event", offset=sent)
    seen += client.channel("load").offsets

    assert list(range(1, sent + 1)) == seen


async def test_a_close_frame_of_the_peer_ends_it_at_once(launch: Launch, raw: OpenRaw) -> None:
    """After a closing handshake nothing of the connection is left, though its session waits."""
    gateway = await launch()
    peer = await raw(to=gateway)
    await peer.send_close(1000)
    ending = await peer.read_ending()

    assert ending.code == 1000
    assert ending.frames[-1].opcode == CLOSE
    assert ending.closing is None
    assert (await gateway.status())["connections"] == 0
