"""Any interleaving of what may happen to readers: each sees what it is owed exactly once, in order.

A reader is owed every event after the position that ``subscribed`` named, as long as it follows
the channel; where the log has moved on, a gap must name exactly the range that is missing.
"""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from gateway.core.protocol.channels import matches
from gateway.core.protocol.messages import Position
from tests.support.core import Peer, make_hub, publish
from tests.support.sizes import full


NAMES = ["metrics", "logs", "logs.a", "logs.b", "robots"]
PATTERNS = [*NAMES, "*", "logs.*", ">"]


class Follower:
    """A peer with its own idea of what it is owed."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.patterns: set[str] = set()
        self.seen: dict[str, int] = {}
        self.epochs: dict[str, str] = {}

    def follows(self, channel: str) -> bool:
        return any(matches(pattern, channel) for pattern in self.patterns)

    def digest(self) -> None:
        """Read what came; fail on anything that is not the next thing owed."""
        for message in self.peer.take():
            match message["type"]:
                case "subscribed":
                    self.patterns.update(message["channels"])
                    self._start(message["positions"])
                case "unsubscribed":
                    self.patterns.difference_update(message["channels"])
                case "event":
                    self._account(message["channel"], message["offset"], message["offset"])
                case "gap":
                    self._account(message["channel"], message["from"], message["to"])

    def _start(self, positions: dict[str, Any]) -> None:
        for channel, position in positions.items():
            self.seen[channel] = position["offset"]
            self.epochs[channel] = position["epoch"]

    def _account(self, channel: str, first: int, last: int) -> None:
        if channel.startswith("$"):
            return
        assert self.follows(channel), f"{channel} is not followed"
        # A channel without a position opened after the subscription, and is owed from 1.
        assert first == self.seen.get(channel, 0) + 1
        assert last >= first
        self.seen[channel] = last

    def positions(self) -> dict[str, Position]:
        return {
            channel: Position(self.epochs.get(channel, "e1"), offset)
            for channel, offset in self.seen.items()
            if self.follows(channel)
        }


class Readers(RuleBasedStateMachine):
    """Publish, subscribe, lag, unsubscribe, lose the connection, resume; in any order."""

    connected = Bundle("connected")
    lost = Bundle("lost")

    def __init__(self) -> None:
        super().__init__()
        self.hub = make_hub(events_max=6, disconnected_max=1000)
        self.followers: list[Follower] = []

    @rule(target=connected)
    def connect(self) -> Follower:
        follower = Follower(Peer(self.hub, f"p{len(self.followers)}"))
        follower.peer.connect()
        self.followers.append(follower)
        return follower

    @rule(channel=st.sampled_from(NAMES), count=st.integers(1, 9))
    def publish(self, channel: str, count: int) -> None:
        payload = b'{"event_type":"log.x","data":{"level":"x","message":"y"}}'
        self.hub.tick([[channel.encode(), payload]] * count, now_ns=0)

    @rule(channels=st.lists(st.sampled_from(NAMES), min_size=2, max_size=12))
    def publish_mixed(self, channels: list[str]) -> None:
        payload = b'{"event_type":"log.x","data":{"level":"x","message":"y"}}'
        self.hub.tick([[channel.encode(), payload] for channel in channels], now_ns=0)

    @rule(
        follower=connected,
        patterns=st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3, unique=True),
        last=st.none() | st.integers(0, 8),
    )
    def subscribe(self, follower: Follower, patterns: list[str], last: int | None) -> None:
        follower.digest()
        before = set(follower.patterns)
        options = {} if last is None else {"last": last}
        follower.peer.say(type="subscribe", channels=patterns, **options)
        for channel in NAMES:  # a position may only move for what this message asked for
            if not any(matches(pattern, channel) for pattern in patterns):
                assert any(matches(p, channel) for p in before) == follower.follows(channel)

    @rule(follower=connected, pattern=st.sampled_from(PATTERNS))
    def unsubscribe(self, follower: Follower, pattern: str) -> None:
        follower.digest()
        follower.peer.say(type="unsubscribe", channels=[pattern])
        follower.digest()
        follower.seen = {c: n for c, n in follower.seen.items() if follower.follows(c)}

    @rule(follower=connected)
    def stop_reading(self, follower: Follower) -> None:
        follower.peer.writing_paused = True

    @rule(follower=connected)
    def read_on(self, follower: Follower) -> None:
        follower.peer.read_on()

    @rule(target=lost, follower=consumes(connected))
    def lose(self, follower: Follower) -> Follower:
        follower.digest()
        follower.peer.disconnect()
        return follower

    @rule(target=connected, follower=consumes(lost), with_session=st.booleans())
    def resume(self, follower: Follower, with_session: bool) -> Follower:
        """Come back with positions: by session, or as a stranger that subscribes anew."""
        since = follower.positions()
        session = follower.peer.session
        assert session is not None
        patterns = sorted(follower.patterns)
        if with_session:
            follower.peer.connect(session=session.secret, since=since)
        elif patterns:
            follower.peer.connect(*patterns, since=since)
        else:
            follower.peer.connect()
        self._goes_on(follower, since)
        follower.digest()
        return follower

    def _goes_on(self, follower: Follower, since: dict[str, Position]) -> None:
        """A resumed channel starts where it was left, one that is new at its beginning."""
        subscribed = [m for m in follower.peer.received if m["type"] == "subscribed"]
        assert bool(subscribed) == bool(follower.patterns)
        for message in subscribed:
            for channel, position in message["positions"].items():
                if not channel.startswith("$"):
                    expected = since[channel].offset if channel in since else 0
                    assert expected == position["offset"], channel

    @invariant()
    def nothing_out_of_turn(self) -> None:
        for follower in self.followers:
            follower.digest()

    @invariant()
    def who_reads_is_owed_nothing(self) -> None:
        for follower in self.followers:
            session = follower.peer.session
            if session is None or session.reader is None or follower.peer.writing_paused:
                continue
            for channel, log in self.hub.logs.by_name.items():
                if follower.follows(channel):
                    assert follower.seen.get(channel, 0) == log.newest.offset, channel

    @invariant()
    def nothing_is_kept_for_those_who_do_not_read(self) -> None:
        for log in self.hub.logs.by_name.values():
            assert len(log) <= log.retention.events_max


TestReaders = Readers.TestCase
TestReaders.settings = settings(max_examples=full(300, 50), stateful_step_count=40, deadline=None)


def test_the_accounting_finds_a_planted_hole() -> None:
    """The test above can fail: an event that is skipped is noticed."""
    hub = make_hub()
    follower = Follower(Peer(hub, "p"))
    follower.peer.connect("metrics")
    publish(hub, "metrics", 2)
    del follower.peer.received[-2]
    try:
        follower.digest()
    except AssertionError:
        return
    raise AssertionError("a skipped event went unnoticed")
