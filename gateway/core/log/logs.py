"""All channels' logs, and the callbacks that get each new entry.

In a worker the logs are replicas of the parent's: entries are not appended there but `replicate`d."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from gateway.core.log.log import ChannelLog, LogState
from gateway.core.log.retention import Retention, Usage
from gateway.core.log.sources import Entry
from gateway.core.protocol.channels import EVERYONE, matches
from gateway.core.protocol.events import STANDARD, Event, MissingRange


OnAppend = Callable[[list[Entry]], None]

SILENT_NS = 300 * 1_000_000_000
"""A channel whose history has no age limit is kept for so long after its newest event, whoever else needs room."""
_SCAN_NS = 1_000_000_000
_CUT_SHARE = 16
"""Beyond the limit for all logs, so great a share of it is freed at once: not a little with each event."""


class Logs:
    """Every channel's log. A channel opens with its first event, if fewer than `channels_max` are open.

    If as many are open, the longest silent one is closed: one that no pattern of `patterns` selects, and whose
    newest event is older than its history may be (`SILENT_NS` if that has no age limit). With each closed channel
    `epoch`, that of logs that open, changes: else a channel that opens again could have two events with one position.

    If all logs together hold more than `total_bytes_max` (0 = no limit), the largest ones are cut to one size."""

    def __init__(
        self,
        *,
        epoch: str,
        channels_max: int,
        total_bytes_max: int = 0,
        retention: Retention | None = None,
        retentions: Mapping[str, Retention] | None = None,
    ) -> None:
        self.epoch = epoch
        self.patterns: Callable[[], Iterable[str]] = tuple
        """Returns what clients are subscribed to."""
        self.on_append: list[OnAppend] = []
        """Called with the new entries of each append, in order."""
        self.on_closed: list[Callable[[str], object]] = []
        """Called with the name of each channel that is closed to make room."""
        self.on_cut: list[Callable[[int], object]] = []
        """Called with the size that the largest logs were cut to."""
        self.on_source: list[Callable[[str], object]] = []
        """Called with the name of each channel whose log gets to know a source without an entry."""
        self.closed = 0
        """How many channels were closed."""
        self.cut_bytes = 0
        """How many bytes were evicted because of `total_bytes_max`."""
        self.has_ended: Callable[[int], bool] = lambda _incarnation: True
        """Returns whether a publisher may have ended; see `ChannelLog`."""
        self.on_return: Callable[[int, int], object] = lambda _incarnation, _now_ns: None
        """Called with a publisher that begins on a channel, or goes on there after it had ended."""
        self._first_epoch = epoch
        self._usage = Usage()
        self._total_bytes_max = total_bytes_max
        self._now_ns = 0
        self._silent: deque[tuple[int, str]] = deque()
        """Channels that may be closed, the longest silent first, with the time of their newest entries."""
        self._scanned_ns = -_SCAN_NS
        self.channels_max = channels_max
        self._retention = retention or Retention()
        self._retentions = retentions or {}
        self._logs: dict[str, ChannelLog] = {}
        self.by_name: Mapping[str, ChannelLog] = MappingProxyType(self._logs)
        """All logs by channel, with that of ``$everyone``."""
        for name in (*STANDARD, EVERYONE):
            self._open(name)

    def admit(self, name: str) -> bool:
        """Open a channel unless it is open; return False if `channels_max` are open and none can be closed.

        ``$everyone`` is always open and does not count."""
        if name not in self._logs:
            if len(self._logs) > self.channels_max and not self._make_room():
                return False
            self._open(name)
        return True

    @property
    def bytes(self) -> int:
        """How much all logs hold."""
        return self._usage.bytes

    @property
    def values_dropped(self) -> int:
        """How many current values gave way to others, on channels that were closed, too."""
        return self._usage.values_dropped

    def close(self, name: str, *, epoch: str | None = None) -> None:
        """Close a channel; logs that open from now on have another epoch, a replica's the one that is given."""
        log = self._logs.pop(name, None)
        if log is not None:
            self._usage.bytes -= log.bytes
        self.closed += 1
        self.epoch = epoch or f"{self._first_epoch}-{self.closed}"
        for call in self.on_closed:
            call(name)

    def _make_room(self) -> bool:
        """Close the longest silent channel that may be closed; return whether there was one."""
        if self._now_ns >= self._scanned_ns + _SCAN_NS:
            self._scanned_ns = self._now_ns
            self._silent = deque(sorted((log.newest_ns, name) for name, log in self._logs.items() if self._is_old(log)))
        patterns = None
        while self._silent:
            newest_ns, name = self._silent.popleft()
            log = self._logs.get(name)
            if log is None or log.newest_ns != newest_ns:
                continue
            patterns = list(self.patterns()) if patterns is None else patterns
            if not any(matches(pattern, name) for pattern in patterns):
                self.close(name)
                return True
        return False

    def _is_old(self, log: ChannelLog) -> bool:
        if log.name in STANDARD or log.name == EVERYONE or not log.newest_ns:
            return False  # without an event yet, it has just opened for one
        return log.newest_ns + (log.retention.age_ns_max or SILENT_NS) < self._now_ns

    def cut(self, bytes_max: int) -> None:
        """Evict the oldest entries of each log that holds more than this."""
        before = self._usage.bytes
        for log in self._logs.values():
            if log.bytes > bytes_max:
                log.evict(now_ns=0, bytes_max=bytes_max)
        self.cut_bytes += before - self._usage.bytes
        for call in self.on_cut:
            call(bytes_max)

    def _cut_to_total(self) -> None:
        """Cut the largest logs to the size with which all of them stay below the limit."""
        left = self._total_bytes_max - self._total_bytes_max // _CUT_SHARE
        sizes = sorted(log.bytes for log in self._logs.values())
        for number, size in enumerate(sizes):
            if size * (len(sizes) - number) >= left:
                self.cut(left // (len(sizes) - number))
                break
            left -= size

    def append(self, events: list[Event]) -> list[Entry]:
        """Append events to the logs of their channels, in order; return the new entries.
        A channel that was closed since `admit` let an event in, to make room for others, opens again."""
        logs = self._logs
        entries: list[Entry] = []
        for event in events:
            try:
                log = logs[event.channel]
            except KeyError:
                log = self._open(event.channel)
            entries += log.append(event)
        if entries:
            self._now_ns = max(self._now_ns, entries[-1].received_ns)
        self._notify(entries)
        return entries

    def append_gaps(self, channel: str, incarnation: int, missing: tuple[MissingRange, ...], *, now_ns: int) -> None:
        """Append gaps for a publisher's messages that are missing behind the newest event."""
        if self.admit(channel):
            self._notify(self._logs[channel].append_gaps(incarnation, missing, now_ns=now_ns))

    def note_source(self, channel: str, incarnation: int, newest: int) -> None:
        """Note a publisher that has come to a number, if nothing of it is in the log: then it is what is missing."""
        log = self._logs.get(channel)
        if log is not None and log.note_source(incarnation, newest):
            for call in self.on_source:
                call(channel)

    def reached(self, channel: str, incarnation: int) -> int | None:
        """Return the newest of a publisher's numbers in a log; 0 if there is none, None if that is not known."""
        log = self._logs.get(channel)
        return 0 if log is None else log.reached(incarnation)

    def is_numbered(self, channel: str) -> bool:
        """Return whether a channel has events that a publisher numbered."""
        log = self._logs.get(channel)
        return log is not None and log.is_numbered

    def finish(self, channel: str, incarnation: int, last: int, *, now_ns: int) -> None:
        log = self._logs.get(channel)
        if log is not None:
            self._notify(log.finish(incarnation, last, now_ns=now_ns))

    def end(self, incarnation: int, *, now_ns: int, channel: str | None = None) -> None:
        """Note that a publisher is silent, on one channel or all: where other sources are live, a gap says that its end
        is not known."""
        for log in list(self._logs.values()) if channel is None else [self._logs[channel]]:
            self._notify(log.end(incarnation, now_ns=now_ns))

    def load_state(self, state: LogState) -> None:
        """Replace a whole log by a copy of the parent's."""
        if state.name not in self._logs:
            self._open(state.name)
        self._logs[state.name].load_state(state)

    def replicate(self, entries: list[Entry]) -> dict[str, Exception]:
        """Hold the entries that the parent appended, in order; return the errors, by channel.

        The log of a channel with an error ends where it occurred; replace it (`load_state`)."""
        logs = self._logs
        failed: dict[str, Exception] = {}
        held: list[Entry] = []
        for entry in entries:
            if entry.channel in failed:
                continue
            try:
                log = logs[entry.channel] if entry.channel in logs else self._open(entry.channel)
                log.replicate(entry)
                held.append(entry)
            except Exception as error:  # one log must not cost the others their entries
                failed[entry.channel] = error
        self._notify(held)
        return failed

    def evict(self, *, now_ns: int) -> None:
        self._now_ns = max(self._now_ns, now_ns)
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
            for call in self.on_append:
                call(entries)
        if self._total_bytes_max and self._usage.bytes > self._total_bytes_max:
            self._cut_to_total()

    def _open(self, name: str) -> ChannelLog:
        retention = self._retentions.get(name, self._retention)
        self._logs[name] = log = ChannelLog(name, epoch=self.epoch, retention=retention, usage=self._usage)
        log.has_ended = lambda incarnation: self.has_ended(incarnation)
        log.on_return = lambda incarnation, now_ns: self.on_return(incarnation, now_ns)
        return log
