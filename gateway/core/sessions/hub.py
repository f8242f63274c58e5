"""The hub: clients that connect, disconnect and send messages; and questions about all of them.

`gateway.web` calls it for what clients do. A client is a `Session`, with a `Reader` while it is
connected. The hub reports each change to its `Observer`, which publishes or forwards it.

Invariant: `sessions` are the sessions with a connection; the store has these and the disconnected
ones. Everything is synchronous, so no event can be written between two steps of one change."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gateway.core.fanout.cohorts import Reader
from gateway.core.fanout.fanout import Fanout
from gateway.core.fanout.views import channel_view
from gateway.core.log.logs import Logs
from gateway.core.log.sources import Cursor
from gateway.core.protocol import messages
from gateway.core.protocol.channels import EVERYONE, PERSONAL
from gateway.core.protocol.errors import CloseCode
from gateway.core.protocol.events import ClientChange, Event, timestamp, unix_timestamp
from gateway.core.sessions.counts import ClientCounts
from gateway.core.sessions.filter_warnings import FilterWarnings
from gateway.core.sessions.observer import Observer
from gateway.core.sessions.permissions import Identity, Policy
from gateway.core.sessions.rate_limit import ClientLimits
from gateway.core.sessions.requests import ConnectRequest
from gateway.core.sessions.session import Session, SubscriptionChange, Unanswered
from gateway.core.sessions.store import SessionStore


@dataclass(frozen=True, slots=True)
class Welcome:
    """The part of the ``connected`` message that is the same for all clients."""

    server: messages.Server
    heartbeat_seconds: float
    session_ttl_seconds: float
    message_bytes_max: int


@dataclass(eq=False, repr=False, kw_only=True)
class Hub:
    logs: Logs
    fanout: Fanout
    store: SessionStore
    welcome: Welcome
    limits: ClientLimits
    observer: Observer
    bus_state: Callable[[], messages.BusState]
    sessions: dict[str, Session] = field(default_factory=dict)
    counts: ClientCounts = field(default_factory=ClientCounts)
    _filter_warnings: FilterWarnings = field(default_factory=FilterWarnings)

    def __post_init__(self) -> None:
        self.logs.patterns = self.patterns
        self.logs.on_closed.append(self._on_channel_closed)

    def _on_channel_closed(self, channel: str) -> None:
        """Forget places in a channel that was closed: another one may open with its name."""
        self.fanout.epoch = self.logs.epoch
        # Nobody subscribes to it, except perhaps a client of a worker that its parent does not know of yet.
        for reader in [one for one in self.fanout.outside_cohorts if channel in one.cursors]:
            self.fanout.remove(reader)
            reader.on_failure()
        for session in self.store.sessions:
            if channel in session.known:
                session.known = {name: place for name, place in session.known.items() if name != channel}

    # -- what clients do -----------------------------------------------------------------------

    def connect(self, request: ConnectRequest, make_reader: Callable[[], Reader], *, now_ns: int) -> Session:
        """Send ``connected`` and start the subscriptions in the client's address; return its session.

        If the session is `attached` to another connection, disconnect that first."""
        session, resumed = self.admit(request, now_ns=now_ns)
        try:
            reader = make_reader()
            session.reader = reader
            if resumed and PERSONAL in {*session.elsewhere, *(request.since or ())}:
                self.store.log_of(session)  # also if nothing is held: then what the client names is not known here
            session.send(self._connected(session, resumed=resumed, now_ns=now_ns))
            session.attach(reader, since=request.since, now_ns=now_ns)
            self.report(session, ClientChange("client.connected"), now_ns=now_ns)
            new = [name for name in request.channels if name not in session.subscriptions]
            if new:
                changed = session.subscribe(replace(request, channels=new).subscribe, now_ns=now_ns)
                self.report_subscriptions(session, changed, now_ns=now_ns)
        except BaseException:
            # Forget the session: it must not stay half attached, and not fail again when resumed.
            code = CloseCode.INTERNAL
            self.disconnect(session, code=code, seconds=0.0, now_ns=now_ns, remember=False)
            raise
        return session

    def admit(self, request: ConnectRequest, *, now_ns: int) -> tuple[Session, bool]:
        """Add a client; return its session, and whether that is a resumed one."""
        session = self._resumable(request, now_ns)
        resumed = session is not None
        if session is None:
            session = self.new_session(request.client_id, request.identity)
        elif request.identity.expires_ns is not None:
            session.identity = request.identity  # the same user, perhaps with other permissions
        self.store.add_attached(session, request.secret, brought=request.session if resumed else None)
        self.sessions[session.client_id] = session
        return session, resumed

    def new_session(self, client_id: str, identity: Identity) -> Session:
        """Return a session that is not in the store yet."""
        return Session(client_id, identity, self.fanout, self.limits, self.bus_state, self.counts)

    def attached(self, request: ConnectRequest, *, now_ns: int) -> Session | None:
        """Return the session that a client would resume, if another connection still has it."""
        session = self._resumable(request, now_ns)
        return session if session is not None and session.client_id in self.sessions else None

    def client_id(self, request: ConnectRequest, *, now_ns: int) -> str:
        """Return the id that a client will have if it connects."""
        session = self._resumable(request, now_ns)
        return request.client_id if session is None else session.client_id

    def _resumable(self, request: ConnectRequest, now_ns: int) -> Session | None:
        """Return the session with a request's secret, if the request's identity may resume it."""
        if not request.session:
            return None
        session = self.store.of_secret(request.session, now_ns=now_ns)
        if session is None or not session.identity.is_same_as(request.identity):
            return None
        return session

    def authenticate(self, session: Session, identity: Identity, id_: messages.OptionalId, *, now_ns: int) -> None:
        """Give a connected client the identity of its new token.
        Raises RequestError: the token belongs to another user."""
        before = session.user_id
        changed = session.authenticate(identity, id_, now_ns=now_ns)
        self.store.reassign(session, before)
        self.report_subscriptions(session, changed, now_ns=now_ns)

    def set_limits(self, limits: ClientLimits, welcome: Welcome) -> None:
        """Set what holds for clients that connect from now on."""
        self.limits, self.welcome = limits, welcome

    def set_policy(self, policy: Policy, *, now_ns: int, elsewhere: bool) -> None:
        """Give all sessions the permissions of a new policy.

        If their connections are `elsewhere`, in other processes, those remove the subscriptions and report it."""
        for session in list(self.store.sessions):
            identity = policy.renewed(session.identity)
            if elsewhere:
                session.identity = identity
            elif identity != session.identity:
                self.report_subscriptions(session, session.permit(identity, now_ns=now_ns), now_ns=now_ns)

    def deliver_personal(self, session: Session, event: Event) -> None:
        """Append an event to a session's own log, and deliver it if its client is connected."""
        log, entries = self.store.append_personal(session, event)
        for entry in entries:
            self.observer.deliver_personal(session, log, entry)

    def disconnect(self, session: Session, *, code: int, seconds: float, now_ns: int, remember: bool = True) -> None:
        """Detach a session from its connection, which lasted `seconds`."""
        session.detach()
        del self.sessions[session.client_id]
        if remember:
            self.store.remember(session, now_ns=now_ns)
        else:
            self.store.forget(session)
        change = ClientChange("client.disconnected", code=code, seconds=seconds, remember=remember)
        self.report(session, change, now_ns=now_ns)

    def on_pong(self, session: Session, payload: bytes) -> None:
        before = session.known
        session.on_pong(payload)
        if session.known is not before:
            self.store.confirm_secret(session)
            self.observer.on_confirmed(session)

    def receive(self, session: Session, text: str | bytes, *, now_ns: int) -> SubscriptionChange | Unanswered | None:
        """Handle a client's message; return what it changed, or the message if the caller has to answer it."""
        outcome = session.receive(text, now_ns=now_ns)
        if not isinstance(outcome, Unanswered):
            self.report_subscriptions(session, outcome, now_ns=now_ns)
        return outcome

    def warn_of_failed_filters(self, *, now_ns: int) -> None:
        """Send the warnings that are due; to be called every second or so."""
        self._filter_warnings.send(self.fanout.failed_filters.take(), self.sessions, now_ns=now_ns)

    def report(self, session: Session, change: ClientChange, *, now_ns: int) -> None:
        self.observer.on_change(session, change, connected=len(self.sessions), now_ns=now_ns)
        if self.store.on_changed is not None:
            self.store.on_changed(session)

    def report_subscriptions(self, session: Session, changed: SubscriptionChange | None, *, now_ns: int) -> None:
        if changed is None:
            return
        if changed.denied:
            self.observer.on_denied(session, changed.denied)
        if changed.subscribed:
            self.observer.on_subscribed(changed.subscribed)
            self.report(session, ClientChange("client.subscribed", changed.subscribed), now_ns=now_ns)
        if changed.unsubscribed:
            change = ClientChange("client.unsubscribed", changed.unsubscribed)
            self.report(session, change, now_ns=now_ns)

    def _connected(self, session: Session, *, resumed: bool, now_ns: int) -> messages.Connected:
        welcome, identity = self.welcome, session.identity
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
            limits=messages.Limits(welcome.message_bytes_max, self.limits.subscriptions_max),
            roles=list(identity.roles),
            token_expires=None if expires_ns is None else unix_timestamp(expires_ns),
        )

    # -- questions -----------------------------------------------------------------------------

    def patterns(self) -> set[str]:
        """Return what all clients are subscribed to, with the disconnected ones."""
        return {name for session in self.store.sessions for name in session.subscriptions}

    def clients_of(self, user_id: str) -> int:
        return sum(one.client_id in self.sessions for one in self.store.of_user(user_id))

    def presence(self, channel: str) -> list[Session]:
        """Return the connected clients that are subscribed to a channel."""
        return [
            session
            for session in self.sessions.values()
            if session.reader is not None and channel_view(session.reader.view, channel) is not None
        ]

    def heads(self) -> dict[str, Cursor]:
        """Return the places up to which live readers without filters and rates were written to."""
        newest = {name: log.newest for name, log in self.logs.by_name.items()}
        return newest | self.fanout.unwritten

    def subscriber_counts(self) -> Counter[str]:
        """Return how many connected clients are subscribed to each open channel."""
        counts: Counter[str] = Counter()
        logs = self.logs.by_name
        for cohort in self.fanout.cohorts:
            names = logs if cohort.has_wildcards else (EVERYONE, *cohort.patterns)
            for name in names:
                if name in logs and cohort.channel_view(name) is not None:
                    counts[name] += len(cohort.members)
        for reader in self.fanout.outside_cohorts:
            counts.update(log.name for log in self.fanout.logs_of(reader))
        return counts

    def subscribers(self, channel: str) -> int:
        cohorts, others = self.fanout.cohorts, self.fanout.outside_cohorts
        live = sum(len(c.members) for c in cohorts if c.channel_view(channel) is not None)
        return live + sum(channel_view(one.view, channel) is not None for one in others)
