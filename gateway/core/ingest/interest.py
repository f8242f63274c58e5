"""Which topics are fetched from the bus: all, or on demand those that somebody watches.

A publisher sees upstream which topics are subscribed to, and need not compute what nobody watches.
ZeroMQ subscribes to prefixes: a pattern is fetched by what stands before its first wildcard.
"""

from collections.abc import Iterable


class Interest:
    """What is wanted of the bus, and for how long after the last who wanted it has gone.

    With `everything` all topics are; else those in `always`, and what is watched.
    """

    def __init__(self, *, everything: bool, always: Iterable[str], linger_ns: int) -> None:
        self.everything = everything
        self._always = frozenset(always)
        self._linger_ns = linger_ns
        self._until_ns: dict[str, int] = {}

    @property
    def prefixes(self) -> frozenset[str]:
        """The prefixes to subscribe to; ``$`` is that of heartbeats."""
        if self.everything:
            return frozenset({""})
        return frozenset({"$", *self._always, *self._until_ns})

    def watch(self, patterns: Iterable[str], *, now_ns: int) -> bool:
        """Want what these patterns select; True if something of it was not wanted before."""
        before = len(self._until_ns)
        for pattern in patterns:
            self._until_ns[_prefix(pattern)] = now_ns + self._linger_ns
        return len(self._until_ns) > before

    def expire(self, *, now_ns: int) -> bool:
        """Want no longer what nobody has watched for long; True if there was such."""
        over = [prefix for prefix, until_ns in self._until_ns.items() if until_ns <= now_ns]
        for prefix in over:
            del self._until_ns[prefix]
        return bool(over)

    def wants(self, topic: str) -> bool:
        """Tell whether a topic is fetched now."""
        return self.everything or topic.startswith(tuple(self.prefixes))

    def is_on_demand(self, topic: str) -> bool:
        """Tell whether a topic is fetched only while it is watched."""
        return not self.everything and topic not in self._always


def _prefix(pattern: str) -> str:
    """Return what all names begin with that a pattern selects."""
    for wildcard in ("*", ">"):
        pattern = pattern.partition(wildcard)[0]
    return pattern
