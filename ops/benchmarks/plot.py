"""Plots curves and bars (SVG), on logarithmic scales."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape


WIDTH, HEIGHT, COLUMNS = 460, 300, 2
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 56, 34
COLOURS = ("#57606a", "#0969da", "#bc4c00", "#1a7f37")
_STYLE = """text{font:12px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600}
.axis{stroke:#d0d7de;fill:none}.line{fill:none;stroke-width:2}.scale{fill:#57606a;font-size:11px}"""


@dataclass(frozen=True)
class Line:
    """A curve: its points from left to right, both coordinates above 0."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """A few curves over the same axis, which the title names."""

    title: str
    lines: Sequence[Line]


def bars(title: str, values: Sequence[tuple[str, float]]) -> str:
    """Return a picture of named values above 0; the gateway's has a colour of its own."""
    low = math.floor(math.log10(min(value for _, value in values)))
    high = math.log10(max(value for _, value in values))
    width, height = 2 * WIDTH, 44 + 26 * len(values)
    left, room = 190, 2 * WIDTH - 190 - 90
    parts = [*_sheet(width, height, title)]
    for number, (name, value) in enumerate(values):
        y = 38 + 26 * number
        length = room * (math.log10(value) - low) / max(high - low, 1e-9)
        colour = COLOURS[1] if name == "gateway" else COLOURS[0]
        parts.append(_text(left - 8, y + 14, name, "", "end"))
        parts.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="18" fill="{colour}"/>')
        parts.append(_text(left + length + 6, y + 14, _short(value), "scale", "start"))
    return "\n".join([*parts, "</svg>", ""])


def draw(panels: Sequence[Panel], unit: str) -> str:
    """Return a plot of all panels; `unit` labels the vertical axis."""
    rows = math.ceil(len(panels) / COLUMNS)
    width, height = WIDTH * COLUMNS, HEIGHT * rows + 30
    parts = [*_sheet(width, height, unit)]
    values = [y for panel in panels for line in panel.lines for _, y in line.points]
    for number, panel in enumerate(panels):
        x, y = WIDTH * (number % COLUMNS), 30 + HEIGHT * (number // COLUMNS)
        parts += [f'<g transform="translate({x},{y})">', *_panel(panel, values), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _sheet(width: int, height: int, title: str) -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" role="img"><title>{escape(title)}</title>'
    )
    yield f"<style>{_STYLE}</style>"
    yield f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    yield f'<text class="title" x="16" y="22">{escape(title)}</text>'


def _panel(panel: Panel, values: Sequence[float]) -> Iterator[str]:
    across = [x for line in panel.lines for x, _ in line.points]
    if not across:
        yield _text(LEFT, 16, f"{panel.title}: not measured", "title", "start")
        return
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    left, right = math.log10(min(across)), math.log10(max(across))

    def place(x: float, y: float) -> tuple[float, float]:
        over = (math.log10(x) - left) / max(right - left, 1e-9)
        up = (math.log10(y) - low) / max(high - low, 1)
        return (LEFT + over * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM))

    yield f'<text class="title" x="{LEFT}" y="16">{escape(panel.title)}</text>'
    for power in range(low, high + 1):
        _, y = place(10**left, 10**power)
        yield f'<path class="axis" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
        yield _text(LEFT - 6, y + 4, f"{10.0**power:g}", "scale", "end")
    for x in _marks(min(across), max(across)):
        yield _text(place(x, 10**low)[0], HEIGHT - BOTTOM + 18, _short(x), "scale", "middle")
    for number, line in enumerate(panel.lines):
        colour = COLOURS[number % len(COLOURS)]
        places = [place(*point) for point in line.points]
        way = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        yield f'<path class="line" stroke="{colour}" d="M{way}"/>'
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places)
        at = LEFT + 170 * number
        yield f'<path class="line" stroke="{colour}" d="M{at} 31h18"/>'
        yield _text(at + 24, 35, line.name, "", "start")


def _marks(least: float, most: float) -> list[float]:
    """Return the round numbers (1, 2, 5, 10, …) of a range, or of many only the powers of 10."""
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    found = [n * 10.0**p for p in powers for n in (1, 2, 5) if least <= n * 10.0**p <= most]
    return found if len(found) < 9 else [x for x in found if f"{x:e}"[0] == "1"]


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _short(value: float) -> str:
    if value >= 1_000_000:
        return f"{value / 1e6:.3g}M"
    return f"{value / 1000:.3g}k" if value >= 1000 else f"{value:.3g}"
