"""Who numbers what the bus brings without numbers: one gateway for all, or each for itself while there is no engine."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.cluster.lease import WAIT_NS, Lease
from gateway.core.protocol.events import Event
from tests.support.engine import Engine, Gateway
from tests.support.sizes import full


CHANNELS = ["a", "b"]


def raw(n: int, channel: str = "a") -> Event:
    return Event(channel, b'"data":%d' % n, 0)


def fields(events: list[Event]) -> list[bytes]:
    return [one.fields for one in events]


def test_the_holder_has_events_numbered_and_the_others_drop_them() -> None:
    holder, follower = Lease(now_ns=0), Lease(now_ns=0)
    holder.hold(1)
    follower.follow()
    numbered = Event("a", b'"data":0', 0, incarnation=7, sequence=1)

    assert [numbered] == holder.take([numbered, raw(1), raw(2)])
    assert [numbered] == follower.take([numbered, raw(1), raw(2)])
    assert [raw(1), raw(2)] == [one.event for one in holder.send(10)]
    assert not follower.to_send


def test_without_an_engine_each_numbers_for_itself_after_a_while() -> None:
    """What it heard meanwhile is not lost, nor what it dropped before without a gap."""
    lease = Lease(now_ns=0)
    lease.follow()
    assert [] == lease.take([raw(1)])
    lease.lose(now_ns=0)
    assert [] == lease.take([raw(2), raw(3)])
    assert [] == lease.expire(now_ns=WAIT_NS - 1)
    here = lease.expire(now_ns=WAIT_NS) + lease.take([raw(4)])

    assert [raw(n).fields for n in (2, 3, 4)] == fields(here)
    assert ["epoch"] == [one.reason for one in here[0].missing]
    assert [(), ()] == [one.missing for one in here[1:]]


def test_a_gateway_that_starts_without_an_engine_does_not_know_what_others_have_numbered() -> None:
    """A gap says so before the first event of each channel."""
    lease = Lease(now_ns=0)
    lease.take([raw(24), raw(24, "b"), raw(25)])
    here = lease.expire(now_ns=WAIT_NS)

    assert [["epoch"], ["epoch"], []] == [[one.reason for one in event.missing] for event in here]


def test_what_the_engine_has_no_room_for_leaves_a_hole_of_its_size() -> None:
    lease = Lease(now_ns=0)
    lease.hold(1)
    lease.take([raw(1), raw(2), raw(3, "b")])
    sent = lease.send(10)
    lease.confirm(refused=sent[:2])
    lease.take([raw(4), raw(5)])

    assert [(b'"data":4', 2), (b'"data":5', 0)] == [(one.event.fields, one.skipped) for one in lease.send(10)]


@pytest.mark.parametrize(("lacking", "gaps"), [(set(), []), ({"a"}, ["epoch"])])
def test_what_the_log_lacks_when_the_engine_fails_is_reported(lacking: set[str], gaps: list[str]) -> None:
    """The engine has confirmed it, but its stream has not brought it, and may never."""
    lease = Lease(now_ns=0)
    lease.hold(1)
    lease.take([raw(1)])
    lease.send(10)
    lease.confirm(lacking=lacking)
    lease.lose(now_ns=0)
    lease.take([raw(2)])
    [here] = lease.expire(now_ns=WAIT_NS)

    assert gaps == [one.reason for one in here.missing]


def test_after_a_short_outage_the_holder_goes_on() -> None:
    lease = Lease(now_ns=0)
    lease.hold(1)
    lease.lose(now_ns=0)
    assert [] == lease.take([raw(1)])
    assert not lease.to_send
    lease.hold(2)

    assert [raw(1)] == [one.event for one in lease.send(10)]


@pytest.mark.parametrize("fence", [3, 7])
def test_what_another_holder_may_have_numbered_is_not_numbered_again(fence: int) -> None:
    lease = Lease(now_ns=0)
    lease.hold(1)
    lease.lose(now_ns=0)
    lease.take([raw(1)])
    lease.hold(fence)

    assert not lease.to_send


def test_a_refused_fence_makes_it_follow_and_drop_what_waits() -> None:
    lease = Lease(now_ns=0)
    lease.hold(1)
    lease.take([raw(1), raw(2)])
    lease.send(1)
    lease.refuse()

    assert ("following", 1, False) == (lease.state, lease.refused, lease.to_send)


@pytest.mark.parametrize("limits", [{"events_max": 2}, {"bytes_max": 2 * len(raw(1).fields)}])
def test_what_exceeds_the_limit_leaves_a_hole_of_its_size(limits: dict[str, int]) -> None:
    lease = Lease(now_ns=0, **limits)
    lease.hold(1)
    lease.take([raw(n) for n in range(1, 6)])
    sent = lease.send(10)

    assert [(b'"data":4', 3), (b'"data":5', 0)] == [(one.event.fields, one.skipped) for one in sent]
    assert 3 == lease.overflowed


class Node(Gateway):
    """A gateway with a lease, that hears the same of the bus as all others, when it comes to it."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.engine = engine
        self.lease = Lease(now_ns=0, events_max=3)
        self.inbox: list[Event] = []
        self.is_up = False
        self.was_alone = False
        self._anew = True

    def hear(self, count: int) -> None:
        heard, self.inbox = self.inbox[:count], self.inbox[count:]
        self.logs.append(self.lease.take(heard))

    def connect(self) -> None:
        self.up()
        self.is_up = self._anew = True
        self.renew()

    def lose(self) -> None:
        self.is_up = False
        self._anew = True
        self.lease.lose(now_ns=self.now_ns)

    def renew(self) -> None:
        if self.is_up and self.channels.engine == self.engine.epoch:
            fence, is_own = self.engine.lease(self, anew=self._anew)
            self._anew = False
            if is_own:
                self.lease.hold(fence)
            else:
                self.lease.follow()

    def expire(self) -> None:
        self.now_ns += WAIT_NS
        self.logs.append(self.lease.expire(now_ns=self.now_ns))
        self.was_alone = self.was_alone or self.lease.state == "alone"

    def send(self, *, answered: bool = True) -> None:
        if not (self.lease.to_send and self.is_up and self.channels.engine == self.engine.epoch):
            return
        for one in self.lease.send(2):
            event = one.event
            found = self.engine.append(event.channel, fence=self.lease.fence, skipped=one.skipped, fields=event.fields)
            if found is None:
                self.lease.refuse()
                return
        if answered:
            self.lease.confirm()
        else:
            self.lose()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(0, 1), st.integers(1, 3)),
        st.tuples(st.sampled_from(["hear", "hear", "send", "catch_up"]), st.integers(0, 2), st.integers(1, 4)),
        st.tuples(st.sampled_from(["connect", "lose", "renew", "expire", "unanswered"]), st.integers(0, 2), st.just(0)),
        st.tuples(st.sampled_from(["lease ends", "data is lost"]), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=full(400, 100), deadline=None)
@given(steps)
def test_what_is_missing_anywhere_is_reported_there(found: list[tuple[str, int, int]]) -> None:
    """Whoever has the lease, and whenever it is lost, expired or taken anew: between the events before and those after
    it, there is a gap in the log. And what the engine has numbered, it has numbered once."""
    engine = Engine(live_max=1000, kept_max=1000)
    nodes = [Node(engine) for _ in range(3)]
    published: dict[str, list[int]] = {channel: [] for channel in CHANNELS}

    def publish(channel: str) -> None:
        n = sum(map(len, published.values()))
        published[channel].append(n)
        for one in nodes:
            one.inbox.append(raw(n, channel))

    def settle() -> None:
        for one in nodes:
            one.connect()
        for _ in range(200):
            for one in nodes:
                one.hear(1)
                one.send()
        for one in nodes:
            one.catch_up()

    for what, which, count in found:
        node = nodes[which]
        match what:
            case "publish":
                for _ in range(count):
                    publish(CHANNELS[which])
            case "lease ends":
                engine.holder = None
            case "data is lost":
                engine.lose(0)
                for one in nodes:
                    one.lose()
            case "hear":
                node.hear(count)
            case "unanswered":
                node.send(answered=False)
            case "catch_up":
                if node.is_up and node.channels.engine == engine.epoch:
                    node.catch_up()
            case _:
                getattr(node, what)()
    settle()
    for channel in CHANNELS:
        publish(channel)
    settle()
    for node in nodes:
        for channel in CHANNELS:
            node.events(channel)  # each position once
            entries = node.entries(channel)
            at = {int(one.json.rpartition(b":")[2].rstrip(b"}")): one.at for one in entries if one.is_event}
            gaps = [one.at for one in entries if not one.is_event]
            for n in set(published[channel]) - at.keys():
                before = max((number for number in at if number < n), default=None)
                after = min((number for number in at if number > n), default=None)
                if before is not None and after is not None and at[before] < at[after]:
                    assert any(at[before] < gap < at[after] for gap in gaps), (n, gaps, at)
