"""All channels' logs, and the callbacks that get each new entry.

In a worker the logs are replicas of the parent's: entries are not appended there but `replicate`d."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from gateway.core.log.epochs import OWN, EpochTable
from gateway.core.log.log import ChannelLog, Entry, LogState, Retention
from gateway.core.protocol.channels import EVERYONE
from gateway.core.protocol.events import STANDARD, Event, MissingRange


OnAppend = Callable[[list[Entry]], None]


class Logs:
    """Every channel's log. A channel opens with its first event, if fewer than `channels_max` are open.

    Channels are never closed: if one opened again with the numbers from 1, a position could stand for
    two events."""

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
        self.by_name: Mapping[str, ChannelLog] = MappingProxyType(self._logs)
        """All logs by channel, with that of ``$everyone``."""
        self._on_append: list[OnAppend] = []
        for name in (*STANDARD, EVERYONE):
            self._open(name)

    def on_append(self, call: OnAppend) -> None:
        """Add a callback; it gets the new entries of each append, in order."""
        self._on_append.append(call)

    def admit(self, name: str) -> bool:
        """Open a channel unless it is open; return False if `channels_max` are open.

        ``$everyone`` is always open and does not count."""
        if name not in self._logs:
            if len(self._logs) > self._channels_max:
                return False
            self._open(name)
        return True

    def append(self, events: list[Event]) -> list[Entry]:
        """Append events to the logs of their channels, in order; return the new entries.
        Raises KeyError: an event's channel is not open: `admit` it first."""
        logs = self._logs
        entries: list[Entry] = []
        for event in events:
            entries += logs[event.channel].append(event)
        self._notify(entries)
        return entries

    def append_gaps(self, channel: str, incarnation: int, missing: tuple[MissingRange, ...], *, now_ns: int) -> None:
        """Append gaps for a publisher's messages that are missing behind the newest event."""
        if self.admit(channel):
            self._notify(self._logs[channel].append_gaps(incarnation, missing, now_ns=now_ns))

    def reached(self, channel: str, incarnation: int) -> int | None:
        """Return the newest of a publisher's numbers in a log; 0 if there is none, None if that is not known."""
        log = self._logs.get(channel)
        return 0 if log is None else log.epochs.reached(incarnation)

    def is_numbered(self, channel: str) -> bool:
        """Return whether a channel has events, all of them numbered by one publisher at a time."""
        log = self._logs.get(channel)
        return log is not None and log.epochs.source not in {None, OWN}

    def finish(self, channel: str, incarnation: int, last: int) -> None:
        log = self._logs.get(channel)
        if log is not None:
            log.finish(incarnation, last)

    def load_state(self, state: LogState) -> None:
        """Replace a whole log by a copy of the parent's."""
        if state.name not in self._logs:
            self._open(state.name)
        self._logs[state.name].load_state(state)

    def replicate(self, entries: list[Entry], epochs: Mapping[str, EpochTable]) -> dict[str, Exception]:
        """Hold the entries that the parent appended, in order; return the errors, by channel.

        `epochs` are those of the channels in which an epoch began with these entries. The log of a channel with
        an error ends where it occurred; replace it (`load_state`)."""
        logs = self._logs
        for name in dict.fromkeys(entry.channel for entry in entries):
            if name not in logs:
                self._open(name)
        for name, table in epochs.items():
            logs[name].epochs.load_table(table)
        failed: dict[str, Exception] = {}
        held: list[Entry] = []
        for entry in entries:
            if entry.channel in failed:
                continue
            try:
                log = logs[entry.channel]
                if entry.before != log.newest:
                    raise ValueError(f"{log.name}: {entry.before} does not follow {log.newest}")
                log.replicate(entry)
                held.append(entry)
            except Exception as error:  # one log must not cost the others their entries
                failed[entry.channel] = error
        self._notify(held)
        return failed

    def evict(self, *, now_ns: int) -> None:
        for log in self._logs.values():
            log.evict(now_ns=now_ns)

    def set_retention(self, retention: Retention, retentions: Mapping[str, Retention]) -> None:
        """Change how much the logs hold; what is too much is evicted when their time comes."""
        self._retention, self._retentions = retention, retentions
        for name, log in self._logs.items():
            log.retention = retentions.get(name, retention)

    def history(self, channel: str) -> int:
        return self._retentions.get(channel, self._retention).events_max

    def _notify(self, entries: list[Entry]) -> None:
        if entries:
            for call in self._on_append:
                call(entries)

    def _open(self, name: str) -> None:
        retention = self._retentions.get(name, self._retention)
        self._logs[name] = ChannelLog(name, epoch=self.epoch, retention=retention)
