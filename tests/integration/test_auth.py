"""Which tokens are accepted, in which place of a request, and for how long."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import Connect, Launch, NewPublisher, OpenRaw
from tests.support.gateway import Gateway
from tests.support.issuer import Issuer, eddsa, es256, hs256, rs256, stranger
from tests.support.sse import EventSource
from tests.support.tokens import SECRET, SETTINGS, bearer, token
from tests.support.waiting import eventually
from tests.support.ws import address


API = "/api/v1/websocket"
EVENT = {"event_type": "x", "data": {"n": 1}}


@pytest.fixture
async def guarded(launch: Launch) -> Gateway:
    """A gateway that wants tokens; the test itself is its admin."""
    gateway = await launch(settings={**SETTINGS, "auth.query_token": "true", "bus.discovery_seconds": 0})
    gateway.token = token("admin", user="the test")
    return gateway


# -- where a token may be -------------------------------------------------------------------------


async def test_a_token_is_accepted_at_every_entry(guarded: Gateway, connect: Connect) -> None:
    """Header, subprotocol, query and message, over WebSocket, SSE and REST."""
    value = token("developer")
    by_header = await connect("logs", to=guarded, headers=bearer(value))
    by_protocol = await connect("logs", to=guarded, protocols=["neurograph", f"bearer.{value}"])
    by_query = await connect("logs", to=guarded, token=value)
    by_message = await connect(to=guarded)
    said = await by_message.ask({"type": "auth", "token": value, "id": 7}, "authenticated")
    subscribed = await by_message.subscribe("logs")

    for client in (by_header, by_protocol, by_query):
        assert "alice" == client.hello["user_id"]
        assert ["developer"] == client.hello["roles"]
        assert client.hello["token_expires"]
        assert ["logs"] == (await client.expect("subscribed"))["channels"]
    assert "neurograph" == by_protocol.protocol
    assert (7, "alice", ["developer"]) == (said["id"], said["user_id"], said["roles"])
    assert (["logs"], []) == (subscribed["channels"], subscribed["denied"])
    for query, headers in ((f"&token={value}", {}), ("", bearer(value))):
        async with EventSource(guarded.url, "channels=logs" + query, headers=headers) as source:
            assert ["logs"] == (await source.next("subscribed")).data["channels"]
        guarded.token = ""
        answer = await guarded.request("GET", f"{API}/channels/actions?{query}", headers=headers)
        assert 200 == answer.status


async def test_a_client_without_a_token_is_anonymous(
    guarded: Gateway, connect: Connect, publisher: NewPublisher
) -> None:
    bus = await publisher(guarded.bus_in)
    client = await connect("metrics", "signals", to=guarded)
    subscribed = await client.expect("subscribed")
    bus.send("signals", {"event_type": "signal.x", "data": {}})
    bus.send("metrics", {"event_type": "system_metrics", "data": {}})
    await client.events("metrics", 1)

    assert (None, ["anonymous"], None) == tuple(client.hello[name] for name in ("user_id", "roles", "token_expires"))
    assert ["metrics"] == subscribed["channels"]
    assert [("signals", "unauthorized")] == [(one["channel"], one["code"]) for one in subscribed["denied"]]
    assert not client.channel("signals").events


@pytest.mark.parametrize("issuer", [hs256(), rs256(), es256(), eddsa()], ids=lambda i: i.algorithm)
async def test_a_key_in_a_file_verifies_tokens(
    launch: Launch, connect: Connect, tmp_path: Path, issuer: Issuer
) -> None:
    gateway = await launch(settings=issuer.settings(tmp_path))
    client = await connect("logs", to=gateway, headers=bearer(issuer.token()))
    forged = bearer(stranger(issuer).token())

    assert ["logs"] == (await client.expect("subscribed"))["channels"]
    assert 401 == (await gateway.request("GET", f"{API}/channels", headers=forged)).status


async def test_a_wildcard_brings_what_its_owner_may_follow_and_nothing_else(
    guarded: Gateway, connect: Connect, publisher: NewPublisher
) -> None:
    """Also of channels that nobody had opened when it came."""
    bus = await publisher(guarded.bus_in)
    developer = await connect(">", to=guarded, headers=bearer(token("developer")))
    admin = await connect(">", to=guarded, headers=bearer(token("admin")))
    for client in (developer, admin):
        assert [">"] == (await client.expect("subscribed"))["channels"]
    for name in ("secret", "connections.x", "signals.x"):
        bus.send(name, {"n": 1})
        await admin.events(name, 1)
    bus.send("logs.app", {"n": 1})
    await developer.events("logs.app", 1)

    assert "connections" in {m["channel"] for m in admin.everything if m["type"] == "event"}
    assert {"logs.app"} == {m["channel"] for m in developer.everything if m["type"] == "event"}


@pytest.mark.parametrize(
    ("path", "anonymous", "developer", "monitor", "admin"),
    [
        ("/healthz", 200, 200, 200, 200),
        ("/readyz", 200, 200, 200, 200),
        ("/openapi.json", 200, 200, 200, 200),
        ("/", 200, 200, 200, 200),
        (f"{API}/channels", 200, 200, 200, 200),
        (f"{API}/channels/connections", 401, 403, 403, 200),
        (f"{API}/channels/connections/events", 401, 403, 403, 200),
        (f"{API}/channels/connections/presence", 401, 403, 403, 200),
        (f"{API}/channels/metrics/presence", 200, 200, 200, 200),
        (f"{API}/status", 401, 403, 200, 200),
        (f"{API}/rejections", 401, 403, 200, 200),
        (f"{API}/publishers", 401, 403, 200, 200),
        ("/metrics", 401, 403, 200, 200),
        ("/events?channels=connections", 401, 403, 403, None),
    ],
)
async def test_http_follows_the_same_policy(
    guarded: Gateway, connect: Connect, path: str, anonymous: int, developer: int, monitor: int, admin: int | None
) -> None:
    await connect(to=guarded)  # opens `connections`
    await guarded.broadcast({"event_type": "x", "data": {}}, "?channel=metrics")
    for expected, header in (
        (anonymous, None),
        (developer, bearer(token("developer"))),
        (monitor, bearer(token("monitor"))),
        (admin, bearer(token("admin"))),
    ):
        if expected is None:
            continue
        guarded.token = ""
        answer = await guarded.request("GET", path, headers=header)
        assert expected == answer.status, (header, answer.text)
        if answer.status in {401, 403}:
            assert {401: "unauthorized", 403: "forbidden"}[answer.status] == answer.json["code"]
        assert ("Bearer" == answer.headers.get("WWW-Authenticate")) == (answer.status == 401)


async def test_the_list_of_channels_names_those_that_one_may_follow(guarded: Gateway, connect: Connect) -> None:
    await connect("metrics", to=guarded)
    for name in ("metrics", "secret"):
        await guarded.broadcast({"event_type": "x", "data": {}}, f"?channel={name}")
    everything = await guarded.get_json(f"{API}/channels")
    guarded.token = ""
    public = await guarded.get_json(f"{API}/channels")

    assert {"metrics", "secret", "connections"} <= {one["name"] for one in everything["channels"]}
    assert {"metrics", "status"} == {one["name"] for one in public["channels"]}


async def test_presence_counts_for_all_and_names_for_those_permitted(guarded: Gateway, connect: Connect) -> None:
    await connect("metrics", to=guarded, headers=bearer(token("bot", user="robot")))
    full = await guarded.get_json(f"{API}/channels/metrics/presence")
    guarded.token = ""
    bare = await guarded.get_json(f"{API}/channels/metrics/presence")

    assert [1, ["robot"]] == [full["subscribers"], [one["user_id"] for one in full["clients"]]]
    assert [1, None] == [bare["subscribers"], bare["clients"]]


async def test_broadcasting_needs_permission(guarded: Gateway) -> None:
    notes = token(user="writer", permissions={"publish": ["notes"]})
    outcomes = []
    for value, query in (
        ("", "?channel=metrics"),
        (token("developer"), "?channel=metrics"),
        (notes, "?channel=metrics"),
        (notes, "?channel=notes"),
        (token("admin"), "?channel=metrics"),
    ):
        guarded.token = value
        answer = await guarded.request("POST", f"{API}/broadcast{query}", body=EVENT | {"data": {}})
        outcomes.append(answer.status)

    assert [401, 403, 403, 200, 200] == outcomes


@pytest.mark.parametrize("place", ["header", "protocol", "query", "message", "sse", "rest"])
async def test_a_token_that_is_not_valid_is_refused_everywhere_without_a_reason(
    guarded: Gateway, connect: Connect, place: str
) -> None:
    wrong = token("admin") + "x"
    expired = token("admin", seconds=-60)
    heard = set()
    for value in (wrong, expired):
        match place:
            case "header":
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await connect(to=guarded, headers=bearer(value))
                assert 401 == refused.value.status
                heard.add("")
            case "protocol" | "query":
                heard.add(await refused_after_the_upgrade(guarded, value, place))
            case "message":
                client = await connect(to=guarded)
                error = await client.refused({"type": "auth", "token": value})
                assert "unauthorized" == error["code"]
                heard.add(error["message"])
                denied = (await client.subscribe("logs"))["denied"]
                assert ["logs"] == [one["channel"] for one in denied]
            case "sse" | "rest":
                path = "/events?channels=metrics" if place == "sse" else f"{API}/channels"
                answer = await guarded.request("GET", path, headers=bearer(value))
                assert 401 == answer.status
                heard.add(answer.json["detail"])

    assert 1 == len(heard)
    await guarded.logged("token_refused", times=2)


async def refused_after_the_upgrade(gateway: Gateway, value: str, place: str) -> str:
    """Connect as a browser would, which sees no status; return what the error said."""
    url = address(gateway.url, {"token": value} if place == "query" else {})
    protocols = ["neurograph", f"bearer.{value}"] if place == "protocol" else []
    async with aiohttp.ClientSession() as http, http.ws_connect(url, protocols=protocols) as ws:
        error, closing = await ws.receive_json(), await ws.receive_json()
        await ws.receive()
        assert ("unauthorized", 4501, False) == (error["code"], closing["code"], closing["reconnect"])
        assert 4501 == ws.close_code
    return str(error["message"])


async def test_a_token_in_the_address_counts_only_where_that_is_switched_on(launch: Launch, connect: Connect) -> None:
    gateway = await launch(settings=SETTINGS)
    client = await connect("logs", to=gateway, token=token("admin"))

    assert ["anonymous"] == client.hello["roles"]
    assert ["logs"] == [one["channel"] for one in (await client.expect("subscribed"))["denied"]]


async def test_without_authentication_tokens_are_ignored(gateway: Gateway, connect: Connect) -> None:
    client = await connect("logs", to=gateway, headers=bearer("nonsense"), user_id="me")
    error = await client.refused({"type": "auth", "token": "nonsense"})

    assert ["me", ["admin"]] == [client.hello["user_id"], client.hello["roles"]]
    assert "unsupported" == error["code"]


async def test_without_authentication_a_role_with_fewer_permissions_can_be_configured(
    launch: Launch, connect: Connect
) -> None:
    gateway = await launch(settings={"auth.unauthenticated_role": "developer"})
    client = await connect("logs", "connections", to=gateway)
    answer = await gateway.request("GET", f"{API}/status")

    assert ["logs"] == (await client.expect("subscribed"))["channels"]
    assert (403, "forbidden") == (answer.status, answer.json["code"])


async def test_roles_are_as_the_configuration_says(launch: Launch, connect: Connect) -> None:
    gateway = await launch(settings={**SETTINGS, "roles.viewer.subscribe": "app.*", "roles.anonymous.subscribe": ""})
    viewer = await connect("app.x", ">", to=gateway, headers=bearer(token("viewer")))
    stranger = await connect("metrics", to=gateway)

    assert ["app.x", ">"] == (await viewer.expect("subscribed"))["channels"]
    assert [] == (await stranger.expect("subscribed"))["channels"]


async def test_a_token_says_who_a_client_is(guarded: Gateway, connect: Connect) -> None:
    client = await connect(to=guarded, headers=bearer(token("bot")), user_id="root")
    error = await client.expect("error")

    assert "alice" == client.hello["user_id"]
    assert ("invalid_field", True) == (error["code"], "user_id" in error["message"])


# -- time ----------------------------------------------------------------------------------------


async def test_a_client_is_warned_before_its_token_expires_and_closed_when_it_does(
    launch: Launch, connect: Connect
) -> None:
    gateway = await launch(settings={**SETTINGS, "auth.expiry_warning_seconds": 1, "auth.leeway_seconds": 0})
    client = await connect("metrics", to=gateway, headers=bearer(token("bot", seconds=2)))
    warning = await client.until("token_expiring")
    early = time.time()
    closing = await client.until("closing")
    code = await client.closed()

    assert 0 < warning["seconds"] <= 1
    assert warning["token_expires"] == client.hello["token_expires"]
    assert (4002, "token_expired", True) == (code, closing["reason"], closing["reconnect"])
    assert time.time() > early


async def test_a_newer_token_keeps_the_connection_and_changes_what_is_followed(
    launch: Launch, connect: Connect, publisher: NewPublisher
) -> None:
    gateway = await launch(settings={**SETTINGS, "auth.expiry_warning_seconds": 1.5, "auth.leeway_seconds": 0})
    bus = await publisher(gateway.bus_in)
    over = time.time() + 2
    short = token("developer", exp=over)
    client = await connect("logs", "signals", to=gateway, headers=bearer(short))
    await client.until("token_expiring")
    await client.ask({"type": "auth", "token": token("bot", seconds=600)}, "authenticated")
    gone = await client.expect("unsubscribed")
    await eventually(lambda: time.time() > over + 0.2, saying="the first token is over")
    bus.send("logs", {"event_type": "log.info", "data": {"level": "i", "message": "m"}})
    bus.send("signals", {"event_type": "signal.x", "data": {}})
    await client.events("signals", 1)

    assert (["logs"], ["forbidden"]) == (gone["channels"], [one["code"] for one in gone["denied"]])
    assert not client.channel("logs").events
    assert client.close_code is None


async def test_a_connection_stays_its_users(guarded: Gateway, connect: Connect) -> None:
    client = await connect(to=guarded, headers=bearer(token("bot")))
    error = await client.refused({"type": "auth", "token": token("admin", user="mallory")})
    denied = (await client.subscribe("connections"))["denied"]

    assert "forbidden" == error["code"]
    assert ["connections"] == [one["channel"] for one in denied]


async def test_an_anonymous_client_is_closed_unless_it_subscribes(launch: Launch, connect: Connect) -> None:
    gateway = await launch(settings={**SETTINGS, "auth.timeout_seconds": 0.5})
    idle = await connect(to=gateway)
    public = await connect("metrics", to=gateway)
    known = await connect(to=gateway, headers=bearer(token()))
    code = await idle.closed()

    assert (4502, "auth_timeout") == (code, (idle.closing or {}).get("reason"))
    assert await public.ping()
    assert await known.ping()


async def test_the_time_of_anonymous_clients_can_be_limited(launch: Launch, connect: Connect) -> None:
    gateway = await launch(settings={**SETTINGS, "auth.anonymous_seconds_max": 0.5})
    public = await connect("metrics", to=gateway)
    known = await connect(to=gateway, headers=bearer(token()))

    assert 4502 == await public.closed()
    assert await known.ping()


# -- sessions ------------------------------------------------------------------------------------


async def test_a_session_is_taken_up_by_its_user_alone(guarded: Gateway, connect: Connect) -> None:
    alice = await connect("signals", to=guarded, headers=bearer(token("bot")))
    secret = alice.session
    await alice.close()
    stranger = await connect(to=guarded, session=secret)
    mallory = await connect(to=guarded, session=secret, headers=bearer(token(user="mallory")))
    back = await connect(to=guarded, session=secret, headers=bearer(token("bot")))

    assert [False, False, True] == [client.hello["resumed"] for client in (stranger, mallory, back)]
    assert ["signals"] == (await back.expect("subscribed"))["channels"]


async def test_a_client_that_resumes_with_fewer_permissions_gets_fewer_channels(
    guarded: Gateway, connect: Connect
) -> None:
    alice = await connect("signals", "logs", to=guarded, headers=bearer(token("developer")))
    await alice.close()
    back = await connect(to=guarded, session=alice.session, headers=bearer(token("bot")))
    subscribed = await back.expect("subscribed")

    assert back.hello["resumed"]
    assert (["signals"], ["logs"]) == (subscribed["channels"], [one["channel"] for one in subscribed["denied"]])


async def test_one_user_has_so_many_clients(launch: Launch, connect: Connect) -> None:
    gateway = await launch(settings={**SETTINGS, "clients.connections_per_user_max": 2})
    first = await connect(to=gateway, headers=bearer(token()))
    await connect(to=gateway, headers=bearer(token()))
    async with aiohttp.ClientSession() as http:
        ws = await http.ws_connect(address(gateway.url, {}), headers=bearer(token()))
        closing = await ws.receive_json()
        await ws.receive()
    other = await connect(to=gateway, headers=bearer(token(user="bob")))
    stranger = await connect(to=gateway)
    error = await stranger.refused({"type": "auth", "token": token()})
    await first.close()

    assert (4503, 4503, "user_limit", False) == (
        ws.close_code,
        *(closing[name] for name in ("code", "reason", "reconnect")),
    )
    assert await other.ping()
    assert "forbidden" == error["code"]
    assert await (await connect(to=gateway, headers=bearer(token()))).ping()


# -- how much one may ask for --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "answer", "burst", "per_second"),
    [
        ({"type": "ping"}, "pong", 120, 2),
        ({"type": "subscribe", "channels": ["metrics"]}, "subscribed", 30, 1),
        ({"type": "get_subscriptions"}, "subscriptions", 60, 10),
        ({"type": "nonsense"}, "error", 60, 10),
    ],
    ids=["ping", "subscribe", "message", "nonsense"],
)
async def test_a_flood_is_answered_up_to_its_burst_and_then_refused_with_a_time(
    gateway: Gateway, connect: Connect, message: dict[str, Any], answer: str, burst: int, per_second: int
) -> None:
    client, other = await connect(to=gateway), await connect(to=gateway)
    for _ in range(burst + 20):
        await client.send(message)
    limited = await client.until("error", code="rate_limited")
    answered = sum(one["type"] == answer for one in client.everything) - (answer == "error")

    assert burst <= answered <= burst + 20
    assert 0 < limited["retry_after"] <= 1 / per_second
    assert (429, True) == (limited["status"], limited["temporary"])
    assert await other.ping()


async def test_a_flood_of_protocol_pings_is_answered_up_to_its_burst(
    launch: Launch, raw: OpenRaw, connect: Connect
) -> None:
    gateway = await launch(settings={"clients.pings_burst": 10, "clients.pings_per_second": 0.01})
    peer = await raw(to=gateway)
    for n in range(30):
        await peer.send_frame(0x9, str(n).encode())
    pongs = [(await peer.read_frame()).payload for _ in range(10)]
    await peer.send_json({"type": "get_subscriptions"})
    await peer.expect("subscriptions")

    assert [str(n).encode() for n in range(10)] == pongs


async def test_wildcards_are_counted_apart(launch: Launch, connect: Connect) -> None:
    gateway = await launch(settings={"clients.wildcards_max": 2})
    client = await connect("a.*", to=gateway)
    await client.expect("subscribed")
    await client.subscribe("b.*", "c", "d")
    error = await client.refused({"type": "subscribe", "channels": ["e", "f.>"]})

    assert "too_many_subscriptions" == error["code"]
    assert ["a.*", "b.*", "c", "d"] == (await client.ask({"type": "get_subscriptions"}, "subscriptions"))["channels"]


# -- what is written down ------------------------------------------------------------------------


async def test_the_audit_log_says_who_and_what_and_no_log_says_a_secret(launch: Launch, connect: Connect) -> None:
    gateway = await launch(settings={**SETTINGS, "auth.query_token": "true", "logging.level": "debug"})
    value = token("admin", user="eve\x1b[31m\nforged=1")
    for how in ({"headers": bearer(token("admin"))}, {"token": token("admin")}):
        await (await connect("metrics", "$x", to=gateway, **how)).close()
    await connect("logs", to=gateway)
    gateway.token = token("admin")
    await gateway.broadcast({"event_type": "x", "data": {}}, "?channel=metrics")
    odd = await gateway.request("GET", f"{API}/channels", headers=bearer(value))
    answer = await gateway.request("GET", f"{API}/status?token={value}")
    page = await gateway.request("GET", "/metrics")
    [connected, *_] = await gateway.logged("client_connected")
    for event in ("broadcast", "subscription_denied"):
        await gateway.logged(event)
    written = "\n".join(gateway.lines) + answer.text + page.text

    assert ("gateway.audit", "alice", ["admin"]) == tuple(connected[k] for k in ("logger", "user_id", "roles"))
    assert odd.status in {200, 401}
    for secret in (SECRET, value, gateway.token, "eyJ"):
        assert secret not in written
    assert "\x1b" not in written


async def test_only_an_operator_disconnects_a_client_and_the_audit_log_says_who_did(
    guarded: Gateway, connect: Connect
) -> None:
    """Whoever may read the gateway's state, as Prometheus, may not act on its clients."""
    client = await connect("metrics", to=guarded, headers=bearer(token("developer", user="bob")))
    other = await connect("metrics", to=guarded)
    path = f"{API}/clients/{client.client_id}"
    refused = [
        (await guarded.request("DELETE", path, headers=bearer(token(role)))).status for role in ("developer", "monitor")
    ]
    answer = await guarded.request("DELETE", path, headers=bearer(token("admin")))
    closing = await client.expect("closing")
    code = await client.closed()
    again = await guarded.request("DELETE", path, headers=bearer(token("admin")))
    records = await guarded.logged("client_disconnected")

    assert [403, 403] == refused
    assert (200, {"client_id": client.client_id}) == (answer.status, answer.json)
    assert (4504, 4504, "disconnected", False) == (code, closing["code"], closing["reason"], closing["reconnect"])
    assert (404, "unknown_client") == (again.status, again.json["code"])
    assert [("alice", client.client_id)] == [(r["user_id"], r["client_id"]) for r in records]
    assert await other.ping()


async def test_only_an_operator_disconnects_a_user_and_the_audit_log_says_who_did(
    guarded: Gateway, connect: Connect
) -> None:
    clients = [await connect("metrics", to=guarded, headers=bearer(token("developer", user="bob"))) for _ in range(2)]
    other = await connect("metrics", to=guarded)
    path = f"{API}/users/bob"
    refused = [
        (await guarded.request("DELETE", path, headers=bearer(token(role)))).status for role in ("developer", "monitor")
    ]
    answer = await guarded.request("DELETE", path, headers=bearer(token("admin")))
    codes = [await one.closed() for one in clients]
    again = await guarded.request("DELETE", path, headers=bearer(token("admin")))
    [record, *_] = await guarded.logged("user_disconnected")

    assert [403, 403] == refused
    assert (200, {"user_id": "bob", "clients": 2}) == (answer.status, answer.json)
    assert [4504, 4504] == codes
    assert (200, 0) == (again.status, again.json["clients"])
    assert ("alice", "bob", 2) == (record["user_id"], record["user"], record["clients"])
    assert await other.ping()


async def test_a_gateway_warns_of_what_it_serves_without_authentication(launch: Launch) -> None:
    gateway = await launch(flags=["--host", "0.0.0.0", "--insecure-allow-remote"])
    status = await gateway.status()

    assert await gateway.logged("authentication_disabled")
    assert status["authentication"] == "none"
    assert json.dumps(status)


async def test_a_new_secret_in_the_file_counts_after_a_hangup_signal(
    launch: Launch, connect: Connect, tmp_path: Path
) -> None:
    """Those who are connected stay; a file that is of no use changes nothing."""
    file = tmp_path / "secret"
    file.write_text("an older secret of the tests, long enough")
    gateway = await launch(settings={"auth.secret_file": file})
    gateway.errors_expected = True
    stranger = await connect("metrics", to=gateway)
    for content, event in (("short", "reload_refused"), (SECRET, "reloaded")):
        file.write_text(content)
        gateway.process.send_signal(signal.SIGHUP)
        await gateway.logged(event)
    client = await connect("metrics", to=gateway, headers=bearer(token("bot")))

    assert await stranger.ping()
    assert ["bot"] == client.hello["roles"]
