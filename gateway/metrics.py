"""Every metric, in one table; the only home of prometheus_client.

What happens with every tick is counted in plain numbers, which Prometheus' counters take over when it
asks: they cost more than the rest of a tick. Other things are counted where they happen, or asked for
then. Labels are bounded: channels beyond `CHANNEL_LABELS_MAX` and close codes that nobody knows share
the label ``other``.
"""

import asyncio
import math
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final, Literal, Protocol, get_args

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from gateway.core.ingest.ingest import Reason, Tick
from gateway.core.protocol.channels import is_name
from gateway.core.protocol.errors import CloseCode
from gateway.core.protocol.events import STANDARD
from gateway.core.protocol.frames import is_close_code
from gateway.core.sessions.hub import Hub


Refused = Literal["address", "clients", "files", "handshake", "host", "origin", "sockets", "tls"]
"""Why somebody was turned away at the door."""

# They double the series, and nobody asks when a counter was born.
disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
CHANNEL_LABELS_MAX: Final = 100
OTHER: Final = "other"

_CODES = {*CloseCode, 1005, 1006, *filter(is_close_code, range(1000, 3000))}

_LATENCY = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_DURATIONS = (1, 10, 60, 300, 1800, 3600, 6 * 3600, 86400)

# name: help, labels, buckets of a histogram (None for a counter)
_COUNTED: Final[Mapping[str, tuple[str, tuple[str, ...], tuple[float, ...] | None]]] = {
    "connections_total": ("Connections opened.", (), None),
    "connections_closed_total": ("Connections closed, by close code.", ("code",), None),
    "connections_refused_total": ("Sockets and requests not let in.", ("reason",), None),
    "connection_duration_seconds": ("How long connections lasted.", (), _DURATIONS),
    "events_received_total": ("Events taken in from the bus.", ("channel",), None),
    "events_rejected_total": ("Messages not let in, by reason.", ("reason",), None),
    "bus_received_bytes_total": ("Bytes of bus messages, frames joined.", (), None),
    "events_delivered_total": ("Events handed to clients' sockets.", (), None),
    "delivered_bytes_total": ("Bytes handed to clients' sockets.", (), None),
    "messages_compressed_total": ("Messages compressed, each for all who take them so.", (), None),
    "compression_saved_bytes_total": ("By how much that made them shorter.", (), None),
    "writes_total": ("Writes to clients' sockets; one may hold many events.", (), None),
    "events_conflated_total": ("Events left out for newer ones, as a client asked.", (), None),
    "filter_errors_total": ("Events that a client's filter could not decide on.", (), None),
    "events_lost_total": ("Events that clients were told they missed.", ("reason",), None),
    "clients_lagged_total": ("Times that a client's socket fell behind.", (), None),
    "tick_events": ("Events per wake-up of the bus.", (), _SIZES),
    "bus_latency_seconds": (
        "Time from the publisher's clock to the gateway; the oldest event of each tick.",
        (),
        _LATENCY,
    ),
    "fanout_latency_seconds": ("Time from receipt to the last write.", (), _LATENCY),
    "loop_lag_seconds": ("How late the event loop ran a timer.", (), _LATENCY),
}

_ASKED: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "connections": ("Connections now.", ()),
    "sessions_remembered": ("Lost sessions that may be taken up again.", ()),
    "subscriptions": ("Clients that follow a channel now.", ("channel",)),
    "clients_lagging": ("Clients that are behind now.", ()),
    "log_events": ("Events held in a channel's log.", ("channel",)),
    "log_bytes": ("Bytes held in a channel's log.", ("channel",)),
    "channels": ("Channels open.", ()),
    "write_buffer_bytes": ("Bytes that wait for clients' sockets, in all.", ()),
    "write_buffer_max_bytes": ("Bytes that wait for the slowest client's socket.", ()),
    "bus_peers": ("Publishers connected, by endpoint.", ("endpoint",)),
    "bus_refused_total": ("Handshakes that failed: wrong keys, and strangers.", ("endpoint",)),
    "bus_reopened_total": ("Sockets replaced after a link ended for good.", ("endpoint",)),
    "bus_lost_total": ("Events that were published and did not come, by their numbers.", ()),
    "bus_duplicates_total": ("Messages that came again, and went no further.", ()),
    "bus_late_total": ("Messages that came after their loss had been told.", ()),
    "bus_repaired_total": ("Messages that were missed, and then replayed by their publisher.", ()),
    "bus_replay_failed_total": ("Requests for replay that were not answered in time.", ()),
    "bus_joining": ("Publishers' topics that wait for messages they missed.", ()),
    "bus_held": ("Messages held behind those that are waited for.", ()),
    "bus_publishers": ("Publishers that send heartbeats, by whether they still do.", ("state",)),
    "bus_streams_total": ("Publishers' topics heard for the first time: starts and restarts.", ()),
    "event_loop_tasks": ("Tasks of the event loop.", ()),
}


Key = tuple[str, str, tuple[tuple[str, str], ...]]
"""A metric's type and name, that of a sample, its labels in order."""
Extra = Mapping[str, Mapping[Key, float]]
"""What other processes add, by metric."""

_SUMS = {"process_virtual_memory_bytes", "process_resident_memory_bytes", "process_open_fds"}
"""Gauges of a process that several have the sum of."""
MOSTS = frozenset({"gauge gateway_write_buffer_max_bytes"})
"""Of these the most of all processes counts, of the others the sum."""


class Link(Protocol):
    """A bus endpoint's figures."""

    @property
    def endpoint(self) -> str: ...
    @property
    def peers(self) -> int: ...
    @property
    def reopened(self) -> int: ...
    @property
    def refused(self) -> int: ...


class Metrics:
    """One gateway's metrics, in a registry of their own."""

    def __init__(
        self,
        hub: Hub,
        *,
        links: Callable[[], Iterable[Link]],
        buffers: Callable[[], Iterable[int]],
    ) -> None:
        self.others: Callable[[], Extra] = dict
        """Asked for what other processes count for the same gateway."""
        self._hub = hub
        self._buffers = buffers
        self._registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, _Histogram] = {}
        self._received: Tally[str] = Tally()
        self._received_bytes = 0
        # The standard channels keep their labels, whoever opens how many others first.
        self._channels = set(STANDARD)
        for name, (text, labels, buckets) in _COUNTED.items():
            full = f"gateway_{name}"
            if buckets is None:
                self._counters[name] = Counter(full, text, labels, registry=self._registry)
            else:
                self._histograms[name] = _Histogram(full, text, buckets)
                self._registry.register(self._histograms[name])
        # From 0 on, or Prometheus would not see the first one as an increase.
        for reason in get_args(Reason):
            self._counters["events_rejected_total"].labels(reason)
        for reason in get_args(Refused):
            self._counters["connections_refused_total"].labels(reason)
        self._counters["events_lost_total"].labels("evicted")
        self._registry.register(_Asked(hub, self.label, links, buffers))
        self._process = [
            ProcessCollector(registry=self._registry),
            GCCollector(registry=self._registry),
        ]
        PlatformCollector(registry=self._registry)

    def label(self, channel: str) -> str:
        """Return a channel's label: its name, or ``other`` once there are too many."""
        if channel in self._channels:
            return channel
        if len(self._channels) < CHANNEL_LABELS_MAX:
            self._channels.add(channel)
            return channel
        return OTHER

    def tick(self, tick: Tick, *, now_ns: int) -> None:
        """Count what one wake-up brought."""
        histograms, events = self._histograms, tick.events
        self._received.update([event.channel for event in events])
        self._received_bytes += tick.bytes
        for rejection in tick.rejections:
            self._counters["events_rejected_total"].labels(rejection.reason).inc()
        histograms["tick_events"].observe(len(events))
        sent = [event.sent_ns for event in events if event.sent_ns]
        if sent:
            histograms["bus_latency_seconds"].observe(max(now_ns - min(sent), 0) / 1e9)

    def fanned_out(self, seconds: float) -> None:
        """Count a write to all clients, so long after the oldest of its events was received."""
        self._histograms["fanout_latency_seconds"].observe(seconds)

    def compressed(self, saved_bytes: int) -> None:
        """Count a message that was compressed, for however many clients."""
        self._counters["messages_compressed_total"].inc()
        self._counters["compression_saved_bytes_total"].inc(saved_bytes)

    def opened(self) -> None:
        """Count a connection."""
        self._counters["connections_total"].inc()

    def closed(self, code: int, seconds: float) -> None:
        """Count the end of a connection that lasted `seconds`."""
        known = code in _CODES
        self._counters["connections_closed_total"].labels(str(code) if known else OTHER).inc()
        self._histograms["connection_duration_seconds"].observe(seconds)

    def refused(self, reason: Refused) -> None:
        """Count somebody who was turned away at the door."""
        self._counters["connections_refused_total"].labels(reason).inc()

    def loop_lag(self, seconds: float) -> None:
        """Note how late the event loop was."""
        self._histograms["loop_lag_seconds"].observe(seconds)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format, see `CONTENT_TYPE`."""
        self._take_over()
        return generate_latest(_Whole(self._registry, self.others()))

    def samples(self) -> list[tuple[str, str, dict[str, str], float]]:
        """Return what this process adds to the whole: metric, sample, labels, value."""
        self._take_over()
        buffers = list(self._buffers())
        found = [
            ("gateway_clients_lagging", len(self._hub.fanout.lagging)),
            ("gateway_write_buffer_bytes", sum(buffers)),
            ("gateway_write_buffer_max_bytes", max(buffers, default=0)),
            ("gateway_event_loop_tasks", len(asyncio.all_tasks())),
        ]
        collectors = [*self._counters.values(), *self._histograms.values(), *self._process]
        return [(f"gauge {name}", name, {}, float(value)) for name, value in found] + [
            (_kind(metric), sample.name, dict(sample.labels), sample.value)
            for collector in collectors
            for metric in collector.collect()
            if metric.type in {"counter", "histogram"} or metric.name in _SUMS
            for sample in metric.samples
        ]

    def _take_over(self) -> None:
        """Add to the counters what has come and what was delivered since the last time."""
        tally, counters = self._hub.fanout.take_tally(), self._counters
        received, self._received = self._received, Tally()
        for channel, count in received.items():
            counters["events_received_total"].labels(self.label(channel)).inc(count)
        counters["bus_received_bytes_total"].inc(self._received_bytes)
        self._received_bytes = 0
        counters["events_delivered_total"].inc(tally.events)
        counters["delivered_bytes_total"].inc(tally.bytes)
        counters["writes_total"].inc(tally.writes)
        counters["clients_lagged_total"].inc(tally.lagged)
        counters["events_conflated_total"].inc(tally.conflated)
        counters["filter_errors_total"].inc(tally.filter_errors)
        if tally.evicted:
            counters["events_lost_total"].labels("evicted").inc(tally.evicted)


class _Histogram(Collector):
    """How values are distributed over buckets; those of the library cost a lock for each value."""

    def __init__(self, name: str, text: str, bounds: tuple[float, ...]) -> None:
        self._name = name
        self._text = text
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value in the first bucket whose bound is not below it."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def collect(self) -> Iterator[Metric]:
        """Hand out the buckets, each with those below it."""
        bounds = (*self._bounds, math.inf)
        names = [floatToGoString(one) for one in bounds]  # type: ignore[no-untyped-call]  # no annotations
        buckets = list(zip(names, accumulate(self._counts), strict=True))
        yield HistogramMetricFamily(self._name, self._text, buckets=buckets, sum_value=self._sum)


class _Whole(Collector):
    """This process's metrics, and what others add to them."""

    def __init__(self, registry: CollectorRegistry, extra: Extra) -> None:
        self._registry = registry
        self._extra = extra

    def collect(self) -> Iterator[Metric]:
        """Hand out a family per metric."""
        for metric in self._registry.collect():
            extra = dict(self._extra.get(_kind(metric), {}))
            for at, sample in enumerate(metric.samples):
                more = extra.pop(_key(metric, sample), None)
                if more is not None:
                    most = _kind(metric) in MOSTS
                    value = max(sample.value, more) if most else sample.value + more
                    metric.samples[at] = sample._replace(value=value)
            for (_, name, labels), value in extra.items():
                metric.add_sample(name, dict(labels), value)
            yield metric


def _key(metric: Metric, sample: Sample) -> Key:
    return _kind(metric), sample.name, tuple(sorted(sample.labels.items()))


def _kind(metric: Metric) -> str:
    # The name alone would not do: that of a counter lacks its `_total`, and a gauge may have it.
    return f"{metric.type} {metric.name}"


class _Asked(Collector):
    """Answers at scrape time what need not be counted all along."""

    def __init__(
        self,
        hub: Hub,
        label: Callable[[str], str],
        links: Callable[[], Iterable[Link]],
        buffers: Callable[[], Iterable[int]],
    ) -> None:
        self._hub = hub
        self._label = label
        self._links = links
        self._buffers = buffers

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not ask before the gateway runs."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Ask, and hand out a family per metric."""
        values = self._values()
        for name, (text, labels) in _ASKED.items():
            full = f"gateway_{name}"
            family: GaugeMetricFamily | CounterMetricFamily
            if name.endswith("_total"):
                family = CounterMetricFamily(full, text, labels=labels)
            else:
                family = GaugeMetricFamily(full, text, labels=labels)
            for label, value in values[name].items():
                family.add_metric([label] if labels else [], value)
            yield family

    def _values(self) -> dict[str, Mapping[str, float]]:
        hub, buffers, links = self._hub, list(self._buffers()), list(self._links())
        subscriptions: Tally[str] = Tally()
        events: Tally[str] = Tally()
        size: Tally[str] = Tally()
        followers, recovery = hub.followers(), hub.ingest.recovery
        sequences, publishers = recovery.sequences, recovery.publishers.known
        stale = sum(publisher.stale for publisher in publishers)
        for name, log in hub.logs.by_name.items():
            label = self._label(name)
            subscriptions[label] += followers[name]
            events[label] += len(log)
            size[label] += log.bytes
        return {
            "connections": {"": len(hub.sessions)},
            "sessions_remembered": {"": hub.store.remembered},
            "subscriptions": subscriptions,
            "clients_lagging": {"": len(hub.fanout.lagging)},
            "log_events": events,
            "log_bytes": size,
            "channels": {"": sum(map(is_name, hub.logs.by_name))},
            "write_buffer_bytes": {"": sum(buffers)},
            "write_buffer_max_bytes": {"": max(buffers, default=0)},
            "bus_peers": {link.endpoint: link.peers for link in links},
            "bus_refused_total": {link.endpoint: link.refused for link in links},
            "bus_reopened_total": {link.endpoint: link.reopened for link in links},
            "bus_lost_total": {"": sequences.lost},
            "bus_duplicates_total": {"": sequences.duplicates},
            "bus_late_total": {"": sequences.late},
            "bus_repaired_total": {"": recovery.repaired},
            "bus_replay_failed_total": {"": recovery.failed},
            "bus_joining": {"": recovery.recovering},
            "bus_held": {"": recovery.held},
            "bus_publishers": {"live": len(publishers) - stale, "stale": stale},
            "bus_streams_total": {"": sequences.begun},
            "event_loop_tasks": {"": len(asyncio.all_tasks())},
        }


def names() -> list[str]:
    """Return the names of all metrics of the gateway's own, without their prefix."""
    return [*_COUNTED, *_ASKED]
