"""Draw docs/imports.svg: the folders and files of gateway/, and which of them import which.

Usage: make graph

A box stands above all that it imports. An arrow that follows from others is left out: if A imports B,
and B imports C, there is no arrow from A to C. `core` and `web` show their own folders inside.
"""

import ast
import itertools
import random
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path


ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gateway"
TARGET = ROOT / "docs/imports.svg"

OPENED = ("core", "web")
"""Folders that show what is in them."""
BOTTOM = "core"
"""The folder below all others."""
LEFT_OUT = {"__init__", "__main__", "__version__"}

Graph = dict[str, set[str]]
"""What each box imports."""

_GAP, _FLOOR_GAP, _PADDING, _CHANNEL = 26.0, 32.0, 14.0, 12.0
_TITLE, _LINE, _CHARACTER = 20.0, 14.0, 6.1
_CHARACTERS_MAX = 26
_SWEEPS = 12
_TRIES = 60

_STYLE = """
text { font-family: system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2933; }
.name { font-size: 13px; font-weight: 600; }
.files { font-size: 11px; fill: #52606d; }
.box { fill: #f5f8fc; stroke: #7b93ad; }
.opened { fill: #ffffff; stroke: #34506e; stroke-width: 1.5; }
.file { fill: #ffffff; stroke: #9fb3c8; }
.arrow { fill: none; stroke: #52718f; stroke-width: 1.3; marker-end: url(#head); }
""".strip()


# -- the imports ---------------------------------------------------------------------------------


def imports(path: Path) -> Iterator[tuple[str, ...]]:
    """Yield the modules of the gateway that a file imports, as path parts below ``gateway/``."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (tuple(name.split(".")[1:]) for name in names if name.startswith("gateway."))


def graph_of(folder: tuple[str, ...] = ()) -> Graph:
    """Return which folders and files of a folder import which others of it."""
    depth, found = len(folder), defaultdict[str, set[str]](set)
    for path in sorted(PACKAGE.joinpath(*folder).rglob("*.py")):
        here = path.relative_to(PACKAGE).with_suffix("").parts[depth]
        if here in LEFT_OUT:
            continue
        targets = {name[depth] for name in imports(path) if name[:depth] == folder and name[depth:]}
        found[here] |= targets - LEFT_OUT - {here}
    return {name: targets & found.keys() for name, targets in found.items()}


def reduced(graph: Graph) -> Graph:
    """Return the graph without arrows that follow from others."""

    def reachable(name: str) -> set[str]:
        return graph[name].union(*map(reachable, graph[name]))

    return {name: targets - set[str]().union(*map(reachable, targets)) for name, targets in graph.items()}


def floors(graph: Graph) -> dict[str, int]:
    """Return the level of each box: above all that it imports, and all above `BOTTOM`."""
    found: dict[str, int] = {}

    def height(name: str) -> int:
        if name not in found:
            below = [height(target) + 1 for target in sorted(graph[name])]
            found[name] = max(below, default=0 if name == BOTTOM or BOTTOM not in graph else 1)
        return found[name]

    for name in graph:
        height(name)
    return found


# -- the boxes -----------------------------------------------------------------------------------


@dataclass
class Box:
    """A rectangle with a title, and lines or a drawing below it."""

    name: str
    kind: str
    lines: list[str] = field(default_factory=list)
    inside: "Drawing | None" = None
    center: float = 0.0
    y: float = 0.0

    @property
    def width(self) -> float:
        """As wide as what it holds."""
        text = max(len(self.name) * 1.25, *map(len, self.lines), 0) * _CHARACTER
        return max(text, self.inside.width if self.inside else 0) + 2 * _PADDING

    @property
    def height(self) -> float:
        """As high as what it holds."""
        inside = self.inside.height + 6 if self.inside else len(self.lines) * _LINE
        return _TITLE + inside + (10 if inside else 6)


@dataclass
class Passage:
    """The place where an arrow passes a level between two boxes."""

    center: float = 0.0
    width: float = _CHANNEL


Item = Box | Passage


@dataclass
class Drawing:
    """Boxes on levels, the highest first, and the arrows between them."""

    floors: list[list[Item]]
    arrows: list[list[Item]]
    tops: list[float] = field(default_factory=list)
    width: float = 0.0
    height: float = 0.0


def boxes(graph: Graph, folder: tuple[str, ...]) -> dict[str, Box]:
    """A box for each folder and file."""
    found = {}
    for name in sorted(graph):
        path = PACKAGE.joinpath(*folder, name)
        if not path.is_dir():
            found[name] = Box(f"{name}.py", "file")
        elif not folder and name in OPENED:
            found[name] = Box(f"{name}/", "opened", inside=drawing((name,)))
        else:
            files = sorted(one.stem for one in path.glob("*.py") if one.stem not in LEFT_OUT)
            text = textwrap.wrap(", ".join(files), _CHARACTERS_MAX, break_long_words=False)
            found[name] = Box(f"{name}/", "box", lines=text)
    return found


def drawing(folder: tuple[str, ...] = ()) -> Drawing:
    """Draw the imports of a folder."""
    graph = graph_of(folder)
    heights, found = floors(graph), boxes(graph, folder)
    top = max(heights.values())
    rows: list[list[Item]] = [[] for _ in range(top + 1)]
    for name, box in found.items():
        rows[top - heights[name]].append(box)
    arrows: list[list[Item]] = []
    for name, targets in reduced(graph).items():
        for target in sorted(targets):
            passages = [Passage() for _ in range(heights[target] + 1, heights[name])]
            for n, passage in enumerate(passages, top - heights[name] + 1):
                rows[n].append(passage)
            arrows.append([found[name], *passages, found[target]])
    drawn = Drawing(rows, arrows)
    _arrange(drawn)
    return drawn


# -- where they stand ----------------------------------------------------------------------------


def _arrange(drawn: Drawing) -> None:
    """Order each level so that few arrows cross and all are short, then place its items."""
    neighbours = defaultdict[int, list[Item]](list)
    for upper, lower in _steps(drawn):
        neighbours[id(upper)].append(lower)
        neighbours[id(lower)].append(upper)

    def wanted(item: Item) -> float:
        near = neighbours[id(item)]
        return sum(one.center for one in near) / len(near) if near else item.center

    def order(seed: int) -> tuple[int, float]:
        for row in drawn.floors:
            row.sort(key=lambda item: places[id(item)])
            random.Random(seed).shuffle(row)  # noqa: S311  # the same on each run
            _place(row, [0.0] * len(row))
        for sweep in range(2 * _SWEEPS):
            for row in drawn.floors if sweep % 2 else reversed(drawn.floors):
                if sweep < _SWEEPS:
                    row.sort(key=wanted)
                _place(row, [wanted(item) for item in row])
        length = sum(abs(upper.center - lower.center) for upper, lower in _steps(drawn))
        return _crossings(drawn), round(length, 3)

    places = {id(item): n for row in drawn.floors for n, item in enumerate(row)}
    order(min(range(_TRIES), key=order))
    items = [item for row in drawn.floors for item in row]
    left = min(item.center - item.width / 2 for item in items)
    for item in items:
        item.center = round(item.center - left, 1)
    drawn.width = max(item.center + item.width / 2 for item in items)
    y = 0.0
    for row in drawn.floors:
        drawn.tops.append(y)
        boxes_ = [item for item in row if isinstance(item, Box)]
        height = max(box.height for box in boxes_)
        for box in boxes_:
            box.y = y + (height - box.height) / 2
        y += height + _FLOOR_GAP
    drawn.height = y - _FLOOR_GAP


def _steps(drawn: Drawing) -> Iterator[tuple[Item, Item]]:
    """Yield the parts of all arrows, from level to level."""
    return itertools.chain.from_iterable(map(itertools.pairwise, drawn.arrows))


def _crossings(drawn: Drawing) -> int:
    row_of = {id(item): n for n, row in enumerate(drawn.floors) for item in row}
    pairs = itertools.combinations(_steps(drawn), 2)
    return sum(
        row_of[id(a[0])] == row_of[id(b[0])] and (a[0].center - b[0].center) * (a[1].center - b[1].center) < 0
        for a, b in pairs
    )


def _place(row: list[Item], wanted: list[float]) -> None:
    """Place the items of a level near their best positions, in their order and without overlap."""

    def pushed(items: Iterable[tuple[Item, float]]) -> list[float]:
        found: list[float] = []
        last: Item | None = None
        for item, center in items:
            if last is not None:
                center = max(center, found[-1] + (last.width + item.width) / 2 + _GAP)
            found.append(center)
            last = item
        return found

    to_right = pushed(zip(row, wanted, strict=True))
    mirrored = zip(reversed(row), [-center for center in reversed(wanted)], strict=True)
    to_left = [-center for center in reversed(pushed(mirrored))]
    for item, right, left in zip(row, to_right, to_left, strict=True):
        item.center = (right + left) / 2


# -- the picture ---------------------------------------------------------------------------------


def _ports(drawn: Drawing) -> Mapping[tuple[int, int], tuple[float, float]]:
    """Where each arrow leaves its box and where it arrives, spread over the edges of the boxes."""
    leaving, arriving = defaultdict[int, list[int]](list), defaultdict[int, list[int]](list)
    for n, arrow in enumerate(drawn.arrows):
        leaving[id(arrow[0])].append(n)
        arriving[id(arrow[-1])].append(n)
    found: dict[tuple[int, int], float] = {}
    for side, (groups, near, end) in enumerate(((leaving, 1, 0), (arriving, -2, -1))):
        for numbers in groups.values():
            numbers.sort(key=lambda n, near=near: drawn.arrows[n][near].center)  # type: ignore[misc]
            box = drawn.arrows[numbers[0]][end]
            step = min(box.width * 0.7 / len(numbers), 60.0)
            for place, n in enumerate(numbers):
                found[n, side] = box.center + (place - (len(numbers) - 1) / 2) * step
    return {(n, 0): (found[n, 0], found[n, 1]) for n in range(len(drawn.arrows))}


def _arrow(drawn: Drawing, arrow: list[Item], start: float, end: float, x: float, y: float) -> str:
    source, target = arrow[0], arrow[-1]
    assert isinstance(source, Box)
    assert isinstance(target, Box)
    row = next(n for n, items in enumerate(drawn.floors) if source in items)
    points = [(start, source.y + source.height)]
    for n, passage in enumerate(arrow[1:-1], row + 1):
        height = max(one.height for one in drawn.floors[n] if isinstance(one, Box))
        points += [(passage.center, drawn.tops[n]), (passage.center, drawn.tops[n] + height)]
    points.append((end, target.y - 2))
    parts = [f"M{points[0][0] + x:.1f} {points[0][1] + y:.1f}"]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        bend = (y1 - y0) / 2
        parts.append(f"C{x0 + x:.1f} {y0 + bend + y:.1f} {x1 + x:.1f} {y1 - bend + y:.1f} {x1 + x:.1f} {y1 + y:.1f}")
    return f'<path class="arrow" d="{"".join(parts)}"/>'


def _draw(drawn: Drawing, x: float, y: float) -> Iterator[str]:
    for box in [item for row in drawn.floors for item in row if isinstance(item, Box)]:
        left, top = x + box.center - box.width / 2, y + box.y
        yield (
            f'<rect class="{box.kind}" x="{left:.1f}" y="{top:.1f}" width="{box.width:.1f}" '
            f'height="{box.height:.1f}" rx="5"/>'
        )
        middle = left + box.width / 2
        texts = [("name", box.name), *(("files", line) for line in box.lines)]
        for n, (kind, text) in enumerate(texts):
            baseline = top + 17 + n * _LINE + (2 if n else 0)
            yield (
                f'<text class="{kind}" x="{middle:.1f}" y="{baseline:.1f}" text-anchor="middle">{escape(text)}</text>'
            )
        if box.inside is not None:
            indent = (box.width - box.inside.width) / 2
            yield from _draw(box.inside, left + indent, top + _TITLE + 6)
    for n, (start, end) in enumerate(_ports(drawn).values()):
        yield _arrow(drawn, drawn.arrows[n], start, end, x, y)


def picture() -> str:
    """The whole drawing as SVG; the same code gives the same text."""
    drawn = drawing()
    width, height = drawn.width + 2 * _PADDING, drawn.height + 2 * _PADDING
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
            f'width="{width:.0f}" height="{height:.0f}">',
            "<title>Which folders and files of gateway/ import which</title>",
            f"<style>{_STYLE}</style>",
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#52718f"/></marker></defs>',
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            *_draw(drawn, _PADDING, _PADDING),
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    TARGET.write_text(picture())
    sys.stdout.write(f"{TARGET.relative_to(ROOT)}\n")
