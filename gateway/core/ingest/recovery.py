"""Each publisher's messages in order: the gateway requests missing ones from the publisher.

This is the Clone pattern of the ZeroMQ guide (chapter 5): publishers keep their newest messages and
replay them on request. If messages are missing in a stream (one topic of one publisher's incarnation),
the stream gets a `Repair`: later messages are held until the missing ones arrive. The time and the
number of messages held are limited. Messages that do not arrive are reported as lost. Other streams
are not delayed.

A repair is in one of these states (`RepairState`):

    AWAITING_HEARTBEAT  the publisher has sent no heartbeat, so whether it offers replay is not known
    QUEUED              too many requests are under way, see `gateway.core.ingest.replay_turns`
    REQUESTED           a request is under way
    DONE                nothing more will be replayed; what is held is released as soon as no earlier
                        incarnation blocks the stream

    from                to                  when
    (none)              AWAITING_HEARTBEAT  messages are missing, the publisher sent no heartbeat yet,
                                            and its flags say that it will; once per stream
    (none)              QUEUED, REQUESTED   messages are missing, and the publisher offers replay
    (none)              DONE                a new incarnation is blocked by an earlier one
    AWAITING_HEARTBEAT  QUEUED, REQUESTED   a heartbeat offers replay
    AWAITING_HEARTBEAT  DONE                a heartbeat does not, or there is none within
                                            `FIRST_HEARTBEAT_TIMEOUT_NS`
    QUEUED              REQUESTED           another request has ended
    QUEUED              DONE                the publisher ended, no longer offers replay, or did not
                                            answer another request
    REQUESTED           QUEUED, REQUESTED   the reply has only the first of the missing messages
    REQUESTED           DONE                the reply has the last one, or none; the publisher ended or
                                            no longer offers replay; or there is no reply within
                                            `REPLY_TIMEOUT_NS`
    any                 DONE                `HELD_MAX` or `HELD_BYTES_MAX` is exceeded

If the publisher does not offer replay, missing messages are lost at once, without a repair.

Invariants: a stream's messages are released in the order of their numbers, each once. Every number up
to `stream.newest` was released, is in a `MissingRange` that the topic's next entry reports, or is older
than this gateway's start. A stream is blocked, and releases nothing, while an earlier incarnation of
its topic has a repair or an unreported loss.

The least recently used stream is forgotten if there are `streams_max`; see `gateway.core.ingest.starts`
for what happens if it continues later."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from gateway.core.ingest.interest import Interest
from gateway.core.ingest.publishers import FIRST_HEARTBEAT_TIMEOUT_NS, Heartbeat, Publisher, Publishers, ReplayRequest
from gateway.core.ingest.replay_turns import ReplayTurns
from gateway.core.ingest.starts import Starts
from gateway.core.ingest.streams import Message, NoRoom, Repair, RepairState, Stream, Streams
from gateway.core.protocol.envelope import Envelope
from gateway.core.protocol.events import MissingRange


REPLY_TIMEOUT_NS = 2_000_000_000
RETRY_NS = 5_000_000_000
"""For how long no request is sent to a publisher that did not reply."""
HELD_MAX = 100_000
"""Messages held by all streams; the stream that exceeds it gives up its repair."""
HELD_BYTES_MAX = 64 * 1024 * 1024

_SENDS_HEARTBEATS = 1  # bit 0 of an envelope's flags


class Recovery:
    """Puts live and replayed messages into one order per stream.

    `history` returns how many of a topic's messages to request when this gateway starts, `interest`
    says which topics are subscribed to, `started_ns` is when the gateway started. `admit` opens a
    topic's channel, or returns False. `reached` returns how far a topic's messages of an incarnation
    have come in the channel's log; 0 if there are none, None if that is not known. `is_numbered` returns
    whether the log has a publisher's numbers: then the topic was heard, also if its streams are forgotten."""

    def __init__(
        self,
        *,
        streams: Streams,
        started_ns: int,
        history: Callable[[str], int],
        interest: Interest | None = None,
        admit: Callable[[str], bool] = lambda _topic: True,
        reached: Callable[[str, int], int | None] = lambda _topic, _incarnation: 0,
        is_numbered: Callable[[str], bool] = lambda _topic: False,
    ) -> None:
        self.streams = streams
        self.publishers = Publishers()
        self.silent: set[int] = set()
        """Publishers whose last messages may be missing, as nothing is heard of them any more."""
        self.repaired = 0
        """Missing messages that were replayed."""
        self.failed = 0
        """Requests without a reply in time."""
        self.interest = interest or Interest(everything=True, always=(), idle_ns=0)
        self._starts = Starts(streams, started_ns, history, self.interest, reached, is_numbered)
        self._admit = admit
        self._numbers = itertools.count(1)
        self._repairing: dict[Stream, None] = {}
        self._requested: dict[int, Stream] = {}
        self._turns = ReplayTurns()
        self._requests: deque[ReplayRequest] = deque()
        self._releasable: dict[Stream, None] = {}
        """Streams whose repair is done, or has replayed messages."""
        self._blocked: dict[Stream, None] = {}
        """Those of them that an earlier incarnation blocks."""
        self._unreported: dict[Stream, None] = {}
        """Streams with something to report although no event of theirs may follow soon."""
        self.tick = 1
        """The number of the tick; what it releases is in the log when it ends."""
        self.held = 0
        self._held_bytes = 0

    @property
    def recovering(self) -> int:
        return len(self._repairing)

    # -- in ------------------------------------------------------------------------------------

    def receive(self, envelope: Envelope, topic: str, payload: bytes, *, now_ns: int) -> Stream | None:
        """Take a live message; return its stream if it is released at once.

        Returns None if the message is held or dropped; call `released` then.
        Raises NoRoom: the stream is new, and there is no room for it now."""
        sequence = envelope.sequence
        stream = self.streams.get(envelope.incarnation, topic)
        if stream is None:
            stream = self._start_with_message(envelope, topic, now_ns)
            self._wait_for_earlier(stream)
            if envelope.flags & _SENDS_HEARTBEATS:
                self.publishers.await_first(envelope.incarnation, now_ns)
        elif sequence <= stream.newest and envelope.sent_ns > stream.sent_ns and stream.has_restarted(sequence):
            stream = self._restart(stream, envelope, now_ns)
        stream.last_ns = now_ns
        stream.transit_ns = now_ns - envelope.sent_ns
        if envelope.sent_ns > stream.sent_ns:
            stream.sent_ns = envelope.sent_ns
        if stream.repair is None:
            if stream.unwatched:
                self._resume_watching(stream, sequence - 1)
            if sequence == stream.newest + 1:
                stream.newest += 1
                stream.tick = self.tick
                return stream
            if sequence <= stream.newest:
                self.streams.count_repeated(stream, sequence)
                return None
            if not self._start_repair(stream, sequence - 1, is_lost=True, now_ns=now_ns, flags=envelope.flags):
                self.streams.add_lost(stream, stream.newest + 1, sequence - 1)
                stream.newest += 1
                stream.tick = self.tick
                return stream
        self._hold(stream, envelope, payload, now_ns)
        return None

    def on_heartbeat(self, heartbeat: Heartbeat, *, now_ns: int, again: bool = False) -> None:
        """Take a heartbeat; its numbers show which messages are missing.

        Raises NoRoom: there is no room for some of its streams now; not if it is taken `again`."""
        publisher = self.publishers.on_heartbeat(heartbeat, now_ns=now_ns)
        self.publishers.heartbeats += not again
        has_room = True
        if heartbeat.proxy:
            self._ask_new_proxy()
        for topic, last in heartbeat.sequences.items():
            if not last or not self.interest.is_watched(topic):
                continue
            stream = self.streams.get(publisher.incarnation, topic)
            if stream is None:
                try:
                    stream = self._start_with_heartbeat(publisher.incarnation, topic, last, now_ns)
                except NoRoom:
                    has_room = False
                if stream is None:
                    continue
            elif stream.repair is None:
                self._resume_watching(stream, last)
                self._recover_to(stream, last, is_lost=True, now_ns=now_ns)
            elif stream.repair.state is RepairState.AWAITING_HEARTBEAT:
                if publisher.replay:
                    self._request(stream, stream.repair, publisher, now_ns)
                else:
                    self._give_up(stream, now_ns)
            if not heartbeat.interval:
                stream.final = last
                self._unreported[stream] = None
        if not has_room and not again:
            raise NoRoom

    def on_reply(self, number: int, messages: Sequence[Message], *, now_ns: int) -> None:
        """Take the messages of a reply, in order; they are empty if the publisher has no more."""
        stream = self._requested.pop(number, None)
        if stream is None:
            return
        repair = stream.repair
        assert repair is not None
        publisher = self._finish_request(stream, now_ns)
        last = repair.first - 1
        for envelope, payload in messages:
            if envelope.incarnation == stream.incarnation and (last < envelope.sequence <= repair.last):
                last = envelope.sequence
                repair.replayed.append((envelope, payload))
        self._releasable[stream] = None
        if last < repair.first or last >= repair.last or publisher is None or not publisher.replay:
            repair.state = RepairState.DONE
        else:
            repair.first = last + 1
            self._request(stream, repair, publisher, now_ns)

    def expire(self, *, now_ns: int) -> None:
        """Find stale publishers, and give up repairs that take too long."""
        self.silent |= self.publishers.find_stale(now_ns=now_ns)
        for stream in list(self._repairing):
            repair = stream.repair
            if repair is None or not self._is_overdue(stream, repair, now_ns):
                continue
            if repair.state is RepairState.REQUESTED:
                self.failed += 1
                publisher = self.publishers.get(stream.incarnation)
                if publisher is not None:
                    publisher.retry_ns = now_ns + RETRY_NS
                    self._give_up_queued(publisher, now_ns)
            self._give_up(stream, now_ns)

    # -- out -----------------------------------------------------------------------------------

    def take_requests(self) -> list[ReplayRequest]:
        requests = list(self._requests)
        self._requests.clear()
        return requests

    def released(self, *, now_ns: int) -> Iterator[tuple[Stream, Envelope, bytes]]:
        """Yield the messages that need not be held any longer, in order."""
        while self._releasable:
            stream = next(iter(self._releasable))
            del self._releasable[stream]
            repair = stream.repair
            if repair is None:
                continue
            if self._is_blocked(stream):
                self._blocked[stream] = None
                continue
            stream.tick = self.tick
            while repair.replayed:
                envelope, payload = repair.replayed.popleft()
                if envelope.sequence > stream.newest:
                    self._skip_to(stream, envelope.sequence - 1, is_lost=repair.is_lost)
                    stream.newest = envelope.sequence
                    self.repaired += 1
                    repair.is_lost = True  # a hole behind the first replayed message is a loss
                    yield stream, envelope, payload
            if repair.state is RepairState.DONE:
                self._skip_to(stream, repair.last, is_lost=repair.is_lost)
                yield from self._release_held(stream, repair, now_ns)

    def pause_unwatched(self) -> None:
        """Note which topics are no longer subscribed to: messages missing then are not lost."""
        for stream in self.streams:
            stream.unwatched = not self.interest.is_watched(stream.topic)

    def take_unreported(self) -> list[Stream]:
        """Return the streams with a loss that no event may report soon, those whose publisher ended, and those that a
        heartbeat has started."""
        found = [one for one in self._unreported if one.repair is None and not self._is_blocked(one)]
        for stream in found:
            del self._unreported[stream]
            if stream.final is not None:
                self._skip_to(stream, stream.final, is_lost=True)
            self.streams.forget_replaced(stream)
        if found:
            self._unblock()
        return found

    # -- streams that start --------------------------------------------------------------------

    def _start_with_message(self, envelope: Envelope, topic: str, now_ns: int) -> Stream:
        last = envelope.sequence - 1
        self._make_room(now_ns)
        stream, is_lost = self._starts.start(envelope.incarnation, topic, last, now_ns=now_ns)
        self._recover_to(stream, last, is_lost=is_lost, now_ns=now_ns, flags=envelope.flags, report=False)
        return stream

    def _start_with_heartbeat(self, incarnation: int, topic: str, last: int, now_ns: int) -> Stream | None:
        """Start a stream, unless nothing can be missing in it, or that is not known.

        Raises NoRoom: there is no room for it now."""
        if not self._admit(topic):
            return None
        reached = self._starts.reached(topic, incarnation)
        if reached is None or reached >= last:
            return None
        self._make_room(now_ns)
        stream, is_lost = self._starts.start(incarnation, topic, last, now_ns=now_ns)
        self._recover_to(stream, last, is_lost=is_lost, now_ns=now_ns)
        self._unreported[stream] = None  # the log gets to know the source, also if nothing of it is held
        self._wait_for_earlier(stream)
        return stream

    def _make_room(self, now_ns: int) -> None:
        """Forget a stream if there is no room for another one.

        Not one whose messages or losses are not in the log yet: nothing else knows how far it had come."""
        passed = None
        for passed in self.streams.oldest():
            reported = not passed.unreported and passed not in self._unreported
            if passed.repair is None and reported and passed.tick != self.tick:
                self.streams.forget(passed)
                return
            if passed.repair is not None:
                if passed.repair.state is not RepairState.DONE:
                    self._give_up(passed, now_ns)
            elif passed.unreported:
                self._unreported[passed] = None
        if passed is not None:
            raise NoRoom

    def _restart(self, stream: Stream, envelope: Envelope, now_ns: int) -> Stream:
        if stream.repair is not None:
            self._give_up(stream, now_ns)
        stream.add_unknown_end(now_ns)
        self._unreported[stream] = None
        new = self._start_with_message(envelope, stream.topic, now_ns)
        self._wait_for_earlier(new)
        return new

    def _wait_for_earlier(self, stream: Stream) -> None:
        """Hold the messages of a new stream while an earlier incarnation blocks it."""
        if stream.repair is None and self._is_blocked(stream):
            self._repair(stream, stream.newest, RepairState.DONE, is_lost=False)
            self._releasable[stream] = None

    def _is_blocked(self, stream: Stream) -> bool:
        return any(other.repair is not None or other in self._unreported for other in self.streams.before(stream))

    def _unblock(self) -> None:
        self._releasable |= self._blocked
        self._blocked.clear()

    def _resume_watching(self, stream: Stream, last: int) -> None:
        """Report what was published while a topic was not subscribed to."""
        if stream.unwatched:
            stream.unwatched = False
            if last > stream.newest:
                stream.add_missing(MissingRange(stream.newest + 1, last, "unwatched"))

    # -- repairs -------------------------------------------------------------------------------

    def _recover_to(
        self, stream: Stream, last: int, *, is_lost: bool, now_ns: int, flags: int = 0, report: bool = True
    ) -> None:
        """Request what is missing up to `last`, or skip it; `report` if no event may report it soon."""
        if last > stream.newest and not self._start_repair(stream, last, is_lost=is_lost, now_ns=now_ns, flags=flags):
            self._skip_to(stream, last, is_lost=is_lost)
        if report and stream.unreported:
            self._unreported[stream] = None

    def _skip_to(self, stream: Stream, last: int, *, is_lost: bool) -> None:
        """Expect no message up to `last` any more; count the missing ones as lost, if `is_lost`."""
        if last <= stream.newest:
            return
        if is_lost:
            self.streams.add_lost(stream, stream.newest + 1, last)
        stream.newest = last

    def _start_repair(self, stream: Stream, last: int, *, is_lost: bool, now_ns: int, flags: int = 0) -> Repair | None:
        """Request what is missing up to `last`; return None if the publisher offers no replay now.

        Wait for its first heartbeat if the `flags` of an envelope say that it will send one."""
        publisher = self.publishers.get(stream.incarnation)
        if publisher is None and flags & _SENDS_HEARTBEATS and not stream.has_awaited and stream.final is None:
            stream.has_awaited = True
            repair = self._repair(stream, last, RepairState.AWAITING_HEARTBEAT, is_lost=is_lost)
            repair.until_ns = now_ns + FIRST_HEARTBEAT_TIMEOUT_NS
            return repair
        if publisher is None or not publisher.replay or now_ns < publisher.retry_ns:
            return None
        repair = self._repair(stream, last, RepairState.QUEUED, is_lost=is_lost)
        self._request(stream, repair, publisher, now_ns)
        return repair

    def _repair(self, stream: Stream, last: int, state: RepairState, *, is_lost: bool) -> Repair:
        self._repairing[stream] = None
        stream.repair = Repair(stream.newest + 1, last, is_lost, state)
        return stream.repair

    def _request(self, stream: Stream, repair: Repair, publisher: Publisher, now_ns: int) -> None:
        if not self._turns.begin(stream):
            repair.state = RepairState.QUEUED
            return
        repair.state = RepairState.REQUESTED
        repair.request = next(self._numbers)
        repair.until_ns = now_ns + REPLY_TIMEOUT_NS
        self._requested[repair.request] = stream
        self._requests.append(self._request_of(stream, repair, publisher))

    def _request_of(self, stream: Stream, repair: Repair, publisher: Publisher) -> ReplayRequest:
        endpoint, key, is_proxy = self.publishers.replay_of(publisher)
        wanted = stream.topic, repair.first, repair.last
        return ReplayRequest(repair.request, stream.incarnation, endpoint, key, *wanted, forwarded=is_proxy)

    def _ask_new_proxy(self) -> None:
        """Ask a proxy that has just been heard for what was asked of the publishers behind it."""
        behind = self.publishers.take_behind()
        for stream in self._requested.values():
            publisher = behind.get(stream.incarnation)
            if publisher is not None and publisher.replay and stream.repair is not None:
                self._requests.append(self._request_of(stream, stream.repair, publisher))

    def _finish_request(self, stream: Stream, now_ns: int) -> Publisher | None:
        """Send the requests that may follow; return the publisher of this one, None if it has ended."""
        for queued in self._turns.finish(stream):
            repair, publisher = queued.repair, self.publishers.get(queued.incarnation)
            if repair is None or repair.state is not RepairState.QUEUED:
                continue  # it was given up
            if publisher is None or not publisher.replay:
                self._give_up(queued, now_ns)
            else:
                self._request(queued, repair, publisher, now_ns)
        return self.publishers.get(stream.incarnation)

    def _is_overdue(self, stream: Stream, repair: Repair, now_ns: int) -> bool:
        match repair.state:
            case RepairState.DONE:
                return False
            case RepairState.QUEUED:  # never sent if the publisher has ended
                return self.publishers.get(stream.incarnation) is None
            case _:
                return repair.until_ns <= now_ns

    def _give_up_queued(self, publisher: Publisher, now_ns: int) -> None:
        for stream in self._turns.drop_queued(publisher.incarnation):
            if stream.repair is not None and stream.repair.state is RepairState.QUEUED:
                self._give_up(stream, now_ns)

    def _give_up(self, stream: Stream, now_ns: int) -> None:
        """End a stream's repair; a later reply to its request is ignored."""
        repair = stream.repair
        assert repair is not None
        state, repair.state = repair.state, RepairState.DONE
        self._releasable[stream] = None
        if state is RepairState.REQUESTED:
            del self._requested[repair.request]
            self._finish_request(stream, now_ns)

    def _hold(self, stream: Stream, envelope: Envelope, payload: bytes, now_ns: int) -> None:
        assert stream.repair is not None
        stream.repair.held.append((envelope, payload))
        self.held += 1
        self._held_bytes += len(payload)
        if self.held > HELD_MAX or self._held_bytes > HELD_BYTES_MAX:
            self._give_up(stream, now_ns)

    def _release_held(self, stream: Stream, repair: Repair, now_ns: int) -> Iterator[tuple[Stream, Envelope, bytes]]:
        """Yield what was held, up to where messages are missing again."""
        held = repair.held
        stream.repair = None
        del self._repairing[stream]
        self._unblock()
        while held:
            envelope, payload = held[0]
            sequence = envelope.sequence
            if sequence > stream.newest + 1:
                again = self._start_repair(stream, sequence - 1, is_lost=True, now_ns=now_ns, flags=envelope.flags)
                if again is not None:
                    again.held = held
                    return
                self.streams.add_lost(stream, stream.newest + 1, sequence - 1)
            held.popleft()
            self.held -= 1
            self._held_bytes -= len(payload)
            if sequence <= stream.newest:
                self.streams.count_repeated(stream, sequence)
                continue
            stream.newest = sequence
            yield stream, envelope, payload
        if stream.unreported or stream.final is not None:
            self._unreported[stream] = None
