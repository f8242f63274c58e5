"""Each publisher's messages in their own order: what was missed is asked for, and waited for.

The Clone pattern of the ZeroMQ guide (chapter 5): publishers keep their newest messages and replay
them on request. A stream that misses something gets a gate, behind which its live messages are
held until the missing ones have come, in a bounded time and room; what does not come is lost, and
told. Other streams flow on. Streams of publishers that do not replay have no gates: what they miss
is lost at once.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gateway.core.ingest.interest import Interest
from gateway.core.ingest.publishers import Heartbeat, Publisher, Publishers
from gateway.core.ingest.streams import Message, Repair, Stream, Streams
from gateway.core.protocol.envelope import Envelope
from gateway.core.protocol.events import MissingRange


JOIN_NS = 10_000_000_000
"""How long after its own start a gateway takes publishers for older than itself."""
ANSWER_NS = 2_000_000_000
"""How long an answer is waited for."""
FIRST_HEARTBEAT_NS = 3_000_000_000
"""How long the first heartbeat is waited for, of publishers that send any."""
ASK_AGAIN_NS = 5_000_000_000
"""How long a publisher that did not answer is not asked again."""
REQUESTS_OPEN_MAX = 8
"""Requests under way per publisher."""
HELD_MAX = 100_000
"""Messages held in all; beyond it the stream that adds one waits no longer."""
HELD_BYTES_MAX = 64 * 1024 * 1024

_SENDS_HEARTBEATS = 1  # flag of an envelope: its publisher sends heartbeats


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """A request for a topic's messages from `first` to `last`, to the publisher at `endpoint`.

    `key` is the public CURVE key that it announced.
    """

    number: int
    incarnation: int
    endpoint: str
    key: str | None
    topic: str
    first: int
    last: int


class Recovery:
    """Puts what came live and what was replayed into one order per stream.

    `history` says how many messages of a topic are worth asking for when this gateway begins,
    `interest` which topics are fetched at all. `started_ns` is when it began to listen.
    """

    def __init__(
        self,
        *,
        sequences: Streams,
        started_ns: int,
        history: Callable[[str], int],
        interest: Interest | None = None,
    ) -> None:
        self.sequences = sequences
        self.publishers = Publishers()
        self.repaired = 0
        """Messages that were missed and then replayed."""
        self.failed = 0
        """Requests that were not answered in time."""
        self._started_ns = started_ns
        self._history = history
        self.interest = interest or Interest(everything=True, always=(), linger_ns=0)
        self._numbers = itertools.count(1)
        self._repairing: dict[Stream, None] = {}
        self._asked: dict[int, Stream] = {}
        self._requests: deque[ReplayRequest] = deque()
        self._opening: dict[Stream, None] = {}
        self._behind: dict[Stream, None] = {}
        self._unreported: dict[Stream, None] = {}
        self._held = 0
        self._held_bytes = 0

    @property
    def recovering(self) -> int:
        """How many streams wait for what they missed."""
        return len(self._repairing)

    @property
    def held(self) -> int:
        """How many messages are held."""
        return self._held

    # -- in ------------------------------------------------------------------------------------

    def take(self, envelope: Envelope, topic: str, payload: bytes, *, now_ns: int) -> Stream | None:
        """Take in a message that came live.

        Returns its stream if it may pass at once; None if it is held, or goes no further. Whenever
        it is None, see what is `released`.
        """
        stream = self.sequences.get(envelope.incarnation, topic)
        if stream is None:
            stream = self._meet(envelope, topic, now_ns)
            self._queue(stream)
        stream.last_ns = now_ns
        if stream.repair is None:
            if stream.unwatched:
                self._wake(stream, envelope.sequence - 1)
            if envelope.sequence == stream.newest + 1:
                stream.newest += 1
                return stream
            if envelope.sequence <= stream.newest:
                self.sequences.repeat(stream, envelope.sequence)
                return None
            if not self._start_repair(
                stream, envelope.sequence - 1, counts_as_lost=True, now_ns=now_ns
            ):
                self.sequences.lose(stream, stream.newest + 1, envelope.sequence - 1)
                stream.newest += 1
                return stream
        self._hold(stream, envelope, payload)
        return None

    def hear(self, beat: Heartbeat, *, now_ns: int) -> None:
        """Take in a heartbeat: it shows what was published and did not come."""
        publisher = self.publishers.hear(beat, now_ns=now_ns)
        for topic, last in beat.sequences.items():
            if not last or not self.interest.wants(topic):
                continue
            stream = self.sequences.get(publisher.incarnation, topic)
            if stream is None:
                counts_as_lost = self._counts_as_lost(topic, now_ns)
                stream = self._begin(
                    publisher.incarnation, topic, last, counts_as_lost=counts_as_lost
                )
                self._miss(stream, last, counts_as_lost=counts_as_lost, now_ns=now_ns)
                self._queue(stream)
            elif stream.repair is None:
                self._wake(stream, last)
                self._miss(stream, last, counts_as_lost=True, now_ns=now_ns)
            elif stream.repair.asked is None and stream.repair.until_ns is not None:
                self._greet(stream, stream.repair, publisher, now_ns)
            if not beat.interval:
                stream.final = last
                self._unreported[stream] = None

    def answer(self, number: int, messages: Sequence[Message], *, now_ns: int) -> None:
        """Take in what a publisher replayed, in order; nothing, if it holds no more."""
        stream = self._asked.pop(number, None)
        repair = stream.repair if stream is not None else None
        if stream is None or repair is None:
            return
        publisher = self._answered(stream, now_ns)
        last = repair.first - 1
        for envelope, payload in messages:
            if (
                envelope.incarnation == stream.incarnation
                and last < envelope.sequence <= repair.last
            ):
                last = envelope.sequence
                repair.replayed.append((envelope, payload))
        self._opening[stream] = None
        repair.asked = None
        if last < repair.first or last >= repair.last or publisher is None or not publisher.replay:
            repair.done = True
        else:
            repair.first = last + 1
            self._ask(stream, repair, publisher, now_ns)

    def expire(self, *, now_ns: int) -> None:
        """Give up waiting where it took too long."""
        self.publishers.expire(now_ns=now_ns)
        for stream in list(self._repairing):
            repair = stream.repair
            if repair is None or repair.done or not self._is_over(stream, repair, now_ns):
                continue
            if repair.asked is not None:
                del self._asked[repair.asked]
                self.failed += 1
                publisher = self._answered(stream, now_ns)
                if publisher is not None:
                    publisher.ask_again_ns = now_ns + ASK_AGAIN_NS
                    self._give_up_all(publisher)
            self._give_up(stream)

    # -- out -----------------------------------------------------------------------------------

    def take_requests(self) -> list[ReplayRequest]:
        """Return the requests to be sent."""
        asks = list(self._requests)
        self._requests.clear()
        return asks

    def released(self, *, now_ns: int) -> Iterator[tuple[Stream, Envelope, bytes]]:
        """Let go what need not wait any longer, in order."""
        while self._opening:
            stream = next(iter(self._opening))
            del self._opening[stream]
            repair = stream.repair
            if repair is None:
                continue
            if self._is_behind(stream):
                self._behind[stream] = None
                continue
            while repair.replayed:
                envelope, payload = repair.replayed.popleft()
                if envelope.sequence > stream.newest:
                    self._pass_over(
                        stream, envelope.sequence - 1, counts_as_lost=repair.counts_as_lost
                    )
                    stream.newest = envelope.sequence
                    self.repaired += 1
                    repair.counts_as_lost = True  # from the first one on, a hole is a loss
                    yield stream, envelope, payload
            if repair.done:
                self._pass_over(stream, repair.last, counts_as_lost=repair.counts_as_lost)
                yield from self._release(stream, repair, now_ns)

    def sleep(self) -> None:
        """Note that topics are not fetched any more: what comes meanwhile is no loss."""
        for stream in self.sequences:
            stream.unwatched = not self.interest.wants(stream.topic)

    def take_unreported(self) -> list[Stream]:
        """Return streams with losses that no event will tell soon, or whose publisher has ended."""
        unreported = [
            one for one in self._unreported if one.repair is None and not self._is_behind(one)
        ]
        for stream in unreported:
            del self._unreported[stream]
        if unreported:
            self._opening |= self._behind
            self._behind.clear()
        return unreported

    # -- inside --------------------------------------------------------------------------------

    def _meet(self, envelope: Envelope, topic: str, now_ns: int) -> Stream:
        """Begin a stream with its first message that came."""
        last = envelope.sequence - 1
        counts_as_lost = self._counts_as_lost(topic, now_ns)
        stream = self._begin(envelope.incarnation, topic, last, counts_as_lost=counts_as_lost)
        if not last:
            return stream
        greeted = self.publishers.get(envelope.incarnation) is not None
        if not greeted and envelope.flags & _SENDS_HEARTBEATS:
            # Its heartbeat will say whether it can be asked.
            self._repairing[stream] = None
            stream.repair = Repair(
                stream.newest + 1, last, counts_as_lost, now_ns + FIRST_HEARTBEAT_NS
            )
        else:
            self._miss(stream, last, counts_as_lost=counts_as_lost, now_ns=now_ns, at_once=False)
        return stream

    def _queue(self, stream: Stream) -> None:
        """Hold a new stream for what its publisher's last life still owes, as that comes first."""
        if stream.repair is None and self._is_behind(stream):
            self._repairing[stream] = None
            stream.repair = Repair(stream.newest + 1, stream.newest, False, None, done=True)
            self._opening[stream] = None

    def _is_behind(self, stream: Stream) -> bool:
        """Tell whether something of an earlier life on the same topic is still to come, or be told."""
        return any(
            other.repair is not None or other in self._unreported
            for other in self.sequences.before(stream)
        )

    def _counts_as_lost(self, topic: str, now_ns: int) -> bool:
        """Tell whether a stream that is heard for the first time has lost what it had before."""
        if self.interest.is_on_demand(topic):
            return False
        joined = not self.sequences.is_known(topic) and now_ns < self._started_ns + JOIN_NS
        return not joined and not self.sequences.forgetful

    def _wake(self, stream: Stream, last: int) -> None:
        """Go on with a topic that was not fetched for a while."""
        if stream.unwatched:
            stream.unwatched = False
            if last > stream.newest:
                stream.miss(MissingRange(stream.newest + 1, last, "unwatched"))

    def _begin(self, incarnation: int, topic: str, last: int, *, counts_as_lost: bool) -> Stream:
        # What nobody watched is not history: who begins to watch begins with what comes.
        history = 0 if self.interest.is_on_demand(topic) else self._history(topic)
        newest = 0 if counts_as_lost else max(last - history, 0)
        stream = self.sequences.begin(incarnation, topic, newest=newest)
        stream.first = newest + 1
        return stream

    def _miss(
        self, stream: Stream, last: int, *, counts_as_lost: bool, now_ns: int, at_once: bool = True
    ) -> None:
        """Ask for what is missing up to `last`, or give it up; `at_once` if no event will tell."""
        if last > stream.newest and not self._start_repair(
            stream, last, counts_as_lost=counts_as_lost, now_ns=now_ns
        ):
            self._pass_over(stream, last, counts_as_lost=counts_as_lost)
        if at_once and stream.unreported:
            self._unreported[stream] = None

    def _pass_over(self, stream: Stream, last: int, *, counts_as_lost: bool) -> None:
        """Go on behind `last`: what has not come up to there is lost, or was before our time."""
        if last <= stream.newest:
            return
        if counts_as_lost:
            self.sequences.lose(stream, stream.newest + 1, last)
        stream.newest = last

    def _start_repair(
        self, stream: Stream, last: int, *, counts_as_lost: bool, now_ns: int
    ) -> Repair | None:
        """Ask for what is missing up to `last`; None if its publisher cannot be asked."""
        publisher = self.publishers.get(stream.incarnation)
        if publisher is None or not publisher.replay or now_ns < publisher.ask_again_ns:
            return None
        self._repairing[stream] = None
        stream.repair = repair = Repair(stream.newest + 1, last, counts_as_lost, None)
        self._ask(stream, repair, publisher, now_ns)
        return repair

    def _greet(self, stream: Stream, repair: Repair, publisher: Publisher, now_ns: int) -> None:
        """Go on with a stream that waited for its publisher's first heartbeat."""
        if repair.done:
            return
        if publisher.replay:
            self._ask(stream, repair, publisher, now_ns)
        else:
            self._give_up(stream)

    def _ask(self, stream: Stream, repair: Repair, publisher: Publisher, now_ns: int) -> None:
        if publisher.requests_open >= REQUESTS_OPEN_MAX:
            repair.until_ns = None
            publisher.waiting.append(stream)
            return
        publisher.requests_open += 1
        repair.asked = next(self._numbers)
        repair.until_ns = now_ns + ANSWER_NS
        self._asked[repair.asked] = stream
        assert publisher.replay is not None
        who = (stream.incarnation, publisher.replay, publisher.replay_key)
        self._requests.append(
            ReplayRequest(repair.asked, *who, stream.topic, repair.first, repair.last)
        )

    def _answered(self, stream: Stream, now_ns: int) -> Publisher | None:
        """Make room for the next request to a publisher."""
        publisher = self.publishers.get(stream.incarnation)
        if publisher is None:
            return None
        publisher.requests_open -= 1
        if not publisher.replay:
            self._give_up_all(publisher)
        elif publisher.waiting:
            waiting = publisher.waiting.popleft()
            if waiting.repair is not None:
                self._ask(waiting, waiting.repair, publisher, now_ns)
        return publisher

    def _is_over(self, stream: Stream, repair: Repair, now_ns: int) -> bool:
        if repair.until_ns is None:  # its turn to be asked for never comes if its publisher is gone
            return self.publishers.get(stream.incarnation) is None
        return repair.until_ns <= now_ns

    def _give_up_all(self, publisher: Publisher) -> None:
        while publisher.waiting:
            self._give_up(publisher.waiting.popleft())

    def _give_up(self, stream: Stream) -> None:
        if stream.repair is not None:
            stream.repair.done = True
            self._opening[stream] = None

    def _hold(self, stream: Stream, envelope: Envelope, payload: bytes) -> None:
        assert stream.repair is not None
        stream.repair.held.append((envelope, payload))
        self._held += 1
        self._held_bytes += len(payload)
        if self._held > HELD_MAX or self._held_bytes > HELD_BYTES_MAX:
            self._give_up(stream)

    def _release(
        self, stream: Stream, repair: Repair, now_ns: int
    ) -> Iterator[tuple[Stream, Envelope, bytes]]:
        """Let go what was held, up to where something is missing again."""
        held = repair.held
        stream.repair = None
        del self._repairing[stream]
        self._opening |= self._behind
        self._behind.clear()
        while held:
            envelope, payload = held[0]
            sequence = envelope.sequence
            if sequence > stream.newest + 1:
                again = self._start_repair(stream, sequence - 1, counts_as_lost=True, now_ns=now_ns)
                if again is not None:
                    again.held = held
                    return
                self.sequences.lose(stream, stream.newest + 1, sequence - 1)
            held.popleft()
            self._held -= 1
            self._held_bytes -= len(payload)
            if sequence <= stream.newest:
                self.sequences.repeat(stream, sequence)
                continue
            stream.newest = sequence
            yield stream, envelope, payload
        if stream.unreported or stream.final is not None:
            self._unreported[stream] = None
