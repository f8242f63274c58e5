"""Every HTTP endpoint says what it should, and every error is a problem document."""

from __future__ import annotations

import pytest

from tests.conftest import Connect, Launch, NewPublisher
from tests.support.addresses import free_tcp
from tests.support.gateway import Answer, Gateway
from tests.support.publisher import Publisher
from tests.support.waiting import eventually


API = "/api/v1/websocket"
STANDARD = {"metrics", "signals", "actions", "logs", "status", "connections"}


def _is_problem(answer: Answer, status: int, code: str) -> bool:
    assert answer.headers["Content-Type"].startswith("application/problem+json"), answer.text
    problem = answer.json
    assert {"type", "title", "status", "detail", "code"} <= set(problem)
    assert (status, status, code) == (answer.status, problem["status"], problem["code"])
    return True


async def test_health_is_plain(gateway: Gateway) -> None:
    """/healthz says that the process runs, and nothing else."""
    assert await gateway.get_json("/healthz") == {"status": "ok"}


async def test_readiness_has_reasons(gateway: Gateway) -> None:
    """Ready, and no reason against it."""
    assert await gateway.get_json("/readyz") == {"ready": True, "reasons": [], "degraded": []}


async def test_an_absent_publisher_does_not_make_it_unready(launch: Launch) -> None:
    """Nobody may be there yet: sockets that are set up are enough."""
    gateway = await launch(connect=[free_tcp()])

    assert (await gateway.get_json("/readyz"))["ready"] is True
    assert "connecting" in {e["state"] for e in (await gateway.status())["bus"]}


async def test_the_front_page_says_what_runs_here(gateway: Gateway) -> None:
    """It links to what is served."""
    answer = await gateway.request("GET", "/")

    assert answer.status == 200
    assert "/asyncapi.json" in answer.text
    assert "/api/v1/websocket/status" in answer.text


async def test_the_status_tells_counts_and_clients(launch: Launch, connect: Connect, publisher: NewPublisher) -> None:
    """Connections, subscriptions, bus endpoints with what they received, and who is there."""
    gateway = await launch()
    bus = await publisher(gateway.bus_in)
    ada = await connect("metrics", "own.x", to=gateway, user_id="ada")
    bob = await connect("logs.*", to=gateway)
    bus.send("own.x", {"n": 1})
    await ada.events("own.x", 1)
    await bob.expect("subscribed")
    status = await gateway.status()

    assert {
        "version",
        "uptime_seconds",
        "process",
        "ready",
        "connections",
        "subscriptions",
        "channels",
        "bus",
        "rejected",
        "clients",
        "page",
    } <= set(status)
    assert (status["ready"], status["connections"], status["subscriptions"]) == (True, 2, 3)
    assert status["version"] == ada.hello["server"]["version"]
    assert 0 <= status["uptime_seconds"] < 600
    assert status["process"]["cpu_percent"] >= 0
    assert status["process"]["memory_bytes"] > 10_000_000
    assert status["process"]["open_files"] > 5
    links = {link["endpoint"]: link for link in status["bus"]}
    assert (links[gateway.bus_in]["mode"], links[gateway.bus_in]["received"]) == ("bind", 1)
    assert (links[gateway.bus_out]["mode"], links[gateway.bus_out]["received"]) == ("connect", 0)
    assert links[gateway.bus_in]["last_event_seconds"] >= 0
    assert links[gateway.bus_out]["last_event_seconds"] is None
    assert (links[gateway.bus_in]["events"], links[gateway.bus_in]["rejected"]) == (1, 0)
    clients = {client["client_id"]: client for client in status["clients"]}
    assert {ada.client_id, bob.client_id} == set(clients)
    mine = clients[ada.client_id]
    assert (mine["user_id"], mine["lagging"], mine["address"]) == ("ada", False, "127.0.0.1")
    assert mine["channels"] == ["metrics", "own.x"]
    assert mine["connected_seconds"] >= 0
    assert {k: status["page"][k] for k in ("offset", "total")} == {"offset": 0, "total": 2}


async def test_the_status_is_paged(launch: Launch, connect: Connect) -> None:
    """?limit= and ?offset= turn the pages; together they hold each client once."""
    gateway = await launch()
    clients = {(await connect(to=gateway)).client_id for _ in range(7)}
    pages = [await gateway.status(f"?limit=3&offset={offset}") for offset in (0, 3, 6, 9)]

    assert [len(page["clients"]) for page in pages] == [3, 3, 1, 0]
    assert clients == {c["client_id"] for page in pages for c in page["clients"]}
    assert pages[1]["page"] == {"offset": 3, "limit": 3, "total": 7}


@pytest.mark.parametrize("query", ["?limit=x", "?limit=-1", "?offset=-1", "?limit=1e3"])
async def test_a_bad_page_is_a_problem(gateway: Gateway, query: str) -> None:
    """400 that names the parameter."""
    answer = await gateway.request("GET", f"{API}/status{query}")

    assert _is_problem(answer, 400, "invalid_field")
    assert query[1:].split("=")[0] in answer.json["detail"]


async def test_channels_are_listed(bus: Publisher, gateway: Gateway, channel: str) -> None:
    """The six standard ones with description and schema, and those that publishers made."""
    bus.send(channel, {"n": 1})

    async def listed() -> bool:
        found = (await gateway.get_json(f"{API}/channels"))["channels"]
        return any(c["name"] == channel for c in found)

    await eventually(listed)
    channels = {c["name"]: c for c in (await gateway.get_json(f"{API}/channels"))["channels"]}

    assert set(channels) >= STANDARD
    for name in STANDARD:
        assert channels[name]["standard"] is True
        assert channels[name]["description"]
        assert channels[name]["schema"]
        assert {"epoch", "offset"} == set(channels[name]["position"])
    assert channels[channel]["standard"] is False
    assert channels[channel]["position"]["offset"] == 1
    assert not any(name.startswith("$") for name in channels)


async def test_a_channel_can_be_looked_at(bus: Publisher, gateway: Gateway, connect: Connect, channel: str) -> None:
    """Subscribers, position, retention."""
    client = await connect(channel)
    await client.expect("subscribed")
    bus.send_numbered(channel, range(3))
    await client.events(channel, 3)
    found = await gateway.get_json(f"{API}/channels/{channel}")

    assert (channel, 1, 3) == (found["name"], found["subscribers"], found["position"]["offset"])
    assert "retention" in found


@pytest.mark.parametrize("path", ["", "/events"])
async def test_an_unknown_channel_is_a_problem(gateway: Gateway, path: str) -> None:
    """404, unknown_channel."""
    answer = await gateway.request("GET", f"{API}/channels/no.such.channel{path}")

    assert _is_problem(answer, 404, "unknown_channel")


async def test_history_comes_in_pages(bus: Publisher, gateway: Gateway, connect: Connect, channel: str) -> None:
    """`next` of one page is the `since` of the next; at the end it stays where it is."""
    client = await connect(channel)
    bus.send_numbered(channel, range(1, 251))
    live = await client.events(channel, 250)
    path = f"{API}/channels/{channel}/events"
    page = await gateway.get_json(f"{path}?since=0&limit=100")
    events, sizes, epoch = page["events"], [len(page["events"])], page["epoch"]
    while page["events"]:
        after = page["next"]
        page = await gateway.get_json(f"{path}?since={after['epoch']}:{after['offset']}&limit=100")
        events += page["events"]
        sizes.append(len(page["events"]))

    assert sizes == [100, 100, 50, 0]
    assert [{**event, "epoch": epoch} for event in live] == [{**event, "epoch": epoch} for event in events]
    assert (channel, None) == (page["channel"], page["gap"])
    assert {"epoch": epoch, "offset": 250} == page["next"]


async def test_history_without_since_is_the_newest_or_the_oldest_but_contiguous(
    bus: Publisher, gateway: Gateway, connect: Connect, channel: str
) -> None:
    """A page without a position holds contiguous offsets, and `next` follows its last."""
    client = await connect(channel)
    bus.send_numbered(channel, range(1, 31))
    await client.events(channel, 30)
    page = await gateway.get_json(f"{API}/channels/{channel}/events?limit=10")
    offsets = [event["offset"] for event in page["events"]]

    assert list(range(offsets[0], offsets[0] + 10)) == offsets
    assert offsets[-1] == page["next"]["offset"]


async def test_history_names_what_is_gone(launch: Launch, publisher: NewPublisher, connect: Connect) -> None:
    """An evicted range, or another epoch, is a gap in the page."""
    gateway = await launch(settings={"history.events_max": 20})
    bus = await publisher(gateway.bus_in)
    client = await connect("h", to=gateway)
    bus.send_numbered("h", range(1, 101))
    await client.events("h", 100)
    path = f"{API}/channels/h/events"
    evicted = await gateway.get_json(f"{path}?since=50")
    other = await gateway.get_json(f"{path}?since=another:50")
    future = await gateway.get_json(f"{path}?since={evicted['epoch']}:5000")

    assert evicted["gap"] == {
        "type": "gap",
        "channel": "h",
        "epoch": evicted["epoch"],
        "count": 30,
        "from": 51,
        "to": 80,
        "reason": "evicted",
    }
    assert list(range(81, 101)) == [e["offset"] for e in evicted["events"]]
    assert "epoch" == other["gap"]["reason"] == future["gap"]["reason"]
    assert list(range(81, 101)) == [e["offset"] for e in other["events"]]


@pytest.mark.parametrize("query", ["since=x:y", "since=-1", "limit=0x", "limit=-3", "since=:"])
async def test_a_bad_history_query_is_a_problem(gateway: Gateway, query: str) -> None:
    """400 that names the parameter."""
    answer = await gateway.request("GET", f"{API}/channels/metrics/events?{query}")

    assert _is_problem(answer, 400, "invalid_field")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", f"{API}/nowhere", 404, "not_found"),
        ("GET", "/%2e%2e/etc/passwd", 404, "not_found"),
        ("POST", "/healthz", 405, "method_not_allowed"),
        ("DELETE", f"{API}/status", 405, "method_not_allowed"),
        ("GET", f"{API}/broadcast", 405, "method_not_allowed"),
    ],
)
async def test_wrong_addresses_are_problems(gateway: Gateway, method: str, path: str, status: int, code: str) -> None:
    """Also where no handler was reached."""
    answer = await gateway.request(method, path)

    assert _is_problem(answer, status, code)
    if status == 405:
        assert answer.headers["Allow"]


async def test_a_problem_says_nothing_of_the_inside(gateway: Gateway) -> None:
    """No version of any library in headers, no trace in the text."""
    answer = await gateway.request("GET", "/nowhere")

    assert "aiohttp" not in answer.headers.get("Server", "").lower()
    assert "Traceback" not in answer.text


async def test_head_is_answered_like_get(gateway: Gateway) -> None:
    """Load balancers ask with HEAD."""
    for path in ("/healthz", "/readyz"):
        answer = await gateway.request("HEAD", path)
        assert (answer.status, answer.text) == (200, "")
