"""Many feeds, found by the channels that they follow without looking at each."""

from collections.abc import Iterator

from neurograph_client.feed import Feed
from neurograph_client.items import is_wildcard


class Feeds:
    """A set of feeds, in the order in which they were added."""

    def __init__(self) -> None:
        self._feeds: dict[Feed, None] = {}
        self._naming: dict[str, dict[Feed, None]] = {}
        """Those that follow a name, or a pattern, word for word."""
        self._with_wildcard: dict[Feed, None] = {}

    def __iter__(self) -> Iterator[Feed]:
        return iter(list(self._feeds))

    def add(self, feed: Feed) -> None:
        """Add a feed that is not in it."""
        self._feeds[feed] = None
        for name in feed.patterns:
            self._naming.setdefault(name, {})[feed] = None
            if is_wildcard(name):
                self._with_wildcard[feed] = None

    def remove(self, feed: Feed) -> None:
        """Remove a feed, if it is in it."""
        if feed not in self._feeds:
            return
        del self._feeds[feed]
        self._with_wildcard.pop(feed, None)
        for name in set(feed.patterns):
            del self._naming[name][feed]
            if not self._naming[name]:
                del self._naming[name]

    def naming(self, pattern: str) -> tuple[Feed, ...]:
        """Return those that follow exactly this name or pattern."""
        return tuple(self._naming.get(pattern, ()))

    def wanting(self, channel: str) -> tuple[Feed, ...]:
        """Return those that get a channel's events."""
        found = dict(self._naming.get(channel, {}))
        for feed in self._with_wildcard:
            if feed.selects(channel):
                found[feed] = None
        return tuple(found)
