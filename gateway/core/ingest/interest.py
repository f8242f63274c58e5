"""Which topics are subscribed to on the bus: all, or on demand only those that clients subscribe to.

Publishers see which topics are subscribed to, and need not compute the others. ZeroMQ subscribes by
prefix, so a pattern is fetched by what stands before its first wildcard."""

from collections.abc import Iterable


class Interest:
    """The topics to subscribe to on the bus.

    With `everything` these are all topics; else those in `always`, and each pattern for `idle_ns` after
    it was last watched."""

    def __init__(self, *, everything: bool, always: Iterable[str], idle_ns: int) -> None:
        self.everything = everything
        self._always = frozenset(always)
        self._idle_ns = idle_ns
        self._until_ns: dict[str, int] = {}

    @property
    def prefixes(self) -> frozenset[str]:
        """The prefixes to subscribe to; ``$`` is that of heartbeats."""
        if self.everything:
            return frozenset({""})
        return frozenset({"$", *self._always, *self._until_ns})

    def watch(self, patterns: Iterable[str], *, now_ns: int) -> bool:
        """Note that clients are subscribed to these patterns; return whether `prefixes` has grown."""
        before = len(self._until_ns)
        for pattern in patterns:
            self._until_ns[_prefix(pattern)] = now_ns + self._idle_ns
        return len(self._until_ns) > before

    def drop_idle(self, *, now_ns: int) -> bool:
        """Drop the patterns that were not watched for too long; return whether there are any."""
        idle = [prefix for prefix, until_ns in self._until_ns.items() if until_ns <= now_ns]
        for prefix in idle:
            del self._until_ns[prefix]
        return bool(idle)

    def is_watched(self, topic: str) -> bool:
        return self.everything or topic.startswith(tuple(self.prefixes))

    def is_on_demand(self, topic: str) -> bool:
        """Return whether a topic is subscribed to only while it is watched."""
        return not self.everything and topic not in self._always


def _prefix(pattern: str) -> str:
    """Return the part of a pattern before its first wildcard."""
    return pattern.partition("*")[0].partition(">")[0]
