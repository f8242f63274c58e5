"""Which connections are pinged, which are closed, and which are not."""

from __future__ import annotations

from gateway.config.model import Clients
from gateway.core.fanout.cohorts import Cursors
from gateway.core.protocol.errors import CloseCode
from gateway.web.sockets.heartbeat import ClientHeartbeat
from tests.support.core import make_hub


class Peer:
    """A connection as the heartbeat sees it; `answers` at once, or never."""

    def __init__(self, *, answers: bool = True, buffered: int = 0) -> None:
        self.answers = answers
        self.buffered = buffered
        self.lag = 0
        self.heard = True
        self.pings = 0
        self.ended: list[CloseCode] = []

    def ping(self, frame: bytes, payload: bytes, heads: Cursors) -> None:
        self.pings += 1
        self.heard = self.answers

    def close(self, code: CloseCode) -> None:
        self.ended.append(code)


def beat(heartbeat: ClientHeartbeat, *, until: float, start: float = 0.0) -> None:
    for second in range(int(start), int(until)):
        heartbeat.check(now=float(second))


def test_a_client_that_answers_is_pinged_again_and_stays() -> None:
    heartbeat, peer = ClientHeartbeat(make_hub(), Clients()), Peer()
    heartbeat.monitor(peer, now=0)
    beat(heartbeat, until=301)

    assert (peer.pings, peer.ended) == (10, [])


def test_a_silent_client_is_closed_after_the_grace() -> None:
    heartbeat, peer = ClientHeartbeat(make_hub(), Clients()), Peer(answers=False)
    heartbeat.monitor(peer, now=0)
    beat(heartbeat, until=40)
    assert peer.ended == []
    beat(heartbeat, start=40, until=42)

    assert peer.ended == [CloseCode.HEARTBEAT_TIMEOUT]


def test_a_socket_that_accepts_nothing_is_closed_after_the_stall() -> None:
    heartbeat, peer = ClientHeartbeat(make_hub(), Clients()), Peer(answers=False, buffered=500)
    heartbeat.monitor(peer, now=0)
    beat(heartbeat, until=200)

    assert peer.ended == [CloseCode.SLOW_CONSUMER]


def test_an_outage_that_is_over_does_not_close_the_connection_later() -> None:
    """Bytes waited for 45 s, then all went out; that was all."""
    heartbeat, peer = ClientHeartbeat(make_hub(), Clients()), Peer(answers=False, buffered=500)
    heartbeat.monitor(peer, now=0)
    beat(heartbeat, until=45)
    peer.answers, peer.heard, peer.buffered = True, True, 0
    beat(heartbeat, start=45, until=600)

    assert peer.ended == []


def test_a_slow_socket_that_progresses_is_not_stalled() -> None:
    heartbeat, peer = ClientHeartbeat(make_hub(), Clients()), Peer(answers=False, buffered=100_000)
    heartbeat.mark_stalled(peer, now=0)
    for second in range(1, 900, 60):
        peer.buffered -= 100
        heartbeat.check(now=float(second))

    assert peer.ended == []
