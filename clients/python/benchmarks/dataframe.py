"""A million events to a DataFrame: CPU seconds, the process's memory at its peak, and the DataFrame's size.

PYTHONPATH=.:clients/python/src .venv/bin/python clients/python/benchmarks/dataframe.py [--count N]      (after make notebooks)

A real gateway holds the events. Each method to get them runs in a process of its own, twice, and the quicker run counts.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from typing import Any

import pandas as pd
from neurograph_client import Event, connect
from neurograph_publisher import Publisher

from tests.support.gateway import Gateway


CHANNEL = "robots.r2"
ROUNDS = 2

Measured = tuple[float, float, float]
"""CPU seconds, which other programs do not change, megabytes at the peak above those after the imports, and megabytes of the DataFrame."""


def plain_loop(url: str, count: int) -> Any:
    """Collect dictionaries in a list, as one writes it first."""
    rows = []
    with connect(url) as client:
        for event in client.events(CHANNEL, last=count, caught_up=True):
            if not isinstance(event, Event):
                break
            rows.append({"time": event.time, "channel": event.channel, "offset": event.offset, **event.data})
    return pd.DataFrame(rows)


def normalized_loop(url: str, count: int) -> Any:
    """The same, with nested data flattened by pandas."""
    rows = []
    with connect(url) as client:
        for event in client.events(CHANNEL, last=count, caught_up=True):
            if not isinstance(event, Event):
                break
            rows.append({"time": event.time, "channel": event.channel, "offset": event.offset, "data": event.data})
    return pd.json_normalize(rows)


def history(url: str, count: int) -> Any:
    with connect(url) as client:
        return client.history(CHANNEL, last=count).to_pandas()


def columns(url: str, count: int) -> Any:
    with connect(url) as client:
        return client.columns(CHANNEL, last=count).to_pandas()


def columns_polars(url: str, count: int) -> Any:
    with connect(url) as client:
        return client.columns(CHANNEL, last=count).to_polars()


def measure(method: Callable[[str, int], Any], url: str, count: int, pipe: Pipe) -> None:
    """Send what one method takes, in this process of its own."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.process_time()
    found = method(url, count)
    seconds = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    assert len(found) == count, len(found)
    is_pandas = isinstance(found, pd.DataFrame)
    size = found.memory_usage(deep=True).sum() if is_pandas else found.estimated_size()
    pipe.send((seconds, peak, float(size) / 1e6))


def main() -> None:
    """Measure each method, and print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    count = parser.parse_args().count
    methods: dict[str, Callable[[str, int], Any]] = {
        "plain loop, pd.DataFrame": plain_loop,
        "plain loop, json_normalize": normalized_loop,
        "history(last=…).to_pandas()": history,
        "columns(…).to_pandas()": columns,
        "columns(…).to_polars()": columns_polars,
    }
    settings = {"history.events_max": count, "history.bytes_max": (1 << 31) - 1}
    spawning = multiprocessing.get_context("spawn")
    with Gateway(settings=settings) as gateway, Publisher(connect=gateway.bus_in) as publisher:
        publisher.wait_for_subscriber(60)
        for number in range(1, count + 1):
            publisher.publish(
                CHANNEL, {"step": number, "pose": {"x": number / 7, "y": 2.0}, "ok": True, "mode": "auto"}
            )
            if number % 10_000 == 0:
                time.sleep(0.1)  # a publisher without pauses would fill ZeroMQ's buffers
        with connect(gateway.url) as client:
            while next(one for one in client.channels() if one["name"] == CHANNEL)["events"] < count:
                time.sleep(0.1)
        print(f"{count:,} events        CPU seconds   peak MB   DataFrame MB")
        for name, method in methods.items():
            best: Measured = (float("inf"), 0, 0)
            for _ in range(ROUNDS):
                ours, theirs = spawning.Pipe()
                process = spawning.Process(target=measure, args=(method, gateway.url, count, theirs))
                process.start()
                best = min(best, ours.recv())
                process.join()
            print(f"{name:28}{best[0]:8.1f}{best[1]:10,.0f}{best[2]:15,.0f}", flush=True)


if __name__ == "__main__":
    main()
