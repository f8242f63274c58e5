"""How long a connection may last: as long as its token, or for a while without one."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from gateway.config.model import Auth
from gateway.core.protocol import messages
from gateway.core.protocol.errors import CloseCode
from gateway.core.protocol.events import timestamp
from gateway.core.sessions.session import Session


_LATER_SECONDS_MAX = 3600.0
"""Timers run by another clock than tokens: a long one is looked at again."""


class ExpiringConnection(Protocol):
    """A connection, as far as its end is concerned."""

    session: Session | None

    def end(self, code: CloseCode) -> None: ...


class TokenDeadline:
    """One connection's deadline. Call `settle` when its identity is new, and `cancel` at its end."""

    __slots__ = ("_auth", "_began_ns", "_now_ns", "_party", "_timer", "_warned")

    def __init__(self, party: ExpiringConnection, auth: Auth, now_ns: Callable[[], int]) -> None:
        self._party = party
        self._auth = auth
        self._now_ns = now_ns
        self._began_ns = now_ns()
        self._timer: asyncio.TimerHandle | None = None
        self._warned = False

    def settle(self) -> None:
        """Begin anew with the session's identity of now."""
        self._warned = False
        self._look()

    def cancel(self) -> None:
        """Let the connection be."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Do what is due, and come again for what is next."""
        self.cancel()
        session = self._party.session
        if session is None:
            return
        if session.identity.is_anonymous:
            self._judge_stranger(session)
        elif session.identity.expires_ns is not None:
            self._judge_token(session, session.identity.expires_ns)

    def _judge_token(self, session: Session, expires_ns: int) -> None:
        left = (expires_ns - self._now_ns()) / 1e9
        if left <= 0:
            self._party.end(CloseCode.TOKEN_EXPIRED)
            return
        if left > self._auth.expiry_warning_seconds:
            self._come_again(left - self._auth.expiry_warning_seconds)
            return
        if not self._warned:
            self._warned = True
            now_ns = self._now_ns()
            session.send(
                messages.TokenExpiring(
                    token_expires=timestamp(expires_ns),
                    seconds=round(left, 3),
                    timestamp=timestamp(now_ns),
                )
            )
        self._come_again(left)

    def _judge_stranger(self, session: Session) -> None:
        lived = (self._now_ns() - self._began_ns) / 1e9
        idle, epoch_number = self._auth.timeout_seconds, self._auth.anonymous_seconds_max
        if (epoch_number and lived >= epoch_number) or (
            lived >= idle and not session.subscriptions
        ):
            self._party.end(CloseCode.AUTH_TIMEOUT)
        elif lived < idle:
            self._come_again(min(idle, epoch_number or idle) - lived)
        elif epoch_number:
            self._come_again(epoch_number - lived)

    def _come_again(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(min(seconds, _LATER_SECONDS_MAX), self._look)
