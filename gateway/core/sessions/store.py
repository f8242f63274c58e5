"""A session as it goes from one process to another."""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct

from gateway.core.fanout.filters import parse
from gateway.core.fanout.views import Subscription
from gateway.core.log.epochs import Cursor
from gateway.core.log.log import ChannelLog, Entry, LogState, Retention
from gateway.core.protocol.channels import EVERYONE, PERSONAL
from gateway.core.protocol.events import Event
from gateway.core.sessions.permissions import Identity
from gateway.core.sessions.session import Session


class Followed(Struct, frozen=True, array_like=True):
    """One subscription; the filter as its text."""

    pattern: str
    filter: str | None
    rate: float | None
    within: frozenset[str] | None


class SessionState(Struct, frozen=True):
    """All of a session that outlives its connection, except for its secret."""

    client_id: str
    identity: Identity
    followed: list[Followed]
    known: dict[str, Cursor]
    personal: LogState | None


def pack(session: Session) -> SessionState:
    """Return a session's state."""
    personal = session.personal
    return SessionState(
        session.client_id,
        session.identity,
        followed(session),
        known(session),
        None if personal is None else personal.state,
    )


def followed(session: Session) -> list[Followed]:
    """Return what a session follows."""
    return [
        Followed(one.pattern, one.filter.text if one.filter else None, one.rate, one.within)
        for one in session.subscriptions.values()
    ]


def known(session: Session) -> dict[str, Cursor]:
    """Return how far a session is known to have come in what it follows."""
    own, selections = {EVERYONE, PERSONAL}, session.subscriptions.values()
    return {
        name: place
        for name, place in session.known.items()
        if name in own or any(one.selects(name) for one in selections)
    }


def subscriptions(followed: Iterable[Followed]) -> Mapping[str, Subscription]:
    """Return what the same session follows in another process, by pattern."""
    return {
        one.pattern: Subscription(
            one.pattern, parse(one.filter) if one.filter is not None else None, one.rate, one.within
        )
        for one in followed
    }


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
        """How many sessions wait for their clients."""
        return len(self._lost)

    def add(self, session: Session, secret: str) -> None:
        """Take in a session under a fresh secret; the one it had before opens nothing any more."""
        self._by_secret.pop(session.secret, None)
        session.secret = secret
        self._by_secret[secret] = session
        self._by_client[session.client_id] = session
        if session.user_id is not None:
            self._by_user.setdefault(session.user_id, {})[session] = None
        self._lost.pop(session, None)

    def named(self, session: Session, before: str | None) -> None:
        """Note that a session belongs to a user; `before` is whose it was."""
        if before != session.user_id:
            self._drop_user(session, before)
            if session.user_id is not None:
                self._by_user.setdefault(session.user_id, {})[session] = None

    def take(self, secret: str, *, now_ns: int) -> Session | None:
        """Find the session that a secret opens; it may still be attached elsewhere."""
        self.expire(now_ns=now_ns)
        return self._by_secret.get(secret)

    def remember(self, session: Session, *, now_ns: int) -> None:
        """Keep a session whose connection is gone."""
        self._lost[session] = now_ns + self._ttl_ns
        if len(self._lost) > self._disconnected_max:
            self._drop(next(iter(self._lost)))

    def expire(self, *, now_ns: int) -> None:
        """Forget the sessions whose time is over."""
        while self._lost:
            session, until_ns = next(iter(self._lost.items()))
            if until_ns > now_ns:
                break
            self._drop(session)

    def client(self, client_id: str) -> Session | None:
        """Find a client's session, attached or remembered."""
        return self._by_client.get(client_id)

    def user(self, user_id: str) -> list[Session]:
        """Find all sessions of a user."""
        return list(self._by_user.get(user_id, ()))

    def post(self, session: Session, event: Event) -> tuple[ChannelLog, Entry]:
        """Put a personal message into a session's own log."""
        log = self.log_of(session)
        [entry] = log.append(event)
        return log, entry

    def log_of(self, session: Session) -> ChannelLog:
        """Return a session's own log, which begins with its first message."""
        if session.personal is None:
            session.personal = ChannelLog(PERSONAL, epoch=self._epoch, retention=self._retention)
        return session.personal

    def _drop(self, session: Session) -> None:
        del self._lost[session]
        self.expired += 1
        self.forget(session)

    def forget(self, session: Session) -> None:
        """Let nobody take a session up again."""
        del self._by_secret[session.secret]
        del self._by_client[session.client_id]
        self._drop_user(session, session.user_id)

    def _drop_user(self, session: Session, user_id: str | None) -> None:
        if user_id is not None:
            sessions = self._by_user[user_id]
            del sessions[session]
            if not sessions:
                del self._by_user[user_id]
