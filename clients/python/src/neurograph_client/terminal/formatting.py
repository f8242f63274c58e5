"""An event or a gap as a line: for people at a terminal, or JSON for programs."""

import zlib
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import click
import orjson

from neurograph_client.codes import GapReason
from neurograph_client.items import Event, Gap
from neurograph_client.terminal.output import json_line, printable, shortened


Item = Event[Any] | Gap

_VALUE_CHARS_MAX = 200
_FIELDS_MAX = 40
_TIME_WIDTH = 12
_CHANNEL_WIDTH = 12
_CHANNEL_COLOURS = ("cyan", "green", "blue", "magenta", "bright_cyan", "bright_green")
_SEVERITY_COLOURS = {
    **dict.fromkeys(("error", "critical", "fatal", "failed"), "red"),
    **dict.fromkeys(("warning", "warn", "stale"), "yellow"),
}
GAP_REASONS: dict[GapReason, str] = {
    "evicted": "no longer in the gateway's log",
    "bus_loss": "lost on the bus",
    "rejected": "rejected by the gateway as invalid",
    "unwatched": "not fetched from the bus, as nobody was subscribed",
    "epoch": "the channel's numbering began anew; what came before is not known",
    "conflated": "replaced by newer events",
    "filtered": "filtered out",
}


def item_as_json(item: Item) -> str:
    """Return the gateway's message as a line of JSON, with the epoch in each."""
    if isinstance(item, Event):
        return json_line({**item.message, "epoch": item.epoch})
    return json_line(
        {
            "type": "gap",
            "channel": item.channel,
            "epoch": item.epoch,
            "from": item.from_,
            "to": item.to,
            "count": item.count,
            "reason": item.reason,
        }
    )


def item_as_text(item: Item, *, colour: bool) -> str:
    """Return a line with time, channel, offset, type and data.

    Long values are shortened; members of an object that are null are left out.
    """
    style = click.style if colour else _unstyled
    channel = printable(unquote(item.channel))
    tint = _CHANNEL_COLOURS[zlib.crc32(channel.encode()) % len(_CHANNEL_COLOURS)]
    channel = style(f"{channel:<{_CHANNEL_WIDTH}}", fg=tint, bold=True)
    if isinstance(item, Gap):
        return f"{'':{_TIME_WIDTH}}  {channel}  {style(gap_as_text(item), fg='yellow', bold=True)}\n"
    words = [style(_time(item.timestamp), dim=True), channel, style(f"#{item.offset}", dim=True)]
    if item.event_type is not None:
        event_type = shortened(item.event_type, _VALUE_CHARS_MAX)
        severity = _SEVERITY_COLOURS.get(event_type.rpartition(".")[2].lower())
        words.append(style(event_type, fg=severity) if severity else event_type)
    words.append(_data(item.data))
    return "  ".join(words) + "\n"


def _unstyled(text: str, **_: object) -> str:
    return text


def gap_as_text(gap: Gap) -> str:
    """Return what is missing, and why, in a sentence."""
    count = "events" if gap.count is None else f"{gap.count:,} event{'s' * (gap.count != 1)}"
    offsets = ""
    if gap.to is not None:
        offsets = f" up to #{gap.to}" if gap.from_ is None else f" #{gap.from_} to #{gap.to}"
    reason = GAP_REASONS.get(gap.reason, gap.reason)
    return printable(f"gap: {count}{offsets} missing: {reason}")


def _time(timestamp: str) -> str:
    """Return the local time of day, to the millisecond."""
    try:
        moment = datetime.fromisoformat(timestamp).astimezone()
    except (ValueError, OverflowError):
        return f"{shortened(timestamp, _TIME_WIDTH):<{_TIME_WIDTH}}"
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}"


def _data(data: Any) -> str:
    if isinstance(data, str):
        return shortened(data, _VALUE_CHARS_MAX)
    if not isinstance(data, dict) or not data:
        return value_as_text(data)
    fields = [(name, value) for name, value in data.items() if value is not None]
    words = [f"{shortened(k, _VALUE_CHARS_MAX)}={value_as_text(v)}" for k, v in fields[:_FIELDS_MAX]]
    more = len(fields) - _FIELDS_MAX
    return " ".join(words) + (f" … ({more} more)" if more > 0 else "")


def value_as_text(value: Any) -> str:
    """Return a value as JSON, text without quotes where that is clear, and bytes as their number; shortened."""
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    bare = isinstance(value, str) and value != "" and not set(value[:_VALUE_CHARS_MAX]) & set(' "=')
    text = value if bare else orjson.dumps(value).decode()
    return shortened(text, _VALUE_CHARS_MAX)
