"""Each alert fires and resolves, with a real Prometheus and real gateways: ``python -m tests.alerts``.

The rules are those of ops/prometheus, with shorter durations. Meanwhile one more gateway is under load: no alert
fires for it, except about what it really loses, and each panel of the dashboard is compared with what was done."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass

from tests.alerts.load import Load
from tests.alerts.prometheus import FOLDER, Prometheus, Target
from tests.alerts.scenes import SCENES, Scene
from tests.support.gateway import allow_many_files


_FASTER = (30, 10)
"""How many times faster than in the rules everything is; the second time only if not all went well. A busy machine
lets Prometheus wait too long for an answer."""
_SECONDS_MAX = 90.0
"""How long an alert may take to fire, or to resolve, at the first of these speeds."""
_LOSES = {"GatewayMessagesLost", "GatewayEventsRejected"}
"""The alerts that are right about the gateway under load."""


@dataclass
class Outcome:
    alert: str
    scene: str
    fired: float | None = None
    """Seconds after the cause; None if it did not."""
    resolved: float | None = None


async def _until(prometheus: Prometheus, alert: tuple[str, str], *, firing: bool, since: float) -> float | None:
    """Return after how many seconds an alert fires, or does not fire any more; None if it takes too long."""
    while time.monotonic() < since + _SECONDS_MAX * prometheus.interval:
        if (alert in await prometheus.firing()) == firing:
            return time.monotonic() - since
        await asyncio.sleep(0.2)
    return None


async def _play(
    scene: Scene, parts: AsyncGenerator[Target | None, None], instance: str, prometheus: Prometheus
) -> list[Outcome]:
    """Cause the alerts of a scene, then end the cause."""
    outcomes = [Outcome(alert, scene.__name__) for alert in SCENES[scene]]
    before = await prometheus.firing()
    assert not [one for one in outcomes if (one.alert, instance) in before and one.alert != "GatewayBusSilent"]
    caused = time.monotonic()
    await anext(parts)
    for one in outcomes:
        one.fired = await _until(prometheus, (one.alert, instance), firing=True, since=caused)
    ended = time.monotonic()
    await anext(parts)
    for one in outcomes:
        one.resolved = await _until(prometheus, (one.alert, instance), firing=False, since=ended)
    return outcomes


async def _run(faster: int) -> bool:
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        load = await stack.enter_async_context(Load())
        started = {scene: scene() for scene in SCENES}
        for parts in started.values():
            stack.push_async_callback(parts.aclose)
        found = await asyncio.gather(*[anext(parts) for parts in started.values()])
        targets = [target for target in found if target is not None]
        prometheus = await stack.enter_async_context(Prometheus([load.target, *targets], faster=faster))
        print(f"{len(targets) + 1} gateways are scraped after {time.monotonic() - began:.0f} s", flush=True)
        await load.begin()
        playing = [
            _play(scene, parts, target.instance, prometheus)
            for (scene, parts), target in zip(started.items(), targets, strict=True)
        ]
        outcomes = [one for outcomes in await asyncio.gather(*playing) for one in outcomes]
        compared, faults = await load.faults(prometheus)
        false = await load.alerts(prometheus) - _LOSES
    print(f"With durations divided by {faster}:\n")
    _print_table(outcomes)
    print(f"dashboard: {compared} values compared with what was done, {len(faults)} wrong")
    print("".join(f"    {fault}\n" for fault in faults), end="")
    print(f"alerts about the gateway under load that were false: {', '.join(sorted(false)) or 'none'}")
    untried = set(re.findall(r"- alert: (\w+)", (FOLDER / "rules.yml").read_text())) - {one.alert for one in outcomes}
    print(
        f"alerts that were not tried: {', '.join(sorted(untried)) or 'none'}; {time.monotonic() - began:.0f} s in all"
    )
    missed = [one for one in outcomes if one.fired is None or one.resolved is None]
    return not (missed or faults or false or untried)


def _print_table(outcomes: list[Outcome]) -> None:
    print("| alert | scene | seconds to fire | seconds to resolve |\n|---|---|---:|---:|")
    for one in outcomes:
        figures = ["never" if seconds is None else f"{seconds:.1f}" for seconds in (one.fired, one.resolved)]
        print(f"| {one.alert} | {one.scene} | {' | '.join(figures)} |")
    print()


def _succeeds(faster: int) -> bool:
    try:
        return asyncio.run(_run(faster))
    except AssertionError as error:
        print(f"With durations divided by {faster}: {error}")
        return False


def main() -> int:
    if shutil.which("prometheus") is None:
        print("left out: prometheus is missing; apt-get install prometheus, then `make alerts`")
        return 0
    allow_many_files()
    return int(not any(_succeeds(faster) for faster in _FASTER))


if __name__ == "__main__":
    sys.exit(main())
