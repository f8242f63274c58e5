"""Results as tables: for the terminal, and as Markdown between the markers of docs/performance.md."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from ops.benchmarks.machine import description
from ops.benchmarks.plan import Scenario
from ops.benchmarks.programs import ROOT
from ops.benchmarks.results import Results


DOCUMENT = ROOT / "docs/performance.md"


def rows(scenario: Scenario, results: Results) -> Iterator[list[str]]:
    """Return a row per server: its name and figures, or why it has none."""
    for number, server in enumerate(results.servers(scenario.name)):
        error = results.error(scenario.name, server)
        if error:
            yield [server, error]
            continue
        line = [server]
        for figure in scenario.figures:
            value = results.median(scenario.name, server, figure)
            ratio = results.ratio(scenario.name, server, figure)
            text = shown(value)
            if number and figure in scenario.compared and ratio is not None:
                text += f" ({ratio:.2f} x)"
            line.append(text)
        yield line


def shown(value: float | None) -> str:
    """Return a figure with about three digits."""
    if value is None:
        return "-"
    if value >= 1_000_000:
        return f"{value / 1e6:.2f} M"
    if value >= 100 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def show(scenario: Scenario, results: Results) -> None:
    """Print a scenario's table."""
    table = Table("", *scenario.figures.values(), title=scenario.title, title_justify="left")
    for line in rows(scenario, results):
        table.add_row(*line)
    Console().print(table)


def remark(results: Results, *, rounds: int) -> str:
    """Describe the measurement: the machine, rounds, and the load by other processes."""
    machine = description()
    taken = [one.figures["others"] for one in results.all if "others" in one.figures]
    others = median(taken) if taken else 0.0
    often = "measured once" if rounds == 1 else f"medians of {rounds} rounds"
    return (
        f"{machine['date']}, {machine['cpus']} CPUs ({machine['cpu']}), Linux {machine['kernel']},"
        f" Python {machine['python']}; {often}, while others took {others:.0f} % of the CPUs. In"
        " brackets: relative to the first line, as the median of each round's ratio."
    )


def markdown(plan: Sequence[Scenario], results: Results, *, rounds: int) -> str:
    """Return all tables as Markdown."""
    parts = [remark(results, rounds=rounds)]
    for scenario in plan:
        if not results.servers(scenario.name):
            continue
        head = ["", *scenario.figures.values()]
        lines = [head, ["---"] * len(head), *rows(scenario, results)]
        parts.append(f"**{scenario.title}**")
        parts.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
    return "\n\n".join(parts)


def write(name: str, text: str, document: Path = DOCUMENT) -> None:
    """Replace the text between the markers of this name in the document."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, _, rest = document.read_text().partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{document} has no {begin} … {end}")
    document.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
