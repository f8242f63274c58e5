"""Counts what happens, and reads at the scrape what need not be counted.

Prometheus' own counters would cost more than the rest of a batch. So what happens with every batch is
counted in plain integers, which are added to the counters when Prometheus scrapes. Gauges, and what is
counted elsewhere, are read at the scrape. Labels are bounded: channels beyond `CHANNEL_LABELS_MAX` and
unknown close codes share the label ``other``."""

import asyncio
import math
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Any, Final, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from gateway import __version__
from gateway.core.cluster.lease import State
from gateway.core.cluster.members import EVENT_OUTCOMES, ClusterState
from gateway.core.ingest.pipeline import Pipeline, Tick
from gateway.core.log.log import ChannelLog
from gateway.core.protocol.channels import EVERYONE
from gateway.core.protocol.errors import CloseCode
from gateway.core.protocol.events import STANDARD
from gateway.core.protocol.frames import is_close_code
from gateway.core.sessions.hub import Hub
from gateway.metrics.exposition import PROCESS_SUMS, Extra, Key, exposition, key, kind
from gateway.metrics.table import COUNTED, FROM_THE_START, PREFIX, SAMPLED, Refused


# `_created` series would double the number of series, for no use.
disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations

CHANNEL_LABELS_MAX: Final = 100
OTHER: Final = "other"
CLOCK_ERROR_NS: Final = 3600 * 1_000_000_000
"""A latency of this size, or as far below zero, means that a clock is wrong."""

_CODES = {*CloseCode, 1005, 1006, *filter(is_close_code, range(1000, 3000))}

_STATUSES = (200, 401, 403, 500, 503)
"""Statuses whose series exist from the start for each route."""


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """The state of one bus endpoint, for status and readiness."""

    endpoint: str
    """As configured."""
    mode: str
    """``connect`` or ``bind``."""
    state: str
    """``connecting``, ``connected``, ``listening``, ``refused``, or ``leaving`` (its name does not have the address
    any more, and the publisher there still sends)."""
    peers: int
    received: int
    """Messages of all kinds."""
    reopened: int
    """How often the socket was replaced because it was dead."""
    last_event_seconds: float | None
    """Seconds since the last event; None before the first."""
    events: int = 0
    heartbeats: int = 0
    rejected: int = 0
    """Messages that were neither."""
    refused: int = 0
    """How many handshakes failed."""
    problem: str = ""
    """Why the last one failed; empty after a success."""
    address: str = ""
    """The address, if the endpoint has a name; there is a state for each of its addresses."""
    link: int = -1
    """The number of the socket, which no other one had before; -1 if there is none."""


@dataclass(frozen=True, slots=True)
class GatewayState:
    """The state of a gateway at a scrape."""

    ready: bool = False
    draining: bool = False
    lag_events: int = 0
    """How far behind the client is that is furthest behind."""
    connections: Mapping[str, int] = field(default_factory=dict)
    """By kind."""
    certificate_expires: float | None = None
    """Unix time; None without TLS."""
    cluster: ClusterState | None = None
    """None if this gateway stands alone."""


@dataclass(frozen=True, slots=True)
class WorkerCounts:
    """How many workers are ready, and how many ended unexpectedly."""

    ready: int = 0
    lost: int = 0


class Metrics:
    """One gateway's metrics, in their own registry."""

    def __init__(
        self,
        hub: Hub,
        pipeline: Pipeline | None,
        *,
        endpoints: Callable[[], Iterable[EndpointStatus]],
        buffers: Callable[[], Iterable[int]],
    ) -> None:
        self.others: Callable[[], Extra] = dict
        """Returns the samples of the gateway's other processes."""
        self.state: Callable[[], GatewayState] = GatewayState
        self.workers: Callable[[], WorkerCounts] = WorkerCounts
        self.reopen_failures: Callable[[], int] = int
        """Returns how often `bus.publish` could not be opened again."""
        self.limits: Mapping[str, float] = {}
        """The settings that bound what is counted, by name."""
        self._hub = hub
        self._buffers = buffers
        self._registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, _Histogram] = {}
        self._received: Tally[str] = Tally()
        self._received_bytes = 0
        # The standard channels have labels, however many others open first.
        self._channels = set(STANDARD)
        for name, (text, labels, buckets) in COUNTED.items():
            full = PREFIX + name
            if buckets is None:
                self._counters[name] = Counter(full, text, labels, registry=self._registry)
            else:
                self._histograms[name] = _Histogram(full, text, buckets)
                self._registry.register(self._histograms[name])
        for name, values in FROM_THE_START.items():
            self.start_at_zero(name, values)
        if pipeline is not None:  # else this process only adds to what its parent shows
            self._registry.register(_Sampled(self, hub, pipeline, endpoints, buffers))
        self._process = [ProcessCollector(registry=self._registry), GCCollector(registry=self._registry)]
        PlatformCollector(registry=self._registry)

    def label(self, channel: str) -> str:
        """Return the label of a channel: its name, or ``other`` if there are too many."""
        if channel in self._channels:
            return channel
        if len(self._channels) < CHANNEL_LABELS_MAX:
            self._channels.add(channel)
            return channel
        return OTHER

    def labels(self, channels: Iterable[str]) -> Iterable[str]:
        """Return the channels that are labels: now also the first of these, as far as there is room."""
        for channel in channels:
            if self.label(channel) is OTHER:
                break
        return self._channels

    def tick(self, tick: Tick, *, now_ns: int) -> None:
        histograms, events = self._histograms, tick.events
        self._received.update([event.channel for event in events])
        self._received_bytes += tick.bytes
        for rejection in tick.rejections:
            self._counters["events_rejected_total"].labels(rejection.reason).inc()
        histograms["batch_events"].observe(len(events))
        took = [now_ns - event.sent_ns for event in events if event.sent_ns and not event.late]
        possible = [ns for ns in took if -CLOCK_ERROR_NS < ns < CLOCK_ERROR_NS]
        if possible:
            histograms["bus_latency_seconds"].observe(max(*possible, 0) / 1e9)

    def fanned_out(self, seconds: float) -> None:
        """Count a batch written to all clients, `seconds` after its oldest event was received."""
        self._histograms["fanout_latency_seconds"].observe(seconds)

    def compressed(self, saved_bytes: int) -> None:
        self._counters["messages_compressed_total"].inc()
        self._counters["compression_saved_bytes_total"].inc(saved_bytes)

    def opened(self) -> None:
        self._counters["connections_opened_total"].inc()

    def closed(self, code: int, seconds: float) -> None:
        known = code in _CODES
        self._counters["connections_closed_total"].labels(str(code) if known else OTHER).inc()
        self._histograms["connection_duration_seconds"].observe(seconds)

    def add_route(self, path: str) -> None:
        """Let the series of a route start at 0."""
        for status in _STATUSES:
            self._counters["http_responses_total"].labels(path, str(status))

    def responded(self, path: str, status: int) -> None:
        """Count an answer; `path` is that of a route, or ``other``."""
        self._counters["http_responses_total"].labels(path, str(status)).inc()

    def refused(self, reason: Refused) -> None:
        self._counters["connections_refused_total"].labels(reason).inc()

    def start_at_zero(self, name: str, labels: Iterable[str]) -> None:
        for label in labels:
            self._counters[name].labels(label)

    def replication_failed(self) -> None:
        self._counters["replication_failures_total"].inc()

    def token_refused(self, reason: str) -> None:
        self._counters["tokens_refused_total"].labels(reason).inc()

    def jwks_fetched(self, succeeded: bool) -> None:  # the only argument of a callback
        self._counters["jwks_fetches_total"].labels("succeeded" if succeeded else "failed").inc()

    def session_resumed(self, *, found: bool) -> None:
        """Count a client that came with the secret of a session."""
        self._counters["sessions_resumed_total"].labels(_word(found)).inc()

    def round_trip(self, seconds: float) -> None:
        self._histograms["client_round_trip_seconds"].observe(seconds)

    def loop_lag(self, seconds: float) -> None:
        """Count how late a timer of the event loop was."""
        self._histograms["event_loop_lag_seconds"].observe(seconds)

    def count(self, name: str) -> Mapping[str, float]:
        """Return a counter of this table, of all processes, by its label; by "" if it has none."""
        self._update_counters()
        [metric] = self._counters[name].collect()
        found: Tally[str] = Tally()
        samples = [(sample.labels.items(), sample.value) for sample in metric.samples]
        others = [(labels, value) for (_, _, labels), value in self.others().get(kind(metric), {}).items()]
        for labels, value in (*samples, *others):
            found["".join(label for _, label in labels)] += value  # type: ignore[assignment]  # a Counter may hold floats
        return found

    def render(self, accept: str = "") -> tuple[str, Iterator[bytes]]:
        """Return a content type that the `Accept` header allows, and all metrics in it, in parts."""
        self._update_counters()
        return exposition(self._registry, self.others(), accept)

    def samples(self) -> list[tuple[Key, float]]:
        """Return what this process adds to the metrics of another."""
        self._update_counters()
        buffers = list(self._buffers())
        found = [
            ("clients_lagging", len(self._hub.fanout.lagging)),
            ("write_buffer_bytes", sum(buffers)),
            ("write_buffer_max_bytes", max(buffers, default=0)),
            ("event_loop_tasks", len(asyncio.all_tasks())),
        ]
        collectors = [*self._counters.values(), *self._histograms.values(), *self._process]
        return [((f"gauge {PREFIX}{name}", PREFIX + name, ()), float(value)) for name, value in found] + [
            (key(metric, sample), sample.value)
            for collector in collectors
            for metric in collector.collect()
            if metric.type in {"counter", "histogram"} or metric.name in PROCESS_SUMS
            for sample in metric.samples
        ]

    def _update_counters(self) -> None:
        """Add what was received and delivered since the last call to the counters."""
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
        counters["readers_failed_total"].inc(tally.failed)
        counters["events_lost_total"].labels("evicted").inc(tally.evicted)
        clients = self._hub.counts.take()
        counters["subscriptions_denied_total"].inc(clients.denied)
        labelled: dict[str, Iterable[tuple[str, int]]] = {
            "client_messages_total": clients.messages.items(),
            "client_errors_total": [(code.word, count) for code, count in clients.errors.items()],
            "client_rate_limited_total": clients.rate_limited.items(),
            "personal_messages_received_total": [(_word(one), count) for one, count in clients.personal.items()],
            "client_events_total": [("none" if one is None else _word(one), n) for one, n in clients.published.items()],
            "channels_resumed_total": [(_word(one), count) for one, count in clients.channels_resumed.items()],
        }
        for name, counts in labelled.items():
            for label, count in counts:
                counters[name].labels(label).inc(count)


class _Histogram(Collector):
    """A histogram; that of the library takes a lock for each value."""

    def __init__(self, name: str, text: str, bounds: tuple[float, ...]) -> None:
        self._name = name
        self._text = text
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def collect(self) -> Iterator[Metric]:
        bounds = (*self._bounds, math.inf)
        names = [floatToGoString(one) for one in bounds]  # type: ignore[no-untyped-call]  # no annotations
        buckets = list(zip(names, accumulate(self._counts), strict=True))
        yield HistogramMetricFamily(self._name, self._text, buckets=buckets, sum_value=self._sum)


_Values = dict[str, Mapping[Any, float]]
"""The values of metrics by their label, or by a tuple of several."""


@dataclass(eq=False, repr=False)
class _Sampled(Collector):
    """Reads at the scrape what need not be counted all along."""

    _metrics: Metrics
    _hub: Hub
    _pipeline: Pipeline
    _endpoints: Callable[[], Iterable[EndpointStatus]]
    _buffers: Callable[[], Iterable[int]]

    def describe(self) -> Iterable[Metric]:
        """Return nothing: registering must not read figures before the gateway runs."""
        return []

    def collect(self) -> Iterator[Metric]:
        for name, values in chain.from_iterable(one.items() for one in self._values()):
            text, labels = SAMPLED[name]
            full = PREFIX + name
            family: GaugeMetricFamily | CounterMetricFamily
            if name.endswith("_total"):
                family = CounterMetricFamily(full, text, labels=labels)
            else:
                family = GaugeMetricFamily(full, text, labels=labels)
            for label, value in values.items():
                family.add_metric((label if isinstance(label, tuple) else [label]) if labels else [], value)
            yield family

    def _values(self) -> Iterator[_Values]:
        state = self._metrics.state()
        yield self._of_clients(state)
        yield self._of_subscriptions()
        yield self._of_histories()
        yield self._of_process(state)
        yield self._of_endpoints()
        yield self._of_streams()

    def _of_clients(self, state: GatewayState) -> _Values:
        hub, buffers = self._hub, list(self._buffers())
        return {
            "connections": {kind: state.connections.get(kind, 0) for kind in ("websocket", "sse")},
            "sessions_disconnected": {"": hub.store.remembered},
            "clients_lagging": {"": len(hub.fanout.lagging)},
            "client_lag_max_events": {"": state.lag_events},
            "write_buffer_bytes": {"": sum(buffers)},
            "write_buffer_max_bytes": {"": max(buffers, default=0)},
        }

    def _of_subscriptions(self) -> _Values:
        counts = self._hub.subscriber_counts()
        found = {name: counts[name] for name in self._labelled}
        return {"subscriptions": found | self._rest(found, counts.total())}

    @property
    def _labelled(self) -> dict[str, ChannelLog]:
        """The channels that have labels; the others are counted together, as there may be ten thousands."""
        logs = self._hub.logs.by_name
        return {name: logs[name] for name in self._metrics.labels(logs) if name in logs}

    def _rest(self, labelled: dict[str, int], total: int) -> dict[str, int]:
        """Return what the channels without labels have of a total."""
        others = len(self._hub.logs.by_name) > len(labelled)
        return {OTHER: total - sum(labelled.values())} if others else {}

    def _of_histories(self) -> _Values:
        logs = self._hub.logs
        events = {name: len(log) for name, log in self._labelled.items()}
        size = {name: log.bytes for name, log in self._labelled.items()}
        return {
            "history_events": events | self._rest(events, sum(map(len, logs.by_name.values()))),
            "history_bytes": size | self._rest(size, logs.bytes),
            "channels": {"": len(logs.by_name) - (EVERYONE in logs.by_name)},
            "channels_closed_total": {"": logs.closed},
            "current_values_dropped_total": {"": logs.values_dropped},
            "history_cut_bytes_total": {"": logs.cut_bytes},
            "history_total_bytes": {"": logs.bytes},
        }

    def _of_process(self, state: GatewayState) -> _Values:
        workers = self._metrics.workers()
        expires, cluster = state.certificate_expires, state.cluster
        lease = None if cluster is None else cluster.lease
        return {
            "info": {__version__: 1},
            "ready": {"": state.ready},
            "draining": {"": state.draining},
            "limit": self._metrics.limits,
            "event_loop_tasks": {"": len(asyncio.all_tasks())},
            "workers": {"": workers.ready},
            "workers_lost_total": {"": workers.lost},
            "certificate_expiry_timestamp_seconds": {"": expires} if expires is not None else {},
            "cluster_gateways": {"": 0 if cluster is None else len(cluster.members)},
            "cluster_engine_up": {} if cluster is None else {"": not cluster.problem},
            "cluster_engine_failures_total": {"": 0 if cluster is None else cluster.failures},
            "cluster_commands_total": {"": 0 if cluster is None else cluster.commands},
            "cluster_lease": {} if lease is None else {one: one == lease.state for one in get_args(State)},
            "cluster_lease_refused_total": {"": 0 if lease is None else lease.refused},
            "cluster_lease_overflowed_total": {"": 0 if lease is None else lease.overflowed},
            "cluster_events_total": dict.fromkeys(EVENT_OUTCOMES, 0) if cluster is None else cluster.events,
        }

    def _of_endpoints(self) -> _Values:
        endpoints = {(each.endpoint, each.address): each for each in self._endpoints()}
        return {
            "bus_live": {"": self._hub.bus_state() == "live"},
            "bus_events_total": {each: one.events for each, one in endpoints.items()},
            "bus_heartbeats_total": {each: one.heartbeats for each, one in endpoints.items()},
            "bus_rejected_total": {each: one.rejected for each, one in endpoints.items()},
            "bus_last_event_seconds": {
                each: math.inf if one.last_event_seconds is None else one.last_event_seconds
                for each, one in endpoints.items()
            },
            "bus_peers": {each: one.peers for each, one in endpoints.items()},
            "bus_handshakes_failed_total": {each: one.refused for each, one in endpoints.items()},
            "bus_sockets_reopened_total": {each: one.reopened for each, one in endpoints.items()},
            "bus_publish_reopen_failures_total": {"": self._metrics.reopen_failures()},
        }

    def _of_streams(self) -> _Values:
        recovery = self._pipeline.ingest.recovery
        streams, publishers = recovery.streams, recovery.publishers.known
        stale = sum(publisher.stale for publisher in publishers)
        return {
            "bus_messages_lost_total": {"": streams.lost},
            "bus_messages_duplicated_total": {"": streams.duplicates},
            "bus_messages_late_total": {"": streams.late},
            "bus_messages_recovered_total": {"": recovery.repaired},
            "bus_replay_requests_failed_total": {"": recovery.failed},
            "bus_streams": {"": len(streams)},
            "bus_streams_recovering": {"": recovery.recovering},
            "bus_messages_held": {"": recovery.held},
            "bus_publishers": {"live": len(publishers) - stale, "stale": stale},
            "bus_streams_started_total": {"": streams.started},
        }


def _word(value: bool) -> str:  # it says itself what it is
    return str(value).lower()
