"""An engine and gateways that use it, without Redis: what the scripts `append` and `lease` do, and when gateways read it."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.core.cluster.channels import EngineChannels
from gateway.core.cluster.numbered import ChannelEvent, NumberedEvent
from gateway.core.log.logs import Logs
from gateway.core.log.retention import Retention
from gateway.core.log.sources import Entry


FETCHED = 2
"""Entries of one answer."""


@dataclass
class Engine:
    """What the script `append` does, with small limits; it may lose its last writes."""

    live_max: int = 4
    kept_max: int = 3
    epoch: int = 1
    sources: int = 100
    places: int = 0
    live: list[ChannelEvent] = field(default_factory=list)
    dropped: int = 0
    """How many entries of `live` were dropped."""
    kept: dict[str, list[ChannelEvent]] = field(default_factory=dict)
    fence: int = 0
    holder: object = None
    held: dict[str, int] = field(default_factory=dict)
    """The fence of each channel's newest source."""

    def lease(self, gateway: object, *, anew: bool) -> tuple[int, bool]:
        """Take or keep the lease; an expired one has no `holder`."""
        if self.holder not in (None, gateway):
            return self.fence, False
        if self.holder is None or anew:
            self.fence += 1
        self.holder = gateway
        return self.fence, True

    def append(
        self, channel: str, *, fence: int = 0, skipped: int = 0, fields: bytes | None = None
    ) -> ChannelEvent | None:
        """Number an event, unless its fence is an older one."""
        if fence and fence != self.fence:
            return None
        kept = self.kept.setdefault(channel, [])
        self.places += 1
        is_same = kept and kept[-1].engine == self.epoch and fence in (0, self.held.get(channel, 0))
        if is_same:
            source, offset = kept[-1].numbered.epoch, kept[-1].numbered.offset + 1 + skipped
        else:
            self.sources += 1
            source, offset = self.sources, 1 + skipped
            self.held[channel] = fence
        numbered = NumberedEvent(
            source, offset, b'"data":%d' % self.places if fields is None else fields, bool(fence and not is_same)
        )
        one = ChannelEvent(channel, self.epoch, numbered, self.places)
        self.live.append(one)
        kept.append(one)
        if len(self.live) > self.live_max:
            del self.live[0]
            self.dropped += 1
        del kept[: -self.kept_max]
        return one

    def lose(self, count: int) -> None:
        """Restart without the last writes."""
        lost = self.live[len(self.live) - count :]
        del self.live[len(self.live) - count :]
        for kept in self.kept.values():
            kept[:] = [one for one in kept if one not in lost]
        self.places = self.places - len(lost)
        self.epoch += 1
        self.fence, self.holder = 0, None
        self.held.clear()

    def after(self, channel: str, one: ChannelEvent | None) -> list[ChannelEvent]:
        kept = self.kept.get(channel, [])
        if one in kept:
            kept = kept[kept.index(one) + 1 :]
        elif one is not None:
            newer = [each for each in kept if (each.engine, each.place) > (one.engine, one.place)]
            kept = newer
        return kept[:FETCHED]


class Gateway:
    def __init__(self, engine: Engine, *, channels_max: int = 20, events_max: int = 1000) -> None:
        retention = Retention(events_max=events_max)
        self.logs = Logs(epoch="own", channels_max=channels_max, retention=retention)
        self.channels = EngineChannels(self.logs)
        self._engine = engine
        self._next = 0
        self._last: dict[str, ChannelEvent | None] = {}
        self._asked: dict[str, list[ChannelEvent]] = {}
        self.now_ns = 0
        self.knew_another_epoch = False
        """Whether it has seen the engine's epoch change."""

    def up(self) -> None:
        """Be connected; with another epoch, read the stream of all channels again."""
        if self.channels.engine != self._engine.epoch:
            self.knew_another_epoch = self.channels.engine != 0
            self._next = 0
            self._asked.clear()
            self._last.clear()
        self.channels.begin(self._engine.epoch, now_ns=self.now_ns)

    def read(self, count: int = 1000) -> None:
        at = max(self._next - self._engine.dropped, 0)
        found = self._engine.live[at : at + count]
        self._next = self._engine.dropped + at + len(found)
        self.channels.take(found, now_ns=self.now_ns)

    def ask(self) -> None:
        if not self.channels.listed:
            self.channels.list(self._engine.kept, self._engine.places)
        for channel in self.channels.behind:
            self.channels.ask(channel)
            self._asked[channel] = self._engine.after(channel, self._last.get(channel))

    def answered(self) -> None:
        asked, self._asked = self._asked, {}
        for channel, found in asked.items():
            if found:
                self._last[channel] = found[-1]
            if not self.channels.take_kept(channel, found, now_ns=self.now_ns):
                self._last.pop(channel, None)

    def catch_up(self) -> None:
        self.up()
        for _ in range(100):
            self.read()
            self.ask()
            self.answered()
            if self.channels.listed and not self.channels.behind:
                return
        raise AssertionError(f"still behind: {self.channels.behind}")

    def entries(self, channel: str) -> list[Entry]:
        log = self.logs.by_name.get(channel)
        return [] if log is None else log.held(log.cursor_at(0))

    def events(self, channel: str) -> dict[tuple[str, int], bytes]:
        """The events of a channel by position; each is there once."""
        found = [one for one in self.entries(channel) if one.is_event]
        by_position = {(one.source, one.offset): one.json.rpartition(b'"data":')[2] for one in found}
        assert len(by_position) == len(found)
        return by_position


def position(one: ChannelEvent) -> tuple[str, int]:
    return f"{one.numbered.epoch:016x}", one.numbered.offset
