"""Readers, and cohorts of live readers that share a view."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from gateway.core.fanout.views import ChannelView, SeenChannel, View, channel_view, is_plain, names
from gateway.core.log.epochs import Cursor
from gateway.core.log.log import ChannelLog
from gateway.core.protocol.channels import EVERYONE, is_wildcard


Cursors = Mapping[str, Cursor]
"""The place reached, by channel."""


class Writer(Protocol):
    """Writes to one client's socket."""

    def write(self, data: bytes, /) -> object:
        """Write frames behind those written before."""
        ...


class CohortWriter(Protocol):
    """Writes the same bytes to the sockets of all members of a cohort."""

    def add(self, writer: Writer) -> None:
        """Write to this socket too, behind what its own writer has written."""
        ...

    def discard(self, writer: Writer) -> None:
        """Write to this socket no more."""
        ...

    def write_all(self, data: bytes) -> Collection[Writer]:
        """Write to all, and return the writers that failed."""
        ...


class SequentialWriter:
    """A cohort's writer that writes to one socket after the other."""

    def __init__(self) -> None:
        self._writes: dict[Writer, Callable[[bytes], object]] = {}

    def add(self, writer: Writer) -> None:
        """Write to this socket too."""
        self._writes[writer] = writer.write

    def discard(self, writer: Writer) -> None:
        """Write to this socket no more."""
        del self._writes[writer]

    def write_all(self, data: bytes) -> list[Writer]:
        """Write to all, and return the writers that failed."""
        failed = []
        for writer, write in self._writes.items():
            try:
                write(data)
            except Exception:  # one socket's fault must not cost the others their batch
                failed.append(writer)
        return failed


class ReaderState(Enum):
    """Where a reader is; `gateway.core.fanout.fanout` explains the transitions."""

    DETACHED = auto()
    LIVE = auto()
    LAGGING = auto()
    WAITING = auto()


class Reader:
    """One consumer of events.

    Unless it is live, `cursors` holds the place reached in each channel. A channel missing there
    has opened since, so the reader gets it from its beginning. In `latest_only` stand channels of
    which it gets the current values first, and the place up to which. It is `full` while its
    socket's buffer is above its mark. `on_lag` is called when it begins to lag, `on_failure` when it
    was removed because what it is owed could not be read: its client can resume.
    """

    __slots__ = (
        "cursors",
        "full",
        "latest_only",
        "on_failure",
        "on_lag",
        "personal",
        "served",
        "state",
        "view",
        "writer",
    )

    def __init__(
        self,
        *,
        writer: Writer,
        on_lag: Callable[[], object],
        on_failure: Callable[[], object] = lambda: None,
        personal: ChannelLog | None = None,
    ) -> None:
        self.writer = writer
        self.on_lag = on_lag
        self.on_failure = on_failure
        self.personal = personal
        self.full = False
        self.state = ReaderState.DETACHED
        self.view: View = frozenset()
        self.cursors: dict[str, Cursor] = {}
        self.latest_only: dict[str, Cursor] = {}
        self.served: str | None = None
        """The channel that was read last while it lagged."""

    @property
    def is_live(self) -> bool:
        """Whether it is a member of its view's cohort."""
        return self.state is ReaderState.LIVE


@dataclass(slots=True)
class HeldBack:
    """A channel as a view with a rate sees it.

    Members of the cohort stand at `before` while something is held back, which is due at `due_ns`;
    None while they have all there is.
    """

    log: ChannelLog
    view: ChannelView
    before: Cursor | None = None
    due_ns: int = 0

    @property
    def period_ns(self) -> int:
        """The time between two flushes."""
        assert self.view.rate is not None
        return round(1e9 / self.view.rate)

    def is_due(self, now_ns: int) -> bool:
        """Tell whether what is held back may go out; a clock that was set back delays nothing."""
        return self.before is not None and not now_ns < self.due_ns <= now_ns + self.period_ns


class Cohort:
    """The live readers of one view, what it selects, and what its rates hold back."""

    __slots__ = (
        "_channel_views",
        "_held_back",
        "_names",
        "has_rates",
        "has_wildcards",
        "is_plain",
        "members",
        "view",
        "writer",
    )

    def __init__(self, view: View, writer: CohortWriter) -> None:
        self.view = view
        self.members: dict[Reader, None] = {}
        self.writer = writer
        """All that a write touches of a member: the rest of it need not be in a cache."""
        self.is_plain = is_plain(view)
        self.has_rates = any(one.rate is not None for one in view)
        self.has_wildcards = any(map(is_wildcard, names(view)))
        self._names = frozenset(names(view))
        # Names that no pattern selects are not remembered: there may be any number of them.
        self._channel_views: dict[str, ChannelView | None] = {}
        self._held_back: dict[str, HeldBack] = {}

    def add(self, reader: Reader) -> None:
        """Add a reader that has all that was written."""
        self.members[reader] = None
        self.writer.add(reader.writer)

    def remove(self, reader: Reader) -> None:
        """Remove a member."""
        del self.members[reader]
        self.writer.discard(reader.writer)

    def channel_view(self, channel: str) -> ChannelView | None:
        """Return how the view sees a channel, None if not at all."""
        if not (self.has_wildcards or channel in self._names or channel == EVERYONE):
            return None
        if channel not in self._channel_views:
            self._channel_views[channel] = channel_view(self.view, channel)
        return self._channel_views[channel]

    def sees(self, channels: Iterable[str]) -> tuple[SeenChannel, ...]:
        """Return what the view sees of some channels."""
        look = self.channel_view
        return tuple([(name, seen) for name in channels if (seen := look(name)) is not None])

    # -- what rates hold back ------------------------------------------------------------------

    def hold_back(self, log: ChannelLog, view: ChannelView, before: Cursor) -> None:
        """Hold back what a channel's log has behind a place, if nothing before it is held back."""
        held = self._held_back.get(log.name)
        if held is None:
            held = self._held_back[log.name] = HeldBack(log, view)
        if held.before is None:
            held.before = before

    @property
    def held_back(self) -> dict[str, Cursor]:
        """Where the members stand in channels of which something is held back."""
        return {name: h.before for name, h in self._held_back.items() if h.before is not None}

    @property
    def due_ns(self) -> int | None:
        """When the first of what is held back is due; None if nothing is."""
        return min(
            [h.due_ns for h in self._held_back.values() if h.before is not None], default=None
        )

    def due(self, now_ns: int) -> list[HeldBack]:
        """Return what may go out."""
        return [held for held in self._held_back.values() if held.is_due(now_ns)]
