"""What holds for every test here, of the gateway, the clients and the publishers: their order, and what they leave."""

from __future__ import annotations

import gc
import os
import random
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest


LONG = {"chaos", "fuzz"} | {
    f"test_{name}.py"
    for name in (
        "added_commands",
        "benchmark",
        "cluster_sessions",
        "code_blocks",
        "conformance",
        "conformance_msgpack",
        "curve",
        "dist",
        "first_run",
        "floods",
        "forged",
        "http_fuzz",
        "isolation",
        "many_gateways",
        "limits_at_once",
        "licences",
        "panels",
        "recording_load",
        "scale",
        "slow_clients",
        "upgrade",
        "vanishing",
        "workers_lost",
    )
}
"""Folders and files of tests that take long, or need what only `.venv/dev` has: left out of a run of everything,
unless TEST_FULL=1. So are tests with the mark `long`, one by one."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: takes a second of CPU or more; left out of a run of everything")
    # In the environment, as all workers of pytest-xdist must have the same order, and the same tests.
    os.environ.setdefault("TEST_ORDER", str(random.randrange(1_000_000)))
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    brief = everything and os.environ.get("TEST_FULL") != "1"
    os.environ.setdefault("TEST_BRIEF", str(int(brief)))


def pytest_sessionfinish() -> None:
    """Save what coverage has measured: pytest-xdist kills a worker that takes 10 s to end, as a busy machine may make it."""
    measuring = sys.modules.get("coverage")
    if measuring is not None and (current := measuring.Coverage.current()) is not None:
        current.save()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if os.environ["TEST_BRIEF"] == "1":
        terminalreporter.write_line(f"left out: tests that take long ({', '.join(sorted(LONG))}, and single ones).")
        terminalreporter.write_line("    TEST_FULL=1 make test runs all, in about 12 minutes.")


def pytest_report_header() -> str:
    return f"the same order of tests again: TEST_ORDER={os.environ['TEST_ORDER']}"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Do not even import the long tests: each worker would."""
    return True if os.environ["TEST_BRIEF"] == "1" and LONG & {*collection_path.parts} else None


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Import the test files in another order in each worker of pytest-xdist.

    In a fresh clone pytest compiles each file, which takes most of the time of importing it. In the same order,
    all workers would compile all files.
    """
    report = yield
    if isinstance(collector, pytest.Dir | pytest.Session):
        random.Random(os.environ.get("PYTEST_XDIST_WORKER")).shuffle(report.result)
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Shuffle the modules, and the tests of each: what a module shares is still made once."""
    modules: dict[Path, list[pytest.Item]] = {}
    for item in sorted(items, key=lambda item: item.path):
        if os.environ["TEST_BRIEF"] == "0" or item.get_closest_marker("long") is None:
            modules.setdefault(item.path, []).append(item)
    shuffled = list(modules.values())
    order = random.Random(os.environ["TEST_ORDER"])
    order.shuffle(shuffled)
    shuffled.sort(key=lambda tests: "chaos" in tests[0].path.parts)  # last, when few others need the machine
    for tests in shuffled:
        order.shuffle(tests)
    items[:] = [test for tests in shuffled for test in tests]


def pytest_collection_finish() -> None:
    """Leave all that was imported and collected out of every later collection of garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def what_is_left_unclosed_is_told_here() -> Iterator[None]:
    """Not in whichever test the collector happens to run."""
    yield
    gc.collect()
