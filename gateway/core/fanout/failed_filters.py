"""Which filters could not be evaluated, on how many events of each channel."""

from collections.abc import Mapping

from gateway.core.fanout.filters import Filter


Failed = Mapping[Filter, int]
"""On how many events evaluating a filter failed."""


class FailedFilters:
    """Counts until they are taken; so it has no more than what is evaluated in between."""

    def __init__(self) -> None:
        self._by_channel: dict[str, dict[Filter, int]] = {}

    def add(self, channel: str, failed: Failed) -> int:
        """Add what failed on a channel; return on how many events."""
        if not failed:
            return 0
        counts = self._by_channel.setdefault(channel, {})
        for one, count in failed.items():
            counts[one] = counts.get(one, 0) + count
        return sum(failed.values())

    def take(self) -> Mapping[str, Failed]:
        """Return what failed since the last call, by channel."""
        taken, self._by_channel = self._by_channel, {}
        return taken
