"""Malformed frames and messages, as many as you like: ``python -m tests.fuzz --connections 10000``."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys

from tests.fuzz.attack import attack
from tests.support.gateway import Gateway, allow_many_files


async def fuzz(connections: int, seed: int) -> int:
    """Attack a gateway; 0 if all was well."""
    print(f"seed {seed}: {connections} connections", flush=True)
    async with Gateway() as gateway:
        outcome = await attack(gateway, connections=connections, seed=seed)
    print(f"{outcome.sent} strange things sent")
    for answer, count in outcome.answers.most_common():
        print(f"{answer:>40} {count:>9,}")
    for fault in outcome.faults[:10]:
        print("FAULT:", fault)
    return int(bool(outcome.faults))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    given = parser.parse_args()
    allow_many_files()
    return asyncio.run(fuzz(given.connections, given.seed))


if __name__ == "__main__":
    sys.exit(main())
