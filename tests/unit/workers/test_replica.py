"""A worker whose logs cannot follow those of its parent repairs them; its clients get a gap for what is lost."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.log.log import ChannelLog, LogState
from gateway.core.log.logs import Logs
from gateway.core.log.retention import Retention
from gateway.core.log.sources import Entry
from gateway.core.protocol.events import Event
from gateway.core.protocol.messages import Position
from gateway.workers import messages
from gateway.workers.pipe import Pipe, Unreadable
from gateway.workers.replica import Replica
from tests.support.core import Peer, make_hub


RETENTION = Retention(events_max=5)


class Link:
    """The logs of a parent, a worker that follows them, and a client of it on the channels `a` and `b`."""

    def __init__(self) -> None:
        self.now = 0
        self.wire: deque[messages.Message] = deque()
        self.logs = Logs(epoch="e1", channels_max=20, retention=RETENTION)
        self.logs.on_append.append(lambda entries: self.wire.append(messages.Entries(entries)))
        self.hub = make_hub(events_max=5)
        self.asked: deque[messages.Resend] = deque()
        self.failures: list[str] = []
        self.replica = Replica(
            self.hub.logs,
            self.hub.fanout,
            ask=lambda *what: self.asked.append(messages.Resend(*what)),
            on_failure=lambda kind, error: self.failures.append(kind),
        )
        self._pipe: Pipe[messages.ToWorker] = Pipe(messages.to_worker, on_messages=lambda _: 0, on_lost=lambda: 0)
        self.spoil_log: set[str] = set()
        """Channels whose logs arrive spoilt as long as there are entries in them."""
        self.publish("a", "b")
        self.wire.clear()
        for log in self.logs.by_name.values():
            self.wire.append(messages.Log(log.state))
        self.arrive()
        self.replica.finish_filling()
        self.client = Peer(self.hub, "client")
        self.client.connect("a", "b")
        self.client.take()

    def publish(self, *channels: str) -> None:
        for channel in channels:
            self.now += 1
            self.logs.admit(channel)
            self.logs.append([Event(channel, b'"data":{}', self.now)])

    def arrive(self, spoil: int | None = None) -> None:
        """Let the worker receive what was sent; of the next message the field `spoil` cannot be decoded."""
        while self.wire:
            found = msgspec.msgpack.decode(messages.encode(self.wire.popleft()))
            if spoil is not None:
                found[spoil], spoil = spoil_inner(found[spoil]), None
            if found[0] == "Log" and found[1][0] in self.spoil_log and found[1][8]:
                found[1][8][0][5] = "no bytes"
            self._take(self._pipe._read(memoryview(messages.encode(found))))

    def _take(self, message: messages.ToWorker | Unreadable) -> None:
        match message:
            case Unreadable():
                self.replica.on_unreadable(message)
            case messages.Entries():
                self.replica.append(message.entries)
            case messages.Log():
                self.replica.load(message.state)
            case messages.Evict():
                self.replica.evict(message.now_ns)
            case messages.Close():
                self.replica.close(message.name, message.epoch)
            case messages.Cut():
                self.hub.logs.cut(message.bytes_max)

    def answer(self) -> None:
        """Send what the worker requests, until it requests nothing more."""
        for _ in range(10):
            if not self.asked and not self.wire:
                break
            while self.asked:
                request = self.asked.popleft()
                for name in self.logs.by_name if request.names is None else request.names:
                    log = self.logs.by_name[name]
                    self.wire.append(messages.Log(log.empty_state if request.empty else log.state))
            self.arrive()

    def received(self, channel: str) -> list[Any]:
        """What the client has received: the events' offsets, and gaps as a range."""
        found: list[Any] = []
        for message in self.client.take():
            if message.get("channel") == channel:
                is_gap = message["type"] == "gap"
                found.append((message["from"], message["to"]) if is_gap else message["offset"])
        return found


def spoil_inner(field: Any) -> Any:
    """Let the last part of a field be what it cannot be."""
    if isinstance(field, list) and field:
        return [*field[:-1], spoil_inner(field[-1])]
    return {"no": "such"} if not isinstance(field, dict) else [field]


@pytest.fixture
def link() -> Link:
    return Link()


def test_entries_that_cannot_be_read_reach_the_clients_all_the_same(link: Link) -> None:
    link.publish("a")
    link.publish("a", "b")
    link.arrive(spoil=1)
    link.answer()
    link.publish("a")
    link.arrive()

    found = link.client.take()
    assert [2, 3, 4] == [one["offset"] for one in found if one["channel"] == "a"]
    assert [2] == [one["offset"] for one in found if one["channel"] == "b"]
    assert ["Entries"] == link.failures
    assert link.replica.awaited == 0


def test_a_message_of_which_nothing_can_be_read_costs_no_event(link: Link) -> None:
    link.publish("a", "b", "new")
    link.wire.clear()
    link.replica.on_unreadable(link._pipe._read(memoryview(b"\xc1")))  # type: ignore[arg-type]
    link.answer()

    assert {name: log.newest for name, log in link.logs.by_name.items()} == {
        name: log.newest for name, log in link.hub.logs.by_name.items()
    }
    found = link.client.take()
    assert [("a", 2), ("b", 2)] == [(one["channel"], one["offset"]) for one in found]


def test_what_was_evicted_meanwhile_is_reported_as_a_gap(link: Link) -> None:
    link.publish("a")
    link.arrive(spoil=1)
    link.publish(*"aaaaaaa")
    link.answer()

    assert [(2, 4), 5, 6, 7, 8, 9] == link.received("a")


def test_an_entry_that_cannot_be_applied_costs_other_channels_nothing(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = ChannelLog.replicate

    def fail(log: ChannelLog, entry: Entry) -> None:
        if log.name == "a":
            raise ValueError("a fault")
        apply(log, entry)

    monkeypatch.setattr(ChannelLog, "replicate", fail)
    link.publish("a", "b")
    link.arrive()
    assert link.received("b") == [2]
    monkeypatch.undo()
    link.answer()

    assert link.received("a") == [2]


def test_a_log_that_cannot_be_read_is_given_up_with_a_gap_and_goes_on(link: Link) -> None:
    link.spoil_log.add("a")
    link.publish("a", "a")
    link.arrive(spoil=1)
    link.answer()
    link.publish("a", "b")
    link.arrive()

    found = link.client.take()
    assert [("gap", 2, 3), ("event", 4)] == [
        (one["type"], one["from"], one["to"]) if one["type"] == "gap" else (one["type"], one["offset"])
        for one in found
        if one["channel"] == "a"
    ]
    assert link.failures == ["Entries", "Log"]


def test_a_log_that_never_can_be_applied_is_asked_for_at_each_tick_only(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(log: ChannelLog, state: LogState) -> None:
        raise ValueError("a fault")

    monkeypatch.setattr(ChannelLog, "load_state", fail)
    link.publish("a")
    link.arrive(spoil=1)
    link.answer()
    assert ["Entries", "Log", "Log"] == link.failures
    link.replica.tick()
    link.answer()
    assert ["Entries", "Log", "Log", "Log"] == link.failures
    link.publish("b")
    link.arrive()
    assert link.received("b") == [2]
    monkeypatch.undo()
    link.replica.tick()
    link.answer()
    link.publish("a")
    link.arrive()

    assert link.received("a") == [(2, 2), 3]


def test_an_eviction_that_fails_is_made_good(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(log: ChannelLog, *, now_ns: int) -> None:
        raise ValueError("a fault")

    monkeypatch.setattr(ChannelLog, "evict", fail)
    link.replica.evict(now_ns=1)
    monkeypatch.undo()
    link.answer()
    link.publish("a")
    link.arrive()

    assert link.received("a") == [2]
    assert link.replica.awaited == 0


def test_a_client_that_subscribes_meanwhile_gets_each_event_once(link: Link) -> None:
    link.publish("a")
    link.arrive(spoil=1)
    late = Peer(link.hub, "late")
    late.connect("a", since={"a": Position("e1", 1)})
    link.answer()
    link.publish("a")
    link.arrive()

    assert [2, 3] == [one["offset"] for one in late.take() if one["type"] == "event"]


@given(
    steps=st.lists(
        st.sampled_from(["publish a", "publish b", "publish b", "spoil", "arrive", "arrive", "answer", "pause", "read"])
    )
)
def test_whatever_cannot_be_read_each_client_gets_each_event_or_a_gap(steps: list[str]) -> None:
    link = Link()
    for step in steps:
        match step.split():
            case ["publish", channel]:
                link.publish(channel)
            case ["spoil"]:
                link.arrive(spoil=1)
            case ["arrive"]:
                link.arrive()
            case ["answer"]:
                link.answer()
            case ["pause"]:
                link.client.writing_paused = True
            case ["read"]:
                link.client.read_on()
    link.answer()
    link.publish("a", "b")
    link.answer()
    link.client.read_on()

    found = link.client.take()
    for channel in "ab":
        reached = 1
        for one in found:
            if one["channel"] == channel and one["type"] == "gap":
                assert one["from"] == reached + 1
                reached = one["to"]
            elif one["channel"] == channel:
                assert one["offset"] == reached + 1
                reached = one["offset"]
        assert reached == link.logs.by_name[channel].position.offset


def test_a_worker_closes_and_cuts_logs_as_its_parent_does(link: Link) -> None:
    link.logs.on_closed.append(lambda name: link.wire.append(messages.Close(name, link.logs.epoch)))
    link.logs.on_cut.append(lambda size: link.wire.append(messages.Cut(size)))
    link.publish(*"aaa")
    link.logs.cut(1)
    link.logs.close("b")
    link.publish("b")
    link.arrive()

    for name in "ab":
        log = link.logs.by_name[name]
        assert log.state == link.hub.logs.by_name[name].state
    assert link.logs.epoch == link.hub.fanout.epoch != "e1"
    assert [(one["epoch"], one["offset"]) for one in link.client.take() if one["channel"] == "b"] == [("e1-1", 1)]
