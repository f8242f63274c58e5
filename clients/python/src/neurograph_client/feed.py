"""What waits for the application on behalf of one subscription: each item once, in order, bounded."""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from neurograph_client.items import Event, Gap, Position, is_wildcard, matches


Item = Event[Any] | Gap

_EPOCHS_MAX = 64
_ENDED_MAX = 1024


@dataclass(frozen=True, slots=True)
class Options:
    """How a subscription starts, and what it leaves out."""

    last: int | None = None
    since: Position | Mapping[str, Position] | None = None
    filter: str | None = None
    rate: float | None = None

    @property
    def conditions(self) -> dict[str, Any]:
        """What holds for as long as the subscription does, as the protocol has it."""
        given = {"filter": self.filter, "rate": self.rate, "binary": True}
        return {name: value for name, value in given.items() if value is not None}

    def start_of(self, pattern: str) -> dict[str, Any]:
        """What holds for the first time only, for one of the names and patterns."""
        found: dict[str, Any] = {} if self.last is None else {"last": self.last}
        if isinstance(self.since, Position):
            found["since"] = self.since.as_json()
        elif self.since is not None:
            since = {name: place.as_json() for name, place in self.since.items() if matches(pattern, name)}
            if since or is_wildcard(pattern):
                found["since"] = since
        return found


class Feed:
    """A bounded buffer between the socket and one subscription's reader.

    It is `full` from `limit` items on until half of them are taken; who fills it is to stop then.
    `on_room` is called when there is room again. What was handed in before goes no further: the
    gateway may send an event again after a reconnect, or because another subscription began.
    """

    def __init__(
        self, patterns: tuple[str, ...], options: Options, *, limit: int, on_room: Callable[[], object]
    ) -> None:
        self.patterns = patterns
        self.options = options
        self.full = False
        self.confirmed = asyncio.Event()
        self.conflated = 0
        """How many events were replaced by newer ones."""
        self.duplicates = 0
        """How many events came again, and went no further."""
        self.starts: dict[str, Position] = {}
        """Behind which position each channel began."""
        self._items: deque[Item] = deque()
        self._limit = limit
        self._on_room = on_room
        self._seen: dict[str, dict[str, int]] = {}
        self._ended: dict[tuple[str, str], int] = {}
        """The offsets at which sources ended, by channel and epoch, as far as a gap has said it."""
        self._waiter: asyncio.Future[None] | None = None
        self._over: Exception | None = None

    def __len__(self) -> int:
        return len(self._items)

    @property
    def over(self) -> Exception | None:
        """Why nothing more will come; StopAsyncIteration if that is as it should be."""
        return self._over

    def selects(self, channel: str) -> bool:
        """Tell whether a channel's events belong here."""
        return any(matches(pattern, channel) for pattern in self.patterns)

    def among(self, channels: Collection[str]) -> list[str]:
        """Return those of some channels whose events belong here."""
        if any(map(is_wildcard, self.patterns)):
            return [channel for channel in channels if self.selects(channel)]
        return [channel for channel in dict.fromkeys(self.patterns) if channel in channels]

    # -- what the socket brings ----------------------------------------------------------------

    def begin(self, channel: str, place: Position) -> None:
        """Note that what comes up to a place is not wanted."""
        self.starts.setdefault(channel, place)
        for epoch, offset in place.offsets.items():
            self._note(self._seen_of(channel), epoch, offset)

    def name_epoch(self, channel: str, epoch: str) -> None:
        """Note the epoch of what came before it was known."""
        seen = self._seen_of(channel)
        if "" in seen:
            self._note(seen, epoch, seen.pop(""))

    def forget(self, channel: str) -> None:
        """Begin a channel anew, which has lost its numbering."""
        self._seen.pop(channel, None)

    def offer(self, event: Event[Any]) -> None:
        """Take in an event, unless it came before."""
        seen = self._seen.get(event.channel)
        if seen is None:
            seen = self._seen_of(event.channel)
        known = seen.get(event.epoch)
        if known is None:
            self._note(seen, event.epoch, event.offset)
        elif event.offset > known:
            seen[event.epoch] = event.offset
        else:
            self.duplicates += 1
            return
        self._put(event)

    def offer_gap(self, gap: Gap, *, lost: bool) -> None:
        """Take in the part of a gap that is news.

        `lost` says that the gateway does not know the place from which it was to go on: such a gap
        is always news.
        """
        seen = self._seen_of(gap.channel)
        known = seen.get(gap.epoch)
        to = gap.to
        if to is None:  # the source ended
            source, at = (gap.channel, gap.epoch), known or 0
            if gap.count == 0 or (self._ended.get(source) == at and not lost):
                return
            self._ended[source] = at
            if len(self._ended) > _ENDED_MAX:
                del self._ended[next(iter(self._ended))]
            self._note(seen, gap.epoch, at)
        else:
            if known is not None and to <= known:
                return
            if known is not None and gap.from_ is not None and gap.from_ <= known:
                count = to - known if gap.count == to - gap.from_ + 1 else None
                gap = replace(gap, from_=known + 1, count=count)
            self._note(seen, gap.epoch, to)
        if gap.reason != "filtered":  # which is what was asked for
            self._put(gap)

    def end(self, why: Exception) -> None:
        """Let nothing more in; what waits can still be taken."""
        if self._over is None:
            self._over = why
            self.confirmed.set()
            self._wake()

    def _seen_of(self, channel: str) -> dict[str, int]:
        return self._seen.setdefault(channel, {})

    def _note(self, seen: dict[str, int], epoch: str, offset: int) -> None:
        seen[epoch] = max(offset, seen.get(epoch, offset))
        if len(seen) > _EPOCHS_MAX:
            del seen[next(iter(seen))]

    def _put(self, item: Item) -> None:
        if self._over is not None:
            return
        self._items.append(item)
        if len(self._items) >= self._limit:
            self.full = True
        if self._waiter is not None:
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- what the application takes ------------------------------------------------------------

    def take_now(self) -> Item | None:
        """Return the next item if there is one."""
        if self.full or not self._items:
            return None  # `take` makes room
        return self._items.popleft()

    async def take(self) -> Item:
        """Wait for the next item.

        Raises:
            StopAsyncIteration: The subscription was closed.
            ClientError: The gateway refused it, or the client has ended for good.
        """
        items = self._items
        while not items:
            if self._over is not None:
                raise self._over
            await self._wait()
        item = items.popleft()
        if self.full and len(items) <= self._limit // 2:
            self._make_room()
        return item

    async def take_all(self) -> list[Item]:
        """Wait until there is something, and take all of it; see `take`."""
        return [await self.take(), *self.take_waiting()]

    def take_waiting(self) -> list[Item]:
        """Take all that waits."""
        found = [*self._items]
        self._items.clear()
        self._make_room()
        return found

    async def _wait(self) -> None:
        if self._waiter is not None:
            raise RuntimeError("two tasks wait on one subscription; give each its own")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _make_room(self) -> None:
        if self.full:
            self.full = False
            self._on_room()
