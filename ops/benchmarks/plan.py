"""The scenarios, their servers, and the names of their figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ops.benchmarks import scenarios
from ops.benchmarks.scenarios import Measure
from ops.benchmarks.servers import Server, gateway, limit


@dataclass(frozen=True)
class Scenario:
    """One measurement. `figures` are its columns; those in `compared` also as a ratio to the first server."""

    name: str
    title: str
    measure: Measure
    servers: Sequence[Server]
    figures: Mapping[str, str]
    compared: frozenset[str]


COST = "CPU s per million deliveries"
STEADY = {"cpu": COST, "p50": "p50 ms", "p99": "p99 ms", "missing": "missing or out of order"}
HIGHEST = {
    "deliveries": "deliveries/s, p99 < 200 ms",
    "events": "events/s",
    "deliveries_50": "deliveries/s, p99 < 50 ms",
    "cpu": COST,
}
CROWD = {
    "kilobytes": "KiB per client",
    "idle_cpu": "% of a CPU while idle",
    "connect": "s to connect them",
    "last_client": "ms until the last has an event",
    "missing": "missing",
}
ARRIVING = {"seconds": "s to connect", "failed": "failed", "p99": "p99 ms of events meanwhile"}
QUIET = {
    "p50": "event p50 ms",
    "p99": "event p99 ms",
    "connect_p50": "connecting p50 ms",
    "connect_p99": "connecting p99 ms",
}


def batching(kind: str, milliseconds: float) -> Server:
    """Return the gateway with this batching and delay."""
    settings = (f"fanout.batching={kind}", f"fanout.batch_delay_seconds_max={milliseconds / 1000}")
    return gateway(*settings, name=f"gateway, {kind}, {milliseconds:g} ms")


def sharing(workers: int) -> Server:
    """Return the gateway with workers, on the same CPUs as the load."""
    name = f"gateway, {workers} worker" + "s" * (workers > 1)
    return gateway(f"workers={workers}", name=name, alone=False)


def beside(count: int) -> Server:
    """Return several gateways, on the same CPUs as the load."""
    return gateway(name=f"{count} gateways" if count > 1 else "1 gateway", alone=False, beside=count)


BATCHINGS = (
    *(batching("fixed", milliseconds) for milliseconds in (0, 2, 5, 10, 20)),
    *(batching("adaptive", milliseconds) for milliseconds in (5, 10)),
)


def plan(*, quick: bool) -> list[Scenario]:
    """Return the scenarios of `make bench`, or those of `make bench-quick`."""
    tick, event, ours = limit("tick"), limit("event"), gateway()
    seconds = 1 if quick else 3
    cost, rate = frozenset({"cpu", "p99"}), frozenset({"deliveries", "deliveries_50"})
    last = frozenset({"last_client"})
    high = scenarios.highest
    every = [
        Scenario("s1", "S1: 1,000 clients, 200 events/s", scenarios.steady(1000, 200, 5),
                 (tick, ours), STEADY, cost),
        Scenario("unbatched", "Unbatched: 1,000 clients, 80 events/s", scenarios.steady(1000, 80, 3),
                 (event, ours), STEADY, cost),
        Scenario("s3", "S3: 1,000 clients, the highest rate held", high(1000, seconds, start=3000),
                 (tick, ours), HIGHEST, rate),
        Scenario("s5", "S5: one event to 5,000 clients", scenarios.crowd(5000, 1),
                 (tick, ours), CROWD, last),
        Scenario("quiet", "10 clients, 20 events/s, nothing else to do", scenarios.quiet(10, 20, 5),
                 (tick, ours), QUIET, frozenset()),
    ]  # fmt: skip
    if quick:
        return every
    return [
        *every,
        Scenario("s2", "S2: 100 clients, the highest rate held", high(100, seconds, start=20000),
                 (tick, ours), HIGHEST, rate),
        Scenario("ingest", "Ingest: 10 clients, the highest rate held", high(10, seconds, start=60000),
                 (tick, ours), HIGHEST, rate | {"events"}),
        Scenario("views", "Views: 1,000 clients, 100 sets of channels, filters and rates",
                 scenarios.views(seconds, start=8000), (scenarios.one_view(), scenarios.many_views()),
                 HIGHEST, rate | {"events"}),
        Scenario("s4", "S4: 10,000 clients and nothing to do", scenarios.crowd(10_000, 30),
                 (tick, ours), CROWD, last),
        Scenario("batching", "Batching: 1,000 clients, 200 events/s", scenarios.steady(1000, 200, 5),
                 (tick, *BATCHINGS), STEADY, cost),
        Scenario("workers", "Workers: 1,000 clients, the highest rate held on two CPUs, load included",
                 high(1000, seconds, start=3000), (sharing(1), sharing(2)), HIGHEST, rate),
        Scenario("beside", "Beside each other: 1,000 clients, the highest rate held on two CPUs, load included",
                 high(1000, seconds, start=3000), (beside(1), beside(2)), HIGHEST, rate),
        Scenario("arriving", "10,000 clients come while 100 follow 100 events/s",
                 scenarios.arriving(9_900, 100, 100), (ours,), ARRIVING, frozenset()),
    ]  # fmt: skip
