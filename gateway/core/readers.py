"""One consumer of events, and what it tells of itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.core.log import ChannelLog
from gateway.core.numbering import Cursor
from gateway.core.views import View


Cursors = Mapping[str, Cursor]
"""The place reached, by channel."""


class Way(Protocol):
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
    channel in `brief` only the current values are owed, up to the place there. While it is `full`,
    its socket's buffer is above its mark.
    """

    __slots__ = ("brief", "cursors", "full", "on_lag", "personal", "served", "view", "way")

    def __init__(
        self,
        *,
        way: Way,
        on_lag: Callable[[], object],
        personal: ChannelLog | None = None,
    ) -> None:
        self.way = way
        self.on_lag = on_lag
        self.personal = personal
        self.full = False
        self.view: View = frozenset()
        self.cursors: dict[str, Cursor] | None = {}
        self.brief: dict[str, Cursor] = {}
        self.served: str | None = None
        """The channel that the last part of what was owed came from."""
