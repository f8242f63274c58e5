"""Durations do not change when the wall clock is set; timestamps follow it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.protocol.events import set_clock_offset, timestamp, unix_ns
from gateway.runtime import clock
from tests.support.core import SECOND, Peer, make_hub


HOUR = 3600 * SECOND
ROOT = Path(__file__).parents[3]
READS_WALL_CLOCK = {"auth", "cli", "bus/sampling.py", "runtime/clock.py", "web/sockets/tls.py"}
"""What needs the date: tokens and certificates, and commands that run for seconds."""


@pytest.fixture(autouse=True)
def offset() -> Iterator[None]:
    yield
    set_clock_offset(0)


@pytest.mark.parametrize("moved_ns", [HOUR, -HOUR])
def test_a_clock_that_is_set_changes_timestamps_and_no_duration(moved_ns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock.follow_wall_clock()
    before_ns, unix_before_ns = clock.now_ns(), unix_ns(clock.now_ns())
    monkeypatch.setattr(time, "time_ns", lambda: unix_before_ns + moved_ns)
    clock.follow_wall_clock()
    passed_ns = clock.now_ns() - before_ns

    assert 0 <= passed_ns < HOUR / 2
    assert abs(unix_ns(before_ns) - (unix_before_ns + moved_ns)) <= passed_ns
    assert timestamp(before_ns) != timestamp(before_ns + 2 * HOUR)


@pytest.mark.parametrize("moved_ns", [HOUR, -HOUR])
def test_a_session_survives_that_the_clock_is_set_and_its_messages_are_not_refused(moved_ns: int) -> None:
    hub = make_hub(ttl_seconds=60)
    peer = Peer(hub, "c")
    peer.connect("robots", now_ns=SECOND)
    secret = peer.received[0]["session"]
    peer.disconnect(now_ns=2 * SECOND)
    set_clock_offset(moved_ns)
    peer.connect(session=secret, now_ns=3 * SECOND)

    assert [message["resumed"] for message in peer.received if message["type"] == "connected"] == [False, True]
    assert peer.send(now_ns=4 * SECOND, type="ping")[-1]["type"] == "pong"


def test_nothing_else_reads_the_wall_clock() -> None:
    pattern = re.compile(r"\btime\.time(_ns)?\b|\bdatetime\.(now|utcnow|today)\b")
    package = ROOT / "gateway"
    reading = {str(path.relative_to(package)) for path in package.rglob("*.py") if pattern.search(path.read_text())}

    assert {path for path in reading if not path.startswith(tuple(READS_WALL_CLOCK))} == set()
