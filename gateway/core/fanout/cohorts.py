"""One consumer of events, and what it tells of itself."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.core.fanout.selection import Gathered, Pace
from gateway.core.fanout.views import ChannelView, SeenChannel, View, channel_view, is_plain, names
from gateway.core.log.epochs import Cursor
from gateway.core.log.log import ChannelLog
from gateway.core.protocol.channels import EVERYONE, is_wildcard


Cursors = Mapping[str, Cursor]
"""The place reached, by channel."""


class Writer(Protocol):
    """The way to one client's socket."""

    def write(self, data: bytes, /) -> object:
        """Take frames to be sent behind those before."""
        ...


@dataclass(slots=True)
class Tally:
    """What was delivered since the last look, in bulk for the metrics."""

    events: int = 0
    writes: int = 0
    bytes: int = 0
    evicted: int = 0
    lagged: int = 0
    conflated: int = 0
    filter_errors: int = 0


class Reader:
    """One consumer of events.

    `cursors` is None while the reader is live; while it lags it holds the place reached in each
    channel. A channel missing there has opened since, so it is owed from its beginning. Of a
    channel in `latest_only` only the current values are owed, up to the place there. While it is `full`,
    its socket's buffer is above its mark.
    """

    __slots__ = ("cursors", "full", "latest_only", "on_lag", "personal", "served", "view", "way")

    def __init__(
        self,
        *,
        way: Writer,
        on_lag: Callable[[], object],
        personal: ChannelLog | None = None,
    ) -> None:
        self.way = way
        self.on_lag = on_lag
        self.personal = personal
        self.full = False
        self.view: View = frozenset()
        self.cursors: dict[str, Cursor] | None = {}
        self.latest_only: dict[str, Cursor] = {}
        self.served: str | None = None
        """The channel that the last part of what was owed came from."""


class CohortWriter(Protocol):
    """The ways to all that get the same bytes."""

    def add(self, way: Writer) -> None:
        """Write to this one too, behind what it has got by itself."""
        ...

    def discard(self, way: Writer) -> None:
        """Write to it no more."""
        ...

    def write(self, data: bytes) -> Collection[Writer]:
        """Write to all, and return those with which that failed."""
        ...


class SequentialWriter:
    """Ways that are written to one after the other."""

    def __init__(self) -> None:
        self._writes: dict[Writer, Callable[[bytes], object]] = {}

    def add(self, way: Writer) -> None:
        """Write to this one too."""
        self._writes[way] = way.write

    def discard(self, way: Writer) -> None:
        """Write to it no more."""
        del self._writes[way]

    def write(self, data: bytes) -> list[Writer]:
        """Write to all, and return those with which that failed."""
        failed = []
        for way, write in self._writes.items():
            try:
                write(data)
            except Exception:  # one socket's fault must not cost the others their tick
                failed.append(way)
        return failed


class Cohort:
    """The live readers of one view, what it selects, and what its rates hold back."""

    __slots__ = (
        "_channel_views",
        "_names",
        "_paces",
        "members",
        "paced",
        "plain",
        "view",
        "ways",
        "wildcards",
    )

    def __init__(self, view: View, ways: CohortWriter) -> None:
        self.view = view
        self.members: dict[Reader, None] = {}
        self.ways = ways
        """All that is touched of a member for a write: the rest of it need not be in a cache."""
        self.plain = is_plain(view)
        self.paced = any(one.rate is not None for one in view)
        self.wildcards = any(map(is_wildcard, names(view)))
        self._names = frozenset(names(view))
        # Names that are no pattern's are not remembered: there may be many, and none is wanted.
        self._channel_views: dict[str, ChannelView | None] = {}
        self._paces: dict[str, Pace] = {}

    def add(self, reader: Reader) -> None:
        """Take a reader in, which has all that was written."""
        self.members[reader] = None
        self.ways.add(reader.way)

    def remove(self, reader: Reader) -> None:
        """Let a member go."""
        del self.members[reader]
        self.ways.discard(reader.way)

    def channel_view(self, channel: str) -> ChannelView | None:
        """Return how the view sees a channel, None if not at all."""
        if not (self.wildcards or channel in self._names or channel == EVERYONE):
            return None
        if channel not in self._channel_views:
            self._channel_views[channel] = channel_view(self.view, channel)
        return self._channel_views[channel]

    def sees(self, channels: Iterable[str]) -> tuple[SeenChannel, ...]:
        """Return what the view sees of some channels."""
        look = self.channel_view
        return tuple([(name, seen) for name in channels if (seen := look(name)) is not None])

    @property
    def held_back(self) -> bool:
        """Whether something waits for its time."""
        return any(pace.before is not None for pace in self._paces.values())

    @property
    def due_ns(self) -> int:
        """When the first of what waits is due."""
        return min([p.due_ns for p in self._paces.values() if p.before is not None], default=0)

    @property
    def places(self) -> dict[str, Cursor]:
        """Where the members stand in channels of which something waits."""
        return {name: p.before for name, p in self._paces.items() if p.before is not None}

    def hold_back(self, log: ChannelLog, rate: float, gathered: Gathered) -> None:
        """Let a channel's events wait for their time."""
        pace = self._paces.get(log.name)
        if pace is None:
            pace = self._paces[log.name] = Pace(log, rate)
        pace.offer(gathered)

    def is_due(self, now_ns: int) -> bool:
        """Tell whether some of what waits may go out."""
        return any(pace.is_due(now_ns) for pace in self._paces.values())

    def flush(self, *, now_ns: int) -> tuple[list[bytes], int, int]:
        """Return the frames that are due, the events in them, and how many were left out."""
        parts: list[bytes] = []
        events = replaced = 0
        for pace in self._paces.values():
            if pace.is_due(now_ns):
                frames, count, without = pace.flush(now_ns=now_ns)
                parts += frames
                events += count
                replaced += without
        return parts, events, replaced
