"""Events that gateways put in themselves: the engine numbers them, and all gateways get them from it."""

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from gateway.cluster.engine import Engine, StreamEntry
from gateway.cluster.redis_client import Argument
from gateway.cluster.scripts import script
from gateway.core.cluster.channels import EngineChannels
from gateway.core.cluster.lease import Waiting
from gateway.core.cluster.numbered import ChannelEvent, NumberedEvent, channel_event
from gateway.core.cluster.once import Once
from gateway.core.log.logs import SILENT_NS, Logs
from gateway.core.protocol.channels import EVERYONE
from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.core.protocol.events import Event
from gateway.core.protocol.messages import Position
from gateway.runtime import clock
from gateway.runtime.logs import logger


log = logger("gateway.cluster")

_APPEND = script("append", "once")
_KEPT_MS = 24 * 3600 * 1000
_SILENT_MS = SILENT_NS // 1_000_000
_ONCE_MS = 300 * 1000
_FETCHED_TOGETHER = 10
"""Channels whose streams are asked for at once."""
_ENTRIES_PER_ANSWER = 100
_FIRST = "-"


Appended = Literal["new", "fenced", "full"]
"""What became of events: numbered; or not, as another gateway has the lease, or as there is no room for a channel."""


class Published(NamedTuple):
    """An event that the engine has numbered; `answer` is what belongs to it, from the first request if that was another
    one with the same idempotency key, and then it is not new."""

    position: Position
    answer: str
    is_new: bool


class ClusterEvents:
    """Appends events in the engine, and brings those of all gateways to the logs of this one."""

    def __init__(self, engine: Engine, logs: Logs) -> None:
        self.channels = EngineChannels(logs)
        self.settled = asyncio.Event()
        """Set once the logs have what the engine kept when it was up for the first time."""
        self._engine = engine
        self._logs = logs
        self._wake = asyncio.Event()
        engine.on_up.append(self._on_up)
        engine.follow(engine.key("events"), self._on_entries)

    async def publish(self, event: Event, *, once: Once, answer: str) -> Published:
        """Have the engine number an event and give it to all gateways; with an idempotency key, once.

        Events are numbered in the order of the calls.
        Raises EngineUnavailable; RequestError: `once` was used for another event, or there is no room for the channel."""
        channel = event.channel
        reply, _ = await self._append([Waiting(event, 0)], once.key, once.content, _ONCE_MS, answer)
        match reply[0]:
            case b"new":
                return Published(Position(reply[1].decode(), int(reply[2])), answer, is_new=True)
            case b"known":
                source, offset, answer = reply[1].decode().split(":", 2)
                return Published(Position(source, int(offset)), answer, is_new=False)
            case b"other":
                raise once.used_otherwise
        raise RequestError(
            ErrorCode.UNAVAILABLE,
            f"channel {channel!r} cannot open: the cluster's engine has as many as `ingest.channels_max` allows",
        )

    async def append(self, events: Sequence[Waiting], *, fence: int) -> tuple[Appended, set[str]]:
        """Have the engine number events of the bus, if `fence` is still that of the lease. Return also the channels whose
        logs lack some of these events until the engine's stream brings them. Raises EngineUnavailable."""
        reply, lacking = await self._append(events, "", "", 0, "", fence=fence)
        outcome: Appended = reply[0].decode()
        return outcome, lacking

    async def _append(
        self, events: Sequence[Waiting], *arguments: Argument, fence: int = 0
    ) -> tuple[list[Any], set[str]]:  # Any: as Redis replies
        """Run the script, and take what is new to the logs of this gateway; return its reply, and which logs lack some."""
        engine = self._engine.epoch
        parts = [part for one in events for part in self._parts(one)]
        limits = _KEPT_MS, self._logs.channels_max, _SILENT_MS
        reply = await self._engine.run(_APPEND, *limits, *arguments, fence or "", *parts)
        assert isinstance(reply, list)
        lacking: set[str] = set()
        if reply[0] == b"new":
            now_ns = clock.now_ns()
            for (event, skipped), source, offset in zip(events, reply[1::2], reply[2::2], strict=True):
                numbered = NumberedEvent(int(source, 16), int(offset), event.fields)
                begins = fence and numbered.offset == 1 + skipped  # then its entry says what is not known before it
                one = ChannelEvent(event.channel, engine, numbered)
                if begins or not self.channels.take_own(one, now_ns=now_ns):
                    lacking.add(event.channel)
        return reply, lacking

    def _parts(self, one: Waiting) -> tuple[Argument, ...]:
        channel = one.event.channel
        new_source = f"{secrets.randbits(64):016x}"
        return channel, max(self._logs.history(channel), 1), new_source, one.skipped, one.event.fields

    async def keep_current(self) -> None:
        """Fetch what is missing, whenever the engine is up."""
        await self._engine.keep(self._wake, self._catch_up)

    async def _catch_up(self) -> None:
        channels, engine = self.channels, self._engine
        if not channels.listed:
            place, found = await asyncio.gather(
                engine.command("HGET", engine.key("engine"), "events"),
                engine.command("ZRANGE", engine.key("channels"), 0, -1),
            )
            assert isinstance(found, list)
            assert place is None or isinstance(place, bytes)
            channels.list([EVERYONE, *(name.decode() for name in found)], int(place or 0))
        while behind := channels.behind[:_FETCHED_TOGETHER]:
            await asyncio.gather(*map(self._fetch, behind))
        self.settled.set()

    async def _fetch(self, channel: str) -> None:
        key, after = self._engine.key("channel", channel), _FIRST
        while True:
            self.channels.ask(channel)
            reply = await self._engine.command("XRANGE", key, after, "+", "COUNT", _ENTRIES_PER_ANSWER)
            assert isinstance(reply, list)
            entries = [
                (id_.decode(), {name.decode(): value for name, value in fields.items()}) for id_, fields in reply
            ]
            events = self._read(entries, channel)
            if entries:
                after = f"({entries[-1][0]}"
            if not self.channels.take_kept(channel, events, now_ns=clock.now_ns()):
                return

    def _on_up(self, changed: bool) -> None:  # the only argument of a callback
        self.channels.begin(self._engine.epoch, now_ns=clock.now_ns(), was_down=self._engine.failures > 0)
        self._wake.set()

    def _on_entries(self, entries: list[StreamEntry]) -> None:
        self.channels.take(self._read(entries), now_ns=clock.now_ns())
        if self.channels.behind or not self.channels.listed:
            self._wake.set()

    def _read(self, entries: Sequence[StreamEntry], channel: str | None = None) -> list[ChannelEvent]:
        events = []
        for id_, fields in entries:
            try:
                events.append(channel_event(fields, channel))
            except (KeyError, ValueError) as error:  # another version's, or not a gateway's
                log.warning("cluster_entry_unreadable", id=id_, channel=channel, problem=repr(error))
        return events
