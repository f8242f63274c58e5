"""All channels' logs: what is appended is numbered, encoded once, held, and passed on.

In a worker the logs are replicas of its parent's: nothing is appended there, but `replicate`d, and
passed on in the same way.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from gateway.core.log.epochs import EpochTable
from gateway.core.log.log import ChannelLog, Entry, LogState, Retention
from gateway.core.protocol.channels import EVERYONE
from gateway.core.protocol.events import STANDARD, Event, MissingRange


OnAppend = Callable[[list[Entry]], None]


class Logs:
    """Every channel's log. Channels open with their first event and stay, up to `channels_max`.

    They are never closed: a channel that came back with its numbering begun anew would break the
    promise that an offset names one event.
    """

    def __init__(
        self,
        *,
        epoch: str,
        channels_max: int,
        retention: Retention | None = None,
        retentions: Mapping[str, Retention] | None = None,
    ) -> None:
        self.epoch = epoch
        self._channels_max = channels_max
        self._retention = retention or Retention()
        self._retentions = retentions or {}
        self._logs: dict[str, ChannelLog] = {}
        self._on_append: list[OnAppend] = []
        for name in (*STANDARD, EVERYONE):
            self._open(name)

    @property
    def by_name(self) -> Mapping[str, ChannelLog]:
        """All logs by channel, the gateway's own ``$everyone`` among them."""
        return MappingProxyType(self._logs)

    def on_append(self, call: OnAppend) -> None:
        """Call this with the new entries of each append, in order."""
        self._on_append.append(call)

    def admit(self, name: str) -> bool:
        """Open a channel unless it is open; False if there is no room for it.

        ``$everyone`` is always open and does not count.
        """
        if name not in self._logs:
            if len(self._logs) > self._channels_max:
                return False
            self._open(name)
        return True

    def append(self, events: list[Event]) -> list[Entry]:
        """Number, encode and hold events, in order; tell the followers. Gaps are entries, too.

        Raises:
            KeyError: An event's channel is not open: `admit` it first.
        """
        logs = self._logs
        entries: list[Entry] = []
        for event in events:
            entries += logs[event.channel].append(event)
        self._pass_on(entries)
        return entries

    def replace(self, state: LogState) -> None:
        """Take over a whole log from the engine that this one is a replica of."""
        if state.name not in self._logs:
            self._open(state.name)
        self._logs[state.name].replace(state)

    def replicate(self, entries: list[Entry], epochs: Mapping[str, EpochTable]) -> None:
        """Hold what was appended there, in order; tell the followers.

        `table` are those of channels where one began with these entries.
        """
        logs = self._logs
        for name in dict.fromkeys(entry.channel for entry in entries):
            if name not in logs:
                self._open(name)
        for name, known in epochs.items():
            logs[name].epochs.replace(known)
        for entry in entries:
            logs[entry.channel].hold(entry)
        self._pass_on(entries)

    def skip(
        self, channel: str, incarnation: int, missing: Iterable[MissingRange], *, now_ns: int
    ) -> None:
        """Tell of a publisher's losses on a channel that no event has shown yet."""
        if self.admit(channel):
            self._pass_on(self._logs[channel].skip(incarnation, missing, now_ns=now_ns))

    def finish(self, channel: str, incarnation: int, last: int) -> None:
        """Note that a publisher has ended after this number."""
        log = self._logs.get(channel)
        if log is not None:
            log.finish(incarnation, last)

    def history(self, channel: str) -> int:
        """Return how many events a channel keeps."""
        return self._retentions.get(channel, self._retention).events_max

    def _pass_on(self, entries: list[Entry]) -> None:
        if entries:
            for call in self._on_append:
                call(entries)

    def evict(self, *, now_ns: int) -> None:
        """Drop what has grown too old."""
        for log in self._logs.values():
            log.evict(now_ns=now_ns)

    def _open(self, name: str) -> None:
        retention = self._retentions.get(name, self._retention)
        self._logs[name] = ChannelLog(name, epoch=self.epoch, retention=retention)
