"""The measurements: each scenario takes a server and returns its figures.

The other argument is how often a measurement is repeated while other processes use the CPUs.
"""

import time
from collections.abc import Callable, Iterable

from ops.benchmarks.search import Search
from ops.benchmarks.servers import Server, gateway, subscribe_to
from ops.benchmarks.stage import Run, Stage
from ops.benchmarks.talkers import Connected, Published, Taken


Figures = dict[str, float]
Measure = Callable[[Server, int], Figures]

NAP = 500
"""Microseconds that the load sleeps between rounds, unless latency itself is measured."""
NAP_AT_THE_EDGE = 2000
"""The same for searches of the highest rate; the bound on latency is far above."""


def steady(clients: int, rate: float, seconds: float, *, size: int = 200) -> Measure:
    """Events at a fixed rate to all clients."""

    def measure(server: Server, tries: int) -> Figures:
        with Stage(server, publish=("--size", str(size))) as stage:
            stage.connect(clients)
            stage.nap(NAP)
            return figures(stage.calm(rate, round(rate * seconds), tries=tries))

    return measure


def figures(run: Run) -> Figures:
    """Return the figures of a run at a rate."""
    return {
        "cpu": run.cpu_per_million,
        "p50": run.taken.p50_ms,
        "p99": run.taken.p99_ms,
        "missing": run.taken.missing + run.taken.faults,
        "load_cpu": run.taken.cpu_s / max(run.taken.events, 1) * 1e6,
        "others": run.others * 100,
    }


def highest(clients: int, seconds: float, *, start: float) -> Measure:
    """The highest rate that reaches all clients, with p99 below 200 ms and below 50 ms."""

    def prepare(stage: Stage) -> None:
        stage.connect(clients)
        stage.nap(NAP_AT_THE_EDGE)

    def measure(server: Server, tries: int) -> Figures:
        search = Search(server, prepare, seconds=seconds, tries=tries)
        try:
            return _edges(search, start, lambda run: run.rate * clients)
        finally:
            search.end()

    return measure


def _edges(search: Search, start: float, deliveries: Callable[[Run], float]) -> Figures:
    slack = search.highest(200, start=start)
    tight = search.highest(50, start=slack.rate if slack else start)
    nothing = {"deliveries": 0.0, "events": 0.0, "deliveries_50": 0.0}
    if slack is None:
        return nothing
    return {
        "deliveries": deliveries(slack),
        "events": slack.rate,
        "deliveries_50": deliveries(tight) if tight else 0.0,
        "cpu": slack.cpu_per_million,
        "others": slack.others * 100,
    }


# -- many views ------------------------------------------------------------------------------------

TOPICS, SETS, PER_SET = 20, 100, 10
_CONDITIONS = ("", ',"filter":"data.cpu_percent > 50"', ',"rate":10')


def topics_of(number: int) -> list[int]:
    """Return the channels of one of SETS different sets: 6 to 10 in a row, of TOPICS."""
    return [(number + k) % TOPICS for k in range(6 + number // TOPICS)]


def subscription(topics: Iterable[int], options: str) -> str:
    """Return the message that subscribes to some of the channels."""
    return subscribe_to(*(f"views.{topic}" for topic in topics), options=options)


def many_views() -> Server:
    """Return the gateway with clients of 100 sets of channels: plain, with a filter or a rate, in turn."""
    texts = (subscription(topics_of(number), _CONDITIONS[number % 3]) for number in range(SETS))
    return gateway(name=f"gateway, {SETS} views", subscribe=tuple(texts))


def one_view() -> Server:
    """Return the gateway with clients of one set of channels, as large as those of `many_views`."""
    return gateway(name="gateway, one view", subscribe=(subscription(topics_of(SETS // 2), ""),))


def views_are_complete(run: Run) -> bool:
    """Tell whether plain clients got all events, filtered ones half, and those with a rate some."""
    if run.taken.closed:
        return False
    alone = len(run.taken.groups) == 1
    for number, (least, most) in enumerate(run.taken.groups):
        channels = topics_of(SETS // 2 if alone else number)
        share = len(channels) * run.published.published // TOPICS
        expected = (share, share // 2, None)[number % 3]
        if not least or (expected is not None and not least == most == expected):
            return False
    return True


def views(seconds: float, *, start: float) -> Measure:
    """1,000 clients of one view or of many, and events on 20 channels."""

    def open_stage(server: Server) -> Stage:
        topics = ("--topic", "views", "--topics", str(TOPICS))
        return Stage(server, publish=topics, load=("--partial",))

    def prepare(stage: Stage) -> None:
        stage.connect(SETS * PER_SET, probe=2 * TOPICS)
        stage.nap(NAP_AT_THE_EDGE)

    def measure(server: Server, tries: int) -> Figures:
        search = Search(
            server,
            prepare,
            seconds=seconds,
            tries=tries,
            open_stage=open_stage,
            count=lambda events: max(round(events / (2 * TOPICS)), 1) * 2 * TOPICS,
            complete=views_are_complete,
        )
        try:
            return _edges(search, start, lambda run: run.taken.events / run.taken.seconds)
        finally:
            search.end()

    return measure


# -- crowds ----------------------------------------------------------------------------------------


def crowd(clients: int, idle_seconds: float) -> Measure:
    """Memory and CPU of idle clients, and the time until one event reached all."""

    def measure(server: Server, tries: int) -> Figures:
        with Stage(server) as stage:
            connected = stage.connect(clients)
            held = stage.memory_bytes() - stage.memory_before
            used = stage.cpu_seconds()
            time.sleep(idle_seconds)
            used = stage.cpu_seconds() - used
            run = stage.calm(4, 20, tries=tries)
            return {
                "kilobytes": held / clients / 1024,
                "idle_cpu": used / idle_seconds * 100,
                "connect": connected.seconds,
                "last_client": run.taken.last_client_ms,
                "missing": run.taken.missing + run.taken.faults,
                "others": run.others * 100,
            }

    return measure


def arriving(clients: int, there: int, rate: int) -> Measure:
    """Many clients connect at once, while events are delivered to others."""

    def measure(server: Server, tries: int) -> Figures:
        del tries  # measured once
        with Stage(server) as stage:
            stage.connect(there)
            others = stage.crowd("--text", subscribe_to("status"))
            stage.load.ask("reset", object)
            others.tell(f"connect {clients} 64")
            published = 0
            while not others.has_answered():
                stage.publisher.ask(f"run {rate} {rate // 4}", Published)
                published += rate // 4
            taken = stage.load.ask(f"wait {published} 2000 5000", Taken)
            done = others.hear(Connected)
            return {
                "seconds": done.seconds,
                "failed": done.failed,
                "p50": taken.p50_ms,
                "p99": taken.p99_ms,
                "missing": taken.missing + taken.faults,
            }

    return measure


def quiet(clients: int, rate: int, seconds: float) -> Measure:
    """Latency under little load: of events, and of clients that connect one by one."""

    def measure(server: Server, tries: int) -> Figures:
        with Stage(server) as stage:
            stage.connect(clients)
            run = stage.calm(rate, round(rate * seconds), tries=tries)
            one_by_one = stage.crowd().ask("connect 300 1", Connected)
            return {
                "p50": run.taken.p50_ms,
                "p99": run.taken.p99_ms,
                "connect_p50": one_by_one.p50_ms,
                "connect_p99": one_by_one.p99_ms,
                "missing": run.taken.missing + run.taken.faults,
                "others": run.others * 100,
            }

    return measure
