"""Events, gaps, channels and the status as HTML, for notebooks.

All text is escaped. The only colours are the page's own and two that can be read on light and dark: a notebook does not
say which of them it is. Styles are inline, as notebooks take style sheets out of outputs that they do not trust.
"""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any
from urllib.parse import unquote

import orjson

from neurograph_client.items import Event, Gap


_ROWS_MAX = 50
_CELL_CHARS_MAX = 500
_IMAGE_BYTES_MAX = 1_000_000
_IMAGES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n": "image/png", b"GIF8": "image/gif"}

_TABLE = "border-collapse:collapse;font-size:13px;color:inherit"
_LINE = "border-bottom:1px solid rgba(128,128,128,.35)"
_CELL = f"padding:2px 10px 2px 0;text-align:left;vertical-align:top;{_LINE}"
_NUMBER = _CELL.replace("left", "right", 1)
_DIM = "opacity:.65"
_GOOD, _BAD = "color:#1a9850;font-weight:600", "color:#d9622b;font-weight:600"


def items(found: Sequence[Event[Any] | Gap]) -> str:
    """Return a table of events and gaps: the newest, if they are many."""
    rows = [_event(one) if isinstance(one, Event) else _gap(one) for one in found[-_ROWS_MAX:]]
    head = ("time (UTC)", "channel", "offset", "type", "data")
    more = len(found) - len(rows)
    note = f"the newest {_ROWS_MAX} of {len(found):,}; to_pandas() has all" if more else ""
    return _table(head, rows, note=note)


def channels(found: Iterable[dict[str, Any]]) -> str:
    """Return a table of channels."""
    rows = [
        [
            _td(_text(unquote(one["name"])), title=one.get("description") or ""),
            _td(f"{one['events']:,}", _NUMBER),
            _td(f"{one['bytes'] / 1024:,.0f} KiB", _NUMBER),
            _td(f"{one['subscribers']:,}", _NUMBER),
            _td(f"<code>{_text(one['position']['epoch'])}:{one['position']['offset']}</code>", f"{_CELL};{_DIM}"),
        ]
        for one in sorted(found, key=lambda one: (not one["events"], one["name"]))
    ]
    return _table(("channel", "events held", "size", "subscribers", "position"), rows)


def status(found: dict[str, Any]) -> str:
    """Return the state of a gateway: a sentence, its bus, and what it rejected."""
    ready = f'<b style="{_GOOD}">ready</b>' if found["ready"] else f'<b style="{_BAD}">not ready</b>'
    reasons = f" ({_text('; '.join(found['reasons']))})" if found.get("reasons") else ""
    facts = (
        f"gateway {_text(found['version'])}: {ready}{reasons}, bus {_text(found['bus_state'])}, "
        f"up {found['uptime_seconds']:,.0f} s; clients: {found['connections']:,}, lagging: {found['lagging']:,}, "
        f"subscriptions: {found['subscriptions']:,}, channels: {found['channels']:,}"
    )
    rows = [
        [
            _td(_text(link["endpoint"])),
            _td(_text(link["state"])),
            _td(f"{link['peers']:,}", _NUMBER),
            _td(f"{link['events']:,}", _NUMBER),
            _td(f"{link['rejected']:,}", _NUMBER),
            _td(_text(link.get("problem") or ""), f"{_CELL};{_BAD}"),
        ]
        for link in found["bus"]
    ]
    rejected = ", ".join(f"{_text(reason)} {count:,}" for reason, count in sorted(found["rejected"].items()))
    note = f"rejected: {rejected}" if rejected else ""
    return f"<div>{facts}</div>" + _table(("bus", "state", "peers", "events", "rejected", ""), rows, note=note)


def _event(event: Event[Any]) -> list[str]:
    return [
        _td(_text(event.timestamp.replace("T", " ").removesuffix("Z")), f"{_CELL};white-space:nowrap;{_DIM}"),
        _td(_text(unquote(event.channel))),
        _td(f"{event.offset:,}", _NUMBER),
        _td(_text(event.event_type or "")),
        _td(_data(event.data)),
    ]


def _gap(gap: Gap) -> list[str]:
    count = "an unknown number of events is" if gap.count is None else f"{gap.count:,} events are"
    upto = "" if gap.to is None else f"{gap.to:,}"
    offsets = upto if gap.from_ is None else f"{gap.from_:,} to {upto}"
    text = f"gap: {count} missing ({_text(gap.reason)})"
    return [_td(""), _td(_text(unquote(gap.channel))), _td(offsets, _NUMBER), _td(""), _td(text, f"{_CELL};{_BAD}")]


def _data(data: Any) -> str:
    if isinstance(data, bytes):
        kind = next((kind for start, kind in _IMAGES.items() if data.startswith(start)), None)
        if kind is None or len(data) > _IMAGE_BYTES_MAX:
            return f"{len(data):,} bytes"
        return f'<img alt="{len(data):,} bytes" style="max-height:240px" src="data:{kind};base64,{b64encode(data).decode()}">'
    text = data if isinstance(data, str) else orjson.dumps(data, default=str).decode()
    return (
        f'<code style="background:none;color:inherit;white-space:pre-wrap;word-break:break-word">{_text(text)}</code>'
    )


def _text(value: object) -> str:
    text = str(value)
    return escape(text if len(text) <= _CELL_CHARS_MAX else f"{text[:_CELL_CHARS_MAX]}…")


def _td(inner: str, style: str = _CELL, *, title: str = "") -> str:
    hint = f' title="{escape(title)}"' if title else ""
    return f'<td style="{style}"{hint}>{inner}</td>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, note: str = "") -> str:
    names = "".join(f'<th style="{_CELL};{_DIM};font-weight:600">{name}</th>' for name in head)
    body = "".join(f'<tr style="background:none">{"".join(row)}</tr>' for row in rows)
    below = f'<div style="{_DIM};font-size:12px">{note}</div>' if note else ""
    empty = f'<div style="{_DIM}">nothing yet</div>' if not rows else ""
    return f'<table style="{_TABLE}"><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>{empty}{below}'
