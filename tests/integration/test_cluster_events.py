"""What clients publish on channels, at any gateway of a cluster: numbered once, and the same at all of them."""

from __future__ import annotations

import asyncio
import tempfile
from typing import Any

from tests.conftest import Connect, Launch, NewPublisher
from tests.support.cluster import clustered, degraded, launch_pair, note, numbers, restart, sees, whole, with_workers
from tests.support.gateway import Gateway
from tests.support.redis import RedisServer
from tests.support.waiting import eventually
from tests.support.ws import Client


def publish(n: int, channel: str = "chat", **more: object) -> dict[str, Any]:
    return {"type": "publish", "channel": channel, "event": note(n), **more}


def broadcast(n: int, channel: str = "chat", **more: object) -> dict[str, Any]:
    return {"channel": channel, "event": note(n), **more}


async def subscriber(connect: Connect, gateway: Gateway, *channels: str) -> Client:
    client = await connect(*(channels or ("chat",)), to=gateway)
    await client.expect("subscribed")
    return client


async def history(gateway: Gateway, query: str = "") -> list[tuple[str, Any]]:
    """What a gateway has of the channel, by number."""
    answer = await gateway.get_json(f"/api/v1/websocket/channels/chat/events{query}")
    return [(one["offset"], one["data"]["n"]) for one in answer["events"]]


@with_workers
async def test_events_of_clients_have_one_position_on_all_gateways(
    cluster_pair: list[Gateway], connect: Connect
) -> None:
    """Published over WebSocket and HTTP at either of them; a client goes on at the other gateway."""
    first, second = cluster_pair
    clients = [await subscriber(connect, one) for one in cluster_pair]
    positions = []
    for n in range(1, 9):
        at = n % 2
        if n % 4 < 2:
            positions.append((await clients[at].ask(publish(n, request_id="r"), "published"))["position"])
        else:
            positions.append((await cluster_pair[at].broadcast(broadcast(n)))["position"])
    for client in clients:
        await client.events("chat", 8)

    assert [list(range(1, 9))] * 2 == [client.channel("chat").offsets for client in clients]
    assert [list(range(1, 9))] * 2 == [numbers(client) for client in clients]
    assert list(range(1, 9)) == [one["offset"] for one in positions]
    assert 1 == len({one["epoch"] for one in positions})
    assert [positions[-1]] * 2 == [(await client.ping())["positions"]["chat"] for client in clients]
    assert clients[0].client_id == clients[1].channel("chat").events[3]["reply_to"]["client_id"]
    assert await history(first) == await history(second)
    back = await connect("chat", to=second, since={"chat": positions[4]})
    await back.events("chat", 3)
    assert [6, 7, 8] == numbers(back)


async def test_events_of_one_client_come_in_the_order_in_which_it_sent_them(
    cluster_pair: list[Gateway], connect: Connect
) -> None:
    """It need not wait for answers."""
    first, second = cluster_pair
    client, witness = await subscriber(connect, first), await subscriber(connect, second)
    for n in range(1, 51):
        await client.send(publish(n, id=n))
    await witness.events("chat", 50)
    for n in range(1, 51):
        answer = await client.expect("published")
        assert (n, n) == (answer["id"], answer["position"]["offset"])

    assert list(range(1, 51)) == numbers(witness)


async def test_an_event_with_a_key_is_published_once_by_all_gateways(
    cluster_pair: list[Gateway], connect: Connect
) -> None:
    first, second = cluster_pair
    clients = [await subscriber(connect, one) for one in cluster_pair]
    answers = [await one.broadcast(broadcast(1, idempotency_key="k")) for one in (first, second, first)]
    over_ws = await clients[1].ask(publish(1, idempotency_key="k"), "published")
    await second.broadcast(broadcast(2, idempotency_key="k"), status=400)
    await second.broadcast(broadcast(3))
    for client in clients:
        await client.events("chat", 2)

    assert answers[0] == answers[1] == answers[2]
    assert (answers[0]["position"], 1) == (over_ws["position"], over_ws["recipients"])
    assert [[1, 3]] * 2 == [numbers(client) for client in clients]


async def test_a_gateway_that_starts_late_has_the_same_positions(
    redis: RedisServer, prefix: str, launch: Launch, connect: Connect
) -> None:
    first = await launch(settings=clustered(redis, prefix, "first"))
    await whole(first)
    sent = [await first.broadcast(broadcast(n)) for n in range(1, 21)]
    everyone = [await first.broadcast({"everyone": True, "event": note(n)}) for n in range(3)]
    late = await launch(settings=clustered(redis, prefix, "late"))
    client = await connect("chat", to=late, since={"chat": sent[9]["position"], "$everyone": everyone[0]["position"]})
    await client.events("chat", 10)
    await client.events("$everyone", 2)

    assert await history(first) == await history(late)
    assert list(range(11, 21)) == numbers(client)
    assert [1, 2] == numbers(client, "$everyone")


async def test_a_mandatory_event_needs_a_subscriber_at_any_gateway(
    cluster_pair: list[Gateway], connect: Connect
) -> None:
    first, second = cluster_pair
    client = await subscriber(connect, second, "chat")

    async def found() -> bool:
        present = await first.get_json("/api/v1/websocket/channels/chat/presence")
        return bool(present["subscribers"])

    await eventually(found)
    answer = await first.broadcast(broadcast(1, mandatory=True))
    refused = await first.broadcast(broadcast(1, "other", mandatory=True), status=503)
    await client.events("chat", 1)

    assert 1 == answer["recipients"]
    assert "no_subscribers" == refused["code"]


async def test_an_event_that_other_gateways_also_hear_on_the_bus_has_one_number(
    redis: RedisServer, prefix: str, launch: Launch, connect: Connect, publisher: NewPublisher
) -> None:
    """A gateway ignores what the others of its cluster publish on the bus; it takes what another publisher sends."""
    with tempfile.TemporaryDirectory(prefix="ng-") as folder:
        outlet = f"ipc://{folder}/out"
        publishing = {"bus.publish": outlet, "bus.publish_channels": ">"}
        first = await launch(settings=clustered(redis, prefix, "first") | publishing)
        second = await launch(connect=[outlet], settings=clustered(redis, prefix, "second"))
        await sees(second, "first", "second")
        clients = [await subscriber(connect, one) for one in (first, second)]

        async def heard() -> bool:
            return bool((await clients[0].ask(publish(0), "published"))["bus"])

        await eventually(heard, every=0.1)
        last = await clients[0].ask(publish(1), "published")
        bus = await publisher(second.bus_in)
        bus.send_numbered("chat", range(1, 2), enveloped=True)
        for client in clients:
            await client.events("chat", last["position"]["offset"])
        await second.holds("chat", 1, epoch=f"{bus.incarnation:016x}")
        await clients[1].events("chat", last["position"]["offset"] + 1)

        assert last["bus"]
        own = [[one for one in client.channel("chat").events if one.get("event_type") == "note"] for client in clients]
        assert [list(range(1, last["position"]["offset"] + 1))] * 2 == [[one["offset"] for one in each] for each in own]
        publishers = await second.get_json("/api/v1/websocket/publishers")
        assert [] == [one for one in publishers["publishers"] if one["name"].startswith("gateway:")]


async def test_without_the_engine_publishing_is_refused_and_goes_on_when_it_is_back(
    own_redis: RedisServer, prefix: str, launch: Launch, connect: Connect
) -> None:
    """Nothing that was confirmed is lost or doubled, on either gateway."""
    pair = await launch_pair(launch, own_redis, prefix)
    clients = [await subscriber(connect, one) for one in pair]
    await pair[0].broadcast(broadcast(1))
    own_redis.kill()
    await degraded(*pair)
    over_http = await pair[1].broadcast(broadcast(2), status=503)
    over_ws = await clients[0].refused(publish(2))
    await asyncio.to_thread(own_redis.start)
    await whole(*pair)
    await clients[0].ask(publish(3), "published")
    for client in clients:
        await client.events("chat", 2)

    assert ("unavailable", 503) == (over_http["code"], over_http["status"])
    assert ("unavailable", 503, True) == (over_ws["code"], over_ws["status"], over_ws["temporary"])
    assert [[1, 3]] * 2 == [numbers(client) for client in clients]


async def test_writes_that_the_engine_lost_are_reported_on_all_gateways(
    prefix: str, launch: Launch, connect: Connect
) -> None:
    """The data is of another epoch then: a gap says that what came last is not known."""
    with RedisServer() as redis:  # it keeps nothing
        pair = await launch_pair(launch, redis, prefix)
        clients = [await subscriber(connect, one) for one in pair]
        for n in (1, 2):
            await pair[0].broadcast(broadcast(n))
        for client in clients:
            await client.events("chat", 2)
        await restart(redis, *pair)
        answer = await pair[1].broadcast(broadcast(3))
        for client in clients:
            await client.events("chat", 3)
        moved = [await connect("chat", to=one, since={"chat": answer["position"]}) for one in pair]

        for client in clients:
            [gap] = client.channel("chat").gaps
            assert "epoch" == gap["reason"]
            assert answer["position"] == (await client.ping())["positions"]["chat"]
        for client in moved:
            assert (await client.expect("subscribed"))["recovered"]["chat"]


async def test_an_engine_that_lost_its_data_may_have_lost_the_first_event_of_a_channel(
    prefix: str, launch: Launch, connect: Connect
) -> None:
    """No position shows that: who was subscribed gets a gap before the next one, at all gateways that knew the engine before."""
    with RedisServer() as redis:  # it keeps nothing
        pair = await launch_pair(launch, redis, prefix)
        clients = [await subscriber(connect, one) for one in pair]
        await restart(redis, *pair)
        for n in (1, 2):
            await pair[0].broadcast(broadcast(n))
            await pair[0].broadcast({"everyone": True, "event": note(n)})
        for client in clients:
            await client.events("chat", 2)
            await client.events("$everyone", 2)

        for client in clients:
            for channel in ("chat", "$everyone"):
                [gap] = client.channel(channel).gaps
                assert ("epoch", None, 0) == (gap["reason"], gap["from"], gap["to"])
                assert gap["epoch"] == client.channel(channel).events[0]["epoch"]
                assert [1, 2] == numbers(client, channel)


async def test_each_key_in_the_engine_has_a_time(
    redis: RedisServer, prefix: str, cluster_pair: list[Gateway], connect: Connect
) -> None:
    """None stays for ever, whatever becomes of the gateways."""
    first, second = cluster_pair
    await sees(first, "first", "second")
    client, other = await subscriber(connect, first), await connect("chat.*", to=second, user_id="ada")
    await client.ask(publish(1, request_id="r", idempotency_key="k"), "published")
    await client.events("chat", 1)
    await other.expect("subscribed")
    to_other = {"client_id": other.client_id, "event": note(2)}
    assert 1 == (await second.broadcast(to_other))["recipients"]
    await other.events("$personal", 1)

    def kinds() -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for name in redis.command("KEYS", f"{prefix}:*"):  # type: ignore[attr-defined]
            seconds = redis.command("TTL", name)
            assert isinstance(seconds, int)
            found.setdefault(name.split(":")[1], []).append(seconds)
        return {kind: seconds for kind, seconds in found.items() if seconds != [-2]}

    wanted = {
        "engine",
        "gateways",
        "gateway",
        "heard",
        "presence",
        "session",
        "secret",
        "personal",
        "channel",
        "events",
        "channels",
    }
    await eventually(lambda: wanted | {"once"} <= kinds().keys(), saying=lambda: str(kinds()))
    assert [] == [kind for kind, seconds in kinds().items() if -1 in seconds]
    assert max(max(seconds) for seconds in kinds().values()) <= 7 * 24 * 3600
