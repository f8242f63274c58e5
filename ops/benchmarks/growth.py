"""How the cost of a delivery depends on the rate, the clients, the size of events, and the views."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ops.benchmarks.plan import batching
from ops.benchmarks.plot import Line, Panel, draw
from ops.benchmarks.programs import ROOT
from ops.benchmarks.scenarios import steady
from ops.benchmarks.servers import Server, gateway, limit, subscribe_to
from ops.benchmarks.talkers import Failed


PICTURE = ROOT / "docs/performance.svg"
SECONDS = 2.0

Views = Callable[[int], Server]


@dataclass(frozen=True)
class Question:
    """A parameter to vary. `point` measures a server at one value, and returns x and the cost."""

    title: str
    values: Sequence[int]
    servers: Sequence[str]
    point: Callable[[str, int], tuple[float, float]]


def grow(*, write: bool) -> None:
    """Measure and print each curve, and draw them if asked to."""
    panels = [Panel(one.title, list(_lines(one))) for one in questions()]
    for panel in panels:
        print(panel.title)
        for line in panel.lines:
            print(f"  {line.name:26}", *(f"{x:,g}: {y:.2f}" for x, y in line.points), sep="  ")
    if write:
        PICTURE.write_text(draw(panels, "CPU microseconds of the server per delivery"))


def questions() -> list[Question]:
    """Return the parameters to vary, of the gateway and of the loop in C."""
    plain = {one.name: one for one in (limit("tick"), gateway())}
    views: dict[str, Views] = {"sets of channels": _sets, "filters": _filters}

    def cost(server: Server, clients: int, rate: float, size: int = 200) -> float:
        return steady(clients, rate, SECONDS, size=size)(server, 1)["cpu"]

    def latency_and_cost(kind: str, milliseconds: int) -> tuple[float, float]:
        found = steady(1000, 200, SECONDS)(batching(kind, milliseconds), 1)
        return found["p50"], found["cpu"]

    return [
        Question("events per second, to 1,000 clients", (20, 50, 100, 200, 500, 1000, 2000, 4000),
                 list(plain), lambda name, n: (n, cost(plain[name], 1000, n))),
        Question("clients, at 100 events per second", (1, 10, 100, 1000, 2000, 5000),
                 list(plain), lambda name, n: (n, cost(plain[name], n, 100))),
        Question("bytes of an event, 100 per second to 500 clients", (200, 500, 1000, 2000, 5000, 20_000),
                 list(plain), lambda name, n: (n, cost(plain[name], 500, 100, n))),
        Question("different views of 1,000 clients, 100 events per second", (1, 10, 100, 1000),
                 list(views), lambda name, n: (n, cost(views[name](n), 1000, 100))),
        Question("median latency in ms with batching for 0 to 20 ms; as S1", (0, 2, 5, 10, 20),
                 ("fixed", "adaptive"), latency_and_cost),
    ]  # fmt: skip


def _sets(count: int) -> Server:
    """Every client subscribes to the busy channel, and to one of `count` others."""
    texts = [subscribe_to("metrics", f"other.{number}") for number in range(count)]
    return gateway(subscribe=tuple(texts))


def _filters(count: int) -> Server:
    """Every client has one of `count` filters, all of which match all events."""
    conditions = (f"data.cpu_percent > {number / 1000}" for number in range(count))
    texts = [subscribe_to("metrics", options=f',"filter":"{one}"') for one in conditions]
    return gateway(subscribe=tuple(texts))


def _lines(question: Question) -> Iterator[Line]:
    for name in question.servers:
        points = []
        for value in question.values:
            try:
                points.append(question.point(name, value))
            except Failed as why:
                print(why, file=sys.stderr)
        yield Line(name, points)
