"""A channel's log: contiguous offsets, bounded by count, bytes and age."""

import json

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.log.log import ChannelLog
from gateway.core.log.retention import Retention
from gateway.core.log.sources import Cursor
from gateway.core.protocol.events import Event
from gateway.core.protocol.frames import text_payload


def event(size: int = 1, *, now_ns: int = 0) -> Event:
    return Event("robots", b'"data":"%b"' % (b"x" * size), now_ns)


def offsets(log: ChannelLog, after: int, *, bytes_max: int = 1 << 30) -> list[int]:
    return [entry.offset for entry in log.read(Cursor(after, log.position), bytes_max=bytes_max)]


def test_a_frame_is_the_event_with_its_channel_and_offset() -> None:
    log = ChannelLog("robots", epoch="e", retention=Retention())
    log.append(event())
    [entry] = log.append(event(3))

    assert json.loads(text_payload(entry.frame)) == {"type": "event", "channel": "robots", "offset": 2, "data": "xxx"}


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 3)), max_size=200),
    st.integers(1, 20),
    st.integers(300, 5000),
    st.integers(0, 20),
    st.integers(0, 220),
)
def test_a_log_holds_the_newest_events_within_every_bound(
    sizes: list[tuple[int, int]], events_max: int, bytes_max: int, age_ns_max: int, after: int
) -> None:
    retention = Retention(events_max=events_max, bytes_max=bytes_max, age_ns_max=age_ns_max)
    log = ChannelLog("robots", epoch="e", retention=retention)
    now_ns, entries, times = 0, [], []
    for size, passed in sizes:
        now_ns += passed
        entries += log.append(event(size, now_ns=now_ns))
        times.append(now_ns)

    held = entries[log.floor :]
    assert len(entries) == log.at
    assert len(held) == len(log)
    assert sum(one.size for one in held) == log.bytes
    assert len(held) <= events_max
    if entries:
        assert held
    if len(held) > 1:
        assert log.bytes <= bytes_max
        assert not age_ns_max or now_ns - times[log.floor] <= age_ns_max
    expected = [n for n in range(log.floor + 1, log.at + 1) if n > after]
    assert expected == offsets(log, after)


def test_a_read_takes_about_as_many_bytes_as_asked_for_but_at_least_one_event() -> None:
    log = ChannelLog("robots", epoch="e", retention=Retention())
    log.append(event())
    size = len(log.append(event())[0].frame)
    for _ in range(8):
        log.append(event())

    assert offsets(log, 0, bytes_max=1) == [1]
    assert offsets(log, 2, bytes_max=3 * size) == [3, 4, 5]


def test_old_entries_are_evicted_also_without_new_ones() -> None:
    log = ChannelLog("robots", epoch="e", retention=Retention(age_ns_max=10))
    for now_ns in (0, 5, 9):
        log.append(event(now_ns=now_ns))
    log.evict(now_ns=16)

    assert offsets(log, 0) == [3]
    log.evict(now_ns=1000)
    assert offsets(log, 0) == [3], "the newest is the current value and stays"
