"""Where a stream starts: which messages are expected of it, and whether missing ones count as lost.

A stream that is first heard in the middle may be older than this gateway: then as much is expected as the
channel keeps, and nothing counts as lost. Otherwise its first messages are lost.

A stream that was forgotten and continues is a third case. The channel's log says how far it had come. If the
log has forgotten it, too, or numbers its events: then a gap of reason ``epoch`` says that messages may be
missing, and nothing is requested."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.core.ingest.interest import Interest
from gateway.core.ingest.streams import Stream, Streams
from gateway.core.protocol.events import MissingRange


STARTUP_NS = 10_000_000_000
"""A publisher whose first message arrives within this time after the gateway's start may be older."""
_UNKNOWN_NS = 2**64
"""A time of sending later than all others: no message of the stream is taken for one of a restart."""


@dataclass(frozen=True, slots=True)
class Starts:
    """Starts streams. For the arguments see `Recovery`."""

    streams: Streams
    started_ns: int
    history: Callable[[str], int]
    interest: Interest
    log_reached: Callable[[str, int], int | None]
    is_numbered: Callable[[str], bool]

    def reached(self, topic: str, incarnation: int) -> int | None:
        """Return how far a stream had come if it was forgotten; 0 if it is new, None if that is not known."""
        return self.log_reached(topic, incarnation) if self.streams.has_forgotten else 0

    def start(self, incarnation: int, topic: str, last: int, *, now_ns: int) -> tuple[Stream, bool]:
        """Start a stream that has come to `last`; return it, and whether what is missing counts as lost."""
        reached = self.reached(topic, incarnation)
        is_lost = bool(reached) or self._is_lost(topic, now_ns)
        if reached:
            newest = reached
        elif reached is None:
            newest = last
        else:
            # On demand, messages from before the topic was watched are not requested.
            history = 0 if self.interest.is_on_demand(topic) else self.history(topic)
            newest = 0 if is_lost else max(last - history, 0)
        stream = self.streams.start_stream(incarnation, topic, newest=newest)
        stream.first = newest + 1
        if reached:
            stream.sent_ns = _UNKNOWN_NS
        elif reached is None and last:
            stream.unreported.append(MissingRange(last, last, "epoch"))
        return stream, is_lost

    def _is_lost(self, topic: str, now_ns: int) -> bool:
        """Return whether messages before a new stream's first one are lost, not older than the gateway."""
        if self.interest.is_on_demand(topic):
            return False
        if self.streams.has_topic(topic) or self.is_numbered(topic):
            return True
        return not self.streams.has_forgotten and now_ns >= self.started_ns + STARTUP_NS
