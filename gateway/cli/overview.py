"""A gateway's status documents as tables for people."""

from collections.abc import Iterable, Sequence
from typing import Any

import click

from gateway.cli.terminal import printable


Document = dict[str, Any]  # JSON, as `gateway status --json` prints it

_ROWS_MAX = 30
_CELL_CHARS_MAX = 48
_UNITS = ("B", "KiB", "MiB", "GiB")


def page(found: Document, before: Document | None, *, colour: bool) -> str:
    """Return what `gateway status` shows; `before` is what was found the last time, for the rates."""
    status = found["status"]
    blocks = [
        _summary(status, colour=colour),
        _table(("BUS", "", "STATE", "PEERS", "RECEIVED", "LAST EVENT"), _links(status)),
        _table(
            ("CHANNEL", "EVENTS", "SIZE", "SUBSCRIBERS", "POSITION", "RATE"),
            _channels(found, before),
        ),
        _table(("PUBLISHER", "STATE", "HEARD", "TOPICS", "LOST"), _publishers(found["publishers"])),
        _table(("CLIENT", "USER", "ADDRESS", "CONNECTED", "BEHIND", "FOLLOWS"), _clients(status)),
    ]
    return "\n".join(block for block in blocks if block)


def _summary(status: Document, *, colour: bool) -> str:
    ready = "ready" if status["ready"] else "not ready"
    if colour:
        ready = click.style(ready, fg="green" if status["ready"] else "red", bold=True)
    rejected = status["rejected"]
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(rejected.items()))
    lines = [
        f"gateway {printable(status['version'])}  {ready}  up {_span(status['uptime_seconds'])}  "
        f"bus {printable(status['bus_state'])}",
        f"{_many(status['connections'], 'client')}, {status['lagging']:,} lagging, "
        f"{_many(status['subscriptions'], 'subscription')}, "
        f"{_many(status['sessions_remembered'], 'remembered session')}",
    ]
    if rejected:
        lines.append(f"rejected {sum(rejected.values()):,}: {printable(reasons)}")
    return "\n".join(lines) + "\n"


def _links(status: Document) -> Iterable[Sequence[str]]:
    for link in status["bus"]:
        last = link["last_event_seconds"]
        heard = "never" if last is None else f"{_span(last)} ago"
        state = f"{link['state']}: {link['problem']}" if link.get("problem") else link["state"]
        yield (
            link["endpoint"],
            link["mode"],
            state,
            f"{link['peers']:,}",
            f"{link['received']:,}",
            heard,
        )


def _channels(found: Document, before: Document | None) -> Iterable[Sequence[str]]:
    if found["channels"] is None:
        return
    earlier = {
        one["name"]: one for one in ((before or {}).get("channels") or {"channels": []})["channels"]
    }
    for one in found["channels"]["channels"]:
        place = one["position"]
        seconds = found["time"] - before["time"] if before else 0.0
        yield (
            one["name"],
            f"{one['events']:,}",
            _size(one["bytes"]),
            f"{one['subscribers']:,}",
            f"{place['epoch']}:{place['offset']}",
            _rate(place, earlier.get(one["name"]), seconds),
        )


def _rate(place: Document, earlier: Document | None, seconds: float) -> str:
    """Return events per second since the last time; nothing where that is not known."""
    if earlier is None or seconds <= 0 or earlier["position"]["epoch"] != place["epoch"]:
        return ""
    return f"{(place['offset'] - earlier['position']['offset']) / seconds:,.1f}/s"


def _publishers(found: Document | None) -> Iterable[Sequence[str]]:
    if found is None:
        return
    for one in found["publishers"]:
        topics = [t for t in found["topics"] if t["incarnation"] == one["incarnation"]]
        yield (
            one["name"],
            "stale" if one["stale"] else "live",
            f"{_span(one['silent_seconds'])} ago",
            f"{len(topics):,}",
            f"{sum(topic['lost'] for topic in topics):,}",
        )


def _clients(status: Document) -> Iterable[Sequence[str]]:
    for one in sorted(status["clients"], key=lambda one: -one["lag"]):
        yield (
            one["client_id"],
            one["user_id"] or "",
            one["address"],
            _span(one["connected_seconds"]),
            f"{one['lag']:,}",
            " ".join(one["channels"]),
        )


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out rows under names; nothing without rows, no column without
    values. What is a number stands to the right.
    """
    given = [[_cell(value) for value in row] for row in rows]
    if not given:
        return ""
    shown = given[:_ROWS_MAX]
    columns = [column for column in zip(names, *shown, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    right = [all(cell[:1].isdigit() or not cell for cell in column[1:]) for column in columns]
    lines = [
        "  ".join(
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in zip(*columns, strict=True)
    ]
    if len(given) > _ROWS_MAX:
        lines.append(f"… and {len(given) - _ROWS_MAX:,} more")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _CELL_CHARS_MAX else text[: _CELL_CHARS_MAX - 1] + "…"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _span(seconds: float) -> str:
    """Return a duration in its two largest units."""
    whole = int(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if whole < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def _size(count: float) -> str:
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:,.0f} B" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} {_UNITS[-1]}"
