"""The session store: all sessions by secret, client and user.

A session is either attached to a connection, or disconnected. A disconnected session is remembered
for `ttl_ns`, unless `disconnected_max` sessions disconnect after it. Personal messages are in a log
of the session's own: after a disconnect a client resumes them by position, like any channel.

Each connection gives a session a new secret. The one that the client brought stays valid until the client
is known to have the new one: a connection may be lost before its first message arrives.

Invariants: a session has at most these two secrets; `_disconnected` has the sessions that can expire, the
oldest first."""

from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import TypedDict

from msgspec import Struct

from gateway.core.fanout.views import Subscription
from gateway.core.log.log import ChannelLog, LogState
from gateway.core.log.retention import Retention
from gateway.core.log.sources import Cursor, Entry
from gateway.core.protocol.channels import EVERYONE, PERSONAL
from gateway.core.protocol.events import Event
from gateway.core.protocol.messages import Position
from gateway.core.sessions.permissions import Identity
from gateway.core.sessions.session import Session


_PERSONAL_BYTES_MAX = 1024 * 1024


class SessionLimits(TypedDict):
    ttl_ns: int
    messages_max: int
    disconnected_max: int


class SessionStore:
    def __init__(self, *, epoch: str, ttl_ns: int, messages_max: int, disconnected_max: int) -> None:
        self.on_changed: Callable[[Session], object] | None = None
        """Called when a session's client connects, disconnects, confirms events, or has another user or other
        subscriptions, and when the session is forgotten."""
        self._epoch = epoch
        self.set_limits(ttl_ns=ttl_ns, messages_max=messages_max, disconnected_max=disconnected_max)
        self._by_client: dict[str, Session] = {}
        self._by_secret: dict[str, Session] = {}
        self._by_user: dict[str, dict[Session, None]] = {}
        self._disconnected: OrderedDict[Session, int] = OrderedDict()

    def set_limits(self, *, ttl_ns: int, messages_max: int, disconnected_max: int) -> None:
        """Set what holds for sessions that disconnect, and for personal logs that open, from now on."""
        self._ttl_ns = ttl_ns
        self._disconnected_max = disconnected_max
        self._retention = Retention(events_max=messages_max, bytes_max=_PERSONAL_BYTES_MAX)

    @property
    def ttl_seconds(self) -> float:
        """How long a disconnected client can resume."""
        return self._ttl_ns / 1e9

    @property
    def messages_max(self) -> int:
        """How many personal messages a session keeps."""
        return self._retention.events_max

    @property
    def sessions(self) -> Collection[Session]:
        return self._by_client.values()

    @property
    def remembered(self) -> int:
        """How many sessions are disconnected and can be resumed."""
        return len(self._disconnected)

    def add_attached(self, session: Session, secret: str, *, brought: str | None = None) -> None:
        """Add a session, new or resumed, with a new secret; also the secret that its client `brought` is valid."""
        self._drop_secrets(session)
        session.secret, session.earlier_secret = secret, brought or ""
        for one in filter(None, (secret, brought)):
            self._by_secret[one] = session
        self._by_client[session.client_id] = session
        self._add_user(session)
        self._disconnected.pop(session, None)

    def confirm_secret(self, session: Session) -> None:
        """Note that a session's client has the new secret; the earlier one is then invalid."""
        self._drop_secret(session, session.earlier_secret)
        session.earlier_secret = ""
        if self.on_changed is not None:
            self.on_changed(session)

    def reassign(self, session: Session, before: str | None) -> None:
        """Note that a session may belong to another user than `before`."""
        if before != session.user_id:
            self._drop_user(session, before)
            self._add_user(session)
            if self.on_changed is not None:
                self.on_changed(session)

    def of_secret(self, secret: str, *, now_ns: int) -> Session | None:
        """Return the session with a secret; it may still be attached to another connection."""
        self.forget_expired(now_ns=now_ns)
        return self._by_secret.get(secret)

    def of_client(self, client_id: str) -> Session | None:
        return self._by_client.get(client_id)

    def of_user(self, user_id: str) -> list[Session]:
        return list(self._by_user.get(user_id, ()))

    def remember(self, session: Session, *, now_ns: int) -> None:
        """Note that a session's client has disconnected and may resume it."""
        self._disconnected[session] = now_ns + self._ttl_ns
        if len(self._disconnected) > self._disconnected_max:
            self._forget_oldest()

    def forget_expired(self, *, now_ns: int) -> None:
        while self._disconnected and next(iter(self._disconnected.values())) <= now_ns:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        session, _ = self._disconnected.popitem(last=False)
        self.forget(session)

    def drop(self, session: Session) -> None:
        """Remove a session of a client that is not connected."""
        self._disconnected.pop(session, None)
        self.forget(session)

    def forget(self, session: Session) -> None:
        """Remove a session that is not disconnected, so that nobody can resume it."""
        self._drop_secrets(session)
        del self._by_client[session.client_id]
        self._drop_user(session, session.user_id)
        if self.on_changed is not None:
            self.on_changed(session)

    def append_personal(self, session: Session, event: Event) -> tuple[ChannelLog, list[Entry]]:
        """Append an event to a session's own log, or a gap if it has no fields, as they were lost with another gateway;
        return the log and its new entries."""
        log = self.log_of(session)
        return log, log.append(event) if event.fields else log.append_lost(event)

    def log_of(self, session: Session) -> ChannelLog:
        """Return a session's own log; open it if necessary."""
        if session.personal is None:
            session.personal = ChannelLog(PERSONAL, epoch=self._epoch, retention=self._retention)
        return session.personal

    def _drop_secrets(self, session: Session) -> None:
        self._drop_secret(session, session.secret)
        self._drop_secret(session, session.earlier_secret)

    def _drop_secret(self, session: Session, secret: str) -> None:
        if self._by_secret.get(secret) is session:
            del self._by_secret[secret]

    def _add_user(self, session: Session) -> None:
        if session.user_id is not None:
            self._by_user.setdefault(session.user_id, {})[session] = None

    def _drop_user(self, session: Session, user_id: str | None) -> None:
        if user_id is not None:
            sessions = self._by_user[user_id]
            del sessions[session]
            if not sessions:
                del self._by_user[user_id]


class SessionState(Struct, frozen=True):
    """A session without its secret, for another process that continues it."""

    client_id: str
    identity: Identity
    subscriptions: list[Subscription]
    known: dict[str, Cursor]
    personal: LogState | None
    elsewhere: dict[str, Position] = {}


def state_of(session: Session) -> SessionState:
    personal = session.personal
    return SessionState(
        session.client_id,
        session.identity,
        list(session.subscriptions.values()),
        known_cursors(session),
        None if personal is None else personal.state,
        dict(session.elsewhere),
    )


def known_cursors(session: Session) -> dict[str, Cursor]:
    """Return a session's confirmed places in the channels that its client is subscribed to."""
    always, subscriptions = {EVERYONE, PERSONAL}, session.subscriptions.values()
    return {
        name: place
        for name, place in session.known.items()
        if name in always or any(one.selects(name) for one in subscriptions)
    }
