"""What REST answers, with a hub in known states behind it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from gateway.config.model import Config, Ingest
from gateway.core.protocol.envelope import Envelope
from gateway.core.protocol.events import set_clock_offset
from gateway.core.sessions.session import Session
from gateway.metrics.metrics import EndpointStatus
from gateway.web.endpoints import rest
from gateway.web.sockets.connection import ConnectionKind
from tests.support.core import SECOND, Peer, publish
from tests.unit.web.conftest import API, Answer, MakeSite, Site


def refused(answer: Answer) -> tuple[int, str]:
    assert answer.headers["Content-Type"] == "application/problem+json"
    return answer.status, answer.json["code"]


def endpoint(address: str, link: int = 0) -> EndpointStatus:
    return EndpointStatus(
        address, "bind", "listening", peers=0, received=0, reopened=0, last_event_seconds=None, link=link
    )


def offsets(answer: Answer) -> list[int]:
    return [event["offset"] for event in answer.json["events"]]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        f"{API}/status",
        f"{API}/channels",
        f"{API}/channels/metrics",
        f"{API}/channels/metrics/events",
        f"{API}/rejections",
        f"{API}/publishers",
        "/metrics",
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/asyncapi.json",
    ],
)
async def test_head_says_what_get_says_without_the_body(site: Site, path: str) -> None:
    full, head = await site.get(path), await site.ask("HEAD", path)

    assert (full.status, b"") == (head.status, head.body)
    assert full.headers["Content-Type"] == head.headers["Content-Type"]
    if full.json is not None:
        assert full.headers["Cache-Control"] == "no-store"
    assert full.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("limit", ["", "0", "-1", "1001", "1.0", "1e2", "x", "+1", "\u0661", "9" * 40])
async def test_an_invalid_page_size_is_refused_by_name(site: Site, limit: str) -> None:
    for path in (f"{API}/status", f"{API}/channels/metrics/events"):
        answer = await site.get(path, params={"limit": limit})

        assert refused(answer) == (400, "invalid_field")
        assert "limit" in answer.json["detail"]
        assert "1000" in answer.json["detail"]


async def test_an_offset_beyond_the_last_client_is_an_empty_page(site: Site) -> None:
    answer = await site.get(f"{API}/status?offset=5")

    assert answer.json["clients"] == []
    assert answer.json["page"] == {"offset": 5, "limit": 100, "total": 0}


async def test_the_status_counts_what_the_hub_holds(site: Site) -> None:
    Peer(site.hub, "a").connect("robots", "logs.*")
    Peer(site.hub, "b").connect("robots")
    gone = Peer(site.hub, "c")
    gone.connect("robots")
    gone.disconnect()
    site.hub.tick([[b"bad topic", b"1"]], now_ns=0)
    found = (await site.get(f"{API}/status")).json

    assert (found["subscriptions"], found["sessions_remembered"]) == (3, 1)
    assert found["rejected"] == {"bad_topic": 1}
    assert found["uptime_seconds"] == 1000
    assert found["ready"] is True


@dataclass
class Connected:
    """A client, or one that has disconnected since the list of clients was made."""

    session: Session | None
    address: str = "192.0.2.1"
    kind: ConnectionKind = "websocket"
    connected_ns: int = 0
    lagging: bool = False
    lag: int = 0
    buffered: int = 0


async def test_a_client_that_disconnects_while_the_status_is_written_is_left_out(site: Site) -> None:
    """Events pass between the pieces of a long list, and connections end."""
    session = Peer(site.hub, "here").connect("robots")
    clients = [Connected(None), Connected(session), Connected(None)]
    site.context.connected_clients = lambda: clients
    answer = await site.get(f"{API}/status")

    assert answer.status == 200
    assert ["here-1"] == [one["client_id"] for one in answer.json["clients"]]


async def test_channels_know_their_subscribers_live_or_lagging_by_name_or_pattern(site: Site) -> None:
    site.publish("robots.arm")
    for channels in (["robots.arm"], ["robots.*"], ["robots.arm", ">"], ["metrics"]):
        Peer(site.hub, channels[0]).connect(*channels)
    lagging = Peer(site.hub, "lagging")
    lagging.connect("robots.arm")
    lagging.writing_paused = True
    site.publish("robots.arm")
    listed = {one["name"]: one for one in (await site.get(f"{API}/channels")).json["channels"]}

    assert (listed["robots.arm"]["subscribers"], listed["metrics"]["subscribers"]) == (4, 2)
    for name, one in listed.items():
        detail = (await site.get(f"{API}/channels/{name}")).json
        del detail["events_per_second"]
        assert one == detail


async def test_a_rate_is_taken_over_the_last_minute(site: Site) -> None:
    site.publish("robots", 500)
    site.wait(100)
    site.publish("robots", 90)
    site.wait(30)
    site.publish("robots", 30)
    robots = await site.get(f"{API}/channels/robots")
    quiet = await site.get(f"{API}/channels/metrics")

    assert robots.json["events_per_second"] == pytest.approx(2)
    assert quiet.json["events_per_second"] == 0


async def test_a_rate_is_taken_over_what_the_log_still_holds(make_site: MakeSite) -> None:
    site = await make_site(events_max=10)
    for _ in range(50):
        site.publish("robots")
        site.wait(0.5)
    found = await site.get(f"{API}/channels/robots")

    assert found.json["events_per_second"] == pytest.approx(2)


async def test_a_burst_has_a_rate_too(make_site: MakeSite) -> None:
    site = await make_site(events_max=10)
    site.publish("robots", 50)

    assert (await site.get(f"{API}/channels/robots")).json["events_per_second"] == 10


async def test_history_without_a_position_is_the_newest(site: Site) -> None:
    site.publish("robots", 30)
    answer = await site.get(f"{API}/channels/robots/events?limit=3")

    assert offsets(answer) == [28, 29, 30]
    assert answer.json["next"] == {"epoch": "e1", "offset": 30}


async def test_history_since_an_offset_or_a_position_is_the_same(site: Site) -> None:
    site.publish("robots", 30)
    path = f"{API}/channels/robots/events"

    for since in ("28", "e1:28"):
        answer = await site.get(path, params={"since": since})
        assert (offsets(answer), answer.json["gap"]) == ([29, 30], None)


async def test_history_names_what_was_evicted_even_all_of_it(make_site: MakeSite) -> None:
    site = await make_site(events_max=5)
    site.publish("robots", 20)
    answer = await site.get(f"{API}/channels/robots/events?since=0&limit=2")

    assert answer.json["gap"] == {
        "type": "gap",
        "channel": "robots",
        "epoch": "e1",
        "count": 15,
        "from": 1,
        "to": 15,
        "reason": "evicted",
    }
    assert offsets(answer) == [16, 17]


@pytest.mark.parametrize("since", ["other:3", "e1:31", "31"])
async def test_history_of_another_epoch_starts_at_the_oldest_event(site: Site, since: str) -> None:
    site.publish("robots", 30)
    answer = await site.get(f"{API}/channels/robots/events", params={"since": since, "limit": 2})

    assert answer.json["gap"] == {
        "type": "gap",
        "channel": "robots",
        "epoch": "e1",
        "count": None,
        "from": None,
        "to": 0,
        "reason": "epoch",
    }
    assert offsets(answer) == [1, 2]


def publish_numbered(site: Site, incarnation: int, count: int) -> None:
    payload = b'{"event_type":"x","data":1}'
    frames = [[b"robots", payload, Envelope(incarnation, n, 0, 0).pack()] for n in range(1, count + 1)]
    assert not site.hub.tick(frames, now_ns=0).rejections


async def test_history_names_what_was_evicted_of_each_source(make_site: MakeSite) -> None:
    site = await make_site(events_max=4)
    site.publish("robots", 3)
    publish_numbered(site, 10, 3)
    publish_numbered(site, 11, 3)
    answer = await site.get(f"{API}/channels/robots/events?since=e1:0")
    events = answer.json["events"]
    gaps = [answer.json["gap"], *(one for one in events if one["type"] == "gap")]

    assert {one["epoch"]: one["to"] for one in gaps if one["reason"] == "evicted"} == {"e1": 3, f"{10:016x}": 3}
    assert [one["offset"] for one in events if one["type"] == "event"] == [1, 2, 3]


async def test_history_goes_on_behind_a_position_of_several_sources(site: Site) -> None:
    site.publish("robots", 3)
    publish_numbered(site, 10, 3)
    answer = await site.get(f"{API}/channels/robots/events?since=e1:2:{10:016x}:1")

    assert [(one["epoch"], one["offset"]) for one in answer.json["events"]] == [
        ("e1", 3),
        (f"{10:016x}", 2),
        (f"{10:016x}", 3),
    ]
    assert answer.json["next"] == {"epoch": f"{10:016x}", "offset": 3, "others": {"e1": 3}}


async def test_the_first_event_of_a_history_has_its_epoch(site: Site) -> None:
    site.publish("robots", 3)

    for query in ("limit=2", "since=e1:1"):
        answer = await site.get(f"{API}/channels/robots/events?{query}")
        assert [one.get("epoch") for one in answer.json["events"]] == ["e1", None]


async def test_history_of_a_channel_without_events_is_empty(site: Site) -> None:
    answer = await site.get(f"{API}/channels/metrics/events?since=0")

    assert answer.json["events"] == []
    assert answer.json["next"] == {"epoch": "e1", "offset": 0}


async def test_pages_of_history_hold_each_event_once_whatever_its_size(site: Site) -> None:
    sizes = [1, 126, 127, 9000, 1, 9900]
    for size in sizes:
        await site.broadcast({"channel": "sizes", "event": "x" * size})
    since = "0"
    seen: list[int] = []
    while len(seen) < len(sizes):
        page = await site.get(f"{API}/channels/sizes/events?limit=2&since={since}")
        seen += [len(event["data"]) for event in page.json["events"]]
        since = str(page.json["next"]["offset"])

    assert sizes == seen


async def test_one_answer_of_a_history_holds_so_many_bytes_and_says_what_is_next(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "_HISTORY_BYTES_MAX", 10_000)
    for _ in range(10):
        await site.broadcast({"channel": "sizes", "event": "x" * 3000})
    first = (await site.get(f"{API}/channels/sizes/events?limit=10&since=0")).json
    second = (await site.get(f"{API}/channels/sizes/events?limit=10&since={first['next']['offset']}")).json
    offsets = [event["offset"] for event in (*first["events"], *second["events"])]

    assert 0 < len(first["events"]) <= 4
    assert list(range(1, second["next"]["offset"] + 1)) == offsets


@pytest.mark.parametrize("name", ["%24everyone", "%24personal", "a%2Fb", "a..b", "%20", "x" * 256])
async def test_an_invalid_channel_name_is_refused(site: Site, name: str) -> None:
    for path in (f"{API}/channels/{name}", f"{API}/channels/{name}/events"):
        assert refused(await site.get(path)) == (400, "invalid_channel")


async def test_rejections_come_newest_first_and_readable(site: Site) -> None:
    site.hub.tick([[b"robots", b"{"], [b"\xff", b"\xff" * 5000]], now_ns=0)
    found = (await site.get(f"{API}/rejections")).json

    assert found["counts"] == {"invalid_json": 1, "bad_topic": 1}
    assert [one["reason"] for one in found["rejections"]] == ["bad_topic", "invalid_json"]
    assert found["rejections"][0]["payload"] == "\ufffd" * 1024
    assert found["rejections"][1]["time"].startswith("1970-01-01T00:00:00")


async def test_a_rejection_has_its_frames_in_hex_its_endpoint_and_advice(site: Site) -> None:
    site.links = lambda: [endpoint("tcp://a:1", 4), endpoint("tcp://b:2", 7)]
    site.hub.pipeline.receive([[b"a/b", b"\x00\x01"]], now_ns=0, link=7)
    [found] = (await site.get(f"{API}/rejections")).json["rejections"]

    assert (1, "tcp://b:2", ["612f62", "0001"]) == (found["number"], found["endpoint"], found["hex"])
    assert "the topic has '/'" in found["advice"]


async def test_a_publishers_clock_shows_in_the_fastest_of_its_topics(site: Site) -> None:
    """Its messages seem to come before they are sent: it is ahead."""
    heartbeat = b'{"incarnation":"0000000000000007","interval":1,"name":"core"}'
    unix = time.time_ns() - time.monotonic_ns()
    set_clock_offset(unix)
    sent = [unix + site.now_ns + seconds * SECOND for seconds in (30, 29)]
    messages = [[name, b"1", Envelope(7, 1, at).pack()] for name, at in zip((b"a", b"b"), sent, strict=True)]
    messages += [[b"timeless", b"1", Envelope(7, 1, 0).pack()], [b"$heartbeat", heartbeat]]
    site.hub.pipeline.receive(messages, now_ns=site.now_ns)
    found = (await site.get(f"{API}/publishers")).json
    set_clock_offset(0)

    assert [pytest.approx(-29)] == [one["transit_seconds"] for one in found["publishers"]]
    transits = {one["topic"]: one["transit_seconds"] for one in found["topics"]}
    assert {"a": pytest.approx(-30), "b": pytest.approx(-29), "timeless": None} == transits


async def test_an_event_reaches_its_recipients(site: Site) -> None:
    ada, bob = Peer(site.hub, "ada"), Peer(site.hub, "bob")
    session = ada.connect("robots", user_id="ada")
    bob.connect("robots")
    event = {"event_type": "x", "data": 1}
    answers = [
        await site.broadcast({"channel": "robots", "event": event}),
        await site.broadcast(event, query="?channel=robots"),
        await site.broadcast({"client_id": session.client_id, "event": event}),
        await site.broadcast({"user_id": "ada", "event": event}),
        await site.broadcast({"everyone": True, "event": event}),
    ]
    channels = [m["channel"] for m in ada.take() if m["type"] == "event"]

    assert [answer.json["recipients"] for answer in answers] == [2, 2, 1, 1, 2]
    assert answers[1].json["position"] == {"epoch": "e1", "offset": 2}
    assert channels == ["robots", "robots", "$personal", "$personal", "$everyone"]
    assert sum(m["type"] == "event" for m in bob.take()) == 3


async def test_a_broadcast_may_begin_with_a_byte_order_mark(site: Site) -> None:
    answer = await site.broadcast(raw=b"\xef\xbb\xbf1", query="?channel=robots")

    assert answer.json["channel"] == "robots"


@pytest.mark.parametrize(
    ("raw", "query", "code", "word"),
    [
        (b"{", "", "invalid_json", ""),
        (b"{", "?channel=robots", "invalid_json", ""),
        (b'"\xff"', "?channel=robots", "invalid_json", "utf-8"),
        (b'{"channel":"robots","event":"\xff"}', "", "invalid_json", "utf-8"),
        (b"[" * 5000, "?channel=robots", "invalid_json", ""),
        (b'{"data":1e999}', "?channel=robots", "invalid_event", "1e999"),
        (b'{"channel":"robots","event":{"data":%b}}' % (b"1" * 5000), "", "invalid_event", "64-bit"),
        (b'{"channel":"robots","event":%b}' % (b"[" * 129 + b"]" * 129), "", "invalid_event", "more than 128 levels"),
        (b'{"everyone":"yes","event":1}', "", "invalid_field", "everyone"),
        (b'{"channel":"robots"}', "", "invalid_field", "event"),
        (b'{"chanel":"robots","event":1}', "", "invalid_field", "channel"),
        (b'{"channel":"a","user_id":"b","event":1}', "", "invalid_field", "exactly one"),
        (b'{"everyone":false,"event":1}', "", "invalid_field", "exactly one"),
        (b"1", "?channel=", "invalid_channel", ""),
        (b"1", "?channel=a.*", "invalid_channel", "a.*"),
        (b'{"client_id":"nobody","event":1}', "", "unknown_client", ""),
        (b'{"channel":"metrics","event":1}', "", "invalid_event", ""),
        (b'{"event_type":"x","data":{"cpu_percent":"y"}}', "?channel=metrics", "invalid_event", "cpu"),
    ],
)
async def test_an_invalid_broadcast_is_answered_with_what_is_wrong(
    site: Site, raw: bytes, query: str, code: str, word: str
) -> None:
    before = site.hub.heads()
    answer = await site.broadcast(raw=raw, query=query)

    assert answer.json["code"] == code
    assert 400 <= refused(answer)[0] < 500
    assert word in answer.json["detail"]
    assert site.hub.heads() == before


@pytest.mark.parametrize("query", ["", "?channel=robots"])
async def test_an_event_may_be_as_large_as_on_the_bus_and_no_larger(make_site: MakeSite, query: str) -> None:
    """By a byte, and by so much that the body is not read to its end."""
    site = await make_site(Config(ingest=Ingest(payload_bytes_max=10_000)))

    def body(size: int) -> bytes:
        event = b'"%b"' % (b"x" * (size - 2))
        return event if query else b'{"channel":"robots","event":%b}' % event

    fits = await site.broadcast(raw=body(10_000), query=query)
    by_a_byte = await site.broadcast(raw=body(10_001), query=query)
    by_far = await site.broadcast(raw=body(1_000_000), query=query)

    assert fits.status == 200
    assert refused(by_a_byte) == refused(by_far) == (413, "too_large")
    assert site.hub.logs.by_name["robots"].position.offset == 1


async def test_readiness_names_its_reasons_and_health_does_not_care(site: Site) -> None:
    site.unready = ["draining"]
    ready, health = await site.get("/readyz"), await site.get("/healthz")

    assert (ready.status, ready.json) == (503, {"ready": False, "reasons": ["draining"], "degraded": []})
    assert int(ready.headers["Retry-After"]) > 0
    assert (health.status, health.json) == (200, {"status": "ok"})


async def test_a_health_check_may_ask_with_options(site: Site) -> None:
    """HAProxy's `option httpchk /readyz` does."""
    ready = await site.ask("OPTIONS", "/readyz")
    site.unready = ["draining"]
    unready = await site.ask("OPTIONS", "/readyz")

    assert (ready.status, unready.status) == (200, 503)


async def test_a_page_may_ask_whether_it_may_ask_for_health(site: Site) -> None:
    own = f"http://{site.client.host}:{site.client.port}"
    headers = {"Origin": own, "Access-Control-Request-Method": "GET"}
    answer = await site.ask("OPTIONS", "/healthz", headers=headers)

    assert (answer.status, answer.headers["Access-Control-Allow-Methods"]) == (204, "GET, HEAD")


async def test_events_are_handed_out_as_they_were_published(site: Site) -> None:
    """Numbers are not rounded and fields that no model knows are kept."""
    payload = b'{"event_type":"x","data":{"n":12345678901234567890.10},"more":[1e300]}'
    site.hub.tick([[b"robots", payload]], now_ns=0)
    answer = await site.get(f"{API}/channels/robots/events", headers={"Accept": "*/*"})

    assert b'"data":{"n":12345678901234567890.10},"more":[1e300]' in answer.body


async def test_metrics_are_in_the_format_they_claim(site: Site) -> None:
    answer = await site.get("/metrics")

    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert b'\nneurograph_gateway_connections{kind="sse"} 0.0\n' in answer.body
    assert answer.json is None


async def test_presence_lists_the_clients_subscribed_now(site: Site) -> None:
    """By name or pattern, live or lagging; not those whose sessions are only remembered."""
    peers = {name: Peer(site.hub, name) for name in ("named", "wild", "lagging", "gone", "other")}
    for name, user in (("named", "ada"), ("wild", "ada"), ("lagging", None), ("gone", "bob")):
        peers[name].connect("*" if name == "wild" else "robots", user_id=user)
    peers["other"].connect("metrics")
    peers["lagging"].writing_paused = True
    publish(site.hub, "robots")
    peers["gone"].disconnect()
    answer = await site.get(f"{API}/channels/robots/presence?limit=2")

    assert (answer.json["subscribers"], answer.json["users"]) == (3, 1)
    assert [client["user_id"] for client in answer.json["clients"]] == ["ada", "ada"]
    assert answer.json["page"] == {"offset": 0, "limit": 2, "total": 3}


async def test_presence_of_an_unopened_channel_is_empty(site: Site) -> None:
    assert (await site.get(f"{API}/channels/unheard/presence")).json["subscribers"] == 0
    assert (await site.get(f"{API}/channels/a..b/presence")).status == 400
