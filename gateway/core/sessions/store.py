"""Sessions by secret, client and user; what they remember and what waits for their clients.

A session whose connection was lost is remembered until its time to live has passed or
`disconnected_max` others were lost after it. Personal messages are one more log, the session's own,
so those that waited and those that were under way are resumed by position like everything else.
"""

from collections import OrderedDict
from collections.abc import Collection

from msgspec import Struct

from gateway.core.fanout.views import Subscription
from gateway.core.log.epochs import Cursor
from gateway.core.log.log import ChannelLog, Entry, LogState, Retention
from gateway.core.protocol.channels import EVERYONE, PERSONAL
from gateway.core.protocol.events import Event
from gateway.core.sessions.permissions import Identity
from gateway.core.sessions.session import Session


_PERSONAL_BYTES_MAX = 1024 * 1024


class SessionStore:
    """All sessions, attached or remembered."""

    def __init__(
        self, *, epoch: str, ttl_ns: int, messages_max: int, disconnected_max: int
    ) -> None:
        self.expired = 0
        self._epoch = epoch
        self._ttl_ns = ttl_ns
        self._disconnected_max = disconnected_max
        self._retention = Retention(events_max=messages_max, bytes_max=_PERSONAL_BYTES_MAX)
        self._by_client: dict[str, Session] = {}
        self._by_secret: dict[str, Session] = {}
        self._by_user: dict[str, dict[Session, None]] = {}
        self._lost: OrderedDict[Session, int] = OrderedDict()

    @property
    def sessions(self) -> Collection[Session]:
        """All sessions."""
        return self._by_client.values()

    @property
    def remembered(self) -> int:
        """How many sessions may be resumed."""
        return len(self._lost)

    def add(self, session: Session, secret: str) -> None:
        """Add a session under a fresh secret, which replaces the one that it had before."""
        self._by_secret.pop(session.secret, None)
        session.secret = secret
        self._by_secret[secret] = session
        self._by_client[session.client_id] = session
        if session.user_id is not None:
            self._by_user.setdefault(session.user_id, {})[session] = None
        self._lost.pop(session, None)

    def reassign(self, session: Session, before: str | None) -> None:
        """Note that a session belongs to another user than `before`."""
        if before != session.user_id:
            self._drop_user(session, before)
            if session.user_id is not None:
                self._by_user.setdefault(session.user_id, {})[session] = None

    def find(self, secret: str, *, now_ns: int) -> Session | None:
        """Return the session that a secret opens; it may still be attached to another connection."""
        self.expire(now_ns=now_ns)
        return self._by_secret.get(secret)

    def remember(self, session: Session, *, now_ns: int) -> None:
        """Keep a session whose connection was lost."""
        self._lost[session] = now_ns + self._ttl_ns
        if len(self._lost) > self._disconnected_max:
            self._drop(next(iter(self._lost)))

    def expire(self, *, now_ns: int) -> None:
        """Forget the sessions whose time to live has passed."""
        while self._lost:
            session, until_ns = next(iter(self._lost.items()))
            if until_ns > now_ns:
                break
            self._drop(session)

    def of_client(self, client_id: str) -> Session | None:
        """Return a client's session, attached or remembered."""
        return self._by_client.get(client_id)

    def of_user(self, user_id: str) -> list[Session]:
        """Return all sessions of a user."""
        return list(self._by_user.get(user_id, ()))

    def post(self, session: Session, event: Event) -> tuple[ChannelLog, Entry]:
        """Append a personal message to a session's own log."""
        log = self.log_of(session)
        [entry] = log.append(event)
        return log, entry

    def log_of(self, session: Session) -> ChannelLog:
        """Return a session's own log; open it if there is none."""
        if session.personal is None:
            session.personal = ChannelLog(PERSONAL, epoch=self._epoch, retention=self._retention)
        return session.personal

    def _drop(self, session: Session) -> None:
        del self._lost[session]
        self.expired += 1
        self.forget(session)

    def forget(self, session: Session) -> None:
        """Forget a session: nobody can resume it."""
        del self._by_secret[session.secret]
        del self._by_client[session.client_id]
        self._drop_user(session, session.user_id)

    def _drop_user(self, session: Session, user_id: str | None) -> None:
        if user_id is not None:
            sessions = self._by_user[user_id]
            del sessions[session]
            if not sessions:
                del self._by_user[user_id]


class SessionState(Struct, frozen=True):
    """What another process needs to go on with a session, except for its secret."""

    client_id: str
    identity: Identity
    subscriptions: list[Subscription]
    known: dict[str, Cursor]
    personal: LogState | None


def state_of(session: Session) -> SessionState:
    """Return a session's state."""
    personal = session.personal
    return SessionState(
        session.client_id,
        session.identity,
        list(session.subscriptions.values()),
        known_cursors(session),
        None if personal is None else personal.state,
    )


def known_cursors(session: Session) -> dict[str, Cursor]:
    """Return how far a client is known to have come in the channels that it subscribes to."""
    own, subscriptions = {EVERYONE, PERSONAL}, session.subscriptions.values()
    return {
        name: place
        for name, place in session.known.items()
        if name in own or any(one.selects(name) for one in subscriptions)
    }
