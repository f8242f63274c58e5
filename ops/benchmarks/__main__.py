"""Run the benchmark: ``python -m ops.benchmarks --rounds 3``."""

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence

import msgspec

from ops.benchmarks import peers, report
from ops.benchmarks.growth import grow
from ops.benchmarks.machine import cpus, description
from ops.benchmarks.plan import Scenario, plan
from ops.benchmarks.programs import MADE, NotHere
from ops.benchmarks.results import Result, Results
from ops.benchmarks.talkers import Failed


TRIES = 3
"""How often a measurement is repeated while other processes use the CPUs; with --quick it runs once."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ops.benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="measure the main ratios only, in under 2 minutes")
    parser.add_argument("--peers", action="store_true", help="measure other servers, too")
    parser.add_argument("--only", default="", help="scenarios to measure, as in s1,s3,growth")
    parser.add_argument("--write", action="store_true", help="write tables and plots into docs/")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # this also stops the servers
    try:
        os.sched_setaffinity(0, {cpus()[1]})
        scenarios = peers.peers_plan() if given.peers else plan(quick=given.quick)
        wanted = given.only.split(",") if given.only else []
        scenarios = [one for one in scenarios if not wanted or one.name in wanted]
        results = Results()
        for result in run(scenarios, given.rounds, tries=1 if given.quick else TRIES):
            results.all.append(result)
            print(f"{result.round + 1}/{given.rounds}", line(result), file=sys.stderr, flush=True)
    except NotHere as why:
        print(why, file=sys.stderr)
        return 1
    for scenario in scenarios:
        report.show(scenario, results)
    print(report.remark(results, rounds=given.rounds))
    name = "peers" if given.peers else "quick" if given.quick else "figures"
    save(name, results)
    if given.write and not wanted:
        report.write(name, report.markdown(scenarios, results, rounds=given.rounds))
        if given.peers:
            peers.PICTURE.write_text(peers.picture(results))
    if not given.peers and not given.quick and (not wanted or "growth" in wanted):
        grow(write=given.write)
    return 0


def run(scenarios: Sequence[Scenario], rounds: int, *, tries: int) -> Iterator[Result]:
    """Run all scenarios round by round, the servers of each side by side."""
    for number in range(rounds):
        for scenario in scenarios:
            for server in scenario.servers:
                try:
                    figures = scenario.measure(server, tries)
                except Failed as why:
                    yield Result(scenario.name, server.name, number, error=str(why))
                else:
                    yield Result(scenario.name, server.name, number, figures)


def line(result: Result) -> str:
    """Return a result in one line."""
    shown = (f"{name} {report.shown(value)}" for name, value in result.figures.items())
    return f"{result.scenario:10} {result.server:22} {result.error or ', '.join(shown)}"


def save(name: str, results: Results) -> None:
    """Keep all results as JSON."""
    kept = {"machine": description(), "results": results.all}
    target = MADE / f"{name}.json"
    target.write_bytes(msgspec.json.format(msgspec.json.encode(kept)))
    print(f"All figures are in {target}")


if __name__ == "__main__":
    sys.exit(main())
