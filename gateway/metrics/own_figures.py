"""The gateway's own figures: from what it has counted so far to an event on ``metrics.gateway``."""

from collections.abc import Mapping

from msgspec import Struct

from gateway import __version__
from gateway.core.ingest.pipeline import Pipeline
from gateway.core.protocol.channels import is_name
from gateway.core.protocol.events import GatewayFigures
from gateway.core.sessions.hub import Hub
from gateway.metrics.metrics import Metrics


class Counts(Struct, frozen=True, kw_only=True):
    """What a gateway has counted since its start, at one time."""

    at_ns: int
    received: Mapping[str, float]
    """Events from the bus, by channel."""
    received_bytes: float = 0
    delivered: float = 0
    delivered_bytes: float = 0
    rejected: float = 0
    evicted: float = 0
    lost: int = 0
    repaired: int = 0


def count(metrics: Metrics, pipeline: Pipeline, *, now_ns: int) -> Counts:
    """Read the counters."""
    recovery = pipeline.ingest.recovery

    def total(name: str) -> float:
        return sum(metrics.count(name).values())

    return Counts(
        at_ns=now_ns,
        received=metrics.count("events_received_total"),
        received_bytes=total("bus_received_bytes_total"),
        delivered=total("events_delivered_total"),
        delivered_bytes=total("delivered_bytes_total"),
        rejected=total("events_rejected_total"),
        evicted=total("events_lost_total"),
        lost=recovery.streams.lost,
        repaired=recovery.repaired,
    )


def figures(
    earlier: Counts,
    later: Counts,
    *,
    gateway: str,
    started_ns: int,
    usage: tuple[float, int, int],
    lags: list[int],
    hub: Hub,
    pipeline: Pipeline,
) -> GatewayFigures:
    """Return the event: rates between two counts, and the state now.

    `usage` is the CPU in percent, the memory in bytes and the open files; `lags` are those of the
    clients that lag, in events."""
    seconds = max((later.at_ns - earlier.at_ns) / 1e9, 1e-3)

    def rate(before: float, after: float) -> float:
        return round(max(after - before, 0.0) / seconds, 2)

    channels = {name: rate(earlier.received.get(name, 0), now) for name, now in later.received.items() if is_name(name)}
    known = pipeline.ingest.recovery.publishers.known
    cpu_percent, memory_bytes, _ = usage
    return GatewayFigures(
        gateway=gateway,
        version=__version__,
        uptime_seconds=round((later.at_ns - started_ns) / 1e9, 1),
        cpu_percent=round(cpu_percent, 1),
        memory_mb=round(memory_bytes / 2**20, 1),
        connections=len(hub.sessions),
        subscriptions=sum(len(session.subscriptions) for session in hub.sessions.values()),
        lagging=len(lags),
        lag=max(lags, default=0),
        received_per_second=rate(sum(earlier.received.values()), sum(later.received.values())),
        received_bytes_per_second=rate(earlier.received_bytes, later.received_bytes),
        delivered_per_second=rate(earlier.delivered, later.delivered),
        delivered_bytes_per_second=rate(earlier.delivered_bytes, later.delivered_bytes),
        lost=later.lost,
        repaired=later.repaired,
        rejected=round(later.rejected),
        evicted=round(later.evicted),
        publishers=len(known),
        publishers_stale=sum(publisher.stale for publisher in known),
        bus=pipeline.bus_state,
        channels={name: value for name, value in channels.items() if value},
    )
