"""Clients that move between the gateways of a cluster, and messages that find them."""

from __future__ import annotations

import asyncio
import signal
from typing import Any
from urllib.parse import quote

import pytest

from gateway.core.cluster.sessions import secret_key
from tests.conftest import Connect, Launch, NewPublisher
from tests.support.cluster import clustered, degraded, launch_pair, members, note, numbers, restart, whole, with_workers
from tests.support.gateway import Gateway
from tests.support.redis import RedisServer
from tests.support.waiting import eventually
from tests.support.ws import Client


TAKEN_OVER, DISCONNECTED = 4500, 4504


async def kept(redis: RedisServer, prefix: str, client: Client, **fields: str) -> None:
    """Wait until the engine has a client's session, with these fields and the secret that the client has."""

    def is_kept() -> bool:
        found = redis.command("HGETALL", f"{prefix}:session:{client.client_id}")
        has_secret = redis.command("EXISTS", f"{prefix}:secret:{secret_key(client.session)}")
        return isinstance(found, dict) and bool(found and has_secret) and fields.items() <= found.items()

    await eventually(lambda: asyncio.to_thread(is_kept), saying="the session is kept")


async def closed(client: Client, code: int) -> None:
    """Wait until a client's connection is closed with this code."""
    await eventually(lambda: client.close_code, saying="it is closed")
    assert code == client.close_code


@with_workers
async def test_a_session_goes_on_at_another_gateway(
    cluster_pair: list[Gateway], redis: RedisServer, prefix: str, publisher: NewPublisher, connect: Connect
) -> None:
    """Same client, user and subscriptions; the events meanwhile are delivered, and nothing is missing."""
    first, second = cluster_pair
    buses = [await publisher(one.bus_in) for one in cluster_pair]
    client = await connect("robots", "robots.*", to=first, user_id="ada")
    witness = await connect("robots", to=second)
    for one in (client, witness):
        await one.expect("subscribed")
    for bus in buses:
        bus.incarnation = buses[0].incarnation
        bus.send_numbered("robots", range(1, 11), enveloped=True)
    await client.events("robots", 10)
    await witness.events("robots", 10)
    position = (await client.ping())["positions"]["robots"]
    await kept(redis, prefix, client)
    await client.lose()
    for bus in buses:
        bus.send_numbered("robots", range(11, 21), enveloped=True)
    await witness.events("robots", 20)
    back = await connect(session=client.session, since={"robots": position}, to=second)
    subscribed = await back.expect("subscribed")
    await back.events("robots", 10)

    assert (client.client_id, True) == (back.client_id, back.hello["resumed"])
    assert "ada" == back.hello["user_id"]
    assert {"robots", "robots.*"} == set(subscribed["channels"])
    assert subscribed["recovered"]["robots"]
    assert list(range(11, 21)) == back.channel("robots").offsets


@with_workers
async def test_personal_messages_find_a_client_wherever_it_is(
    cluster_pair: list[Gateway], redis: RedisServer, prefix: str, connect: Connect
) -> None:
    """Sent at either gateway, to the client or to its user; also while it is away; each once, in order."""
    first, second = cluster_pair
    client = await connect(to=first, user_id="ada")
    await kept(redis, prefix, client, connected="1")
    for n, gateway in enumerate([first, second, second, first], 1):
        to = {"client_id": client.client_id} if n % 2 else {"user_id": "ada"}
        answer = await gateway.broadcast({**to, "event": note(n)})
        assert 1 == answer["recipients"]
    await client.events("$personal", 4)
    position = (await client.ping())["positions"]["$personal"]
    await client.lose()
    await kept(redis, prefix, client, connected="0")
    for n, gateway in enumerate([first, second], 5):
        assert 1 == (await gateway.broadcast({"user_id": "ada", "event": note(n)}))["recipients"]
    back = await connect(session=client.session, since={"$personal": position}, to=second)
    await back.events("$personal", 2)
    await first.broadcast({"user_id": "ada", "event": note(7)})
    await back.events("$personal", 3)

    assert [1, 2, 3, 4] == numbers(client, "$personal")
    assert [5, 6, 7] == numbers(back, "$personal")
    assert [5, 6, 7] == back.channel("$personal").offsets
    assert [] == back.channel("$personal").gaps
    assert back.hello["resumed"]


async def test_personal_messages_from_the_bus_are_numbered_with_those_of_other_gateways(
    cluster_pair: list[Gateway], redis: RedisServer, prefix: str, publisher: NewPublisher, connect: Connect
) -> None:
    first, second = cluster_pair
    bus = await publisher(first.bus_in)
    client = await connect(to=first)
    bus.send("$personal", {"n": 1}, client_id=client.client_id)  # its session may not be written yet
    await client.events("$personal", 1)
    await kept(redis, prefix, client)
    await second.broadcast({"client_id": client.client_id, "event": note(2)})
    await client.events("$personal", 2)
    bus.send("$personal", {"n": 3}, client_id=client.client_id)
    await client.events("$personal", 3)

    assert [1, 2, 3] == numbers(client, "$personal")
    assert [1, 2, 3] == client.channel("$personal").offsets


@with_workers
async def test_a_session_that_moves_ends_its_old_connection(
    cluster_pair: list[Gateway], redis: RedisServer, prefix: str, connect: Connect
) -> None:
    """It may move while it is connected, and back."""
    first, second = cluster_pair
    client = await connect("robots", to=first)
    await kept(redis, prefix, client)
    for gateway in (second, first, second):
        before = client
        client = await connect(session=before.session, to=gateway)
        assert client.hello["resumed"]
        assert before.client_id == client.client_id
        await closed(before, TAKEN_OVER)
        await kept(redis, prefix, client, connected="1")

    async def is_alone() -> bool:
        return [0, 1] == [(await one.status())["connections"] for one in cluster_pair]

    await eventually(is_alone)
    assert [0, 0] == [(await one.status())["sessions_remembered"] for one in cluster_pair]


@pytest.mark.parametrize(
    ("connects_again", "ttl_seconds"),
    [(True, 300), pytest.param(False, 30, marks=pytest.mark.long)],
    ids=["connecting-again", "writing-it-again"],
)
async def test_a_session_that_moves_ends_its_old_connection_also_if_the_notice_is_lost(
    launch: Launch, redis: RedisServer, prefix: str, connect: Connect, connects_again: bool, ttl_seconds: int
) -> None:
    """Its gateway sees that another one has it when it is connected to the engine again, or else when it writes the session
    again: every 100 s, or with a shorter time to live every 20 s."""
    # Without pings: a client that confirms events has its session written, too.
    settings: dict[str, object] = {"sessions.ttl_seconds": ttl_seconds, "clients.heartbeat_seconds": 300}
    first, second = await launch_pair(launch, redis, prefix, **settings)
    client = await connect(to=first)
    await kept(redis, prefix, client, connected="1")
    [id_] = [one["id"] for one in await members(first) if one["name"] == "first"]
    first.kill(signal.SIGSTOP)
    # No notice reaches a gateway that has not reported itself.
    await asyncio.to_thread(redis.command, "RENAME", f"{prefix}:gateway:{id_}", f"{prefix}:away")
    if connects_again:
        connections = str(await asyncio.to_thread(redis.command, "CLIENT", "LIST"))
        for line in connections.splitlines():
            if f"name={prefix}:{id_}:" in line:
                await asyncio.to_thread(redis.command, "CLIENT", "KILL", "ID", line.partition("id=")[2].split()[0])
    back = await connect(session=client.session, to=second)
    await asyncio.to_thread(redis.command, "RENAME", f"{prefix}:away", f"{prefix}:gateway:{id_}")
    first.kill(signal.SIGCONT)
    await closed(client, TAKEN_OVER)

    assert (client.client_id, True) == (back.client_id, back.hello["resumed"])
    assert await back.ping()


async def test_a_session_survives_its_gateway(
    cluster_pair: list[Gateway], redis: RedisServer, prefix: str, connect: Connect
) -> None:
    """A gateway that is killed takes nothing with it that was confirmed."""
    first, second = cluster_pair
    client = await connect("robots", to=first, user_id="ada")
    await kept(redis, prefix, client)
    first.kill()
    await first.exited()
    assert 1 == (await second.broadcast({"user_id": "ada", "event": note(1)}))["recipients"]
    back = await connect(session=client.session, to=second)
    await back.events("$personal", 1)

    assert back.hello["resumed"]
    assert ["robots"] == (await back.ask({"type": "get_subscriptions"}, "subscriptions"))["channels"]


async def test_a_message_to_everyone_has_one_position_on_all_gateways(
    cluster_pair: list[Gateway], connect: Connect
) -> None:
    first, second = cluster_pair
    clients = [await connect(to=one) for one in cluster_pair]
    sent = [await one.broadcast({"everyone": True, "event": note(n)}) for n, one in enumerate([first, second, first])]
    for client in clients:
        await client.events("$everyone", 3)

    assert [[0, 1, 2]] * 2 == [numbers(client, "$everyone") for client in clients]
    positions = [(await client.ping())["positions"]["$everyone"] for client in clients]
    assert [sent[-1]["position"]] * 2 == positions
    back = await connect(to=second, since={"$everyone": sent[0]["position"]})
    await back.events("$everyone", 2)
    assert [1, 2] == numbers(back, "$everyone")


async def test_a_message_to_everyone_finds_a_client_that_moves(
    cluster_pair: list[Gateway], redis: RedisServer, prefix: str, connect: Connect
) -> None:
    """Also the first one that there ever was, sent while the client was nowhere."""
    first, second = cluster_pair
    client = await connect("robots", to=first)
    await kept(redis, prefix, client, connected="1")
    await client.lose()
    await kept(redis, prefix, client, connected="0")
    for n, gateway in enumerate(cluster_pair):
        await gateway.broadcast({"everyone": True, "event": note(n)})
    back = await connect(session=client.session, to=second)
    await back.events("$everyone", 2)

    assert back.hello["resumed"]
    assert [0, 1] == numbers(back, "$everyone")
    assert [] == back.channel("$everyone").gaps


async def test_a_client_is_disconnected_by_any_gateway(
    cluster_pair: list[Gateway], redis: RedisServer, prefix: str, connect: Connect
) -> None:
    first, second = cluster_pair
    client = await connect(to=first)
    await kept(redis, prefix, client, connected="1")
    path = f"/api/v1/websocket/clients/{client.client_id}"
    answer = await second.request("DELETE", path)
    await closed(client, DISCONNECTED)

    assert 200 == answer.status
    await kept(redis, prefix, client, connected="0")
    assert 404 == (await second.request("DELETE", path)).status


@with_workers
async def test_all_clients_of_a_user_are_disconnected_by_any_gateway(
    cluster_pair: list[Gateway], redis: RedisServer, prefix: str, connect: Connect
) -> None:
    first, second = cluster_pair
    user = "ada / l\u00f6velace"
    clients = [await connect(to=one, user_id=user) for one in (first, first, second)]
    other = await connect(to=first, user_id="ada")

    def counted() -> bool:
        keys: Any = redis.command("KEYS", f"{prefix}:users:*")
        members: list[Any] = [redis.command("ZRANGE", key, 0, -1) for key in keys]
        return 4 == sum(map(len, members))

    await eventually(lambda: asyncio.to_thread(counted))
    path = f"/api/v1/websocket/users/{quote(user, safe='')}"
    answer = await second.request("DELETE", path)
    for one in clients:
        await closed(one, DISCONNECTED)

    assert (200, {"user_id": user, "clients": 3}) == (answer.status, answer.json)
    assert await other.ping()


async def test_an_event_with_a_key_is_sent_once_by_all_gateways(
    cluster_pair: list[Gateway], redis: RedisServer, prefix: str, connect: Connect
) -> None:
    first, second = cluster_pair
    client = await connect(to=first, user_id="ada")
    await kept(redis, prefix, client, connected="1")
    for to in ({"user_id": "ada"}, {"everyone": True}):
        message = {**to, "event": note(1), "idempotency_key": f"key of {to}"}
        answers = [await one.broadcast(message) for one in (first, second, first)]
        assert [answers[0]["position"]] * 3 == [one["position"] for one in answers]
        await second.broadcast({**message, "event": note(2)}, status=400)
        await second.broadcast({**to, "event": note(3)})
    for channel in ("$personal", "$everyone"):
        await client.events(channel, 2)
        assert [1, 3] == numbers(client, channel)


async def test_a_message_for_an_unknown_client_may_be_repeated_with_its_key(
    cluster_pair: list[Gateway], redis: RedisServer, prefix: str, connect: Connect
) -> None:
    """After a failover, a session may not be written yet; the message reaches it once it is."""
    first, second = cluster_pair
    client = await connect(to=first)
    await kept(redis, prefix, client, connected="1")
    await asyncio.to_thread(redis.command, "DEL", f"{prefix}:session:{client.client_id}")
    message = {"client_id": client.client_id, "event": note(1), "idempotency_key": "key"}
    refused = await second.broadcast(message, status=404)
    await client.send({"type": "subscribe", "channels": ["robots"]})
    await kept(redis, prefix, client, connected="1")
    for one in (second, second, first):
        await one.broadcast(message)
    await first.broadcast({"client_id": client.client_id, "event": note(2)})
    await client.events("$personal", 2)

    assert "unknown_client" == refused["code"]
    assert [1, 2] == numbers(client, "$personal")


async def impatient(launch: Launch, redis: RedisServer, prefix: str) -> list[Gateway]:
    """Start two gateways that soon notice if Redis does not answer."""
    return await launch_pair(launch, redis, prefix, **{"cluster.timeout_seconds": 0.5})


async def test_without_the_engine_a_client_goes_on_from_its_positions(
    prefix: str, launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    """Another gateway does not know its session then, but the events of the bus; what needs the engine is refused."""
    with RedisServer() as redis:
        first, second = await impatient(launch, redis, prefix)
        buses = [await publisher(one.bus_in) for one in (first, second)]
        for bus in buses:
            bus.incarnation = buses[0].incarnation
        client = await connect("robots", to=first)
        await client.expect("subscribed")
        for bus in buses:
            bus.send_numbered("robots", range(1, 11), enveloped=True)
        await client.events("robots", 10)
        await second.holds("robots", 10)
        position = (await client.ping())["positions"]["robots"]
        await kept(redis, prefix, client)
        redis.kill()
        await degraded(first, second)
        await first.broadcast({"everyone": True, "event": note(1)}, status=503)
        await first.broadcast({"client_id": client.client_id, "event": note(1)}, status=503)
        for bus in buses:
            bus.send_numbered("robots", range(11, 21), enveloped=True)
        back = await connect("robots", session=client.session, since={"robots": position}, to=second)
        subscribed = await back.expect("subscribed")
        await back.events("robots", 10)
        again = await connect(session=client.session, to=first)

        assert not back.hello["resumed"]
        assert {"robots": True} == {"robots": subscribed["recovered"]["robots"]}
        assert list(range(11, 21)) == back.channel("robots").offsets
        assert again.hello["resumed"], "its own session needs no engine"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
async def test_without_the_engine_personal_messages_wait_where_the_session_is(
    prefix: str, launch: Launch, publisher: NewPublisher, connect: Connect, number: signal.Signals
) -> None:
    """A client that comes to another gateway learns that its session is a new one, and who sends by REST that it was not sent."""
    with RedisServer() as redis:
        first, second = await impatient(launch, redis, prefix)
        buses = [await publisher(one.bus_in) for one in (first, second)]
        client = await connect(to=first)
        await kept(redis, prefix, client, connected="1")
        redis.kill(number)
        await degraded(first, second)
        await client.lose()
        for bus in buses:
            bus.send("$personal", {"n": 1}, client_id=client.client_id)
        for one in (first, second):
            await one.broadcast({"client_id": client.client_id, "event": note(2)}, status=503)
        moved = await connect(session=client.session, to=second)
        back = await connect(session=client.session, to=first)
        await back.events("$personal", 1)

        assert [False, True] == [one.hello["resumed"] for one in (moved, back)]
        assert [1] == numbers(back, "$personal")


async def test_a_personal_message_from_the_bus_that_only_its_gateway_numbered_is_reported_at_another(
    prefix: str, launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    """It came while the engine was down, and its client moves, once that is up again, before it confirms the message."""
    with RedisServer() as redis:
        first, second = await impatient(launch, redis, prefix)
        bus = await publisher(first.bus_in)
        client = await connect(to=first)
        await kept(redis, prefix, client, connected="1")
        redis.kill()
        await degraded(first, second)
        bus.send("$personal", {"n": 1}, client_id=client.client_id)
        await client.events("$personal", 1)
        await asyncio.to_thread(redis.start)
        await whole(first, second)
        await kept(redis, prefix, client, connected="1")
        back = await connect(session=client.session, to=second)
        await eventually(lambda: back.channel("$personal").gaps, saying="it is reported")

        assert back.hello["resumed"]
        assert ["epoch"] == [gap["reason"] for gap in back.channel("$personal").gaps]


async def test_a_client_learns_that_the_engine_may_have_lost_the_first_message_to_it(
    prefix: str, launch: Launch, connect: Connect
) -> None:
    """Its session began before the engine lost its data, that of another client after that; one has moved meanwhile."""
    with RedisServer() as redis:  # it keeps nothing
        first, second = await launch_pair(launch, redis, prefix)
        stays, moves = [await connect(to=first) for _ in range(2)]
        for client in (stays, moves):
            await kept(redis, prefix, client, connected="1")
        await restart(redis, first, second)
        for client in (stays, moves):
            await kept(redis, prefix, client, connected="1")
        moved, later = await connect(session=moves.session, to=second), await connect(to=second)
        for client in (stays, moved, later):
            await kept(redis, prefix, client, connected="1")
            for n in (1, 2):
                await first.broadcast({"client_id": client.client_id, "event": note(n)})
            await client.events("$personal", 2)

        assert moved.hello["resumed"]
        found = [client.channel("$personal").gaps for client in (stays, moved, later)]
        assert [["epoch"], ["epoch"], []] == [[gap["reason"] for gap in gaps] for gaps in found]
        assert [[1, 2]] * 3 == [numbers(client, "$personal") for client in (stays, moved, later)]


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_personal_message_from_the_bus_that_cannot_follow_its_client_is_reported_to_it(
    prefix: str, launch: Launch, publisher: NewPublisher, connect: Connect, workers: int
) -> None:
    """Its client moves while only the gateway that numbered it has no engine."""
    with RedisServer() as redis:
        redis.command("ACL", "SETUSER", "first", "on", ">secret", "~*", "&*", "+@all")
        url = f"redis://first:secret@127.0.0.1:{redis.port}"
        first = await launch(settings=clustered(redis, prefix, "first", workers=workers) | {"cluster.url": url})
        second = await launch(settings=clustered(redis, prefix, "second", workers=workers))
        bus = await publisher(first.bus_in)
        client = await connect(to=first)
        await kept(redis, prefix, client, connected="1")
        await second.broadcast({"client_id": client.client_id, "event": note(1)})
        await client.events("$personal", 1)
        await client.lose()
        await kept(redis, prefix, client, connected="0")
        await asyncio.to_thread(redis.command, "ACL", "SETUSER", "first", "off")
        await asyncio.to_thread(redis.command, "CLIENT", "KILL", "USER", "first")
        await degraded(first)
        for n in (2, 3):
            bus.send("$personal", {"n": n}, client_id=client.client_id)

        async def numbered() -> bool:
            return 2 == await first.metric("neurograph_gateway_personal_messages_received_total")

        await eventually(numbered)
        back = await connect(session=client.session, to=second)
        assert back.hello["resumed"]
        await asyncio.to_thread(redis.command, "ACL", "SETUSER", "first", "on")
        await whole(first)
        await eventually(lambda: 2 == len(back.channel("$personal").gaps), saying="they are reported")
        await second.broadcast({"client_id": client.client_id, "event": note(4)})
        await eventually(lambda: 4 in numbers(back, "$personal"))

        assert 2 == sum(gap["count"] for gap in back.channel("$personal").gaps)
        assert [1, 4] == numbers(back, "$personal")
