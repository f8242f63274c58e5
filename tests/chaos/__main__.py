"""Cause random failures under load, then check every event at every client: ``python -m tests.chaos --seconds 180 --seed 7``."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys

from tests.chaos.cluster.disruptor import ClusterDisruptor
from tests.chaos.cluster.stage import ClusterStage
from tests.chaos.disruptor import GatewayDisruptor
from tests.chaos.hostile import AGAIN_SECONDS, SETTINGS, Hostile
from tests.chaos.stage import Stage
from tests.support.gateway import allow_many_files


async def chaos(seconds: float, seed: int, clients: int, rate: int, given: argparse.Namespace) -> int:
    """Disturb one gateway and its peers; return 0 if every event was delivered or reported, else 1."""
    print(f"seed {seed}: {clients} clients, {rate} events/s, {seconds:.0f} s", flush=True)
    hostile: bool = given.hostile
    settings = {"workers": given.workers, **(SETTINGS if hostile else {})}
    async with Stage(clients=clients, rate=rate, seed=seed, settings=settings, measured=hostile) as stage:

        def say(text: str) -> None:
            print(text, flush=True)

        disruptor = (
            Hostile(stage, seed, say=say, only=given.only, pause=given.pause, compares=True)
            if hostile
            else GatewayDisruptor(stage, seed, say=say)
        )
        await disruptor.run(seconds)
        await stage.settle()
        figures = {
            **{name.replace("_", " "): count for name, count in disruptor.done.most_common()},
            "published": sum(sum(of.values()) for of in stage.truth().values()),
            "checked deliveries": stage.delivered(),
            "connections": sum(one.connections for one in stage.followers),
            "positions refused": sum(one.refused for one in stage.followers),
            "reported as lost": stage.lost(),
            "delivered twice or out of order": len(stage.faults()),
            "neither delivered nor reported": stage.unaccounted(),
            **(disruptor.figures if isinstance(disruptor, Hostile) else {}),
        }
        for name, figure in figures.items():
            print(f"{name:>30} {figure:>12,.{0 if isinstance(figure, int) else 1}f}")
        for fault in [*stage.faults()[:10], *stage.holes()[:10]]:
            print("  ", fault)
        harmed = isinstance(disruptor, Hostile) and (
            disruptor.workers_lost > 0 or disruptor.bytes_max > disruptor.bytes_allowed
        )
        return int(bool(stage.faults()) or stage.unaccounted() > 0 or harmed)


async def cluster(seconds: float, seed: int, clients: int, rate: float) -> int:
    """Disturb three gateways and their Redis; return 0 if every event was delivered or reported, else 1."""
    print(f"seed {seed}: 3 gateways, {clients} clients, {rate:g} events/s, {seconds:.0f} s", flush=True)
    async with ClusterStage(clients=clients, readers=-(-clients // 20), rate=rate, seed=seed) as stage:
        disruptor = ClusterDisruptor(stage, seed, say=lambda text: print(text, flush=True))
        await disruptor.run(seconds)
        faults: list[str] = []
        try:
            await stage.settle()
        except AssertionError as error:
            faults = [str(error), *stage.unaccounted()]
        done = {name.replace("_", " "): count for name, count in disruptor.done.most_common()}
        for name, figure in {**done, **stage.figures()}.items():
            print(f"{name:>38} {figure:>12,}")
        faults += [*stage.faults(), *stage.senders.faults]
        for fault in faults[:20]:
            print("  ", fault)
        for line in stage.traces():
            print("  ", line)
        return int(bool(faults))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--clients", type=int, default=0)
    parser.add_argument("--rate", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--cluster", action="store_true", help="three gateways, 20 publishers, and Redis with Sentinels"
    )
    parser.add_argument(
        "--hostile", action="store_true", help="attack with hostile publishers and clients instead of killing processes"
    )
    parser.add_argument("--only", help="run one kind of attack: a method of tests.chaos.hostile, such as many_topics")
    parser.add_argument(
        "--pause", type=float, default=AGAIN_SECONDS, help="average seconds between two attacks of one kind"
    )
    given = parser.parse_args()
    allow_many_files()
    if given.cluster:
        return asyncio.run(cluster(given.seconds, given.seed, given.clients or 500, given.rate or 25))
    return asyncio.run(chaos(given.seconds, given.seed, given.clients or 100, given.rate or 400, given))


if __name__ == "__main__":
    sys.exit(main())
