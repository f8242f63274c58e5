"""The world of each seed: in one of ten the gateways are a cluster."""

from __future__ import annotations

from tests.simulation import schedule
from tests.simulation.cluster_schedule import run_cluster


CLUSTER_EVERY = 10


def run(seed: int) -> tuple[str | None, list[str]]:
    """Run one world to its end; see `schedule.run`."""
    return run_cluster(seed) if seed % CLUSTER_EVERY == CLUSTER_EVERY - 1 else schedule.run(seed)
