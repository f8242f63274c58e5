"""All metrics as Prometheus reads them, with those of other processes added."""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample


Key = tuple[str, str, tuple[tuple[str, str], ...]]
"""A metric's type and name, a sample's name, its labels in order."""
Extra = Mapping[str, Mapping[Key, float]]
"""Samples of other processes, by metric."""

PROCESS_SUMS = {"process_virtual_memory_bytes", "process_resident_memory_bytes", "process_open_fds"}
"""Gauges of a process that are summed over several processes."""
MOSTS = frozenset({"gauge neurograph_gateway_write_buffer_max_bytes"})
"""Metrics of which the maximum over all processes counts; of the others, the sum."""


_EOF: Final = b"# EOF\n"


def exposition(registry: CollectorRegistry, extra: Extra, accept: str) -> tuple[str, Iterator[bytes]]:
    """Return a content type that an `Accept` header allows, and all metrics in it, in parts: each is read when it is
    asked for, so that others get their turn between them."""
    encode, content_type = choose_encoder(accept)
    metrics = _Whole(registry, extra).collect()
    if not content_type.startswith("application/openmetrics-text"):
        return CONTENT_TYPE_LATEST, (generate_latest(_One(metric)) for metric in metrics)
    parts = (encode(_One(metric)).removesuffix(_EOF) for metric in metrics)
    return content_type, chain(parts, [_EOF])


class _One(Collector):
    """A single metric."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric


class _Whole(Collector):
    """This process's metrics, with the samples of other processes added."""

    def __init__(self, registry: CollectorRegistry, extra: Extra) -> None:
        self._registry = registry
        self._extra = extra

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            extra = dict(self._extra.get(kind(metric), {}))
            for at, sample in enumerate(metric.samples):
                more = extra.pop(key(metric, sample), None)
                if more is not None:
                    most = kind(metric) in MOSTS
                    value = max(sample.value, more) if most else sample.value + more
                    metric.samples[at] = sample._replace(value=value)
            for (_, name, labels), value in extra.items():
                metric.add_sample(name, dict(labels), value)
            yield metric


def key(metric: Metric, sample: Sample) -> Key:
    return kind(metric), sample.name, tuple(sorted(sample.labels.items()))


def kind(metric: Metric) -> str:
    # A counter's name lacks its `_total`, so a gauge may have the same name.
    return f"{metric.type} {metric.name}"
