"""Metrics: counted in bulk, bounded in labels, agreeing with what happened."""

from __future__ import annotations

import struct
from typing import get_args

from prometheus_client.parser import text_string_to_metric_families

from gateway import __version__
from gateway.core.ingest.rejections import Reason
from gateway.core.protocol.events import STANDARD
from gateway.metrics.metrics import CHANNEL_LABELS_MAX, GatewayState, Metrics, WorkerCounts
from gateway.metrics.table import COUNTED, SAMPLED
from tests.support.core import Core, Peer, make_hub, publish
from tests.support.counting import calls


def make(hub: Core) -> Metrics:
    return Metrics(hub, hub.pipeline, endpoints=list, buffers=lambda: [3, 5])


def samples(metrics: Metrics) -> dict[tuple[str, str], float]:
    """Every sample by its name and its one label, if it has one."""
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(b"".join(metrics.render()[1]).decode())
        for sample in family.samples
        if len(sample.labels) < 2
    }


async def test_what_came_in_and_went_out_is_counted_once_each() -> None:
    hub = make_hub()
    metrics = make(hub)
    readers = [Peer(hub, f"p{n}") for n in range(3)]
    for reader in readers:
        reader.connect("robots")
        metrics.opened()
    event = b'{"event_type":"x","data":1}'
    tick = hub.tick([[b"robots", event]] * 4 + [[b"robots", b"{"]], now_ns=0)
    metrics.tick(tick, now_ns=0)
    metrics.fanned_out(0.003)
    metrics.closed(1006, 2.0)
    metrics.closed(3999, 2.0)
    seen = samples(metrics)

    assert seen["neurograph_gateway_events_received_total", "robots"] == 4
    assert seen["neurograph_gateway_events_rejected_total", "invalid_json"] == 1
    assert seen["neurograph_gateway_bus_received_bytes_total", ""] == 5 * 6 + 4 * len(event) + 1
    assert seen["neurograph_gateway_events_delivered_total", ""] == 12
    assert seen["neurograph_gateway_writes_total", ""] == 3
    assert seen["neurograph_gateway_connections_opened_total", ""] == 3
    assert seen["neurograph_gateway_subscriptions", "robots"] == 3
    assert seen["neurograph_gateway_connections_closed_total", "1006"] == 1
    assert seen["neurograph_gateway_connections_closed_total", "other"] == 1
    assert seen["neurograph_gateway_history_events", "robots"] == 4
    assert seen["neurograph_gateway_write_buffer_bytes", ""] == 8
    assert seen["neurograph_gateway_write_buffer_max_bytes", ""] == 5
    assert seen["neurograph_gateway_fanout_latency_seconds_count", ""] == 1


async def test_events_that_a_lagging_client_missed_are_counted_as_lost() -> None:
    hub = make_hub(events_max=4)
    metrics = make(hub)
    peer = Peer(hub, "p")
    peer.connect("robots")
    peer.writing_paused = True
    publish(hub, "robots", 10)
    assert samples(metrics)["neurograph_gateway_clients_lagging", ""] == 1
    peer.read_on()
    seen = samples(metrics)

    assert seen["neurograph_gateway_events_lost_total", "evicted"] == 6
    assert seen["neurograph_gateway_clients_lagged_total", ""] == 1
    assert seen["neurograph_gateway_clients_lagging", ""] == 0


async def test_ever_more_channels_do_not_make_ever_more_series() -> None:
    hub = make_hub(channels_max=1000)
    metrics = make(hub)
    for number in range(500):
        tick = hub.tick([[b"channel.%d" % number, b"1"]], now_ns=0)
        metrics.tick(tick, now_ns=0)
    received = {
        label: value
        for (name, label), value in samples(metrics).items()
        if name == "neurograph_gateway_events_received_total"
    }

    assert len(received) <= CHANNEL_LABELS_MAX + 1
    assert sum(received.values()) == 500
    assert received["other"] >= 400


async def test_two_gateways_in_one_process_do_not_share_metrics() -> None:
    one, other = make(make_hub()), make(make_hub())
    one.opened()

    assert samples(one)["neurograph_gateway_connections_opened_total", ""] == 1
    assert samples(other)["neurograph_gateway_connections_opened_total", ""] == 0


async def test_standard_channels_keep_their_labels_whoever_comes_first() -> None:
    hub = make_hub(channels_max=1000)
    metrics = make(hub)
    others = [[b"channel.%d" % number, b"1"] for number in range(500)]
    metrics.tick(hub.tick(others, now_ns=0), now_ns=0)
    event = b'{"event_type":"x","data":{"client_id":"c","status":"s","level":"l","message":"m"}}'
    tick = hub.tick([[name.encode(), event] for name in STANDARD], now_ns=0)
    metrics.tick(tick, now_ns=0)
    seen = samples(metrics)

    assert [seen["neurograph_gateway_events_received_total", name] for name in STANDARD] == [1] * 6


async def test_what_may_be_counted_later_stands_at_zero_from_the_start() -> None:
    """`increase()` misses a series' first value."""
    seen = samples(make(make_hub()))

    reasons = get_args(Reason)
    assert [seen["neurograph_gateway_events_rejected_total", reason] for reason in reasons] == [0] * len(reasons)
    assert seen["neurograph_gateway_events_lost_total", "evicted"] == 0


async def test_latency_is_that_of_the_oldest_event_and_only_where_publishers_tell() -> None:
    hub = make_hub()
    metrics = make(hub)
    second = 1_000_000_000

    def enveloped(sequence: int, sent_ns: int) -> list[bytes]:
        return [b"robots", b"1", struct.pack(">4sIQQQ", b"NGE1", 0, 7, sequence, sent_ns)]

    plain = hub.tick([[b"robots", b"1"]], now_ns=0)
    metrics.tick(plain, now_ns=0)
    mixed = [enveloped(1, 9 * second), [b"robots", b"1"], enveloped(2, 8 * second)]
    metrics.tick(hub.tick(mixed, now_ns=0), now_ns=10 * second)
    ahead = hub.tick([enveloped(3, 30 * second)], now_ns=0)  # a publisher's clock may be
    metrics.tick(ahead, now_ns=20 * second)
    seen = samples(metrics)

    assert seen["neurograph_gateway_bus_latency_seconds_count", ""] == 2
    assert seen["neurograph_gateway_bus_latency_seconds_sum", ""] == 2


async def test_series_that_alerts_ask_for_exist_before_anything_happens() -> None:
    """Prometheus does not see the first value of a new series as an increase."""
    seen = samples(make(make_hub()))

    assert seen["neurograph_gateway_connections_closed_total", "4000"] == 0
    assert seen["neurograph_gateway_events_received_total", "metrics"] == 0
    assert seen["neurograph_gateway_connections_refused_total", "busy"] == 0
    assert seen["neurograph_gateway_ready", ""] == 0


async def test_the_state_and_the_limits_of_the_gateway_are_gauges() -> None:
    metrics = make(make_hub())
    metrics.state = lambda: GatewayState(ready=True, draining=False, lag_events=7)
    metrics.limits = {"clients.connections_max": 10}
    seen = samples(metrics)

    assert seen["neurograph_gateway_ready", ""] == 1
    assert seen["neurograph_gateway_client_lag_max_events", ""] == 7
    assert seen["neurograph_gateway_limit", "clients.connections_max"] == 10
    assert seen["neurograph_gateway_info", __version__] == 1


async def test_latency_leaves_out_replayed_events_and_impossible_clocks() -> None:
    hub = make_hub()
    metrics = make(hub)
    second = 1_000_000_000

    def enveloped(sequence: int, sent_ns: int) -> list[bytes]:
        return [b"robots", b"1", struct.pack(">4sIQQQ", b"NGE1", 0, 7, sequence, sent_ns)]

    def beat(newest: int) -> list[bytes]:
        text = b'{"incarnation":"%016x","interval":1,"replay":"r","sequences":{"robots":%d}}' % (7, newest)
        return [b"$heartbeat", text]

    now_ns = 10_000 * second
    for sequence, sent_ns in ((1, 1), (2, 20_000 * second), (3, now_ns - second)):
        metrics.tick(hub.tick([enveloped(sequence, sent_ns)], now_ns=now_ns), now_ns=now_ns)
    hub.tick([beat(5)], now_ns=now_ns)
    [request] = hub.pipeline.ingest.recovery.take_requests()
    frames = [frame for number in (4, 5) for frame in enveloped(number, now_ns - 100 * second)[1:]]
    reply = [b"NGR1", request.number.to_bytes(8, "big"), bytes(8), *frames]
    replayed = hub.pipeline.receive_replies([reply], now_ns=now_ns)
    metrics.tick(replayed, now_ns=now_ns)
    seen = samples(metrics)

    assert len(replayed.events) == 2
    assert seen["neurograph_gateway_bus_latency_seconds_count", ""] == 1
    assert seen["neurograph_gateway_bus_latency_seconds_sum", ""] == 1


async def test_every_counter_with_known_labels_starts_at_zero() -> None:
    """The labels of channels, endpoints and routes are known when these are."""
    found = {name for name, _ in samples(make(make_hub()))}
    later = {"http_responses_total"} | {name for name, (_, labels) in SAMPLED.items() if labels[:1] == ("endpoint",)}
    counters = {name for name in (*COUNTED, *SAMPLED) if name.endswith("_total")} - later - {"tokens_refused_total"}

    assert set() == {f"neurograph_gateway_{name}" for name in counters} - found


async def test_what_clients_send_and_are_refused_is_counted() -> None:
    hub = make_hub()
    metrics = make(hub)
    session = Peer(hub, "p").connect()
    hub.receive(session, '{"type":"subscribe","channels":["robots"]}', now_ns=0)
    hub.receive(session, '{"type":"subscribe","channels":["not a name"]}', now_ns=0)
    hub.receive(session, "{", now_ns=0)
    session.charge_frames(10**9 + 1, now_ns=0)
    seen = samples(metrics)

    assert seen["neurograph_gateway_client_messages_total", "subscribe"] == 2
    assert seen["neurograph_gateway_client_messages_total", "invalid"] == 1
    assert seen["neurograph_gateway_client_errors_total", "invalid_json"] == 1
    assert seen["neurograph_gateway_client_errors_total", "invalid_channel"] == 1
    assert seen["neurograph_gateway_client_rate_limited_total", "frames"] == 1
    assert samples(metrics)["neurograph_gateway_client_messages_total", "subscribe"] == 2


async def test_resumed_channels_are_counted_by_whether_anything_is_missing() -> None:
    hub = make_hub(events_max=4)
    metrics = make(hub)
    publish(hub, "robots", 10)
    epoch = hub.logs.by_name["robots"].position.epoch
    session = Peer(hub, "p").connect()
    for offset in (8, 1):
        since = f'{{"epoch":"{epoch}","offset":{offset}}}'
        hub.receive(session, f'{{"type":"subscribe","channels":["robots"],"since":{since}}}', now_ns=0)
    seen = samples(metrics)

    assert seen["neurograph_gateway_channels_resumed_total", "true"] == 1
    assert seen["neurograph_gateway_channels_resumed_total", "false"] == 1


async def test_without_a_certificate_there_is_no_time_at_which_it_expires() -> None:
    metrics = make(make_hub())
    before = samples(metrics)
    metrics.state = lambda: GatewayState(certificate_expires=2e9, connections={"sse": 2})
    metrics.workers = lambda: WorkerCounts(ready=3, lost=1)
    after = samples(metrics)

    name = "neurograph_gateway_certificate_expiry_timestamp_seconds", ""
    assert (None, 2e9) == (before.get(name), after[name])
    assert after["neurograph_gateway_connections", "websocket"] == 0
    assert after["neurograph_gateway_connections", "sse"] == 2
    assert after["neurograph_gateway_workers", ""] == 3
    assert after["neurograph_gateway_workers_lost_total", ""] == 1


async def test_each_metric_is_read_when_its_part_is_written() -> None:
    """Reading all of them at once would delay events."""
    hub = make_hub()
    _, parts = make(hub).render()
    first = next(parts)
    publish(hub, "robots", 4)

    assert b'neurograph_gateway_history_events{channel="robots"} 4.0' in first + b"".join(parts)


async def test_a_channel_without_a_label_adds_hardly_to_the_cost_of_a_scrape() -> None:
    def with_channels(count: int) -> int:
        hub = make_hub(channels_max=1000)
        metrics = make(hub)
        hub.tick([[b"channel.%d" % number, b"1"] for number in range(count)], now_ns=0)
        return calls(lambda: b"".join(metrics.render()[1]))

    assert with_channels(800) - with_channels(400) <= 2 * 400
