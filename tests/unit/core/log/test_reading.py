"""What a client reads of a channel of several sources: it can tell the source of each event, whatever is left out."""

from __future__ import annotations

import json
from typing import Any

from gateway.core.fanout.catch_up import read_all, read_newest
from gateway.core.fanout.filters import parse
from gateway.core.fanout.views import UNFILTERED, ChannelView
from gateway.core.log.log import ChannelLog
from gateway.core.log.retention import Retention
from gateway.core.log.sources import Cursor
from gateway.core.protocol.envelope import Envelope
from gateway.core.protocol.events import Event
from gateway.core.protocol.frames import text_payloads
from gateway.core.protocol.messages import Position
from tests.support.core import Core, Peer, make_hub
from tests.support.sources import EPOCH_A, EPOCH_B, EPOCH_C, A, B, C, add, make_log


ODD = ChannelView((parse("data.n in [1, 3, 5]"),))


def subscribed(hub: Core, **options: Any) -> Peer:
    peer = Peer(hub, "peer")
    peer.connect()
    peer.send(type="subscribe", channels=["robots"], **options)
    return peer


def publish(hub: Core, incarnation: int, number: int) -> None:
    hub.tick([[b"robots", b"%d" % number, Envelope(incarnation, number, number).pack()]], now_ns=0)


def add_numbered(log: ChannelLog, incarnation: int, *sequences: int) -> None:
    for sequence in sequences:
        log.append(Event("robots", b'"data":{"p":%d,"n":%d}' % (incarnation, sequence), 0, 0, incarnation, sequence))


def read_odd(log: ChannelLog, place: Cursor) -> list[bytes]:
    """Return what a client with the filter `ODD` reads behind a place, in small parts."""
    frames: list[bytes] = []
    while place.at < log.at:
        part = read_all(log, place, ODD, bytes_max=1)
        place, frames = part.reached, frames + part.frames
    return frames


def taken(frames: list[bytes], epoch: str) -> list[tuple[str, int]]:
    """Return the source and offset of each event, as a client takes them who is in `epoch`.

    Each event says itself which source it is of."""
    found: list[tuple[str, int]] = []
    for payload in text_payloads(b"".join(frames)):
        message = json.loads(payload)
        epoch = message.get("epoch", epoch)
        if message["type"] == "event":
            found.append((epoch, message["offset"]))
            assert found[-1] == (f"{message['data']['p']:016x}", message["data"]["n"])
    return found


def test_a_client_with_a_filter_over_many_sources_needs_no_gaps_to_know_them() -> None:
    hub = make_hub()
    peer = subscribed(hub, filter="data == 3")
    for number in range(1, 4):
        for incarnation in (A, B, C):
            publish(hub, incarnation, number)

    found = [one for one in peer.take() if one["type"] == "event"]
    assert [(one["epoch"], one["offset"]) for one in found] == [(EPOCH_A, 3), (EPOCH_B, 3), (EPOCH_C, 3)]


def test_the_next_event_behind_a_gap_for_a_source_that_is_not_known_is_not_taken_to_be_of_that_source() -> None:
    """Also if it has no epoch: then the gap before it names its source."""
    hub = make_hub()
    publish(hub, A, 1)
    peer = subscribed(hub, since={"robots": {"epoch": EPOCH_A, "offset": 1, "others": {EPOCH_B: 5}}})
    publish(hub, A, 2)
    *_, lost, named, event = peer.take()

    assert (EPOCH_B, None, "epoch") == (lost["epoch"], lost["to"], lost["reason"])
    assert (EPOCH_A, 1, "filtered") == (named["epoch"], named["to"], named["reason"])
    assert 2 == event["offset"]
    assert event.get("epoch", EPOCH_A) == EPOCH_A


def test_the_newest_events_start_behind_a_position_of_all_sources() -> None:
    hub = make_hub()
    for number in range(1, 4):
        for incarnation in (A, B):
            publish(hub, incarnation, number)
    peer = subscribed(hub, last=3)
    found = peer.take()
    [reply] = [one for one in found if one["type"] == "subscribed"]
    position = reply["positions"]["robots"]

    assert {position["epoch"]: position["offset"], **position["others"]} == {EPOCH_A: 2, EPOCH_B: 1}
    assert [one["offset"] for one in found if one["type"] == "event"] == [2, 3, 3]


def test_an_event_names_its_source_behind_a_gap_that_says_that_it_has_ended() -> None:
    """Its client has forgotten the source with that gap."""
    log = make_log(events_max=1)
    start = log.newest
    for source in (A, B, C):
        add(log, source, 1)
    for source in (B, A):
        log.end(source, now_ns=0)
    log.finish(C, 1)
    add(log, A, 2, 3)
    part = read_newest(log, start, UNFILTERED, until=log.newest)
    *ends, event = map(json.loads, list(text_payloads(b"".join(part.frames)))[:3])

    assert [(EPOCH_B, None), (EPOCH_A, None)] == [(one["epoch"], one["to"]) for one in ends]
    assert (EPOCH_A, 3) == (event.get("epoch"), event["offset"])


def test_what_is_evicted_while_a_client_awaits_the_newest_events_is_reported_in_each_source() -> None:
    log = make_log(events_max=4)
    start = log.newest
    add(log, A, 1)
    asked = log.newest
    add(log, B, 1, 2, 3)
    add(log, A, 2, 3, 4, 5)

    part = read_newest(log, start, UNFILTERED, until=asked)
    gaps = [json.loads(one) for one in text_payloads(b"".join(part.frames)) if b'"gap"' in one]

    assert {one["epoch"]: one["to"] for one in gaps if one["from"]} == {EPOCH_A: 1, EPOCH_B: 3}
    assert [entry.offset for entry in log.read(part.reached, bytes_max=1000)] == [2, 3, 4, 5]


def test_current_values_that_are_evicted_are_read_in_parts_without_a_hole() -> None:
    log = ChannelLog("robots", epoch="own", retention=Retention(events_max=1, key=("data",)))
    log.has_ended = lambda _incarnation: False
    start = log.newest
    for number in range(1, 4):
        for incarnation in (A, B):
            event = Event("robots", b'"data":"%d-%d"' % (incarnation, number), 0, 0, incarnation, number, ())
            log.append(event)

    got, place = [], start
    while place.at < log.at:
        part = read_newest(log, place, UNFILTERED, until=log.newest, bytes_max=1)
        messages = [json.loads(one) for one in text_payloads(b"".join(part.frames))]
        got += [(one["epoch"], one["offset"]) for one in messages if one["type"] == "event"]
        place = part.reached
        assert place.position.offsets.get(EPOCH_B, 0) == max((at for epoch, at in got if epoch == EPOCH_B), default=0)

    assert got == [(epoch, number) for number in range(1, 4) for epoch in (EPOCH_A, EPOCH_B)]
    assert place == log.newest


def test_an_event_behind_the_end_of_another_source_has_its_sources_id_also_if_the_one_that_had_it_is_left_out() -> None:
    log = make_log()
    add(log, B, 1)
    add(log, A, 1)
    log.end(A, now_ns=0)
    place = Cursor(log.at, Position(EPOCH_B, 1))
    add(log, B, 2, 3)

    part = read_newest(log, place, UNFILTERED, until=log.newest)
    message = json.loads(next(text_payloads(part.frames[0])))

    assert (message["epoch"], message["offset"]) == (EPOCH_B, 3)


def test_a_filter_that_leaves_out_the_event_with_a_sources_id_names_the_source_also_if_another_one_goes_on_later() -> (
    None
):
    log = make_log()
    add_numbered(log, B, 1)
    add_numbered(log, A, 1)
    log.end(A, now_ns=0)
    place = log.newest
    add_numbered(log, B, 2)
    until = log.newest
    add_numbered(log, B, 3)
    add_numbered(log, A, 2, 3)

    part = read_newest(log, place, ODD, until=until)
    frames = [*part.frames, *read_odd(log, part.reached)]

    assert taken(frames, place.position.epoch) == [(EPOCH_B, 3), (EPOCH_A, 3)]


def test_a_client_that_has_the_event_with_a_sources_id_learns_the_source_also_if_another_one_begins_later() -> None:
    log = make_log(living=False)
    add_numbered(log, A, 1)
    add_numbered(log, B, 1, 2, 3)
    log.has_ended = lambda _incarnation: False
    add_numbered(log, C, 1)
    place = log.resume(Position(EPOCH_A, 0, {EPOCH_B: 1}), ahead_max=0).cursor

    assert taken(read_odd(log, place), EPOCH_A) == [(EPOCH_A, 1), (EPOCH_B, 3), (EPOCH_C, 1)]


def test_an_event_behind_the_gap_for_its_sources_end_has_the_sources_id_also_if_those_between_are_conflated() -> None:
    log = make_log()
    add(log, B, 1)
    add(log, A, 1)
    place = log.newest
    log.end(A, now_ns=0)
    log.finish(B, 1)
    add(log, A, 2, 3, 4)

    part = read_newest(log, place, UNFILTERED, until=log.newest)
    end, event, _ = [json.loads(payload) for payload in text_payloads(b"".join(part.frames))]
    assert (EPOCH_A, None) == (end["epoch"], end["to"])
    assert (EPOCH_A, 4) == (event["epoch"], event["offset"])


def test_no_gap_names_a_source_that_has_just_ended() -> None:
    log = make_log()
    add(log, B, 1)
    add(log, A, 1)
    log.end(A, now_ns=0)

    part = read_newest(log, log.cursor_at(0), UNFILTERED, until=log.newest)

    assert b"filtered" not in b"".join(part.frames)


def test_the_current_values_of_several_sources_name_theirs() -> None:
    log = ChannelLog("robots", epoch="own", retention=Retention(key=("data",)))
    log.has_ended = lambda _incarnation: False
    for number, (incarnation, key) in enumerate([(A, 1), (B, 2), (A, 2), (B, 1)]):
        log.append(Event("robots", b'"data":%d' % key, 0, 0, incarnation, number // 2 + 1))

    part = read_newest(log, log.before_current(), UNFILTERED, until=log.newest)
    messages = [json.loads(payload) for payload in text_payloads(b"".join(part.frames))]
    events = [(one["epoch"], one["offset"], one["data"]) for one in messages if one["type"] == "event"]
    assert events == [(EPOCH_A, 2, 2), (EPOCH_B, 2, 1)]
    assert part.reached.position.offsets == {EPOCH_A: 2, EPOCH_B: 2}
