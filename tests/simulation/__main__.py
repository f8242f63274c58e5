"""Run many simulated worlds, or repeat one: ``python -m tests.simulation --seeds 100000 | --seed 7``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.worlds import run


_PART = 500


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100_000, help="how many worlds to run")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="run only the world of this seed, and print its steps")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        fault, steps = run(arguments.seed)
        print("\n".join(steps))
        print(fault or "every event was delivered or reported")
        return int(fault is not None)
    return _many(arguments.start, arguments.seeds)


def _many(start: int, seeds: int) -> int:
    began = time.monotonic()
    failed = 0
    for done, faults in simulate_many(start, seeds):
        for seed, fault in faults:
            failed += 1
            print(f"\nseed {seed}: {fault}\n  to repeat: make simulate SEED={seed}")
        rate = done / (time.monotonic() - began)
        print(f"\r{done:,} of {seeds:,} worlds, {rate:.0f}/s, {failed} failed ", end="", flush=True)
    print()
    return int(failed > 0)


def simulate_many(start: int, seeds: int) -> Iterator[tuple[int, list[tuple[int, str]]]]:
    """Run worlds on all CPUs; yield how many have run, and the seeds and faults of those that failed since."""
    parts = [(at, min(_PART, start + seeds - at)) for at in range(start, start + seeds, _PART)]
    with ProcessPoolExecutor() as pool:
        done = 0
        for (_, count), faults in zip(parts, pool.map(_part, parts), strict=True):
            done += count
            yield done, faults


def _part(part: tuple[int, int]) -> list[tuple[int, str]]:
    start, count = part
    results = ((seed, run(seed)[0]) for seed in range(start, start + count))
    return [(seed, fault) for seed, fault in results if fault is not None]


if __name__ == "__main__":
    sys.exit(main())
