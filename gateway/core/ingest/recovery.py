"""Each publisher's messages in their own order: what is missing is requested, and waited for.

The Clone pattern of the ZeroMQ guide (chapter 5): publishers keep their newest messages and replay
them on request. A stream (one topic of one publisher's incarnation) that misses something gets a
`Repair`: its live messages are held until the missing ones have come, in a bounded time and room.
What does not come is lost, and reported. Other streams go on.

A repair is in one of these states (`RepairState`):

    GREETING   the publisher has sent no heartbeat yet, which says whether it can be asked
    QUEUED     the publisher answers as many requests as it may; this one waits for its turn
    REQUESTED  a request is under way
    DONE       nothing more will be replayed; what is held is released as soon as it may

    from       to         when
    (none)     GREETING   a stream's first message is not its number 1, and its flags promise heartbeats
    (none)     QUEUED, REQUESTED   a hole shows in a stream whose publisher offers replay
    (none)     DONE       a new incarnation must wait for what an earlier one still owes the topic
    GREETING   QUEUED, REQUESTED   the heartbeat offers replay
    GREETING   DONE       it does not, or does not come within `FIRST_HEARTBEAT_NS`
    QUEUED     REQUESTED  another request to the same publisher was answered
    QUEUED     DONE       the publisher is gone, or does not answer another request
    REQUESTED  QUEUED, REQUESTED   the reply holds a part of what was asked for
    REQUESTED  DONE       the reply holds the rest, or nothing more; or none comes within `ANSWER_NS`
    any        DONE       `HELD_MAX` or `HELD_BYTES_MAX` is reached

Holes in streams of publishers that do not replay are lost at once, without a repair.

Invariants: messages of a stream are released in the order of their numbers, each once; every number
up to `stream.newest` was released, or is in a `MissingRange` that the next entry of the topic
reports, or was before this gateway's time. A stream releases nothing while an earlier incarnation of
its topic has a repair or something unreported.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gateway.core.ingest.interest import Interest
from gateway.core.ingest.publishers import Heartbeat, Publisher, Publishers
from gateway.core.ingest.streams import Message, Repair, RepairState, Stream, Streams
from gateway.core.protocol.envelope import Envelope
from gateway.core.protocol.events import MissingRange


JOIN_NS = 10_000_000_000
"""For so long after its start a gateway takes publishers that it hears first for older than itself."""
ANSWER_NS = 2_000_000_000
"""How long a reply may take."""
FIRST_HEARTBEAT_NS = 3_000_000_000
"""How long a publisher's first heartbeat may take."""
ASK_AGAIN_NS = 5_000_000_000
"""A publisher that did not reply is not asked again before this."""
REQUESTS_OPEN_MAX = 8
"""Requests under way per publisher."""
HELD_MAX = 100_000
"""Messages held in all; beyond it, the stream that adds one gives its repair up."""
HELD_BYTES_MAX = 64 * 1024 * 1024

_SENDS_HEARTBEATS = 1  # bit 0 of an envelope's flags


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

    `history` returns how many messages of a topic are worth a request when this gateway starts,
    `interest` knows which topics are subscribed to at all. `started_ns` is when it began to listen.
    """

    def __init__(
        self,
        *,
        streams: Streams,
        started_ns: int,
        history: Callable[[str], int],
        interest: Interest | None = None,
    ) -> None:
        self.streams = streams
        self.publishers = Publishers()
        self.repaired = 0
        """Messages that were missing and then replayed."""
        self.failed = 0
        """Requests that got no reply in time."""
        self.interest = interest or Interest(everything=True, always=(), linger_ns=0)
        self._started_ns = started_ns
        self._history = history
        self._numbers = itertools.count(1)
        self._repairing: dict[Stream, None] = {}
        self._requested: dict[int, Stream] = {}
        self._requests: deque[ReplayRequest] = deque()
        self._releasable: dict[Stream, None] = {}
        """Streams whose repair has something to release, or is done."""
        self._blocked: dict[Stream, None] = {}
        """Those of them that wait for an earlier incarnation of their topic."""
        self._unreported: dict[Stream, None] = {}
        self._held = 0
        self._held_bytes = 0

    @property
    def recovering(self) -> int:
        """How many streams have a repair."""
        return len(self._repairing)

    @property
    def held(self) -> int:
        """How many messages are held."""
        return self._held

    # -- in ------------------------------------------------------------------------------------

    def receive(
        self, envelope: Envelope, topic: str, payload: bytes, *, now_ns: int
    ) -> Stream | None:
        """Take in a live message.

        Returns its stream if the message is released at once; None if it is held or dropped.
        Whenever it is None, ask what is `released`.
        """
        stream = self.streams.get(envelope.incarnation, topic)
        if stream is None:
            stream = self._begin_with_message(envelope, topic, now_ns)
            self._wait_for_earlier(stream)
        stream.last_ns = now_ns
        if stream.repair is None:
            if stream.unwatched:
                self._resume_watching(stream, envelope.sequence - 1)
            if envelope.sequence == stream.newest + 1:
                stream.newest += 1
                return stream
            if envelope.sequence <= stream.newest:
                self.streams.repeat(stream, envelope.sequence)
                return None
            if not self._start_repair(stream, envelope.sequence - 1, is_lost=True, now_ns=now_ns):
                self.streams.lose(stream, stream.newest + 1, envelope.sequence - 1)
                stream.newest += 1
                return stream
        self._hold(stream, envelope, payload)
        return None

    def on_heartbeat(self, heartbeat: Heartbeat, *, now_ns: int) -> None:
        """Take in a heartbeat: it shows what was published and did not come."""
        publisher = self.publishers.on_heartbeat(heartbeat, now_ns=now_ns)
        for topic, last in heartbeat.sequences.items():
            if not last or not self.interest.wants(topic):
                continue
            stream = self.streams.get(publisher.incarnation, topic)
            if stream is None:
                is_lost = self._is_lost(topic, now_ns)
                stream = self._begin(publisher.incarnation, topic, last, is_lost=is_lost)
                self._miss(stream, last, is_lost=is_lost, now_ns=now_ns)
                self._wait_for_earlier(stream)
            elif stream.repair is None:
                self._resume_watching(stream, last)
                self._miss(stream, last, is_lost=True, now_ns=now_ns)
            elif stream.repair.state is RepairState.GREETING:
                self._on_first_heartbeat(stream, stream.repair, publisher, now_ns)
            if not heartbeat.interval:
                stream.final = last
                self._unreported[stream] = None

    def on_reply(self, number: int, messages: Sequence[Message], *, now_ns: int) -> None:
        """Take in what a publisher replayed, in order; nothing, if it holds no more."""
        stream = self._requested.pop(number, None)
        repair = stream.repair if stream is not None else None
        if stream is None or repair is None:
            return
        publisher = self._finish_request(stream, now_ns)
        last = repair.first - 1
        for envelope, payload in messages:
            if envelope.incarnation == stream.incarnation and (
                last < envelope.sequence <= repair.last
            ):
                last = envelope.sequence
                repair.replayed.append((envelope, payload))
        self._releasable[stream] = None
        if last < repair.first or last >= repair.last or publisher is None or not publisher.replay:
            repair.state = RepairState.DONE
        else:
            repair.first = last + 1
            self._request(stream, repair, publisher, now_ns)

    def expire(self, *, now_ns: int) -> None:
        """Give up what took too long."""
        self.publishers.expire(now_ns=now_ns)
        for stream in list(self._repairing):
            repair = stream.repair
            if repair is None or not self._is_overdue(stream, repair, now_ns):
                continue
            if repair.state is RepairState.REQUESTED:
                del self._requested[repair.request]
                self.failed += 1
                publisher = self._finish_request(stream, now_ns)
                if publisher is not None:
                    publisher.ask_again_ns = now_ns + ASK_AGAIN_NS
                    self._give_up_queued(publisher)
            self._give_up(stream)

    # -- out -----------------------------------------------------------------------------------

    def take_requests(self) -> list[ReplayRequest]:
        """Return the requests to be sent."""
        requests = list(self._requests)
        self._requests.clear()
        return requests

    def released(self, *, now_ns: int) -> Iterator[tuple[Stream, Envelope, bytes]]:
        """Release what need not wait any longer, in order."""
        while self._releasable:
            stream = next(iter(self._releasable))
            del self._releasable[stream]
            repair = stream.repair
            if repair is None:
                continue
            if self._is_blocked(stream):
                self._blocked[stream] = None
                continue
            while repair.replayed:
                envelope, payload = repair.replayed.popleft()
                if envelope.sequence > stream.newest:
                    self._pass_over(stream, envelope.sequence - 1, is_lost=repair.is_lost)
                    stream.newest = envelope.sequence
                    self.repaired += 1
                    repair.is_lost = True  # from the first one on, a hole is a loss
                    yield stream, envelope, payload
            if repair.state is RepairState.DONE:
                self._pass_over(stream, repair.last, is_lost=repair.is_lost)
                yield from self._release_held(stream, repair, now_ns)

    def pause_unwatched(self) -> None:
        """Note which topics are not subscribed to any more: what is published meanwhile is not lost."""
        for stream in self.streams:
            stream.unwatched = not self.interest.wants(stream.topic)

    def take_unreported(self) -> list[Stream]:
        """Return streams with losses that no event will report soon, or whose publisher has ended."""
        found = [
            one for one in self._unreported if one.repair is None and not self._is_blocked(one)
        ]
        for stream in found:
            del self._unreported[stream]
        if found:
            self._unblock()
        return found

    # -- streams that begin --------------------------------------------------------------------

    def _begin_with_message(self, envelope: Envelope, topic: str, now_ns: int) -> Stream:
        last = envelope.sequence - 1
        is_lost = self._is_lost(topic, now_ns)
        stream = self._begin(envelope.incarnation, topic, last, is_lost=is_lost)
        if not last:
            return stream
        greeted = self.publishers.get(envelope.incarnation) is not None
        if not greeted and envelope.flags & _SENDS_HEARTBEATS:
            until_ns = now_ns + FIRST_HEARTBEAT_NS
            self._repair(stream, last, RepairState.GREETING, is_lost=is_lost, until_ns=until_ns)
        else:
            self._miss(stream, last, is_lost=is_lost, now_ns=now_ns, at_once=False)
        return stream

    def _begin(self, incarnation: int, topic: str, last: int, *, is_lost: bool) -> Stream:
        # What was published before anybody watched is not history: watching begins with what comes.
        history = 0 if self.interest.is_on_demand(topic) else self._history(topic)
        newest = 0 if is_lost else max(last - history, 0)
        stream = self.streams.begin(incarnation, topic, newest=newest)
        stream.first = newest + 1
        return stream

    def _is_lost(self, topic: str, now_ns: int) -> bool:
        """Return whether what a new stream had before its first message counts as lost."""
        if self.interest.is_on_demand(topic):
            return False
        joined = not self.streams.is_known(topic) and now_ns < self._started_ns + JOIN_NS
        return not joined and not self.streams.forgetful

    def _wait_for_earlier(self, stream: Stream) -> None:
        """Hold a new stream while its topic still waits for an earlier incarnation."""
        if stream.repair is None and self._is_blocked(stream):
            self._repair(stream, stream.newest, RepairState.DONE, is_lost=False)
            self._releasable[stream] = None

    def _is_blocked(self, stream: Stream) -> bool:
        return any(
            other.repair is not None or other in self._unreported
            for other in self.streams.before(stream)
        )

    def _unblock(self) -> None:
        self._releasable |= self._blocked
        self._blocked.clear()

    def _resume_watching(self, stream: Stream, last: int) -> None:
        """Go on with a topic that was not subscribed to for a while."""
        if stream.unwatched:
            stream.unwatched = False
            if last > stream.newest:
                stream.miss(MissingRange(stream.newest + 1, last, "unwatched"))

    # -- repairs -------------------------------------------------------------------------------

    def _miss(
        self, stream: Stream, last: int, *, is_lost: bool, now_ns: int, at_once: bool = True
    ) -> None:
        """Request what is missing up to `last`, or lose it; `at_once` if no event will report it."""
        if last > stream.newest and not self._start_repair(
            stream, last, is_lost=is_lost, now_ns=now_ns
        ):
            self._pass_over(stream, last, is_lost=is_lost)
        if at_once and stream.unreported:
            self._unreported[stream] = None

    def _pass_over(self, stream: Stream, last: int, *, is_lost: bool) -> None:
        """Go on behind `last`: what did not come is lost, or was before this gateway's time."""
        if last <= stream.newest:
            return
        if is_lost:
            self.streams.lose(stream, stream.newest + 1, last)
        stream.newest = last

    def _start_repair(
        self, stream: Stream, last: int, *, is_lost: bool, now_ns: int
    ) -> Repair | None:
        """Request what is missing up to `last`; None if the publisher cannot be asked."""
        publisher = self.publishers.get(stream.incarnation)
        if publisher is None or not publisher.replay or now_ns < publisher.ask_again_ns:
            return None
        repair = self._repair(stream, last, RepairState.QUEUED, is_lost=is_lost)
        self._request(stream, repair, publisher, now_ns)
        return repair

    def _repair(
        self, stream: Stream, last: int, state: RepairState, *, is_lost: bool, until_ns: int = 0
    ) -> Repair:
        self._repairing[stream] = None
        stream.repair = Repair(stream.newest + 1, last, is_lost, state, until_ns)
        return stream.repair

    def _on_first_heartbeat(
        self, stream: Stream, repair: Repair, publisher: Publisher, now_ns: int
    ) -> None:
        if publisher.replay:
            self._request(stream, repair, publisher, now_ns)
        else:
            self._give_up(stream)

    def _request(self, stream: Stream, repair: Repair, publisher: Publisher, now_ns: int) -> None:
        if publisher.requests_open >= REQUESTS_OPEN_MAX:
            repair.state = RepairState.QUEUED
            publisher.waiting.append(stream)
            return
        publisher.requests_open += 1
        repair.state = RepairState.REQUESTED
        repair.request = next(self._numbers)
        repair.until_ns = now_ns + ANSWER_NS
        self._requested[repair.request] = stream
        assert publisher.replay is not None
        who = (stream.incarnation, publisher.replay, publisher.replay_key)
        self._requests.append(
            ReplayRequest(repair.request, *who, stream.topic, repair.first, repair.last)
        )

    def _finish_request(self, stream: Stream, now_ns: int) -> Publisher | None:
        """Let a publisher's next request go; return the publisher, None if it is gone."""
        publisher = self.publishers.get(stream.incarnation)
        if publisher is None:
            return None
        publisher.requests_open -= 1
        if not publisher.replay:
            self._give_up_queued(publisher)
        elif publisher.waiting:
            waiting = publisher.waiting.popleft()
            if waiting.repair is not None:
                self._request(waiting, waiting.repair, publisher, now_ns)
        return publisher

    def _is_overdue(self, stream: Stream, repair: Repair, now_ns: int) -> bool:
        match repair.state:
            case RepairState.DONE:
                return False
            case RepairState.QUEUED:  # its turn never comes if the publisher is gone
                return self.publishers.get(stream.incarnation) is None
            case _:
                return repair.until_ns <= now_ns

    def _give_up_queued(self, publisher: Publisher) -> None:
        while publisher.waiting:
            self._give_up(publisher.waiting.popleft())

    def _give_up(self, stream: Stream) -> None:
        if stream.repair is not None:
            stream.repair.state = RepairState.DONE
            self._releasable[stream] = None

    def _hold(self, stream: Stream, envelope: Envelope, payload: bytes) -> None:
        assert stream.repair is not None
        stream.repair.held.append((envelope, payload))
        self._held += 1
        self._held_bytes += len(payload)
        if self._held > HELD_MAX or self._held_bytes > HELD_BYTES_MAX:
            self._give_up(stream)

    def _release_held(
        self, stream: Stream, repair: Repair, now_ns: int
    ) -> Iterator[tuple[Stream, Envelope, bytes]]:
        """Release what was held, up to where something is missing again."""
        held = repair.held
        stream.repair = None
        del self._repairing[stream]
        self._unblock()
        while held:
            envelope, payload = held[0]
            sequence = envelope.sequence
            if sequence > stream.newest + 1:
                again = self._start_repair(stream, sequence - 1, is_lost=True, now_ns=now_ns)
                if again is not None:
                    again.held = held
                    return
                self.streams.lose(stream, stream.newest + 1, sequence - 1)
            held.popleft()
            self._held -= 1
            self._held_bytes -= len(payload)
            if sequence <= stream.newest:
                self.streams.repeat(stream, sequence)
                continue
            stream.newest = sequence
            yield stream, envelope, payload
        if stream.unreported or stream.final is not None:
            self._unreported[stream] = None
