"""What a reader wants to see: patterns, and for each of them a condition and a rate.

All that decides which bytes a reader gets is in its view, so readers with the same one can share
them. A channel that is named itself is seen as it was asked for; otherwise through every pattern
that selects it: an event passes if any of them lets it, at the fastest of their rates.
"""

from typing import NamedTuple

from gateway.core.fanout.filters import Filter
from gateway.core.protocol.channels import EVERYONE, is_wildcard, matches


class Subscription(NamedTuple):
    """One subscription; `rate` is in events per second and key, None = all of them.

    `within` are the patterns that its owner's rights come to, where they do not cover all of
    `pattern`; None if they do.
    """

    pattern: str
    filter: Filter | None = None
    rate: float | None = None
    within: frozenset[str] | None = None

    def selects(self, channel: str) -> bool:
        """Tell whether a channel is among those that are seen."""
        return matches(self.pattern, channel) and (
            self.within is None or any(matches(grant, channel) for grant in self.within)
        )


View = frozenset[Subscription]


class ChannelView(NamedTuple):
    """How a view sees one channel: through any of the `filters`, if there are some."""

    filters: tuple[Filter, ...] = ()
    rate: float | None = None


UNFILTERED = ChannelView()

SeenChannel = tuple[str, ChannelView]
"""A channel and how it is seen."""


def names(view: View) -> list[str]:
    """Return a view's patterns."""
    return [selection.pattern for selection in view]


def is_plain(view: View) -> bool:
    """Tell whether a view sees every event of the channels that it selects."""
    return all(one.filter is None and one.rate is None for one in view)


def channel_view(view: View, channel: str) -> ChannelView | None:
    """Return how a view sees a channel, None if not at all; everyone follows ``$everyone``."""
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
    )
