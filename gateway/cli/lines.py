"""How an event, or a gap, is told: to people at a terminal, or to programs as a line of JSON."""

import zlib
from datetime import datetime
from typing import Any

import click
import orjson
from neurograph_client import Event, Gap

from gateway.cli.terminal import json_line, printable, shortened


Item = Event[Any] | Gap

_VALUE_CHARS_MAX = 200
_FIELDS_MAX = 40
_CHANNEL_WIDTH = 12
_CHANNEL_COLOURS = ("cyan", "green", "blue", "magenta", "bright_cyan", "bright_green")
_SEVERITIES = {
    **dict.fromkeys(("error", "critical", "fatal", "failed"), "red"),
    **dict.fromkeys(("warning", "warn", "stale"), "yellow"),
}
_REASONS = {
    "evicted": "no longer held by the gateway",
    "bus_loss": "lost on the bus",
    "rejected": "not let in by the gateway",
    "unwatched": "not fetched, as nobody followed the channel",
    "epoch": "the channel's numbering began anew; what came before is not known",
}


def as_json(item: Item) -> str:
    """Return a line of JSON: the gateway's own message, with the epoch in each."""
    if isinstance(item, Gap):
        message: dict[str, Any] = {
            "type": "gap",
            "channel": item.channel,
            "epoch": item.epoch,
            "from": item.from_,
            "to": item.to,
            "count": item.count,
            "reason": item.reason,
        }
    else:
        message = {**item.message, "epoch": item.epoch}
    return json_line(message)


def for_people(item: Item, *, colour: bool) -> str:
    """Return a line for a terminal: time, channel, offset, type, data.

    Long values are shortened; of an object, members that are null are left out.
    """
    paint = click.style if colour else _plain
    channel = printable(item.channel)
    tint = _CHANNEL_COLOURS[zlib.crc32(channel.encode()) % len(_CHANNEL_COLOURS)]
    named = paint(f"{channel:<{_CHANNEL_WIDTH}}", fg=tint, bold=True)
    if isinstance(item, Gap):
        return f"{' ' * 12}  {named}  {paint(_missing(item), fg='yellow', bold=True)}\n"
    words = [paint(_time(item.timestamp), dim=True), named, paint(f"#{item.offset}", dim=True)]
    if item.event_type is not None:
        kind = shortened(item.event_type, _VALUE_CHARS_MAX)
        severity = _SEVERITIES.get(kind.rpartition(".")[2].lower())
        words.append(paint(kind, fg=severity) if severity else kind)
    words.append(_told(item.data))
    return "  ".join(words) + "\n"


def _plain(text: str, **_: object) -> str:
    return text


def _missing(gap: Gap) -> str:
    """Return what a gap says, in words."""
    why = _REASONS.get(gap.reason, gap.reason)
    many = "events" if gap.count is None else f"{gap.count:,} event{'s' * (gap.count != 1)}"
    where = ""
    if gap.to is not None:
        where = f" up to #{gap.to}" if gap.from_ is None else f" #{gap.from_} to #{gap.to}"
    return printable(f"gap: {many}{where} missing: {why}")


def _time(timestamp: str) -> str:
    """Return the time of day here, in milliseconds."""
    try:
        moment = datetime.fromisoformat(timestamp).astimezone()
    except (ValueError, OverflowError):
        return f"{shortened(timestamp, 12):<12}"
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}"


def _told(data: Any) -> str:
    if isinstance(data, str):
        return shortened(data, _VALUE_CHARS_MAX)
    if not isinstance(data, dict) or not data:
        return _value(data)
    fields = [(name, value) for name, value in data.items() if value is not None]
    words = [f"{shortened(k, _VALUE_CHARS_MAX)}={_value(v)}" for k, v in fields[:_FIELDS_MAX]]
    if more := len(fields) - _FIELDS_MAX:
        words += [f"… ({more} more)"] if more > 0 else []
    return " ".join(words)


def _value(value: Any) -> str:
    bare = isinstance(value, str) and value != "" and not set(value[:_VALUE_CHARS_MAX]) & set(' "=')
    text = value if bare else orjson.dumps(value).decode()
    return shortened(text, _VALUE_CHARS_MAX)
