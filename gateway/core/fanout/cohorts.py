"""Readers, and cohorts: the live readers that have the same view."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

from gateway.core.fanout.views import ChannelView, SeenChannels, View, channel_view
from gateway.core.log.log import ChannelLog
from gateway.core.log.sources import Cursor
from gateway.core.protocol.channels import EVERYONE, is_wildcard


Cursors = Mapping[str, Cursor]
"""The place reached, by channel."""


class Writer(Protocol):
    """Writes frames to one client's socket, in order."""

    def write(self, data: bytes, /) -> object: ...


class CohortWriter(Protocol):
    """Writes the same bytes to the sockets of all members of a cohort.

    `add` adds a socket; its next bytes follow what its own writer has written. `write_all` returns
    the writers that failed."""

    def add(self, writer: Writer) -> None: ...

    def discard(self, writer: Writer) -> None: ...

    def write_all(self, data: bytes) -> Collection[Writer]: ...


class SequentialWriter:
    """A cohort's writer that writes to one socket after the other."""

    def __init__(self) -> None:
        self._writes: dict[Writer, Callable[[bytes], object]] = {}

    def add(self, writer: Writer) -> None:
        self._writes[writer] = writer.write

    def discard(self, writer: Writer) -> None:
        del self._writes[writer]

    def write_all(self, data: bytes) -> list[Writer]:
        failed = []
        for writer, write in self._writes.items():
            try:
                write(data)
            except Exception:  # one failing socket must not cost the others their data
                failed.append(writer)
        return failed


@dataclass(slots=True)
class Tally:
    """What was delivered, for the metrics."""

    events: int = 0
    writes: int = 0
    bytes: int = 0
    evicted: int = 0
    lagged: int = 0
    conflated: int = 0
    filter_errors: int = 0
    failed: int = 0

    def add(self, events: int, size: int) -> None:
        """Count a write of so many events, of `size` bytes together."""
        self.events += events
        self.bytes += size
        self.writes += 1


PART_BYTES = 65_536


class ReaderState(Enum):
    """`gateway.core.fanout.fanout` explains the states and their transitions."""

    DETACHED = auto()
    LIVE = auto()
    LAGGING = auto()
    WAITING = auto()


@dataclass(slots=True, eq=False, repr=False, kw_only=True)
class Reader:
    """One client's place in the logs, and the writer to its socket.

    Unless the reader is live, `cursors` has the place reached in each channel; a channel that is not
    in it has opened since, and is read from its beginning. `latest_only` has the channels of which the
    reader first gets the current values, with the place up to which. The reader is `full` while its
    socket's buffer is above the high-water mark. `on_lag` is called when it begins to lag, `on_part` behind
    each part of what it has missed, `on_failure` when it is removed because of an error in reading its
    events; its client may resume. `on_turn_end` is called behind a part if there may be more: it can say that
    the reader is full until others have had their turn. `ping` writes a ping with a payload; None if clients
    do not answer pings. While it lags, about `part_bytes` are read for it at once."""

    writer: Writer
    on_lag: Callable[[], object]
    on_failure: Callable[[], object] = lambda: None
    on_part: Callable[[], object] | None = None
    on_turn_end: Callable[[], object] = lambda: None
    personal: ChannelLog | None = None
    ping: Callable[[bytes], object] | None = None
    part_bytes: int = PART_BYTES
    full: bool = False
    state: ReaderState = ReaderState.DETACHED
    view: View = frozenset()
    cursors: dict[str, Cursor] = field(default_factory=dict)
    latest_only: dict[str, Cursor] = field(default_factory=dict)
    history: dict[str, Cursor] = field(default_factory=dict)
    """The places up to which a channel comes whole, whatever its rate."""
    served: str | None = None
    """The channel that was read last while the reader lagged."""

    @property
    def is_live(self) -> bool:
        return self.state is ReaderState.LIVE

    def forget_places(self) -> None:
        """Forget what only a reader that is not live has: its places, and the limits up to which it reads in another way."""
        self.cursors = {}
        self.latest_only.clear()
        self.history.clear()


@dataclass(slots=True)
class HeldBack:
    """What a view's rate holds back of one channel: the entries behind `before`, until `due_ns`.

    `before` is None if nothing is held back; `due_ns` is then when the next event may be written."""

    log: ChannelLog
    view: ChannelView
    before: Cursor | None = None
    due_ns: int = 0

    @property
    def period_ns(self) -> int:
        assert self.view.rate is not None
        return round(1e9 / self.view.rate)

    def is_due(self, now_ns: int) -> bool:
        """Return whether to write what is held back; a clock that is set back causes no delay."""
        return self.before is not None and not now_ns < self.due_ns <= now_ns + self.period_ns


class Cohort:
    """The live readers of one view, and what the view's rates hold back."""

    def __init__(self, view: View, writer: CohortWriter) -> None:
        self.view = view
        self.members: dict[Reader, None] = {}
        self.writer = writer
        """A write uses this and no `Reader`: readers then need not be in the processor's cache."""
        self.patterns = frozenset(one.pattern for one in view)
        self.has_wildcards = any(map(is_wildcard, self.patterns))
        self.has_rates = any(one.rate is not None for one in view)
        self.has_filters = any(one.filter is not None for one in view)
        self.is_plain = not self.has_rates and not self.has_filters
        # Has no names that a view without wildcards does not select: their number is not limited.
        self._channel_views: dict[str, ChannelView | None] = {}
        self._held_back: dict[str, HeldBack] = {}

    def add_member(self, reader: Reader) -> None:
        """Add a reader to which everything up to the cohort's places was written."""
        self.members[reader] = None
        self.writer.add(reader.writer)

    def remove_member(self, reader: Reader) -> None:
        del self.members[reader]
        self.writer.discard(reader.writer)

    def channel_view(self, channel: str) -> ChannelView | None:
        """Return how the view sees a channel; None if it does not."""
        if not (self.has_wildcards or channel in self.patterns or channel == EVERYONE):
            return None
        if channel not in self._channel_views:
            self._channel_views[channel] = channel_view(self.view, channel)
        return self._channel_views[channel]

    def seen(self, channels: Iterable[str]) -> SeenChannels:
        """Return those of some channels that the view sees, each with how it sees it."""
        channel_view = self.channel_view
        return tuple([(name, seen) for name in channels if (seen := channel_view(name)) is not None])

    # -- what rates hold back ------------------------------------------------------------------

    def hold_back(self, log: ChannelLog, view: ChannelView, before: Cursor) -> None:
        """Hold back a channel's entries behind a place, unless earlier ones are held back already."""
        held = self._held_back.get(log.name)
        if held is None:
            held = self._held_back[log.name] = HeldBack(log, view)
        if held.before is None:
            held.before = before

    @property
    def held_back(self) -> dict[str, Cursor]:
        """Where the members stand in the channels of which something is held back."""
        return {name: h.before for name, h in self._held_back.items() if h.before is not None}

    @property
    def due_ns(self) -> int | None:
        """When something that is held back is due first; None if nothing is held back."""
        return min([h.due_ns for h in self._held_back.values() if h.before is not None], default=None)

    def due(self, now_ns: int) -> list[HeldBack]:
        return [held for held in self._held_back.values() if held.is_due(now_ns)]
