"""What a live widget shows, bounded: numbers over time, current values, or lines; and what of it is new."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Protocol
from urllib.parse import unquote

from neurograph_client.columns import path
from neurograph_client.items import Event, Gap
from neurograph_client.terminal.formatting import gap_as_text, value_as_text


POINTS_MAX = 600
FIELDS_MAX = 12
LINES_OF_FIELD_MAX = 12
VALUES_MAX = 200
LINES_MAX = 200

Item = Event[Any] | Gap
Json = dict[str, Any]


class Contents(Protocol):
    """What a kind of widget keeps of the events."""

    def add(self, items: Sequence[Item]) -> None:
        """Take in what has come."""

    def changes(self, *, all: bool = False) -> Json:
        """Return what is new since the last call, or all that is kept."""


def leaves(data: Any, name: str = "data") -> Iterator[tuple[str, Any]]:
    """Yield the values in an event's data, each with the name that a filter has for it."""
    if isinstance(data, dict) and data:
        for member, value in data.items():
            yield from leaves(value, path(name, member))
    else:
        yield name, data


class Numbers:
    """The newest values of numeric fields, by field and channel."""

    def __init__(self, fields: Sequence[str] | None = None) -> None:
        self._chosen = None if fields is None else set(fields)
        self._series: dict[str, dict[str, deque[tuple[float, float]]]] = {}
        self._new: dict[tuple[str, str], deque[tuple[float, float]]] = {}
        self._omitted: set[tuple[str, str]] = set()

    def add(self, items: Sequence[Item]) -> None:
        for item in items:
            if not isinstance(item, Event):
                continue
            at = item.time.timestamp() * 1000
            for field, value in leaves(item.data):
                if isinstance(value, int | float) and not isinstance(value, bool):
                    self._put(field, unquote(item.channel), (at, value))

    def _put(self, field: str, channel: str, point: tuple[float, float]) -> None:
        if self._chosen is not None and field not in self._chosen:
            return
        lines = self._series.get(field, {})
        if channel not in lines:
            if len(lines) == LINES_OF_FIELD_MAX or (not lines and len(self._series) == FIELDS_MAX):
                if len(self._omitted) < VALUES_MAX:
                    self._omitted.add((field, channel))
                return
            self._series.setdefault(field, lines)[channel] = deque(maxlen=POINTS_MAX)
        lines[channel].append(point)
        self._new.setdefault((field, channel), deque(maxlen=POINTS_MAX)).append(point)

    def changes(self, *, all: bool = False) -> Json:
        kept = {(field, channel): line for field, lines in self._series.items() for channel, line in lines.items()}
        found = [[*names, [*line]] for names, line in (kept if all else self._new).items()]
        self._new = {}
        return {"series": found, "omitted": len(self._omitted), "points_max": POINTS_MAX}


class CurrentValues:
    """The newest value of each field, by channel."""

    def __init__(self, fields: Sequence[str] | None = None) -> None:
        self._chosen = None if fields is None else set(fields)
        self._rows: dict[tuple[str, str], tuple[str, str]] = {}
        self._new: set[tuple[str, str]] = set()
        self._omitted: set[tuple[str, str]] = set()

    def add(self, items: Sequence[Item]) -> None:
        for item in items:
            if not isinstance(item, Event):
                continue
            for field, value in leaves(item.data):
                name = (unquote(item.channel), field)
                if self._chosen is not None and field not in self._chosen:
                    continue
                if name in self._rows or len(self._rows) < VALUES_MAX:
                    self._rows[name] = (value_as_text(value), item.timestamp)
                    self._new.add(name)
                elif len(self._omitted) < VALUES_MAX:
                    self._omitted.add(name)

    def changes(self, *, all: bool = False) -> Json:
        found = [[*name, *self._rows[name]] for name in (self._rows if all else sorted(self._new))]
        self._new = set()
        return {"values": found, "omitted": len(self._omitted)}


class Lines:
    """The newest events and gaps, a line for each."""

    def __init__(self, fields: Sequence[str] | None = None) -> None:
        self._chosen = None if fields is None else set(fields)
        self._lines: deque[list[str]] = deque(maxlen=LINES_MAX)
        self._new: deque[list[str]] = deque(maxlen=LINES_MAX)

    def add(self, items: Sequence[Item]) -> None:
        for item in items[-LINES_MAX:]:
            line = self._line(item)
            self._lines.append(line)
            self._new.append(line)

    def _line(self, item: Item) -> list[str]:
        channel = unquote(item.channel)
        if isinstance(item, Gap):
            return ["gap", "", channel, "", gap_as_text(item)]
        values = [(name, one) for name, one in leaves(item.data) if self._chosen is None or name in self._chosen]
        words = [value_as_text(one) if name == "data" else f"{name[5:]}={value_as_text(one)}" for name, one in values]
        return ["event", item.timestamp, channel, item.event_type or "", " ".join(words[:VALUES_MAX])]

    def changes(self, *, all: bool = False) -> Json:
        found = [*(self._lines if all else self._new)]
        self._new.clear()
        return {"lines": found, "lines_max": LINES_MAX}
