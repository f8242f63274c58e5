"""One gateway in several processes is still one gateway."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from pathlib import Path

import aiohttp

from tests.conftest import Connect, Launch, NewPublisher
from tests.integration.conftest import Pair
from tests.support import tls, ws
from tests.support.command import run
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.sse import EventSource
from tests.support.tokens import SECRET, SETTINGS, bearer, token
from tests.support.waiting import eventually
from tests.support.workers import elsewhere, holder


API = "/api/v1/websocket"
EVENT = {"event_type": "test.workers", "data": {"n": 1}}


# -- one gateway ---------------------------------------------------------------------------------


async def test_connections_are_spread_evenly(divided: Gateway, connect: Connect) -> None:
    """Each goes to the worker that has fewest."""
    clients = [await connect(to=divided) for _ in range(20)]
    counts = Counter(holder(divided, client).pid for client in clients)

    assert 2 == len(counts)
    assert 8 <= min(counts.values())


async def test_positions_mean_the_same_on_every_worker(
    divided: Gateway, divided_bus: Publisher, pair: Pair, connect: Connect
) -> None:
    """A client goes on at another worker exactly where it stood."""
    first, witness = await pair("load", "own.numbers")
    divided_bus.send_numbered("load", range(1, 11), enveloped=True)
    divided_bus.send_numbered("own.numbers", range(1, 11))
    for client in (first, witness):
        await client.events("load", 10)
        await client.events("own.numbers", 10)
    since = (await first.ping())["positions"]
    here = since == (await witness.ping())["positions"]
    del since["$everyone"]
    divided_bus.send_numbered("load", range(11, 21), enveloped=True)
    divided_bus.send_numbered("own.numbers", range(11, 21))
    await witness.events("load", 20)
    there = holder(divided, first)
    await first.lose()
    second = await elsewhere(divided, connect, there, "load", "own.numbers", since=since)
    answer = await second.expect("subscribed")
    await second.events("load", 10)
    await second.events("own.numbers", 10)

    assert here
    assert {"load": True, "own.numbers": True} == answer["recovered"]
    for name in ("load", "own.numbers"):
        assert list(range(11, 21)) == second.channel(name).numbers
        assert [] == second.channel(name).faults(after=10, until=20)


async def test_a_session_is_taken_up_at_another_worker(
    divided: Gateway, divided_bus: Publisher, connect: Connect
) -> None:
    """Identity, subscriptions with filters, positions, and personal messages that waited."""
    first = await connect(to=divided, user_id="ada")
    there = holder(divided, first)
    await first.subscribe({"channel": "load", "filter": "data.n > 5"}, "test.*")
    divided_bus.send_numbered("load", range(1, 11))
    await first.events("load", 5)
    await divided.broadcast({"client_id": first.client_id, "event": EVENT})
    await first.events("$personal", 1)
    positions = (await first.ping())["positions"]
    await first.lose()
    await divided.broadcast({"client_id": first.client_id, "event": EVENT})
    divided_bus.send_numbered("load", range(1, 11))
    second = await elsewhere(divided, connect, there, session=first.session, since=positions)
    await second.events("load", 5)
    await second.events("$personal", 1)

    assert first.client_id == second.client_id
    assert (True, "ada") == (second.hello["resumed"], second.hello["user_id"])
    assert [6, 7, 8, 9, 10] == second.channel("load").numbers
    assert [2] == second.channel("$personal").offsets
    assert {"load", "test.*"} == set((await second.ask({"type": "get_subscriptions"}, "subscriptions"))["channels"])


async def test_what_a_client_confirmed_is_known_to_every_worker(
    launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    """Without `since` a session goes on behind the last answered ping, wherever it comes back."""
    gateway = await launch(flags=["--workers", "2"], settings={"clients.heartbeat_seconds": 0.2})
    bus = await publisher(gateway.bus_in)
    first = await connect("load", to=gateway)
    await first.expect("subscribed")
    bus.send_numbered("load", range(1, 11))
    await first.events("load", 10)

    async def told() -> bool:
        nonlocal first
        there = holder(gateway, first)
        await first.lose()
        first = await elsewhere(gateway, connect, there, session=first.session)
        answer = await first.expect("subscribed")
        await asyncio.sleep(1)  # for pings and what is told of them
        return bool(answer["positions"]["load"]["offset"] == 10)

    await eventually(told)


async def test_an_attached_session_is_taken_over_from_another_worker(
    divided: Gateway, divided_bus: Publisher, connect: Connect
) -> None:
    """The old connection is closed with 4500; the new one has everything, and there is one client."""
    old = await connect("over", to=divided)
    await old.expect("subscribed")
    new = await connect(to=divided, session=old.session)
    await new.expect("subscribed")
    code = await old.closed()
    divided_bus.send("over", {"n": 1})
    await new.events("over", 1)

    assert 4500 == code
    assert old.client_id == new.client_id
    assert (True, 1) == (new.hello["resumed"], (await divided.status())["connections"])


async def test_broadcasts_reach_whoever_is_connected_to_any_worker(divided: Gateway, pair: Pair) -> None:
    """To a user, to a client, to everyone, to a channel; recipients are counted over all."""
    one, two = await pair("test.all", user_id="ada")
    for client in (one, two):
        answer = await divided.broadcast({"client_id": client.client_id, "event": EVENT})
        assert 1 == answer["recipients"]
        await client.events("$personal", 1)
    for target in ({"user_id": "ada"}, {"everyone": True}, {"channel": "test.all"}):
        answer = await divided.broadcast({**target, "event": EVENT})
        assert 2 == answer["recipients"]
    for client in (one, two):
        await client.events("$personal", 2)
        await client.events("$everyone", 1)
        await client.events("test.all", 1)
        assert [1, 2] == client.channel("$personal").offsets
    await divided.broadcast({"client_id": "nobody", "event": EVENT}, status=404)


async def test_connects_and_disconnects_are_published_with_true_totals(
    divided: Gateway, pair: Pair, connect: Connect
) -> None:
    """One order of events on ``connections``, the same for all."""
    witness, other = await pair("connections")
    third = await connect("metrics", to=divided)
    await third.lose()

    def of_third(client: ws.Client) -> list[tuple[str, int]]:
        return [
            (event["event_type"], event["data"]["total_connections"])
            for event in client.channel("connections").events
            if event["data"]["client_id"] == third.client_id
        ]

    expected = [("client.connected", 3), ("client.subscribed", 3), ("client.disconnected", 2)]
    await eventually(lambda: expected == of_third(witness) == of_third(other))


async def test_every_worker_gives_the_same_answers(divided: Gateway, divided_bus: Publisher, pair: Pair) -> None:
    """REST and metrics are those of the whole gateway, whichever worker is asked."""
    clients = await pair("load", user_id="ada")
    divided_bus.send_numbered("load", range(1, 11))
    for client in clients:
        await client.events("load", 10)
    for _ in range(6):  # each on a connection of its own
        status = await divided.status()
        presence = await divided.get_json(f"{API}/channels/load/presence")
        detail = await divided.get_json(f"{API}/channels/load")
        history = await divided.get_json(f"{API}/channels/load/events?since=7")

        assert (2, 2) == (status["connections"], status["subscriptions"])
        assert {c.client_id for c in clients} == {c["client_id"] for c in status["clients"]}
        assert [["load"], ["load"]] == [c["channels"] for c in status["clients"]]
        assert (2, 1) == (presence["subscribers"], presence["users"])
        assert (2, 10) == (detail["subscribers"], detail["position"]["offset"])
        assert [8, 9, 10] == [event["offset"] for event in history["events"]]
        assert 2 == await divided.metric("neurograph_gateway_connections")
        assert 20 <= await divided.metric("neurograph_gateway_events_delivered_total") <= 30
        assert 2 == await divided.metric("neurograph_gateway_connections_opened_total")
        assert 10 == await divided.metric("neurograph_gateway_events_received_total", channel="load")
        assert "ok" == (await divided.get_json("/healthz"))["status"]
        assert (await divided.get_json("/readyz"))["ready"]


async def test_errors_of_rest_come_through(divided: Gateway) -> None:
    """The problem documents of the parent, with their status and headers."""
    unknown = await divided.request("GET", f"{API}/channels/never.opened")
    refused = await divided.request("POST", f"{API}/broadcast", raw=b"{")
    method = await divided.request("DELETE", f"{API}/status")

    assert (404, "unknown_channel") == (unknown.status, unknown.json["code"])
    assert (400, "invalid_json") == (refused.status, refused.json["code"])
    assert 405 == method.status
    assert unknown.headers["Content-Type"].startswith("application/problem+json")
    assert "nosniff" == unknown.headers["X-Content-Type-Options"]


async def test_a_stream_of_server_sent_events_goes_on_at_any_worker(divided: Gateway, divided_bus: Publisher) -> None:
    """`Last-Event-ID` holds for all."""
    async with EventSource(divided.url, "channels=load") as source:
        await source.next("subscribed")
        divided_bus.send_numbered("load", range(1, 6))
        await source.messages(5)
        last = source.last_id
    divided_bus.send_numbered("load", range(6, 11))
    for _ in range(3):
        async with EventSource(divided.url, "channels=load", last_id=last) as source:
            found = await source.messages(5)
            assert [6, 7, 8, 9, 10] == [event["offset"] for event in found]


async def test_on_demand_the_interest_of_all_workers_counts(
    launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    """A channel is fetched while any worker has a client that follows it, and no longer."""
    gateway = await launch(
        flags=["--workers", "2"],
        settings={"history.on_demand": True, "bus.on_demand_idle_seconds": 0.2, "sessions.ttl_seconds": 0.1},
    )
    bus = await publisher(gateway.bus_in)
    one = await connect("asked", to=gateway)
    two = await elsewhere(gateway, connect, holder(gateway, one), "asked")

    def watched() -> bool:
        bus._count()
        return b"asked" in bus.topics

    await eventually(watched)
    await one.close()
    await asyncio.sleep(1.5)  # longer than it would take without the other
    assert watched()
    await two.close()
    await eventually(lambda: not watched())


async def test_a_client_is_disconnected_at_whichever_worker_has_it(divided: Gateway, connect: Connect) -> None:
    clients = [await connect("metrics", to=divided) for _ in range(4)]
    for client in clients[:3]:
        answer = await divided.request("DELETE", f"{API}/clients/{client.client_id}")
        assert (200, 4504) == (answer.status, await client.closed())
    again = await divided.request("DELETE", f"{API}/clients/{clients[0].client_id}")

    assert (404, "unknown_client") == (again.status, again.json["code"])
    assert [clients[3].client_id] == [one["client_id"] for one in (await divided.status())["clients"]]


# -- limits --------------------------------------------------------------------------------------


async def test_a_user_has_so_many_clients_at_all_workers(launch: Launch, connect: Connect) -> None:
    """And a token that a client brings later is counted, too."""
    gateway = await launch(flags=["--workers", "2"], settings={**SETTINGS, "clients.connections_per_user_max": 2})
    gateway.token = token("admin", user="the test")
    for _ in range(2):
        await connect("metrics", to=gateway, headers=bearer(token("admin")))
    async with aiohttp.ClientSession() as http:
        third = await http.ws_connect(ws.address(gateway.url, {}), headers=bearer(token("admin")))
        farewell = await third.receive_json()
        await third.receive()
    nobody = await connect(to=gateway)
    await nobody.send({"type": "auth", "token": token("admin"), "id": 1})
    error = await nobody.expect("error")
    bob = await nobody.ask({"type": "auth", "token": token("admin", user="bob")}, "authenticated")

    assert (4503, "closing") == (farewell["code"], farewell["type"])
    assert "forbidden" == error["code"]
    assert "bob" == bob["user_id"]
    users = Counter(c["user_id"] for c in (await gateway.status())["clients"])
    assert {"alice": 2, "bob": 1} == users


async def test_the_gateway_has_so_many_clients_at_all_workers(launch: Launch, connect: Connect) -> None:
    """The one above the limit is closed with 1013; `/readyz` says why."""
    gateway = await launch(flags=["--workers", "2"], settings={"clients.connections_max": 3})
    for _ in range(3):
        await connect(to=gateway)
    async with aiohttp.ClientSession() as http:
        fourth = await http.ws_connect(ws.address(gateway.url, {}))
        farewell = await fourth.receive_json()
    ready = await gateway.request("GET", "/readyz")

    assert (1013, "closing") == (farewell["code"], farewell["type"])
    assert (503, ["clients.connections_max is reached"]) == (ready.status, ready.json["reasons"])


async def test_an_address_has_so_many_clients_at_all_workers(launch: Launch, connect: Connect) -> None:
    """As a proxy names it."""
    gateway = await launch(
        flags=["--workers", "2"], settings={"clients.connections_per_address_max": 2, "trusted_proxies": "127.0.0.1"}
    )
    far = {"X-Forwarded-For": "203.0.113.7"}
    clients = [await connect(to=gateway, headers=far) for _ in range(2)]
    async with aiohttp.ClientSession() as http:
        third = await http.ws_connect(ws.address(gateway.url, {}), headers=far)
        farewell = await third.receive_json()
    await clients[0].close()

    async def again() -> bool:
        async with aiohttp.ClientSession() as http:
            late = await http.ws_connect(ws.address(gateway.url, {}), headers=far)
            return bool((await late.receive_json())["type"] == "connected")

    assert (1013, "closing") == (farewell["code"], farewell["type"])
    await eventually(again)


# -- keys ----------------------------------------------------------------------------------------


async def test_a_new_secret_counts_at_every_worker(launch: Launch, connect: Connect, tmp_path: Path) -> None:
    """The signal goes to the parent alone; what is wrong with a file is said once."""
    file = tmp_path / "secret"
    file.write_text("an older secret of the tests, long enough")
    gateway = await launch(flags=["--workers", "2"], settings={"auth.secret_file": file})
    gateway.errors_expected = True

    for content, event in (("short", "reload_refused"), (SECRET, "reloaded")):
        file.write_text(content)
        gateway.kill(signal.SIGHUP)
        assert len(await gateway.logged(event)) == 1
    client = await connect(to=gateway, headers=bearer(token("bot")))
    other = await elsewhere(gateway, connect, holder(gateway, client), headers=bearer(token("bot")))

    assert [["bot"], ["bot"]] == [one.hello["roles"] for one in (client, other)]
    assert (1, 1) == tuple([len(await gateway.logged(event)) for event in ("reload_refused", "reloaded")])


async def test_a_new_certificate_is_served_by_every_worker(launch: Launch, tmp_path: Path) -> None:
    """Each reads the files again when they change."""
    served, renewed = tls.make(tmp_path), tls.make(tmp_path, "renewed")
    old = tls.Files(tmp_path / "old.pem", tmp_path / "old.key")
    for file, copy in ((served.cert, old.cert), (served.key, old.key)):
        copy.write_bytes(file.read_bytes())
    gateway = await launch(flags=["--workers", "2"], settings=served.settings, trust=tls.trusting(old, renewed))
    served.take(renewed)

    async def everywhere() -> bool:
        """Whether new connections, some to each worker, all get the new one."""
        names = {await tls.served_name(gateway.port, old, renewed) for _ in range(4)}
        return names == {"renewed"}

    await eventually(everywhere)
    assert (await gateway.get_json("/readyz"))["ready"]


async def test_what_a_role_may_do_holds_at_every_worker(launch: Launch, connect: Connect) -> None:
    """Over WebSocket and REST, and as long as the token lasts."""
    gateway = await launch(
        flags=["--workers", "2"], settings={**SETTINGS, "auth.leeway_seconds": 0, "auth.expiry_warning_seconds": 0}
    )
    first = await connect(to=gateway, headers=bearer(token("bot")))
    other = await elsewhere(gateway, connect, holder(gateway, first))
    denied = [(await one.subscribe("logs", "signals"))["denied"][0]["code"] for one in (first, other)]
    answers = [
        (await gateway.request("GET", f"{API}/status", headers=headers)).status
        for headers in ({}, bearer(token("bot")), bearer(token("admin")), bearer("x.y.z"))
    ]

    assert ["forbidden", "unauthorized"] == denied
    assert [401, 403, 200, 401] == answers
    brief = await connect(to=gateway, headers=bearer(token("bot", seconds=4)))
    assert 4002 == await brief.closed()


async def test_the_terminal_shows_the_whole_gateway(divided: Gateway, pair: Pair) -> None:
    """`gateway status` lists the clients of all workers."""
    clients = await pair("load")
    status, shown = await run("status", "--url", divided.url)

    assert 0 == status
    assert all(client.client_id in shown.output for client in clients)
