"""Channels whose events the engine numbers, as one gateway takes them into its logs.

The engine keeps one stream of all channels' events, which every gateway follows, and one of each channel's newest events.
A channel here is

    current  its log has all that has come: an entry that follows is appended at once
    behind   entries may be missing: they are to be fetched from the channel's own stream, and what comes meanwhile is
             passed over, as it is in that stream, too

All channels are behind when the engine is up for the first time, or with another epoch, and when entries of the stream
of all channels were dropped before this gateway read them. One is, if an entry does not follow what its log has.

The source of a channel's events is named by the engine when it begins to number the channel, and anew when its epoch
changes: the last events of the source before may be lost then, or all of them, with the source. So if this gateway may have
had clients in an earlier epoch, every source begins with a gap of reason `epoch`, also on a channel of which it has had nothing.

Invariants: an event is in a log once, and has the same number in the logs of all gateways; the offsets of a source
ascend; what the engine does not keep any more is a missing range in the log, never left out silently."""

from collections.abc import Iterable, Sequence

from gateway.core.cluster.members import EVENT_OUTCOMES
from gateway.core.cluster.numbered import ChannelEvent, is_behind, is_next, new_event
from gateway.core.log.logs import Logs


_REFUSED_MAX = 10_000
"""Sources of channels that cannot open whose events are counted once."""


class EngineChannels:
    def __init__(self, logs: Logs) -> None:
        self.engine = 0
        """The epoch of the engine's data; 0 before the first one."""
        self._follows_others = False
        """Whether clients may have been here before this epoch: then one that has ended may have had events for them."""
        self.listed = False
        """Whether it is known which channels the engine has."""
        self.counts = dict.fromkeys(EVENT_OUTCOMES, 0)
        """Events that came to the logs; that the engine did not keep until this gateway read them, which are gaps in the
        logs; of channels that cannot open here, as many as `ingest.channels_max` allows are open. Each counts once."""
        self._logs = logs
        self._place = 0
        """That of the newest entry of the stream of all channels, as far as this gateway knows."""
        self._behind: dict[str, ChannelEvent | None] = {}
        """The newest event of each that was passed over."""
        self._asked: dict[str, ChannelEvent | None] = {}
        """The same when its stream was asked for last."""
        self._sources: dict[str, int] = {}
        """The source of each channel in the present epoch."""
        self._refused: dict[tuple[str, int], int] = {}
        """The newest event that was refused, by channel and source; those of the oldest make room."""
        may_have_ended = logs.has_ended
        logs.has_ended = lambda incarnation: incarnation not in self._sources.values() and may_have_ended(incarnation)
        logs.on_closed.append(self._on_closed)

    @property
    def behind(self) -> list[str]:
        """The channels whose streams are to be asked for."""
        return list(self._behind)

    def begin(self, engine: int, *, now_ns: int, was_down: bool = False) -> None:
        """Take a new epoch of the engine's data: the sources before have ended, all channels are behind, and to be listed.

        `was_down` is whether this gateway has been without the engine already."""
        if engine == self.engine:
            return
        for channel, source in self._sources.items():
            self._logs.end(source, channel=channel, now_ns=now_ns)
        self._follows_others = bool(self.engine) or was_down
        self.engine, self.listed, self._place = engine, False, 0
        self._sources.clear()
        self._behind.clear()
        self._asked.clear()

    def list(self, channels: Iterable[str], place: int) -> None:
        """Take the list of the channels that the engine has: all are behind.

        `place` is that of the newest entry of the stream of all channels, or of one before it."""
        for channel in channels:
            self._behind.setdefault(channel, None)
        self.listed, self._place = True, max(self._place, place)

    def take(self, events: Sequence[ChannelEvent], *, now_ns: int) -> None:
        """Take what came by the stream of all channels, in order."""
        for one in events:
            if one.place > self._place + 1:
                self.listed = False
            self._place = max(self._place, one.place)
            if not self._logs.admit(one.channel):
                if self.listed:
                    self._refuse(one)
                else:  # its own stream brings it
                    self._behind.setdefault(one.channel, None)
            elif self._follows(one):
                self._append(one, now_ns)
            else:
                self._behind[one.channel] = one

    def take_own(self, one: ChannelEvent, *, now_ns: int) -> bool:
        """Take an event of this gateway that the engine has just confirmed, unless others are to come before it; return
        whether the log has it."""
        if not (self._logs.admit(one.channel) and self._follows(one)):
            return False
        self._append(one, now_ns)
        return True

    def ask(self, channel: str) -> None:
        """Note that the next entries of a channel's own stream are asked for now."""
        self._asked[channel] = self._behind.get(channel)

    def take_kept(self, channel: str, events: Sequence[ChannelEvent], *, now_ns: int) -> bool:
        """Take the answer, in order; return whether to ask for those behind it. If there are none, it is current."""
        if channel not in self._behind:
            return False  # it was closed meanwhile, or the epoch has changed
        for one in events:
            self._append(one, now_ns, late=True)
        asked = self._asked.pop(channel, None)
        if events:
            return True
        if asked is not None and self._lacks(asked):
            self._append(asked, now_ns)  # not kept any more
        passed = self._behind[channel]
        if passed is not None and self._lacks(passed):
            return True  # it came after the answer was given
        del self._behind[channel]
        return False

    def _follows(self, one: ChannelEvent) -> bool:
        is_current = self.listed and one.channel not in self._behind
        return is_current and is_next(self._logs.by_name.get(one.channel), one.numbered)

    def _lacks(self, one: ChannelEvent) -> bool:
        return is_behind(self._logs.by_name.get(one.channel), one.numbered.epoch, one.numbered.offset)

    def _append(self, one: ChannelEvent, now_ns: int, *, late: bool = False) -> None:
        logs, channel, source = self._logs, one.channel, one.numbered.epoch
        if not logs.admit(channel):
            self._refuse(one)
            return
        log = logs.by_name[channel]
        if log.reached(source) is None and (late or one.engine != self.engine):
            return  # the log has forgotten the source, and may have had it; the source's next event says so
        unknown = one.numbered.begins and log.at > 0
        if one.engine == self.engine:
            self._sources[channel] = source
            unknown = unknown or self._follows_others
        event = new_event(log, channel, one.numbered, now_ns=now_ns, late=late, unknown=unknown)
        if event is not None:
            logs.append([event])
            self.counts["appended"] += 1
            self.counts["missing"] += sum(
                each.last - each.first + 1 for each in event.missing if each.reason == "bus_loss"
            )

    def _refuse(self, one: ChannelEvent) -> None:
        """Count an event of a channel that cannot open: once, although it may come by both streams."""
        key, offset = (one.channel, one.numbered.epoch), one.numbered.offset
        before = self._refused.pop(key, 0)
        self.counts["refused"] += offset > before
        self._refused[key] = max(offset, before)
        if len(self._refused) > _REFUSED_MAX:
            del self._refused[next(iter(self._refused))]

    def _on_closed(self, channel: str) -> None:
        for known in (self._behind, self._asked, self._sources):
            known.pop(channel, None)
