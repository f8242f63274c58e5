"""Fuzz a gateway over WebSocket: ``python -m tests.fuzz --seed 7 --connections 10000``."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time

from tests.fuzz.siege import Outcome, siege
from tests.support.gateway import allow_many_files


def tell(outcome: Outcome, seconds: float) -> None:
    """Print what came of it."""
    account = outcome.account
    print(f"{account.sent:,} malformed over {account.connections:,} connections in {seconds:.0f} s")
    for what, count in account.heard.most_common():
        print(f"{what:>30} {count:>10,}")
    print(f"{'published beside it':>30} {outcome.published:>10,}, delivered {outcome.delivered:,}")
    for name in ("tasks", "files", "bytes"):
        before, after = getattr(outcome.before, name), getattr(outcome.after, name)
        print(f"{name:>30} {before:>10,.0f} before, {after:,.0f} after")
    for fault in outcome.faults[:20]:
        print("  ", fault)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--only", type=int, help="make only the connection of this number")
    given = parser.parse_args()
    print(f"again: make fuzz SEED={given.seed} CONNECTIONS={given.connections}", flush=True)
    numbers = range(given.connections) if given.only is None else range(given.only, given.only + 1)
    allow_many_files()
    began = time.monotonic()
    outcome = asyncio.run(siege(given.seed, numbers))
    tell(outcome, time.monotonic() - began)
    return int(bool(outcome.faults))


if __name__ == "__main__":
    sys.exit(main())
