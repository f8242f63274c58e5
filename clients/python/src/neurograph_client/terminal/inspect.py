"""`gateway inspect`: what a recording holds."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

import click

from neurograph_client.recording.files import Record, RecordingError, is_complete, read
from neurograph_client.terminal import output
from neurograph_client.terminal.sizes import size


_SECOND_NS = 1_000_000_000
_BARS = " ▁▂▃▄▅▆▇█"
_COLUMNS = 32


@dataclass(slots=True)
class _Channel:
    """What the files hold of one channel."""

    events: int = 0
    gaps: int = 0
    missing: int = 0
    reasons: set[str] = field(default_factory=set)
    first_ns: int = 2**63
    last_ns: int = 0
    seconds: dict[int, int] = field(default_factory=dict)
    """Events by the second in which they were received."""

    def add(self, record: Record) -> None:
        if record.kind == "gap":
            self.gaps += 1
            self.missing += record.message["count"] or 0
            self.reasons.add(record.message["reason"])
            return
        self.events += 1
        self.first_ns = min(self.first_ns, record.received_ns)
        self.last_ns = max(self.last_ns, record.received_ns)
        second = record.received_ns // _SECOND_NS
        self.seconds[second] = self.seconds.get(second, 0) + 1


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(files: tuple[Path, ...], as_json: bool) -> None:
    """Print what a recording's FILES hold: channels, rates over time, gaps.

    The exit status is 0, or 1 if a file is not a recording or is damaged.
    """
    with output.clean_exit():
        channels: dict[str, _Channel] = {}
        try:
            for path in files:
                for record in read(path):
                    if record.kind != "positions":
                        channels.setdefault(record.channel, _Channel()).add(record)
        except (RecordingError, OSError) as error:
            raise output.CommandError(str(error)) from None
        killed = [str(path) for path in files if not is_complete(path)]
        if as_json:
            output.write(output.json_line({"channels": _as_json(channels), "incomplete": killed}))
            return
        total = sum(path.stat().st_size for path in files)
        output.write(_table(channels, total))
        for name in killed:
            output.notice(f"{name} was not closed: its writer was killed, or is still writing")


def _as_json(channels: dict[str, _Channel]) -> dict[str, object]:
    return {
        name: {
            "events": one.events,
            "gaps": one.gaps,
            "missing": one.missing,
            "reasons": sorted(one.reasons),
            "first": _moment(one.first_ns) if one.events else None,
            "last": _moment(one.last_ns) if one.events else None,
        }
        for name, one in sorted(channels.items())
    }


def _moment(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / _SECOND_NS, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _table(channels: dict[str, _Channel], total_bytes: int) -> str:
    begun = [one for one in channels.values() if one.events]
    if not begun:
        return f"no events, {size(total_bytes)}\n"
    first = min(one.first_ns for one in begun)
    last = max(one.last_ns for one in begun)
    seconds = (last - first) / _SECOND_NS
    events = sum(one.events for one in begun)
    lines = [f"{events:,} events in {seconds:,.1f} s from {_moment(first)}, {size(total_bytes)}", ""]
    names = {name: output.shortened(unquote(name), 32) for name in channels}
    width = max(7, *map(len, names.values()))
    lines.append(f"{'CHANNEL':<{width}}  {'EVENTS':>9}  {'PER SECOND':>10}  {'MISSING':>8}  OVER TIME")
    for name, one in sorted(channels.items(), key=lambda pair: -pair[1].events):
        rate = one.events / max(seconds, 1.0)
        missing = f"{one.missing:,}" if one.missing or not one.gaps else "unknown"
        plot = _plot(one.seconds.items(), first // _SECOND_NS, last // _SECOND_NS)
        reasons = f"  {', '.join(sorted(one.reasons))}" if one.reasons else ""
        lines.append(f"{names[name]:<{width}}  {one.events:>9,}  {rate:>10,.1f}  {missing:>8}  {plot}{reasons}")
    return "\n".join(lines) + "\n"


def _plot(seconds: Iterable[tuple[int, int]], first: int, last: int) -> str:
    """Return the events over time as a row of bars."""
    columns = [0] * _COLUMNS
    for second, count in seconds:
        columns[(second - first) * _COLUMNS // (last - first + 1)] += count
    most = max(columns) or 1
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // most)] for count in columns)
