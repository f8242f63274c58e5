"""Closes a connection when its token expires, or when an anonymous client does not authenticate."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.config.model import Auth
from gateway.core.protocol import messages
from gateway.core.protocol.errors import CloseCode
from gateway.core.protocol.events import timestamp, unix_ns, unix_timestamp
from gateway.core.sessions.session import Session


_TIMER_SECONDS_MAX = 3600.0
"""Timers use another clock than tokens: the time left is computed again this often."""


@dataclass(slots=True, eq=False, repr=False)
class TokenDeadline:
    """One session's deadline. Call `restart` when its identity is new, `cancel` when it is detached."""

    _session: Session
    _close: Callable[[CloseCode], None]
    _auth: Auth
    _now_ns: Callable[[], int]
    _started_ns: int = field(init=False)
    _timer: asyncio.TimerHandle | None = None
    _warned: bool = False

    def __post_init__(self) -> None:
        self._started_ns = self._now_ns()
        self.restart()

    def restart(self) -> None:
        """Start anew with the session's current identity."""
        self._warned = False
        self._check()

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        """Do what is due now, and set the timer for what is next."""
        self.cancel()
        identity = self._session.identity
        if identity.is_anonymous:
            self._check_anonymous()
        elif identity.expires_ns is not None:
            self._check_token(identity.expires_ns)

    def _check_token(self, expires_ns: int) -> None:
        now_ns = self._now_ns()
        left = (expires_ns - unix_ns(now_ns)) / 1e9
        if left <= 0:
            self._close(CloseCode.TOKEN_EXPIRED)
            return
        if left > self._auth.expiry_warning_seconds:
            left -= self._auth.expiry_warning_seconds
        elif not self._warned:
            self._warned = True
            self._session.send(
                messages.TokenExpiring(
                    token_expires=unix_timestamp(expires_ns), seconds=round(left, 3), timestamp=timestamp(now_ns)
                )
            )
        self._check_after(left)

    def _check_anonymous(self) -> None:
        connected = (self._now_ns() - self._started_ns) / 1e9
        idle_max, connected_max = self._auth.timeout_seconds, self._auth.anonymous_seconds_max
        if (connected_max and connected >= connected_max) or (
            connected >= idle_max and not self._session.subscriptions
        ):
            self._close(CloseCode.AUTH_TIMEOUT)
        elif connected < idle_max:
            self._check_after(min(idle_max, connected_max or idle_max) - connected)
        elif connected_max:
            self._check_after(connected_max - connected)

    def _check_after(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(min(seconds, _TIMER_SECONDS_MAX), self._check)
