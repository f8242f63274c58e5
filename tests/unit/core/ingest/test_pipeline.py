"""From bus messages to a channel's log: what the log says when streams end, restart or are forgotten."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from gateway.core.ingest import publishers
from gateway.core.log.sources import OFFSET_MAX
from gateway.core.protocol.envelope import SEQUENCE_MAX, Envelope
from gateway.core.protocol.messages import Position
from tests.support.core import SECOND, Core, Peer, make_hub


A, B, C = 0xA, 0xB, 0xC


class Bench:
    """A core, its time, and what publishers send to it."""

    def __init__(self, **options: Any) -> None:
        self.hub: Core = make_hub(**options)
        self.now_ns = SECOND
        self.sent = itertools.count(1)

    def send(self, incarnation: int, *sequences: int, topic: str = "robots", flags: int = 0) -> None:
        """Send messages, each in a tick of its own."""
        for sequence in sequences:
            self.send_batch([self.message(incarnation, sequence, topic=topic, flags=flags)])

    def message(self, incarnation: int, sequence: int, *, topic: str = "robots", flags: int = 0) -> list[bytes]:
        envelope = Envelope(incarnation, sequence, next(self.sent), flags)
        return [topic.encode(), b'{"p":%d,"n":%d}' % (incarnation, sequence), envelope.pack()]

    def send_batch(self, batch: list[list[bytes]]) -> None:
        self.now_ns += 1
        self.hub.tick(batch, now_ns=self.now_ns)

    def beat(self, incarnation: int, *, replay: str | None = None, **sequences: int) -> None:
        text = {"incarnation": f"{incarnation:016x}", "interval": 1, "replay": replay, "sequences": sequences}
        self.send_batch([[b"$heartbeat", json.dumps(text).encode()]])

    def wait(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND)
        self.hub.pipeline.expire(now_ns=self.now_ns)

    def requests(self) -> int:
        return len(self.hub.pipeline.ingest.recovery.take_requests())

    def log(self, topic: str = "robots") -> list[Any]:
        """Return the channel's log: (incarnation, number) of each event, (reason, count) of each gap."""
        log = self.hub.logs.by_name.get(topic)
        entries = [] if log is None else [json.loads(entry.json) for entry in log.held(log.start)]
        return [
            (one["data"]["p"], one["data"]["n"]) if one["type"] == "event" else (one["reason"], one["count"])
            for one in entries
        ]


def farewell(incarnation: int, last: int) -> list[bytes]:
    text = {"incarnation": f"{incarnation:016x}", "interval": 0, "sequences": {"robots": last}}
    return [b"$heartbeat", json.dumps(text).encode()]


def test_a_silent_publishers_end_is_reported_on_a_channel_with_two_publishers() -> None:
    bench = Bench()
    for incarnation in (A, B, A):
        bench.beat(incarnation)
        bench.send(incarnation, 1 if incarnation == B or not bench.log() else 2, flags=1)
    bench.wait(2)
    bench.beat(B)
    bench.wait(2)
    bench.wait(1)

    assert bench.log() == [(A, 1), (B, 1), (A, 2), ("epoch", None)], "once"


def test_a_publisher_whose_first_heartbeat_is_still_to_come_does_not_end_when_another_one_begins() -> None:
    bench = Bench()
    bench.send(A, 1, flags=1)
    bench.send(B, 1, flags=1)
    for incarnation in (A, B):
        bench.beat(incarnation, robots=1)
    bench.send(A, 2, flags=1)
    bench.wait(0.5)

    assert bench.log() == [(A, 1), (B, 1), (A, 2)]


def test_a_publisher_that_ends_before_its_first_heartbeat_is_reported_when_that_is_overdue() -> None:
    bench = Bench()
    bench.send(A, 1, flags=1)
    bench.send(B, 1, flags=1)
    bench.beat(B, robots=1)
    bench.wait(2)
    bench.beat(B, robots=1)
    assert bench.log() == [(A, 1), (B, 1)]
    bench.wait(1.1)
    bench.beat(B, robots=1)
    bench.wait(0.1)

    assert bench.log() == [(A, 1), (B, 1), ("epoch", None)]


def test_publishers_beyond_those_that_are_awaited_are_reported_as_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishers, "PUBLISHERS_MAX", 2)
    bench = Bench()
    for incarnation in (A, B, C):
        bench.send(incarnation, 1, flags=1)
    bench.wait(0.1)

    assert bench.log() == [(A, 1), (B, 1), ("epoch", None), (C, 1)]


def test_the_end_of_a_publisher_that_made_room_for_others_is_reported_on_a_channel_with_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publishers, "PUBLISHERS_MAX", 2)
    bench = Bench()
    for incarnation in (A, B):
        bench.beat(incarnation)
        bench.send(incarnation, 1, flags=1)
    bench.beat(C)
    bench.wait(0.1)

    assert bench.log() == [(A, 1), (B, 1), ("epoch", None)]


def test_a_silent_publisher_that_went_on_without_heartbeats_is_silent_again() -> None:
    bench = Bench()
    for incarnation in (A, B):
        bench.beat(incarnation)
        bench.send(incarnation, 1, flags=1)
    bench.wait(2)
    bench.beat(B)
    bench.wait(2)
    bench.send(A, 2)
    for _ in range(8):
        bench.beat(B)
        bench.wait(1)

    assert bench.log() == [(A, 1), (B, 1), ("epoch", None), (A, 2), ("epoch", None)], "once more"


def test_a_silent_publisher_that_begins_on_a_channel_without_heartbeats_is_silent_again() -> None:
    bench = Bench()
    for incarnation in (A, B):
        bench.beat(incarnation)
    bench.wait(4)
    bench.beat(B)
    bench.send(B, 1, flags=1)
    bench.send(A, 1, flags=1)
    for _ in range(4):
        bench.wait(1)
        bench.beat(B)

    assert bench.log() == [(B, 1), (A, 1), ("epoch", None)]


def test_what_a_heartbeat_alone_said_of_a_publisher_is_missing_for_a_client_that_does_not_name_it() -> None:
    bench = Bench(started_ns=0)
    bench.beat(A, robots=6)
    bench.send(B, 1)
    log = bench.hub.logs.by_name["robots"]

    def missing(position: Position) -> list[tuple[str, int | None, int | None]]:
        return [(gap.epoch, gap.from_, gap.to) for gap in log.missing(log.resume(position, ahead_max=9).cursor)]

    assert missing(Position(f"{B:016x}", 1)) == [(f"{A:016x}", 1, 6)]
    assert missing(Position(f"{B:016x}", 1, {f"{A:016x}": 4})) == [(f"{A:016x}", 5, 6)]
    assert missing(Position(f"{B:016x}", 1, {f"{A:016x}": 6})) == []
    assert bench.log() == [(B, 1)], "it is older than the gateway: nothing was lost"


def test_a_client_learns_at_once_what_it_misses_of_a_publisher_of_which_nothing_is_held() -> None:
    bench = Bench(started_ns=0)
    bench.beat(A, robots=6)
    peer = Peer(bench.hub, "c1")
    peer.connect("robots", since={"robots": Position(f"{A:016x}", 4)})
    subscribed, *gaps = [one for one in peer.take() if one["type"] in {"subscribed", "gap"}]
    pong = peer.send(type="ping")[-1]

    assert subscribed["recovered"] == {"robots": False}
    assert [(one["epoch"], one["from"], one["to"]) for one in gaps] == [(f"{A:016x}", 5, 6)]
    assert pong["positions"]["robots"] == {"epoch": f"{A:016x}", "offset": 6}


def test_a_new_publisher_without_heartbeats_may_be_the_restart_of_another_on_a_shared_channel() -> None:
    bench = Bench()
    bench.send(A, 1)
    bench.send(B, 1)
    bench.send(A, 2)
    bench.send(C, 1, 2)

    assert bench.log() == [(A, 1), ("epoch", None), (B, 1), (A, 2), ("epoch", None), (C, 1), (C, 2)]


def test_a_publisher_that_said_farewell_leaves_no_doubt_on_a_shared_channel() -> None:
    bench = Bench()
    bench.send(A, 1)
    bench.send(B, 1)
    bench.send(A, 2)
    bench.send_batch([farewell(A, 2)])
    bench.send_batch([farewell(B, 1)])
    bench.send(C, 1)

    assert bench.log()[-3:] == [(A, 2), ("epoch", 0), (C, 1)], "it ended, and nothing is missing"


def test_the_last_heartbeat_says_what_is_missing_also_behind_messages_that_are_held() -> None:
    bench = Bench()
    bench.beat(A, replay="r")
    bench.send(A, 1)
    bench.send(A, 3)
    bench.send_batch([farewell(A, 5)])
    bench.wait(3)

    assert bench.log() == [(A, 1), ("bus_loss", 1), (A, 3), ("bus_loss", 2)]


def test_the_last_heartbeat_says_what_is_missing_also_if_there_is_no_room_for_its_stream_at_first() -> None:
    bench = Bench(streams_max=1)
    bench.send_batch([bench.message(A, 1), farewell(B, 2)])
    bench.send(C, 1)

    assert bench.log() == [(A, 1), ("epoch", None), ("bus_loss", 2), (C, 1)]


def test_a_restart_with_the_same_incarnation_is_reported_and_its_events_arrive() -> None:
    bench = Bench()
    bench.send(A, 1, 2, 3)
    bench.send(A, 1, 2, 3, 4)

    assert bench.log() == [(A, 1), (A, 2), (A, 3), ("epoch", None), (A, 1), (A, 2), (A, 3), (A, 4)]


def test_a_restart_with_the_same_incarnation_is_noticed_if_its_first_message_is_lost() -> None:
    bench = Bench()
    bench.send(A, 1, 2, 3)
    bench.send(A, 2, 3, 4)

    assert bench.log()[3:] == [("epoch", None), ("bus_loss", 2), (A, 3), (A, 4)]


def test_a_second_restart_with_the_same_incarnation_is_reported_where_the_gateway_numbers() -> None:
    bench = Bench()
    for _ in range(3):
        bench.send(A, 1, 2)

    assert bench.log() == [(A, 1), (A, 2), *[("epoch", None), (A, 1), (A, 2)] * 2]


def test_duplicates_are_no_restart() -> None:
    bench = Bench()
    messages = [bench.message(A, sequence) for sequence in (1, 2, 3)]
    bench.send_batch([*messages, *messages, messages[0]])

    assert bench.log() == [(A, 1), (A, 2), (A, 3)]


def test_topics_that_are_rejected_take_no_stream_of_others() -> None:
    bench = Bench(channels_max=8, streams_max=4)
    topics = [f"t{n}" for n in range(30)]
    bench.send(B, 1)
    bench.beat(A, replay="r", **dict.fromkeys(topics, 1))
    bench.requests()
    bench.send_batch([bench.message(A, 1, topic=topic) for topic in topics])
    bench.send(B, 3)

    assert len(bench.hub.pipeline.ingest.recovery.streams) <= 4
    assert bench.log() == [(B, 1), ("bus_loss", 1), (B, 3)]


def test_more_topics_than_streams_lose_nothing_and_repeat_nothing() -> None:
    """Each topic has one publisher, so the logs say how far it had come."""
    bench = Bench(streams_max=2)
    topics = ["a", "b", "c", "d", "e"]
    requests = 0
    for sequence in range(1, 20):
        if sequence != 7:
            bench.send_batch([bench.message(A, sequence, topic=topic) for topic in topics])
        bench.beat(A, replay="r", **dict.fromkeys(topics, sequence if sequence < 7 else 0))
        requests += bench.requests()
        bench.wait(3)

    expected = [(A, n) for n in range(1, 7)], [("bus_loss", 1)], [(A, n) for n in range(8, 20)]
    assert [bench.log(topic) for topic in topics] == [[*itertools.chain(*expected)]] * len(topics)
    assert requests <= len(topics), "only for what is missing"


def test_a_forgotten_stream_that_continues_has_a_gap_on_a_channel_with_two_publishers() -> None:
    bench = Bench(streams_max=2)
    bench.send(A, 1, topic="shared")
    bench.send(B, 1, topic="shared")
    bench.send(A, 2, topic="shared")
    bench.send(C, 1, topic="x")
    bench.send(C, 1, topic="y")
    bench.send(A, 5, topic="shared")

    assert bench.log("shared")[-2:] == [("bus_loss", 2), (A, 5)]


def test_the_first_messages_of_a_restarted_publisher_are_lost_also_if_its_former_stream_was_forgotten() -> None:
    bench = Bench(streams_max=1)
    bench.send(A, 1)
    bench.send(C, 1, topic="x")
    bench.send(B, 3)

    assert bench.log() == [(A, 1), ("epoch", None), ("bus_loss", 2), (B, 3)]


def test_a_stream_that_blocks_another_one_is_not_forgotten() -> None:
    """Else that one would wait for it for ever."""
    bench = Bench(streams_max=2)
    bench.send(A, 1)
    batch = [farewell(A, 1), bench.message(B, 1), bench.message(C, 1, topic="x")]
    bench.send_batch(batch)

    assert bench.log() == [(A, 1), (B, 1)]
    assert bench.log("x") == [(C, 1)]


def test_no_offset_is_one_that_javascript_cannot_represent() -> None:
    """Neither at the start of an epoch nor within it, neither of an event nor of a gap."""
    bench = Bench()
    bench.send(A, OFFSET_MAX - 1, OFFSET_MAX, OFFSET_MAX + 1, OFFSET_MAX + 2)
    bench.send(B, 1, SEQUENCE_MAX, topic="hole")
    bench.beat(C, last=5)
    bench.beat(C, last=SEQUENCE_MAX)
    log = bench.hub.logs.by_name

    for name in ("robots", "hole", "last"):
        for entry in log[name].held(log[name].start):
            message = json.loads(entry.json)
            assert max(message.get("offset", 0), message.get("to") or 0, message.get("from") or 0) <= OFFSET_MAX, (
                message
            )
    assert [(A, OFFSET_MAX + 1), (A, OFFSET_MAX + 2)] == bench.log()[-2:]


def test_a_gap_begins_behind_the_readers_own_position() -> None:
    bench = Bench()
    bench.send(A, 1, 2, 9)
    log = bench.hub.logs.by_name["robots"]
    place = log.resume(log.position.__class__(f"{A:016x}", 5), ahead_max=0).cursor
    expected = {"from": 6, "to": 8, "count": 3}

    for entries in (log.read(place, bytes_max=1), log.held(place)):
        gap = json.loads(entries[0].json)
        assert {name: gap[name] for name in expected} == expected


def test_a_message_that_the_gateway_fails_to_handle_is_rejected_and_costs_others_nothing_of_its_batch() -> None:
    bench = Bench()

    def fail(_address: object, _event: object) -> None:
        raise RuntimeError("a fault")

    bench.hub.pipeline.ingest.on_personal = fail
    personal = [b"$personal", b'{"client_id":"c","event_type":"x","data":{}}']
    bench.send_batch([bench.message(A, 1), personal, bench.message(A, 2)])
    bench.send(A, 3)

    assert [(A, 1), (A, 2), (A, 3)] == bench.log()
    [rejected] = bench.hub.pipeline.ingest.rejections.newest
    assert "failed" == rejected.reason
    assert "a fault" in rejected.detail
