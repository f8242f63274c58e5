"""What /metrics says agrees with what happened, in a bounded number of series."""

from __future__ import annotations

from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Connect, Launch, NewPublisher, OpenRaw
from tests.support.gateway import Gateway
from tests.support.waiting import eventually


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


async def test_what_strangers_send_makes_no_series(launch: Launch, raw: OpenRaw, publisher: NewPublisher) -> None:
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
