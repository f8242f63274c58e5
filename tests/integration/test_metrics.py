"""What /metrics says agrees with what happened, in a bounded number of series."""

from __future__ import annotations

import json
import signal
from collections import Counter
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Connect, Launch, NewPublisher, OpenRaw
from tests.support.gateway import Gateway
from tests.support.waiting import eventually
from tests.support.workers import holder, replaced


NAMED = {
    "neurograph_gateway_connections": "gauge",
    "neurograph_gateway_connections_opened_total": "counter",
    "neurograph_gateway_connections_closed_total": "counter",
    "neurograph_gateway_connection_duration_seconds": "histogram",
    "neurograph_gateway_subscriptions": "gauge",
    "neurograph_gateway_events_received_total": "counter",
    "neurograph_gateway_events_rejected_total": "counter",
    "neurograph_gateway_events_delivered_total": "counter",
    "neurograph_gateway_events_lost_total": "counter",
    "neurograph_gateway_bus_received_bytes_total": "counter",
    "neurograph_gateway_delivered_bytes_total": "counter",
    "neurograph_gateway_bus_latency_seconds": "histogram",
    "neurograph_gateway_fanout_latency_seconds": "histogram",
    "neurograph_gateway_clients_lagging": "gauge",
    "neurograph_gateway_history_events": "gauge",
    "neurograph_gateway_history_bytes": "gauge",
    "neurograph_gateway_write_buffer_bytes": "gauge",
    "neurograph_gateway_batch_events": "histogram",
    "neurograph_gateway_event_loop_lag_seconds": "histogram",
    "process_resident_memory_bytes": "gauge",
    "process_cpu_seconds_total": "counter",
    "process_open_fds": "gauge",
}


async def _families(gateway: Gateway) -> dict[str, str]:
    text = (await gateway.request("GET", "/metrics")).text
    return {
        family.name + ("_total" if family.type == "counter" else ""): family.type
        for family in text_string_to_metric_families(text)
    }


@pytest.mark.parametrize(("name", "kind"), NAMED.items())
async def test_a_metric_is_there_under_its_name(gateway: Gateway, name: str, kind: str) -> None:
    """Dashboards and alerts rely on name and kind."""
    assert (await _families(gateway)).get(name) == kind


async def test_the_page_is_what_prometheus_reads(gateway: Gateway) -> None:
    """Content type, HELP and TYPE of every metric, names with units, no timestamps."""
    answer = await gateway.request("GET", "/metrics")

    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation, family.name
        assert family.type != "unknown", family.name


async def test_counts_agree_with_what_was_sent(launch: Launch, publisher: NewPublisher, connect: Connect) -> None:
    """Received per channel, rejected, delivered, held, connections and subscriptions, as integers."""
    gateway = await launch(settings={"history.events_max": 50})
    bus = await publisher(gateway.bus_in)
    one, two = await connect("m.a", "m.b", to=gateway), await connect("m.a", to=gateway)
    bus.send_numbered("m.a", range(120), enveloped=True)
    bus.send_numbered("m.b", range(30))
    bus.send_payload("m.a", b"{")
    bus.send("m.b", {"n": 30})
    await one.events("m.b", 31)
    await two.events("m.a", 120)

    metric = gateway.metric
    assert await metric("neurograph_gateway_events_received_total", channel="m.a") == 120
    assert await metric("neurograph_gateway_events_received_total", channel="m.b") == 31
    assert await metric("neurograph_gateway_events_received_total") == 151
    assert await metric("neurograph_gateway_events_rejected_total", reason="invalid_json") == 1
    assert await metric("neurograph_gateway_events_rejected_total") == 1
    assert await metric("neurograph_gateway_events_delivered_total") == 2 * 120 + 31
    assert await metric("neurograph_gateway_events_lost_total") == 0
    assert await metric("neurograph_gateway_batch_events_sum") == 151
    assert await metric("neurograph_gateway_history_events", channel="m.a") == 50
    assert await metric("neurograph_gateway_history_events", channel="m.b") == 31
    assert await metric("neurograph_gateway_history_bytes", channel="m.b") > 31 * 50
    assert await metric("neurograph_gateway_connections") == 2
    assert await metric("neurograph_gateway_connections_opened_total") == 2
    assert await metric("neurograph_gateway_subscriptions", channel="m.a") == 2
    assert await metric("neurograph_gateway_subscriptions", channel="m.b") == 1
    assert await metric("neurograph_gateway_delivered_bytes_total") > 271 * 50
    assert await metric("neurograph_gateway_bus_latency_seconds_count") >= 1
    assert await metric("neurograph_gateway_bus_latency_seconds_sum") < 120


async def test_bytes_of_the_bus_are_counted(launch: Launch, publisher: NewPublisher, connect: Connect) -> None:
    """All frames of all messages, good or bad."""
    gateway = await launch()
    bus = await publisher(gateway.bus_in)
    client = await connect("bytes", to=gateway)
    bus.send_payload("bytes", b'"' + b"x" * 98 + b'"')
    bus.send_payload("bytes", b"{")
    bus.send_payload("bytes", b"1")
    await client.events("bytes", 2)

    assert await gateway.metric("neurograph_gateway_bus_received_bytes_total") == 5 + 100 + 5 + 1 + 5 + 1


async def test_connections_are_counted_by_their_end(launch: Launch, connect: Connect, raw: OpenRaw) -> None:
    """One close code per connection that ended, and its duration; the gauge goes down."""
    gateway = await launch()
    client = await connect("metrics", to=gateway)
    await client.close()
    cut = await raw(to=gateway)
    cut.close()
    binary = await raw(to=gateway)
    await binary.send_frame(2, b"x")
    await binary.read_ending()
    odd = await raw(to=gateway)
    await odd.send_close(4321)
    await odd.read_ending()
    bare = await raw(to=gateway)
    await bare.send_close(None)
    await bare.read_ending()

    async def all_gone() -> bool:
        return await gateway.metric("neurograph_gateway_connections") == 0

    await eventually(all_gone)
    found = await gateway.samples("neurograph_gateway_connections_closed_total")
    codes = {labels["code"]: value for labels, value in found if value}
    assert codes == {"1000": 1, "1006": 1, "1003": 1, "other": 1, "1005": 1}
    assert await gateway.metric("neurograph_gateway_connection_duration_seconds_count") == 5
    assert await gateway.metric("neurograph_gateway_connections_opened_total") == 5
    assert await gateway.metric("neurograph_gateway_subscriptions") == 0


async def test_evicted_events_are_counted_as_lost(launch: Launch, publisher: NewPublisher, connect: Connect) -> None:
    """As many as the gap names."""
    gateway = await launch(settings={"history.events_max": 10})
    bus = await publisher(gateway.bus_in)
    first = await connect("lost", to=gateway)
    bus.send_numbered("lost", range(100))
    await first.events("lost", 100)
    epoch = (await first.ping())["positions"]["lost"]["epoch"]
    late = await connect(to=gateway)
    await late.subscribe("lost", since={"epoch": epoch, "offset": 40})
    await late.events("lost", 10)

    assert await gateway.metric("neurograph_gateway_events_lost_total", reason="evicted") == 50


async def test_thousands_of_channels_make_a_bounded_number_of_series(
    launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    """Beyond the limit channels share one label, and the sum is right all the same."""
    gateway = await launch(settings={"ingest.channels_max": 3000})
    bus = await publisher(gateway.bus_in)
    client = await connect("last", to=gateway)
    for n in range(2000):
        bus.send(f"many.{n}", {"n": n})
    bus.send("last", {})
    await client.events("last", 1)
    text = (await gateway.request("GET", "/metrics")).text
    series: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series[sample.name] += 1

    assert max(series.values()) <= 150
    assert sum(series.values()) < 1500
    assert await gateway.metric("neurograph_gateway_events_received_total") == 2001
    assert await gateway.metric("neurograph_gateway_events_received_total", channel="other") > 1800
    assert await gateway.metric("neurograph_gateway_channels") >= 2001


async def test_what_clients_invent_makes_no_series(launch: Launch, raw: OpenRaw, publisher: NewPublisher) -> None:
    """Neither close codes, nor bad topics, nor subscriptions to channels that do not exist."""
    gateway = await launch()
    bus = await publisher(gateway.bus_in)
    before = len((await gateway.request("GET", "/metrics")).text.splitlines())
    for code in range(3000, 3100):
        peer = await raw(f"/ws?channels=stranger{code}", to=gateway)
        await peer.send_close(code)
        await peer.read_ending()
        bus.send_payload(f"bad topic {code}", b"1")

    async def all_rejected() -> bool:
        return await gateway.metric("neurograph_gateway_events_rejected_total", reason="bad_topic") == 100

    await eventually(all_rejected)
    after = len((await gateway.request("GET", "/metrics")).text.splitlines())
    assert after - before < 20


async def test_events_heartbeats_and_rejections_of_an_endpoint_are_counted_apart(
    launch: Launch, publisher: NewPublisher
) -> None:
    """A heartbeat is no event: it says nothing about whether data flows."""
    gateway = await launch()
    bus = await publisher(gateway.bus_in)
    heartbeat = {"incarnation": f"{7:016x}", "interval": 60, "topics": {}, "name": "p"}
    bus.send_frames(b"$heartbeat", json.dumps(heartbeat).encode())
    bus.send_payload("a", b"{")

    async def counts() -> dict[str, Any]:
        links: dict[str, dict[str, Any]] = {one["endpoint"]: one for one in (await gateway.status())["bus"]}
        return links[gateway.bus_in]

    async def two_have_come() -> bool:
        return bool((await counts())["received"] == 2)

    await eventually(two_have_come)
    before = await counts()
    bus.send("a", 1)
    await gateway.holds("a", 1)
    after = await counts()
    live = (await gateway.status())["bus_state"]
    bus.close()

    async def not_live() -> bool:
        return bool((await gateway.status())["bus_state"] != "live")

    assert (before["events"], before["heartbeats"], before["rejected"]) == (0, 1, 1)
    assert before["last_event_seconds"] is None
    assert (after["events"], after["received"], live) == (1, 3, "live")
    assert after["last_event_seconds"] >= 0
    await eventually(not_live)


async def test_the_gateways_own_figures_are_events(launch: Launch, connect: Connect, publisher: NewPublisher) -> None:
    """On a channel of their own, so that `metrics` keeps the numbers of its publisher."""
    gateway = await launch(settings={"figures_seconds": 0.2})
    bus = await publisher(gateway.bus_in)
    client = await connect("metrics.gateway", to=gateway)
    bus.send("own.x", {"n": 1})
    while not (event := await client.until("event", channel="metrics.gateway"))["data"]["channels"]:
        pass

    assert event["event_type"] == "gateway_figures"
    assert event["data"]["channels"].keys() == {"own.x"}
    assert event["data"]["connections"] == 1
    assert event["data"]["memory_mb"] > 1
    assert event["data"]["gateway"].endswith(gateway.url.rpartition(":")[2])


async def _now_and_ever(gateway: Gateway) -> tuple[float, float]:
    """Open connections, and those that were opened and not closed."""
    now = await gateway.metric("neurograph_gateway_connections")
    opened = await gateway.metric("neurograph_gateway_connections_opened_total")
    closed = await gateway.metric("neurograph_gateway_connections_closed_total")
    return now, opened - closed


async def test_what_was_opened_and_not_closed_is_what_is_open_also_after_a_worker_was_lost(
    launch: Launch, connect: Connect
) -> None:
    """A worker takes what it has not reported with it."""
    gateway = await launch(flags=["--workers", "2"])
    clients = [await connect("metrics", to=gateway) for _ in range(6)]
    await clients[0].close()
    with_all = await gateway.metric("neurograph_gateway_workers")
    victim = holder(gateway, clients[1])
    victim.send_signal(signal.SIGKILL)
    await replaced(gateway, victim)
    await connect("metrics", to=gateway)

    async def the_same() -> bool:
        now, ever = await _now_and_ever(gateway)
        return now == ever < 6

    await eventually(the_same)
    assert with_all == 2
    assert await gateway.metric("neurograph_gateway_workers_lost_total") == 1
    assert await gateway.metric("neurograph_gateway_limit", setting="workers") == 2
    assert await gateway.metric("neurograph_gateway_connections_closed_total", code="1006") >= 1


async def test_kinds_of_connections_errors_and_resumes_are_counted(launch: Launch, connect: Connect) -> None:
    gateway = await launch(settings={"clients.heartbeat_seconds": 1})
    client = await connect("metrics", to=gateway)
    await client.refused({"type": "subscribe", "channels": ["a b"]})
    await client.lose()
    again = await connect(to=gateway, session=client.session)
    await connect(to=gateway, session="unknown")

    async def measured() -> bool:
        return await gateway.metric("neurograph_gateway_client_round_trip_seconds_count") >= 1

    await eventually(measured)
    metric = gateway.metric
    assert again.client_id
    assert await metric("neurograph_gateway_connections", kind="websocket") == 2
    assert await metric("neurograph_gateway_client_errors_total", code="invalid_channel") == 1
    assert await metric("neurograph_gateway_client_messages_total", type="subscribe") == 1
    assert await metric("neurograph_gateway_sessions_resumed_total", found="true") == 1
    assert await metric("neurograph_gateway_sessions_resumed_total", found="false") == 1
    assert await metric("neurograph_gateway_channels_resumed_total", recovered="true") >= 1
    assert await metric("neurograph_gateway_channels_resumed_total", recovered="false") == 0


async def test_prometheus_gets_openmetrics_if_it_asks_for_it(gateway: Gateway) -> None:
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    answer = await gateway.request("GET", "/metrics", headers={"Accept": accept})
    families = list(parse_openmetrics(answer.text))  # type: ignore[no-untyped-call]  # no annotations

    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert {name.removesuffix("_total") for name in NAMED} <= {family.name for family in families}
    assert answer.text.count("# EOF") == 1
