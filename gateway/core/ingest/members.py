"""The members of an event object as clients get them: one form of time, and none that the gateway sets.

An event that was received from the gateway can be published again, and so can one in the form of the
first NeuroGraph server, which names its channel.
"""

import re
from datetime import UTC, datetime, timedelta

import msgspec

from gateway.core.protocol.events import timestamp, unix_timestamp


_RESERVED = ("type", "channel", "offset", "epoch")
_TIMESTAMP = re.compile(rb'"timestamp"\s*:\s*(null|"[^"\\]*"|[0-9.eE+-]+)')
HAS_NORMAL_TIME = re.compile(
    rb'\s*\{[^{\[]*"timestamp"\s*:\s*"[^"]{10}T[^"]{8,18}Z"|.*"timestamp"\s*:\s*"[^"]{10}T[^"]{8,18}Z"\s*\}\s*\Z',
    re.DOTALL,
).match
"""Finds the time of an event object that needs no change: before all values with brackets, or at the end."""
_PARTS = re.compile(r"(\d{4}-\d\d-\d\d).(\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:?\d\d)?")
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_TEXT = msgspec.json.Decoder(str).decode
# A number above this counts in thousandths: the seconds of the year 5138 are the milliseconds of 1973.
_UNIT_MAX = 100_000_000_000
_UNITS = (1, 1_000, 1_000_000, 1_000_000_000)
_SECONDS_MAX = 253_402_300_800  # the year 10000


def without_reserved(payload: bytes, channel: str) -> bytes:
    """Return an event object without the members that the gateway sets.

    In an event of the gateway (its `type` is ``event``) they are dropped, otherwise `type`, `offset` and
    `epoch` are renamed to `_type`, `_offset` and `_epoch`.

    Raises:
        ValueError: `channel` is not the topic.
    """
    members = _MEMBERS(payload)
    named = members.pop("channel", None)
    if named is not None and bytes(named) != b"null" and msgspec.json.decode(named) != channel:
        shown = bytes(named)[:140].decode(errors="replace")
        raise ValueError(f"`channel` is {shown}, but the topic is {channel!r}; leave it out, or use the topic")
    is_own = msgspec.json.decode(members.get("type", b"null")) == "event"
    for name in _RESERVED:
        value = members.pop(name, None)
        if value is not None and not is_own:
            members.setdefault(f"_{name}", value)
    return msgspec.json.encode(members)


def with_normal_time(payload: bytes, *, now_ns: int) -> bytes:
    """Return an event object with its time in UTC, as in 2026-11-28T12:00:00.123Z; `now_ns` if it is null.

    Raises:
        ValueError: The time is a number that is no unix time, or a date or time of day that does not exist.
    """
    found = _TIMESTAMP.search(payload)
    if found is not None and payload.count(b'"timestamp"') == 1:
        return b'%b"%b"%b' % (payload[: found.start(1)], _normal(found[1], now_ns), payload[found.end(1) :])
    members = _MEMBERS(payload)
    members["timestamp"] = msgspec.Raw(b'"%b"' % _normal(bytes(members["timestamp"]), now_ns))
    return msgspec.json.encode(members)


def _normal(value: bytes, now_ns: int) -> bytes:
    if value == b"null":
        return timestamp(now_ns).encode()
    if value[:1] != b'"':
        return _of_number(float(value)).encode()
    return _of_text(_TEXT(value)).encode()


def _of_text(text: str) -> str:
    """Return a date and time in UTC. Clients' languages know no leap seconds: such a time is that of the next second."""
    parts = _PARTS.fullmatch(text)
    assert parts is not None, "the event is valid"
    date, time, fraction, offset = parts.groups(default="")
    is_leap = time.endswith(":60")
    shown = f"{time[:-2]}59" if is_leap else time
    try:
        moment = datetime.fromisoformat(f"{date}T{shown}{offset.upper() or 'Z'}").astimezone(UTC)
        moment += timedelta(seconds=is_leap)
    except (ValueError, OverflowError):
        raise ValueError(f"timestamp: {text} does not exist; send a time such as 2026-11-28T12:00:00Z") from None
    return f"{moment.replace(tzinfo=None).isoformat()}{fraction[:10]}Z"


def _of_number(number: float) -> str:
    """Return unix seconds, milliseconds, microseconds or nanoseconds as a timestamp."""
    seconds = next((number / unit for unit in _UNITS if number / unit <= _UNIT_MAX), _SECONDS_MAX)
    if not 0 <= seconds < _SECONDS_MAX:
        raise ValueError(f"timestamp: {number} is not a unix time")
    return unix_timestamp(round(seconds * 1_000_000) * 1000)
