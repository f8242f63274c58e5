"""When a connection is closed because of its token, or for want of one; tests turn the clock."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.config.model import Auth
from gateway.core.protocol.errors import CloseCode
from gateway.core.protocol.events import unix_ns
from gateway.core.sessions.permissions import Identity
from gateway.web.sockets.token_deadline import TokenDeadline
from tests.support.core import SECOND, Peer, make_hub, open_identity


ANONYMOUS = replace(open_identity(), is_anonymous=True)


def expiring(seconds: float) -> Identity:
    return replace(open_identity("ann"), expires_ns=unix_ns(round(seconds * SECOND)))


class Client:
    """A client with an identity, and the deadline of its connection."""

    def __init__(self, identity: Identity, auth: Auth) -> None:
        self.now = 0.0
        self.peer = Peer(make_hub(), "p")
        self.session = self.peer.connect(identity=identity)
        self.peer.take()
        self.closed: list[CloseCode] = []
        self.deadline = TokenDeadline(self.session, self.closed.append, auth, lambda: round(self.now * SECOND))

    @property
    def timer_seconds(self) -> float | None:
        """In how many seconds the deadline looks again; None if it never does."""
        timer = self.deadline._timer
        return None if timer is None else timer.when() - asyncio.get_running_loop().time()

    def wait(self, seconds: float) -> None:
        """Let time pass; whatever timers are due meanwhile run at the end."""
        self.now += seconds
        if self.deadline._timer is not None:
            self.deadline._check()


async def test_a_token_that_expires_closes_its_connection_after_one_warning() -> None:
    client = Client(expiring(100), Auth(expiry_warning_seconds=30))
    client.wait(69)
    assert client.peer.take() == []
    client.wait(1)
    [warning] = client.peer.take()
    assert (warning["type"], warning["seconds"]) == ("token_expiring", 30)
    client.wait(10)
    assert (client.peer.take(), client.closed) == ([], [])
    client.wait(20)

    assert client.closed == [CloseCode.TOKEN_EXPIRED]
    assert client.timer_seconds is None


async def test_a_new_token_starts_the_deadline_anew() -> None:
    client = Client(expiring(40), Auth(expiry_warning_seconds=30))
    client.wait(20)
    client.session.identity = expiring(200)
    client.deadline.restart()
    client.peer.take()
    client.wait(160)
    [warning] = client.peer.take()

    assert (warning["seconds"], client.closed) == (20, [])


async def test_the_time_left_is_computed_again_every_hour() -> None:
    """Timers use another clock than tokens."""
    client = Client(expiring(100 * 3600), Auth())

    assert client.timer_seconds == pytest.approx(3600, abs=60)


async def test_an_identity_that_does_not_expire_has_no_deadline() -> None:
    assert Client(open_identity(), Auth()).timer_seconds is None


async def test_a_client_that_neither_authenticates_nor_subscribes_is_closed() -> None:
    client = Client(ANONYMOUS, Auth(timeout_seconds=10))
    client.wait(9)
    assert client.closed == []
    client.wait(1)

    assert client.closed == [CloseCode.AUTH_TIMEOUT]


async def test_an_anonymous_client_that_subscribes_stays() -> None:
    client = Client(ANONYMOUS, Auth(timeout_seconds=10))
    client.peer.send(type="subscribe", channels=["metrics"])
    client.wait(10)

    assert (client.closed, client.timer_seconds) == ([], None)


@pytest.mark.parametrize("seconds", [5.0, 60.0])
async def test_an_anonymous_client_is_closed_after_its_time_though_it_subscribes(seconds: float) -> None:
    client = Client(ANONYMOUS, Auth(timeout_seconds=10, anonymous_seconds_max=seconds))
    client.peer.send(type="subscribe", channels=["metrics"])
    for _ in range(round(seconds) - 1):
        client.wait(1)
    assert client.closed == []
    client.wait(1)

    assert client.closed == [CloseCode.AUTH_TIMEOUT]
