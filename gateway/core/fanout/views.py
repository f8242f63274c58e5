"""What a reader wants to see: patterns, each with an optional filter and rate.

Everything that decides which bytes a reader gets is in its view, so readers with equal views share
their bytes. If a view names a channel itself, only that subscription counts for the channel; else all
patterns that select it do: an event passes if any of their filters matches it, and the highest of
their rates applies."""

from collections.abc import Collection, Iterable
from itertools import chain
from typing import NamedTuple

from gateway.core.fanout.filters import Filter
from gateway.core.protocol.binary import with_bytes
from gateway.core.protocol.channels import EVERYONE, is_wildcard, matches, selected_by


class Subscription(NamedTuple):
    """One subscription; `rate` is in events per second and key, None = all events.

    `binary` asks for events that carry bytes as binary messages.
    `within` are the granted patterns that overlap `pattern`, if no grant covers all of it; else None."""

    pattern: str
    filter: Filter | None = None
    rate: float | None = None
    within: frozenset[str] | None = None
    binary: bool = False

    def selects(self, channel: str) -> bool:
        return matches(self.pattern, channel) and (
            self.within is None or any(matches(grant, channel) for grant in self.within)
        )

    def selected(self, names: Collection[str]) -> Iterable[str]:
        """Return those of many channels that it selects."""
        if not is_wildcard(self.pattern):
            return [self.pattern] if self.pattern in names else []
        found = selected_by(self.pattern, names)
        return found if self.within is None else filter(self.selects, found)


View = frozenset[Subscription]


def selected(view: Iterable[Subscription], names: Collection[str]) -> Iterable[str]:
    """Return those of many channels that a view selects, each once."""
    parts = [one.selected(names) for one in view]
    return parts[0] if len(parts) == 1 else dict.fromkeys(chain.from_iterable(parts))


class ChannelView(NamedTuple):
    """How a view sees one channel: the events that any of the `filters` matches; all, if it is empty."""

    filters: tuple[Filter, ...] = ()
    rate: float | None = None
    binary: bool = False

    def encode(self, frames: list[bytes]) -> list[bytes]:
        """Return frames of a log as the view gets them."""
        return [with_bytes(frame) for frame in frames] if self.binary else frames


UNFILTERED = ChannelView()

SeenChannel = tuple[str, ChannelView]
"""A channel and how a view sees it."""
SeenChannels = tuple[SeenChannel, ...]


def channel_view(view: View, channel: str) -> ChannelView | None:
    """Return how a view sees a channel; None if it does not. Every view sees ``$everyone``."""
    if channel == EVERYONE:
        return UNFILTERED
    chosen = [one for one in view if one.pattern == channel] or [
        one for one in view if is_wildcard(one.pattern) and one.selects(channel)
    ]
    if not chosen:
        return None
    filters = {one.filter for one in chosen}
    rates = [one.rate for one in chosen]
    return ChannelView(
        () if None in filters else tuple(sorted((f for f in filters if f), key=lambda f: f.text)),
        None if None in rates else max(rate for rate in rates if rate is not None),
        any(one.binary for one in chosen),
    )
