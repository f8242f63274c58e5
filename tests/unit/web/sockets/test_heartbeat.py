"""Which connections are pinged, which are closed, and which are not."""

from __future__ import annotations

from gateway.config.model import Clients
from gateway.core.fanout.cohorts import Cursors
from gateway.core.protocol.errors import CloseCode
from gateway.web.sockets.heartbeat import ClientHeartbeat
from gateway.web.sockets.kernel import Sending
from tests.support.core import make_hub


class Peer:
    """A connection as the heartbeat sees it; `answers` at once, or never."""

    def __init__(self, *, answers: bool = True, unsent: int = 0, reading_paused: bool = False) -> None:
        self.answers = answers
        self.sending = Sending(unsent)
        self.reading_paused = reading_paused
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
    heartbeat, peer = ClientHeartbeat(make_hub(), Clients()), Peer(answers=False, unsent=500)
    heartbeat.monitor(peer, now=0)
    beat(heartbeat, until=200)

    assert peer.ended == [CloseCode.SLOW_CONSUMER]


def test_a_late_check_puts_deadlines_off() -> None:
    """As long as the gateway did not run; what it runs counts, before and after."""
    heartbeat, silent = ClientHeartbeat(make_hub(), Clients()), Peer(answers=False)
    stalled = Peer(unsent=500)
    heartbeat.monitor(silent, now=0)
    heartbeat.mark_stalled(stalled, now=0)
    beat(heartbeat, until=36)  # it was pinged 5 s ago
    beat(heartbeat, start=1035, until=1039)
    assert [[], []] == [silent.ended, stalled.ended]
    beat(heartbeat, start=1039, until=1119)
    assert [[CloseCode.HEARTBEAT_TIMEOUT], []] == [silent.ended, stalled.ended]
    beat(heartbeat, start=1119, until=1120)

    assert [CloseCode.SLOW_CONSUMER] == stalled.ended


def test_an_outage_that_is_over_does_not_close_the_connection_later() -> None:
    """Bytes waited for 45 s, then all went out; that was all."""
    heartbeat, peer = ClientHeartbeat(make_hub(), Clients()), Peer(answers=False, unsent=500)
    heartbeat.monitor(peer, now=0)
    beat(heartbeat, until=45)
    peer.answers, peer.heard, peer.sending = True, True, Sending()
    beat(heartbeat, start=45, until=600)

    assert peer.ended == []


def test_a_slow_socket_that_progresses_is_not_stalled() -> None:
    heartbeat, peer = ClientHeartbeat(make_hub(), Clients()), Peer(answers=False, unsent=100_000)
    heartbeat.mark_stalled(peer, now=0)
    for second in range(1, 900, 60):
        peer.sending = Sending(peer.sending.unsent - 100)
        heartbeat.check(now=float(second))

    assert peer.ended == []


def test_a_client_that_reads_on_stays_though_its_pong_waits_behind_other_bytes() -> None:
    """All was sent; what the peer's kernel holds is read slowly."""
    heartbeat, peer = ClientHeartbeat(make_hub(), Clients()), Peer(answers=False)
    heartbeat.monitor(peer, now=0)
    for second in range(300):
        peer.sending = Sending(accepted=second // 8)
        heartbeat.check(now=float(second))
    assert peer.ended == []
    beat(heartbeat, start=300, until=340)

    assert peer.ended == [CloseCode.HEARTBEAT_TIMEOUT]


def test_a_client_whose_kernel_accepts_nothing_is_closed_after_the_stall() -> None:
    heartbeat, peer = ClientHeartbeat(make_hub(), Clients()), Peer(answers=False)
    peer.sending = Sending(unsent=300_000, accepted=100)
    heartbeat.monitor(peer, now=0)
    beat(heartbeat, until=160)
    assert peer.ended == []
    beat(heartbeat, start=160, until=165)

    assert peer.ended == [CloseCode.SLOW_CONSUMER]


def test_a_client_that_is_not_read_from_is_not_held_to_answer() -> None:
    heartbeat, peer = ClientHeartbeat(make_hub(), Clients()), Peer(answers=False, reading_paused=True)
    heartbeat.monitor(peer, now=0)
    beat(heartbeat, until=300)
    assert peer.ended == []
    peer.reading_paused = False
    beat(heartbeat, start=300, until=345)

    assert peer.ended == [CloseCode.HEARTBEAT_TIMEOUT]


def test_a_reset_is_noticed_on_a_socket_that_is_not_read_from() -> None:
    heartbeat, peer = ClientHeartbeat(make_hub(), Clients()), Peer(answers=False, reading_paused=True)
    peer.sending = Sending(reset=True)
    heartbeat.monitor(peer, now=0)
    beat(heartbeat, until=45)

    assert peer.ended == [CloseCode.HEARTBEAT_TIMEOUT]


def test_a_round_trip_is_measured_once_for_each_ping() -> None:
    """A pong that answers no ping, or one that was answered already, measures nothing."""
    trips: list[float] = []
    heartbeat, peer = ClientHeartbeat(make_hub(), Clients(), on_round_trip=trips.append), Peer()
    heartbeat.monitor(peer, now=0)
    heartbeat.check(now=30.0)
    heartbeat.on_pong(peer, b"other", now=30.25)
    heartbeat.on_pong(peer, (1).to_bytes(4), now=30.5)
    heartbeat.on_pong(peer, (1).to_bytes(4), now=31.0)

    assert [0.5] == trips
