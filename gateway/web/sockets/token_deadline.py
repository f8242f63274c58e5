"""Closes a connection when its token expires, or when an anonymous client does not authenticate."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from gateway.config.model import Auth
from gateway.core.protocol import messages
from gateway.core.protocol.errors import CloseCode
from gateway.core.protocol.events import timestamp
from gateway.core.sessions.session import Session


_TIMER_SECONDS_MAX = 3600.0
"""Timers use another clock than tokens: the time left is computed again this often."""


class ExpiringConnection(Protocol):
    """What a deadline needs of a connection."""

    session: Session | None

    def close(self, code: CloseCode) -> None: ...


class TokenDeadline:
    """One connection's deadline. Call `restart` when its identity is new, `cancel` when it closes."""

    __slots__ = ("_auth", "_connection", "_now_ns", "_started_ns", "_timer", "_warned")

    def __init__(
        self, connection: ExpiringConnection, auth: Auth, now_ns: Callable[[], int]
    ) -> None:
        self._connection = connection
        self._auth = auth
        self._now_ns = now_ns
        self._started_ns = now_ns()
        self._timer: asyncio.TimerHandle | None = None
        self._warned = False

    def restart(self) -> None:
        """Start anew with the session's current identity."""
        self._warned = False
        self._check()

    def cancel(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        """Do what is due now, and set the timer for what is next."""
        self.cancel()
        session = self._connection.session
        if session is None:
            return
        if session.identity.is_anonymous:
            self._check_anonymous(session)
        elif session.identity.expires_ns is not None:
            self._check_token(session, session.identity.expires_ns)

    def _check_token(self, session: Session, expires_ns: int) -> None:
        left = (expires_ns - self._now_ns()) / 1e9
        if left <= 0:
            self._connection.close(CloseCode.TOKEN_EXPIRED)
            return
        if left > self._auth.expiry_warning_seconds:
            self._check_after(left - self._auth.expiry_warning_seconds)
            return
        if not self._warned:
            self._warned = True
            session.send(
                messages.TokenExpiring(
                    token_expires=timestamp(expires_ns),
                    seconds=round(left, 3),
                    timestamp=timestamp(self._now_ns()),
                )
            )
        self._check_after(left)

    def _check_anonymous(self, session: Session) -> None:
        connected = (self._now_ns() - self._started_ns) / 1e9
        idle_max, connected_max = self._auth.timeout_seconds, self._auth.anonymous_seconds_max
        if (connected_max and connected >= connected_max) or (
            connected >= idle_max and not session.subscriptions
        ):
            self._connection.close(CloseCode.AUTH_TIMEOUT)
        elif connected < idle_max:
            self._check_after(min(idle_max, connected_max or idle_max) - connected)
        elif connected_max:
            self._check_after(connected_max - connected)

    def _check_after(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(min(seconds, _TIMER_SECONDS_MAX), self._check)
