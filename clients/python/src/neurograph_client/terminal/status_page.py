"""A gateway's status documents as tables."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import click

from neurograph_client.items import Position
from neurograph_client.terminal.output import printable


Document = dict[str, Any]  # JSON, as `gateway status --json` prints it
Rows = Iterable[Sequence[str | int | None]]

_ROWS_MAX = 30
_CELL_CHARS_MAX = 48


def page(found: Document, before: Document | None, *, colour: bool, whole: bool = False) -> str:
    """Return what `gateway status` shows; rates are since the documents `before`.

    Unless `whole`, long cells and tables are cut, as a terminal has no room for them.
    """
    status = found["status"]
    tables = [
        (("BUS", "", "STATE", "PEERS", "EVENTS", "HEARTBEATS", "REJECTED", "LAST EVENT"), _links(status)),
        (("GATEWAY", "VERSION", "UP", "CLIENTS", "LAG", ""), _gateways(status)),
        (("CHANNEL", "EVENTS", "SIZE", "SUBSCRIBERS", "POSITION", "RATE"), _channels(found, before)),
        (("PUBLISHER", "STATE", "LAST HEARD", "TOPICS", "LOST"), _publishers(found["publishers"])),
        (("CLIENT", "USER", "ADDRESS", "CONNECTED", "LAG", "CHANNELS"), _clients(status)),
    ]
    blocks = [_summary(status, colour=colour), *[_table(names, rows, whole=whole) for names, rows in tables]]
    blocks[1] += "".join(_problems(status))  # below the table: in it there is no room for a sentence
    if (further := status["connections"] - len(status["clients"])) > 0:
        blocks[-1] += f"… and {_count(further, 'client')} that the gateway does not list here\n"
    return "\n".join(block for block in blocks if block)


def _summary(status: Document, *, colour: bool) -> str:
    ready = "ready" if status["ready"] else "not ready"
    if colour:
        ready = click.style(ready, fg="green" if status["ready"] else "red", bold=True)
    if status.get("reasons"):
        ready += f" ({printable('; '.join(status['reasons']))})"
    degraded = (status.get("cluster") or {}).get("degraded")
    if degraded:
        ready += f", degraded ({printable('; '.join(degraded))})"
    rejected = status["rejected"]
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(rejected.items()))
    lines = [
        f"gateway {printable(status['version'])}  {ready}  up {_duration(status['uptime_seconds'])}  "
        f"bus {printable(status['bus_state'])}",
        f"{_count(status['connections'], 'client')}, {status['lagging']:,} lagging, "
        f"{_count(status['subscriptions'], 'subscription')}, "
        f"{_count(status['sessions_remembered'], 'remembered session')}",
    ]
    if rejected:
        lines.append(f"rejected {sum(rejected.values()):,}: {printable(reasons)}")
    return "\n".join(lines) + "\n"


def _links(status: Document) -> Rows:
    for link in status["bus"]:
        last = link["last_event_seconds"]
        heard = "never" if last is None else f"{_duration(last)} ago"
        counts = [link.get(name) for name in ("events", "heartbeats", "rejected")]
        yield _place(link), link["mode"], link["state"], link["peers"], *counts, heard


def _place(link: Document) -> str:
    """Where an endpoint is connected: for a name, there is a row for each address."""
    address = link.get("address")
    return f"{link['endpoint']} ({address})" if address else str(link["endpoint"])


def _gateways(status: Document) -> Rows:
    for one in (status.get("cluster") or {"gateways": []})["gateways"]:
        lag = f"{one['lag_seconds']:.3f} s" + (f", {one['recovering']} recovering" if one["recovering"] else "")
        up = _duration(one["uptime_seconds"])
        notes = ["this one"] * one["own"] + ["not ready"] * (not one.get("ready", True))
        yield one["name"], one["version"], up, one["clients"], lag, ", ".join(notes)


def _problems(status: Document) -> Iterable[str]:
    for link in status["bus"]:
        if link.get("problem"):
            yield f"{printable(_place(link))}: {printable(link['problem'])}\n"


def _channels(found: Document, before: Document | None) -> Rows:
    before = before or {"time": found["time"], "channels": None}
    earlier, now = (documents["channels"] or {"channels": []} for documents in (before, found))
    positions = {one["name"]: one["position"] for one in earlier["channels"]}
    seconds = found["time"] - before["time"]
    for one in now["channels"]:
        position, last = one["position"], positions.get(one["name"])
        rate = ""
        offsets = Position(**position).offsets
        then = Position(**last).offsets if last else {}
        if seconds > 0 and offsets.keys() & then.keys():
            grown = sum(offset - then[epoch] for epoch, offset in offsets.items() if epoch in then)
            rate = f"{grown / seconds:,.1f}/s"
        size = f"{one['bytes'] / 1024:,.0f} KiB"
        at = str(Position(**position))
        yield unquote(one["name"]), one["events"], size, one["subscribers"], at, rate


def _publishers(found: Document | None) -> Rows:
    if found is None:
        return
    for one in found["publishers"]:
        topics = [t for t in found["topics"] if t["incarnation"] == one["incarnation"]]
        state = "stale" if one["stale"] else "live"
        heard = f"{_duration(one['silent_seconds'])} ago"
        yield one["name"], state, heard, len(topics), sum(topic["lost"] for topic in topics)


def _clients(status: Document) -> Rows:
    for one in sorted(status["clients"], key=lambda one: -one["lag"]):
        connected, channels = _duration(one["connected_seconds"]), " ".join(one["channels"])
        yield one["client_id"], one["user_id"], one["address"], connected, one["lag"], channels


def _table(names: Sequence[str], rows: Rows, *, whole: bool) -> str:
    """Lay out rows under column names; numbers are aligned to the right.

    Without rows there is no table, and a column without values is left out.
    """
    cells = [[_cell(value, whole=whole) for value in row] for row in rows]
    if not cells:
        return ""
    rows_max = len(cells) if whole else _ROWS_MAX
    columns = [column for column in zip(names, *cells[:rows_max], strict=True) if any(column[1:])]
    for at, column in enumerate(columns):
        width = max(map(len, column))
        numeric = all(cell[:1].isdigit() or not cell for cell in column[1:])
        columns[at] = tuple(cell.rjust(width) if numeric else cell.ljust(width) for cell in column)
    lines = ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]
    if len(cells) > rows_max:
        lines.append(f"… and {len(cells) - rows_max:,} more")
    return "\n".join(lines) + "\n"


def _cell(value: str | int | None, *, whole: bool) -> str:
    text = f"{value:,}" if isinstance(value, int) else printable(value or "")
    return text if whole or len(text) <= _CELL_CHARS_MAX else text[: _CELL_CHARS_MAX - 1] + "…"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))
