"""Several processes' metrics are one gateway's, and counts never go back."""

from __future__ import annotations

import socket

from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics.metrics import Metrics
from gateway.workers import messages
from gateway.workers.child import Child
from gateway.workers.supervisor import MetricsSum
from tests.support.core import make_hub


def metrics(buffers: list[int]) -> Metrics:
    hub = make_hub()
    return Metrics(hub, hub.pipeline, endpoints=list, buffers=lambda: buffers)


def child(of: Metrics) -> Child:
    made = Child(unread_bytes_max=1, on_messages=lambda *_: None, on_lost=lambda _: None, on_socket=socket.socket.close)
    made.report = messages.Reported(1, 0, of.samples(), {})
    return made


def value(of: Metrics, name: str, **labels: str) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(b"".join(of.render()[1]).decode())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


async def test_counts_are_added_up_and_the_worst_buffer_counts() -> None:
    whole, one, two = metrics([]), metrics([3, 5]), metrics([7])
    for each in (one, one, two):
        each.opened()
        each.closed(1001, 0.5)
    two.closed(4000, 100)
    totals = MetricsSum()
    whole.others = lambda: totals.of([child(one), child(two)])

    assert 3 == value(whole, "neurograph_gateway_connections_opened_total")
    assert 3 == value(whole, "neurograph_gateway_connections_closed_total", code="1001")
    assert 1 == value(whole, "neurograph_gateway_connections_closed_total", code="4000")
    assert 3 == value(whole, "neurograph_gateway_connection_duration_seconds_bucket", le="1.0")
    assert 4 == value(whole, "neurograph_gateway_connection_duration_seconds_count")
    assert 15 == value(whole, "neurograph_gateway_write_buffer_bytes")
    assert 7 == value(whole, "neurograph_gateway_write_buffer_max_bytes")
    assert 0 == value(whole, "neurograph_gateway_connections")


async def test_what_a_worker_counted_stays_when_it_is_gone() -> None:
    """Gauges go with it."""
    whole, one, two = metrics([]), metrics([3]), metrics([4])
    one.opened()
    two.opened()
    gone, present = child(one), child(two)
    totals = MetricsSum()
    totals.retire(gone)
    whole.others = lambda: totals.of([present])

    assert 2 == value(whole, "neurograph_gateway_connections_opened_total")
    assert 4 == value(whole, "neurograph_gateway_write_buffer_bytes")


async def test_a_worker_that_never_reported_counts_nothing() -> None:
    totals = MetricsSum()
    silent = Child(
        unread_bytes_max=1, on_messages=lambda *_: None, on_lost=lambda _: None, on_socket=socket.socket.close
    )
    totals.retire(silent)

    assert {} == totals.of([silent])
