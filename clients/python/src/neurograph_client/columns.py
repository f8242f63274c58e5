"""Events as columns, for DataFrames: collected without keeping the events, and flattened by one rule."""

from array import array
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, Self, cast

import orjson

from neurograph_client.items import Event, Gap


if TYPE_CHECKING:
    import pandas
    import polars

OWN = ("time", "channel", "epoch", "offset", "event_type")
"""The columns that every event has; all others begin with ``data``."""
COLUMNS_MAX = 1_000

_ROWS = 65_536
"""So many rows are kept as Python's values, before they are made compact."""


class Columns:
    """What events hold, by column; `to_pandas` and `to_polars` make a DataFrame of it.

    The columns are ``time`` (UTC, in nanoseconds), ``channel``, ``epoch``, ``offset`` and ``event_type``, and one for
    each member of the data, named as a filter names it: ``data.pose.x``, or ``data["a.b"]`` if a name has a dot or is
    empty. Arrays and empty objects stay as they are, and data that is no object is in ``data``. An event without a
    member has a missing value there. Without `flatten`, all data is in ``data``.

    Gaps are no rows: they are in `gaps`, and in `attrs["gaps"]` of pandas' DataFrame.

    Raises:
        ValueError: Data has more than `columns_max` different members.
    """

    def __init__(
        self, items: Iterable[Event[Any] | Gap] = (), *, flatten: bool = True, columns_max: int = COLUMNS_MAX
    ) -> None:
        self.gaps: list[Gap] = []
        self._flatten = flatten
        self._columns_max = columns_max
        self._length = 0
        self._own = {name: _Column() for name in OWN}
        self._data = _Member("data")
        self._members = [self._data]
        self.extend(items)

    def __len__(self) -> int:
        return self._length

    @property
    def missing(self) -> int:
        """How many events the gaps name, as far as that is known."""
        return sum(gap.count or 0 for gap in self.gaps)

    def extend(self, items: Iterable[Event[Any] | Gap]) -> Self:
        """Add events as rows, and gaps to `gaps`."""
        times, channels, epochs, offsets, types = (column.values for column in self._own.values())
        room = _ROWS - len(times)
        for item in items:
            if isinstance(item, Gap):
                self.gaps.append(item)
                continue
            if not room:
                self._compact()
                times, channels, epochs, offsets, types = (column.values for column in self._own.values())
                room = _ROWS
            at = len(times)
            data = item.data
            if self._flatten and data.__class__ is dict and data:
                self._add(self._data, data, at)
            else:
                self._data.column.put(at, data)
            times.append(item.timestamp)
            channels.append(item.channel)
            epochs.append(item.epoch)
            offsets.append(item.offset)
            types.append(item.event_type)
            self._length += 1
            room -= 1
        return self

    def _add(self, member: "_Member", data: dict[str, Any], at: int) -> None:
        found = member.members
        for name, value in data.items():
            inner = found.get(name)
            if inner is None:
                inner = self._new_member(member, name)
            if value.__class__ is dict and value:
                self._add(inner, value, at)
            else:
                values = inner.column.values
                if len(values) != at:
                    values.extend([None] * (at - len(values)))
                values.append(value)

    def _new_member(self, member: "_Member", name: str) -> "_Member":
        if len(self._members) > self._columns_max:
            raise ValueError(
                f"data has more than {self._columns_max:,} different members, {path(member.path, name)} among them: "
                "flatten=False leaves it in one column, columns_max= allows more"
            )
        made = _Member(path(member.path, name))
        made.column.skip(self._own["time"].chunks)
        member.members[name] = made
        self._members.append(made)
        return made

    def _compact(self) -> None:
        at = len(self._own["time"].values)
        for column in chain(self._own.values(), (member.column for member in self._members)):
            column.compact(at)

    def _columns(self) -> Iterator[tuple[str, "_Column"]]:
        """Yield each column that has values, and its name."""
        self._compact()
        yield from self._own.items()
        for member in self._members:
            is_object_only = member.members or member is self._data
            if member.column.kinds - {type(None)} or not is_object_only:
                yield member.path, member.column

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a DataFrame of pandas.

        ``channel``, ``epoch`` and ``event_type`` are categories. Integers with missing values are `Int64`, booleans
        `boolean`; integers among floats become floats. What has no common type is `object`.
        """
        import numpy as np
        import pandas as pd

        made: dict[str, Any] = {}
        for name, column in self._columns():
            if name == "time":
                made[name] = _pandas_times(list(column.all()))
            elif name in OWN and name != "offset":
                made[name] = pd.Categorical(list(column.all()))
            elif column.kinds <= {float, int, type(None)} and float in column.kinds:
                made[name] = np.concatenate([np.array(chunk, dtype="float64") for chunk in column.chunks])
            elif all(isinstance(chunk, array) for chunk in column.chunks):
                made[name] = np.concatenate([np.array(chunk) for chunk in column.chunks])
            else:
                made[name] = pd.Series(list(column.all()), dtype=_pandas_type(column))
        found = pd.DataFrame(made, copy=False)
        found.attrs["gaps"] = [gap.as_json() for gap in self.gaps]  # as JSON, which Parquet can keep
        return found

    def to_polars(self) -> "polars.DataFrame":
        """Return a DataFrame of polars; what has no common type is `Object`."""
        import polars as pl

        made = []
        for name, column in self._columns():
            if name == "time":
                made.append(_polars_times(list(column.all())))
            elif name in OWN and name != "offset":
                made.append(pl.Series(name, list(column.all()), dtype=pl.Categorical))
            else:
                made.append(_polars_series(name, column))
        return pl.DataFrame(made)


class _Column:
    """One column: chunks of rows, compact where all values are numbers of one type, and the newest rows."""

    __slots__ = ("chunks", "kinds", "values")

    def __init__(self) -> None:
        self.chunks: list[list[Any] | array[Any]] = []
        self.kinds: set[type] = set()
        self.values: list[Any] = []

    def put(self, at: int, value: Any) -> None:
        self.values.extend([None] * (at - len(self.values)))
        self.values.append(value)

    def skip(self, chunks: "list[list[Any] | array[Any]]") -> None:
        """Begin with as many missing values as another column has in its chunks."""
        self.chunks = [[None] * len(chunk) for chunk in chunks]
        self.kinds = {type(None)} if chunks else set()

    def compact(self, length: int) -> None:
        """Make a chunk of the newest rows, which are so many in all columns."""
        if not length:
            return
        values = self.values
        values.extend([None] * (length - len(values)))
        kinds = {*map(type, values)}
        self.kinds |= kinds
        chunk: list[Any] | array[Any] = values
        if kinds == {float}:
            chunk = array("d", values)
        elif kinds == {int}:
            try:
                chunk = array("q", values)
            except OverflowError:
                self.kinds.add(object)  # no integer of 64 bits
        elif type(None) in kinds and kinds <= {int, type(None)} and any(_is_long(one) for one in values):
            self.kinds.add(object)
        self.chunks.append(chunk)
        self.values = []

    def all(self) -> Iterator[Any]:
        return chain.from_iterable(self.chunks)


class _Member:
    """A member of the data, with those in it: it may be an object in one event, and a value in another."""

    __slots__ = ("column", "members", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.column = _Column()
        self.members: dict[str, _Member] = {}


def path(outer: str, name: str) -> str:
    """Return the name of a member's column, as a filter names the member."""
    plain = name and not set(name) & set('."[]')
    return f"{outer}.{name}" if plain else f"{outer}[{orjson.dumps(name).decode()}]"


def _is_long(value: int | None) -> bool:
    return value is not None and not -(2**63) <= value < 2**63


def _pandas_type(column: _Column) -> Any:
    kinds = column.kinds - {type(None)}
    is_missing = type(None) in column.kinds
    if kinds == {int}:
        return "Int64" if is_missing else "int64"
    if kinds == {bool}:
        return "boolean" if is_missing else "bool"
    return None if kinds == {str} else "object"  # pandas knows its best type for text


def _pandas_times(timestamps: list[str]) -> Any:
    import pandas as pd

    found = pd.to_datetime(timestamps, utc=True, format="ISO8601")
    try:
        return found.as_unit("ns")
    except pd.errors.OutOfBoundsDatetime:  # before 1678 or after 2261
        return found


def _polars_times(timestamps: list[str]) -> "polars.Series":
    import polars as pl

    found = pl.Series("time", timestamps, dtype=pl.String)
    return found.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_unit="ns", time_zone="UTC")


def _polars_series(name: str, column: _Column) -> "polars.Series":
    import polars as pl

    kinds = column.kinds - {type(None)}
    types = {frozenset({float}): pl.Float64, frozenset({int, float}): pl.Float64, frozenset({int}): pl.Int64}
    chosen = types.get(frozenset(kinds))
    values = list(column.all())
    try:
        return pl.Series(name, values, dtype=chosen, strict=chosen != pl.Float64)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        return pl.Series(name, values, dtype=cast("Any", pl.Object))
