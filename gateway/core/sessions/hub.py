"""The whole gateway without its sockets: events in, sessions that come and go, events out.

The shells call it: the bus with each tick's messages, the web with what clients and REST callers
want. Everything is synchronous, so nothing can come between an event's number and its delivery.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain

import msgspec

from gateway.core.fanout.cohorts import Reader
from gateway.core.fanout.fanout import Fanout
from gateway.core.fanout.views import channel_view
from gateway.core.fanout.views import names as names_of
from gateway.core.ingest.ingest import Ingest, Tick, timestamp
from gateway.core.ingest.publishers import Change
from gateway.core.log.epochs import Cursor
from gateway.core.log.log import ChannelLog, Entry
from gateway.core.log.logs import Logs
from gateway.core.protocol import messages
from gateway.core.protocol.channels import EVERYONE, PERSONAL, is_name
from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.core.protocol.events import BusStatus, ClientChange, Connection, Event
from gateway.core.sessions.permissions import Action, Identity
from gateway.core.sessions.rate_limit import ClientLimits
from gateway.core.sessions.requests import ConnectRequest, Welcome
from gateway.core.sessions.session import Session, SubscriptionChange
from gateway.core.sessions.store import SessionStore


class Hub:
    """Engine, fan-out and sessions, put together; without `fan_out` the clients are elsewhere."""

    def __init__(
        self,
        *,
        logs: Logs,
        ingest: Ingest,
        store: SessionStore,
        welcome: Welcome,
        allowed: ClientLimits,
        fan_out: bool = True,
    ) -> None:
        self.logs = logs
        self.ingest = ingest
        self.store = store
        self.fanout = Fanout(logs.by_name, epoch=logs.epoch)
        self.sessions: dict[str, Session] = {}
        self.told: messages.BusState | None = None
        """How the bus is, if another process listens to it."""
        self._heard = False
        self.watch: Callable[[Iterable[str]], object] = lambda patterns: None
        """Called with what a client begins to follow."""
        self.deny: Callable[[Session, Sequence[str]], object] = lambda session, channels: None
        """Called with what a client asked for and may not follow."""
        self.announce: Callable[[Session, ClientChange, int], object] = self._announce
        """Called with what a client did, and when."""
        self.confirm: Callable[[Session], object] = lambda session: None
        """Called when more is known to have arrived."""
        self.hand: Callable[[Session, ChannelLog, Entry], object] = self._hand
        """Called with a personal message, already in its log."""
        self._welcome = welcome
        self._allowed = allowed
        self._bus = lambda: self.bus
        if fan_out:
            logs.follow(self.fanout.deliver)

    # -- events in -----------------------------------------------------------------------------

    def tick(self, batch: Sequence[Sequence[bytes]], *, now_ns: int) -> Tick:
        """Take in what one wake-up of the bus brought, and deliver it."""
        tick = Tick([], [], 0)
        accept, events = self.ingest.accept, tick.events
        for frames in batch:
            taken = accept(frames, now_ns=now_ns)
            if isinstance(taken, Event):
                events.append(taken)
            elif taken is None:
                self._let_go(tick, now_ns)
            else:
                tick.add(taken)
        tick.bytes = sum(map(len, chain.from_iterable(batch)))
        self._heard = True
        self._settle(tick, now_ns)
        return tick

    def replayed(self, replies: Iterable[Sequence[bytes]], *, now_ns: int) -> Tick:
        """Take in what publishers answered to requests."""
        tick = Tick([], [], 0)
        for reply in replies:
            self.ingest.answer(reply, now_ns=now_ns)
            tick.bytes += sum(map(len, reply))
        self._settle(tick, now_ns)
        return tick

    def expire(self, *, now_ns: int) -> Tick:
        """Do what time brings about: drop what is too old, wait no longer for what does not come."""
        self.logs.evict(now_ns=now_ns)
        self.store.expire(now_ns=now_ns)
        self.ingest.recovery.expire(now_ns=now_ns)
        tick = Tick([], [], 0)
        self._settle(tick, now_ns)
        return tick

    def _let_go(self, tick: Tick, now_ns: int) -> None:
        for taken in self.ingest.released(now_ns=now_ns):
            tick.add(taken)

    def _settle(self, tick: Tick, now_ns: int) -> None:
        """Deliver a tick's events and tell what no event will, in this order until nothing is left."""
        recovery = self.ingest.recovery
        told = 0
        while True:
            self._let_go(tick, now_ns)
            self.logs.append(tick.events[told:])
            told = len(tick.events)
            unreported = recovery.take_unreported()
            if not unreported:
                break
            for stream in unreported:
                missing = stream.take_unreported()
                self.logs.skip(stream.topic, stream.incarnation, missing, now_ns=now_ns)
                if stream.final is not None:
                    self.logs.finish(stream.topic, stream.incarnation, stream.final)
        for change in recovery.publishers.take_changes():
            self._announce_publisher(change, now_ns)

    def _announce_publisher(self, change: Change, now_ns: int) -> None:
        """Say on ``connections`` who came and went on the bus, and on ``status`` who fell silent."""
        publisher, state = change.publisher, change.state
        data = Connection(client_id=f"{publisher.incarnation:016x}", name=publisher.name or None)
        self._publish("connections", f"publisher.{state}", data, now_ns)
        if state in {"stale", "live"}:
            service = publisher.name or f"{publisher.incarnation:016x}"
            self._publish("status", f"status.{state}", BusStatus(state, service), now_ns)

    def broadcast(
        self, message: messages.Broadcast, by: Identity, *, now_ns: int
    ) -> messages.BroadcastResult:
        """Send an event to a channel, a client, a user, or everyone.

        Raises:
            RequestError: No such client, not exactly one target, no right to, or no valid event.
        """
        targets = [message.channel, message.client_id, message.user_id, message.everyone or None]
        if sum(target is not None for target in targets) != 1:
            raise RequestError(
                ErrorCode.INVALID_FIELD,
                "name exactly one of `channel`, `client_id`, `user_id`, `everyone`",
            )
        if message.channel is not None:
            if not is_name(message.channel):
                name = message.channel[:128]
                raise RequestError(ErrorCode.INVALID_CHANNEL, f"{name!r} is not a channel's name")
            by.require(Action.PUBLISH, message.channel)
            return self._to_channel(message.channel, bytes(message.event), now_ns)
        by.require(Action.PUBLISH, EVERYONE if message.everyone else PERSONAL)
        if message.everyone:
            return self._to_channel(EVERYONE, bytes(message.event), now_ns)
        if message.user_id is not None:
            sessions = self.store.user(message.user_id)
        else:
            session = self.store.client(message.client_id or "")
            if session is None:
                raise RequestError(
                    ErrorCode.UNKNOWN_CLIENT,
                    "no such client is connected, and none is remembered",
                )
            sessions = [session]
        event = self._event(PERSONAL, bytes(message.event), now_ns)
        for session in sessions:
            self.hand(session, *self.store.post(session, event))
        return messages.BroadcastResult(len(sessions), PERSONAL, None)

    def _to_channel(self, name: str, payload: bytes, now_ns: int) -> messages.BroadcastResult:
        event = self._event(name, payload, now_ns)
        if not self.logs.admit(name):
            raise RequestError(ErrorCode.UNAVAILABLE, "no room for another channel")
        self.logs.append([event])
        position = self.logs.by_name[name].position
        return messages.BroadcastResult(self.subscribers(name), name, position)

    def _event(self, channel: str, payload: bytes, now_ns: int) -> Event:
        try:
            return self.ingest.read_event(channel, payload, now_ns=now_ns)
        except ValueError as error:
            raise RequestError(ErrorCode.INVALID_EVENT, str(error)) from error

    def take_personal(self, session: Session, entry: Entry) -> None:
        """Hand over a personal message that was numbered elsewhere."""
        log = self.store.log_of(session)
        log.hold(entry)
        self._hand(session, log, entry)

    def _hand(self, session: Session, log: ChannelLog, entry: Entry) -> None:
        reader = session.reader
        if reader is not None:
            reader.personal = log
            self.fanout.deliver_personal(reader, entry)

    # -- clients that come and go --------------------------------------------------------------

    def arrive(
        self, connect_request: ConnectRequest, make_reader: Callable[[], Reader], *, now_ns: int
    ) -> Session:
        """Greet a client and start what it asked for with its address; return its session.

        A session that is still attached must `depart` from its old connection first: see
        `attached`.
        """
        session, resumed = self.enter(connect_request, now_ns=now_ns)
        reader = make_reader()
        session.reader = reader
        session.send(self._connected(session, resumed=resumed, now_ns=now_ns))
        session.attach(reader, since=connect_request.since, now_ns=now_ns)
        self.announce(session, ClientChange("client.connected"), now_ns)
        new = [name for name in connect_request.channels if name not in session.subscriptions]
        if new:
            changed = session.open(replace(connect_request, channels=new).subscribe, now_ns=now_ns)
            self.announce_change(session, changed, now_ns=now_ns)
        return session

    def enter(self, connect_request: ConnectRequest, *, now_ns: int) -> tuple[Session, bool]:
        """Count a client in; return its session, and whether that is one that was lost."""
        session = self._opened(connect_request, now_ns)
        resumed = session is not None
        if session is None:
            session = self.session(connect_request.client_id, connect_request.identity)
        elif connect_request.identity.expires_ns is not None:
            session.identity = connect_request.identity  # the same user's, with the rights of today
        self.store.add(session, connect_request.secret)
        self.sessions[session.client_id] = session
        return session, resumed

    def session(self, client_id: str, identity: Identity) -> Session:
        """Make a session."""
        return Session(
            client_id=client_id,
            identity=identity,
            fanout=self.fanout,
            allowed=self._allowed,
            bus=self._bus,
        )

    def attached(self, connect_request: ConnectRequest, *, now_ns: int) -> Session | None:
        """Return the session that an arrival opens, if a connection still holds it."""
        session = self._opened(connect_request, now_ns)
        return session if session is not None and session.client_id in self.sessions else None

    def _opened(self, connect_request: ConnectRequest, now_ns: int) -> Session | None:
        """Find the session that an arrival's secret opens; a user's is for that user only."""
        if not connect_request.session:
            return None
        session = self.store.take(connect_request.session, now_ns=now_ns)
        if session is None or not session.identity.is_same_as(connect_request.identity):
            return None
        return session

    def authenticate(
        self, session: Session, identity: Identity, id_: messages.OptionalId, *, now_ns: int
    ) -> None:
        """Give a client the rights of a token that it brought.

        Raises:
            RequestError: The token is another user's.
        """
        before = session.user_id
        changed = session.authenticate(identity, id_, now_ns=now_ns)
        self.store.named(session, before)
        self.announce_change(session, changed, now_ns=now_ns)

    def depart(
        self, session: Session, *, code: int, seconds: float, now_ns: int, remember: bool = True
    ) -> None:
        """Let a client's connection go; its session is remembered, or not."""
        session.detach()
        del self.sessions[session.client_id]
        if remember:
            self.store.remember(session, now_ns=now_ns)
        else:
            self.store.forget(session)
        notice = ClientChange("client.disconnected", code=code, seconds=seconds, remember=remember)
        self.announce(session, notice, now_ns)

    def ponged(self, session: Session, payload: bytes) -> None:
        """Take a client's pong."""
        before = session.known
        session.ponged(payload)
        if session.known is not before:
            self.confirm(session)

    def receive(
        self, session: Session, text: str, *, now_ns: int
    ) -> SubscriptionChange | messages.Auth | None:
        """Handle a client's message; return what it changed, or a token to be verified."""
        outcome = session.receive(text, now_ns=now_ns)
        if not isinstance(outcome, messages.Auth):
            self.announce_change(session, outcome, now_ns=now_ns)
        return outcome

    def announce_change(
        self, session: Session, changed: SubscriptionChange | None, *, now_ns: int
    ) -> None:
        """Publish a change of subscriptions on ``connections``."""
        if changed is None:
            return
        if changed.denied:
            self.deny(session, changed.denied)
        if changed.subscribed:
            self.watch(changed.subscribed)
            self.announce(session, ClientChange("client.subscribed", changed.subscribed), now_ns)
        if changed.unsubscribed:
            self.announce(
                session, ClientChange("client.unsubscribed", changed.unsubscribed), now_ns
            )

    def _announce(self, session: Session, notice: ClientChange, now_ns: int) -> None:
        data = Connection(
            client_id=session.client_id,
            user_id=session.user_id,
            total_connections=len(self.sessions),
            channels=list(notice.channels) or None,
            code=notice.code,
            seconds=notice.seconds,
        )
        self._publish("connections", notice.event_type, data, now_ns)

    def _publish(self, channel: str, event_type: str, data: msgspec.Struct, now_ns: int) -> None:
        fields = b'"event_type":"%b","timestamp":"%b","data":%b' % (
            event_type.encode(),
            timestamp(now_ns).encode(),
            msgspec.json.encode(data),
        )
        self.logs.append([Event(channel, fields, now_ns)])

    def _connected(self, session: Session, *, resumed: bool, now_ns: int) -> messages.Connected:
        welcome, identity = self._welcome, session.identity
        expires_ns = identity.expires_ns
        return messages.Connected(
            client_id=session.client_id,
            user_id=session.user_id,
            timestamp=timestamp(now_ns),
            session=session.secret,
            session_ttl_seconds=welcome.session_ttl_seconds,
            resumed=resumed,
            server=welcome.server,
            heartbeat_seconds=welcome.heartbeat_seconds,
            limits=messages.Limits(welcome.message_bytes_max, self._allowed.subscriptions_max),
            roles=list(identity.roles),
            token_expires=None if expires_ns is None else timestamp(expires_ns),
        )

    # -- questions -----------------------------------------------------------------------------

    def watched(self) -> set[str]:
        """Return what is followed, by those who are there and those who may come back."""
        return {name for session in self.store.sessions for name in session.subscriptions}

    def clients_of(self, user_id: str) -> int:
        """Count the clients that a user has connected."""
        return sum(one.client_id in self.sessions for one in self.store.user(user_id))

    def presence(self, channel: str) -> list[Session]:
        """Return the sessions of those who follow a channel now."""
        return [
            session
            for session in self.sessions.values()
            if session.reader is not None and channel_view(session.reader.view, channel) is not None
        ]

    @property
    def bus(self) -> messages.BusState:
        """``waiting`` until anything was heard, ``stale`` while all are silent that should not be."""
        if self.told is not None:
            return self.told
        state = self.ingest.recovery.publishers.state
        if state != "unknown":
            return state
        return "live" if self._heard else "waiting"

    def heads(self) -> dict[str, Cursor]:
        """Return where all live readers stand: every log's newest place, less what is pending."""
        newest = {name: log.newest for name, log in self.logs.by_name.items()}
        return newest | self.fanout.unwritten

    def followers(self) -> Counter[str]:
        """Count the clients that follow each open channel."""
        counts: Counter[str] = Counter()
        for cohort in self.fanout.cohorts:
            names = self.logs.by_name if cohort.has_wildcards else (EVERYONE, *names_of(cohort.view))
            for name in names:
                if name in self.logs.by_name and cohort.channel_view(name) is not None:
                    counts[name] += len(cohort.members)
        for reader in self.fanout.detached:
            counts.update(log.name for log in self.fanout.logs_of(reader))
        return counts

    def subscribers(self, channel: str) -> int:
        """Count the clients that follow a channel."""
        live = sum(
            len(c.members) for c in self.fanout.cohorts if c.channel_view(channel) is not None
        )
        return live + sum(
            channel_view(reader.view, channel) is not None for reader in self.fanout.detached
        )
