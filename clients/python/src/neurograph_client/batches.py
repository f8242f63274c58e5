"""Which subscriptions travel in one message."""

from collections.abc import Iterable
from typing import Any

from neurograph_client.feed import Feed
from neurograph_client.items import is_wildcard, matches
from neurograph_client.routes import OWN


Request = dict[str, Any]

_CHANNELS_MAX = 1_000
_REQUEST_BYTES = 256
"""About what a channel takes in a message besides its `since`."""


class Batch:
    """Feeds that are asked for with one message; `requests` are what they ask for, by pattern."""

    def __init__(self) -> None:
        self.feeds: list[Feed] = []
        self.requests: dict[str, Request] = {}
        self._wildcards: list[Request] = []
        self._bytes = 0

    def add(self, feed: Feed, requests: dict[str, Request], size: int) -> None:
        self.feeds.append(feed)
        self._wildcards += [one for name, one in requests.items() if is_wildcard(name) and name not in self.requests]
        self.requests |= requests
        self._bytes += size

    def takes(self, requests: dict[str, Request], size: int, *, bytes_max: int) -> bool:
        """Tell whether there is room, and the answer will be clear.

        It says once where each channel begins. So feeds with a channel in common share a message only
        if they begin at the same place.
        """
        if self._bytes + size > bytes_max or len(self.requests) + len(requests) > _CHANNELS_MAX:
            return False
        return not any(_conflict(one, other) for one in requests.values() for other in self._others(one))

    def _others(self, request: Request) -> Iterable[Request]:
        """Return what may conflict: two names do so only if they are the same one."""
        same = self.requests.get(request["channel"])
        if same is not None:
            return [same]
        return self.requests.values() if is_wildcard(request["channel"]) else self._wildcards


def batches(feeds: Iterable[Feed], *, bytes_max: int) -> list[Batch]:
    """Return the fewest messages that ask for some feeds, in order."""
    made: list[Batch] = []
    for feed in feeds:
        requests = {
            name: {"channel": name, **feed.options.conditions, **feed.options.start_of(name)}
            for name in feed.patterns
            if name not in OWN
        }
        size = sum(_REQUEST_BYTES + len(str(one)) for one in requests.values())
        if not made or not made[-1].takes(requests, size, bytes_max=bytes_max):
            made.append(Batch())
        made[-1].add(feed, requests, size)
    return made


def _conflict(one: Request, other: Request) -> bool:
    if one["channel"] == other["channel"]:
        return one != other
    if not any(key in request for request in (one, other) for key in ("last", "since")):
        return False
    patterns = one["channel"], other["channel"]
    if all(map(is_wildcard, patterns)):
        return True
    return matches(*patterns) or matches(*reversed(patterns))
