"""The gateway's own figures are rates between two counts, and the state now."""

from __future__ import annotations

from gateway.metrics.metrics import Metrics
from gateway.metrics.own_figures import Counts, count, figures
from tests.support.core import SECOND, Core, make_hub, publish


def _figures(hub: Core, earlier: Counts, later: Counts, lags: list[int]) -> dict[str, object]:
    found = figures(
        earlier,
        later,
        gateway="here:8000",
        started_ns=0,
        usage=(12.34, 3 * 2**20, 7),
        lags=lags,
        hub=hub,
        pipeline=hub.pipeline,
    )
    return {name: getattr(found, name) for name in found.__struct_fields__}


def test_rates_are_those_between_two_counts() -> None:
    earlier = Counts(at_ns=10 * SECOND, received={"metrics": 100, "a": 5, "other": 1}, delivered=10)
    later = Counts(at_ns=14 * SECOND, received={"metrics": 180, "a": 5, "b": 2, "other": 1}, delivered=30, lost=4)
    found = _figures(make_hub(), earlier, later, [3, 9])

    assert found["received_per_second"] == 20.5
    assert found["delivered_per_second"] == 5
    assert found["channels"] == {"metrics": 20, "b": 0.5}
    assert (found["lagging"], found["lag"], found["lost"]) == (2, 9, 4)
    assert (found["cpu_percent"], found["memory_mb"], found["uptime_seconds"]) == (12.3, 3, 14)


def test_the_counts_are_those_of_the_metrics() -> None:
    hub = make_hub()
    metrics = Metrics(hub, hub.pipeline, endpoints=list, buffers=list)
    tick = hub.tick([(b"a", b'{"event_type": "x", "data": 1}'), (b"a b", b"1")], now_ns=SECOND)
    metrics.tick(tick, now_ns=SECOND)
    publish(hub, "b", 1, now_ns=SECOND)
    found = count(metrics, hub.pipeline, now_ns=SECOND)

    assert found.received["a"] == 1
    assert found.rejected == 1
    assert found.received_bytes > 0
    assert found == count(metrics, hub.pipeline, now_ns=SECOND)
