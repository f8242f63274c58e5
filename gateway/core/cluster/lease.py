"""Who numbers the events of the bus that come without numbers, if one gateway of a cluster does that for all.

    waiting    it is not known who has the lease: what this gateway hears waits, for `WAIT_NS` at most
    alone      the engine is down for longer: this gateway numbers for its own clients
    following  another gateway has the lease: what this one hears is dropped, as it comes from the engine
    holding    this gateway has the lease: what it hears waits until the engine has numbered it, for all

    from                 when                                     to          with what waits
    any                  the lease is taken                       holding     it is sent, unless another gateway had the lease
    any                  another gateway has the lease            following   it is dropped
    holding              the engine refuses its fence             following   it is dropped
    following, holding   the engine is down                       waiting     it waits, unless it was sent
    waiting              `WAIT_NS` have passed                    alone       it is numbered here

A fence grows each time the lease is taken, also by the gateway that had it. The engine refuses a lower one; and with a
new one it begins a new source on each channel, so a gap there says that what came between two holders is not known.

Invariants: a channel is complete while this gateway has numbered all that came, or had it numbered by the engine; else a
gap precedes the next event that it numbers for itself, also the first one: what others numbered before is not known;
what waits is bounded, and what is dropped because of that leaves a hole in the numbers. An event may come twice, from
two sources, when the engine comes back; none is missing without a gap before the next one of its channel."""

from collections import Counter, deque
from collections.abc import Sequence, Set
from typing import Literal, NamedTuple

import msgspec

from gateway.core.protocol.events import Event, MissingRange


State = Literal["waiting", "alone", "following", "holding"]

EVENTS_MAX = 10_000
BYTES_MAX = 64 * 1024 * 1024
WAIT_NS = 2_000_000_000
_UNKNOWN = MissingRange(0, 0, "epoch")


class Waiting(NamedTuple):
    """An event to be numbered, and how many before it on its channel were dropped."""

    event: Event
    skipped: int


class Lease:
    def __init__(self, *, now_ns: int, events_max: int = EVENTS_MAX, bytes_max: int = BYTES_MAX) -> None:
        self.state: State = "waiting"
        self.fence = 0
        """That of the lease when this gateway had it last."""
        self.refused = 0
        """How often the engine refused a fence of this gateway: another one had taken the lease meanwhile."""
        self.overflowed = 0
        """Events that were dropped because too many waited."""
        self._until_ns = now_ns + WAIT_NS
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._waiting: deque[Event] = deque()
        self._bytes = 0
        self._sent: Sequence[Waiting] = ()
        self._skipped: Counter[str] = Counter()
        """How many events of each channel were dropped since its last one that was sent, or refused."""
        self._complete: set[str] = set()
        """Channels whose next event numbered here needs no gap before it."""

    def take(self, events: Sequence[Event]) -> list[Event]:
        """Take events of the bus; return those that are to be appended to the logs of this gateway now."""
        here: list[Event] = []
        for event in events:
            if event.incarnation is not None:
                here.append(event)
            elif self.state == "alone":
                here.append(self._numbered_here(event))
            elif self.state == "following":
                self._complete.discard(event.channel)
            else:
                self._wait(event)
        return here

    @property
    def to_send(self) -> bool:
        """Whether the engine is to number events now."""
        return self.state == "holding" and bool(self._waiting)

    def hold(self, fence: int) -> None:
        """Take the lease, or go on with it. If another gateway had it meanwhile, that may have numbered what waits."""
        if fence not in (self.fence, self.fence + 1, 1):
            self._drop()
        self.state, self.fence = "holding", fence

    def follow(self) -> None:
        """Leave numbering to another gateway."""
        self._drop()
        self.state = "following"

    def refuse(self) -> None:
        """Note that the engine knows a higher fence."""
        self.refused += 1
        self.follow()

    def lose(self, *, now_ns: int) -> None:
        """Note that the engine fails: it may be back soon. Then the lease is to be taken anew before more is sent, as it
        is not known whether the engine has numbered what was sent."""
        self._complete.difference_update(one.event.channel for one in self._sent)
        self._sent = ()
        if self.state != "alone":
            self.state, self._until_ns = "waiting", now_ns + WAIT_NS

    def expire(self, *, now_ns: int) -> list[Event]:
        """Wait no longer than `WAIT_NS`; return what waited, to be appended to the logs of this gateway now."""
        if self.state != "waiting" or now_ns < self._until_ns:
            return []
        waiting = list(self._waiting)
        self._waiting.clear()
        self._drop()
        self.state = "alone"
        return [self._numbered_here(one) for one in waiting]

    def send(self, count: int) -> Sequence[Waiting]:
        """Return the events that the engine is to number next, in order; `confirm` them before the next ones."""
        assert not self._sent
        sent: list[Waiting] = []
        while self._waiting and len(sent) < count:
            event = self._waiting.popleft()
            self._bytes -= len(event.fields)
            sent.append(Waiting(event, self._skipped.pop(event.channel, 0)))
        self._sent = sent
        return sent

    def confirm(self, *, refused: Sequence[Waiting] = (), lacking: Set[str] = frozenset()) -> None:
        """Note that the engine has numbered what was sent, but for what it has `refused`, as it has no room for further
        channels: if it has room later, the next event leaves out their numbers. `lacking` are channels whose logs do not
        have all of it yet."""
        self._complete.update(one.event.channel for one in self._sent)
        self._complete.difference_update(lacking)
        for one in refused:
            self._complete.discard(one.event.channel)
            self._skipped[one.event.channel] += one.skipped + 1
        self._sent = ()

    def forget(self, channel: str) -> None:
        """Forget a channel that was closed."""
        self._complete.discard(channel)
        self._skipped.pop(channel, None)

    def _wait(self, event: Event) -> None:
        self._waiting.append(event)
        self._bytes += len(event.fields)
        while len(self._waiting) > self._events_max or (self._bytes > self._bytes_max and len(self._waiting) > 1):
            oldest = self._waiting.popleft()
            self._bytes -= len(oldest.fields)
            self._skipped[oldest.channel] += 1
            self.overflowed += 1

    def _drop(self) -> None:
        """Drop what waits, and do not rely on what was sent."""
        self._complete.difference_update(one.channel for one in self._waiting)
        self._complete.difference_update(one.event.channel for one in self._sent)
        self._complete.difference_update(self._skipped)
        self._sent = ()
        self._waiting.clear()
        self._skipped.clear()
        self._bytes = 0

    def _numbered_here(self, event: Event) -> Event:
        if event.channel in self._complete:
            return event
        self._complete.add(event.channel)
        return msgspec.structs.replace(event, missing=(_UNKNOWN, *event.missing))
