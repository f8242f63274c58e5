"""A log that forgets sources may know less, but reports it: nothing that a client lacks is missing without a gap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from gateway.core.log import entries
from gateway.core.log.gaps import gap_of
from gateway.core.log.log import ChannelLog
from gateway.core.log.sources import SOURCES_MAX
from gateway.core.protocol.messages import Gap, Position
from gateway.core.sessions.requests import lost_gaps
from tests.support.core import SECOND
from tests.support.sources import EPOCH_A, A, B, C, add, make_log


FEW = 3
PUBLISHERS = range(1, 7)


def id_of(incarnation: int) -> str:
    return f"{incarnation:016x}"


def lost(log: ChannelLog, *incarnations: int) -> list[str]:
    """Return what is not known to one who has the first event of each of these."""
    first, *others = map(id_of, incarnations)
    return log.resume(Position(first, 1, dict.fromkeys(others, 1) or UNSET), ahead_max=100).lost


@pytest.mark.parametrize(("seconds", "doubtful"), [(-10, True), (10, True), (100, False)])
def test_a_live_source_that_was_forgotten_is_in_doubt_for_positions_that_do_not_name_it(
    seconds: int, doubtful: bool
) -> None:
    """Unless they are a minute newer: another gateway may have heard the publisher later, or not yet."""
    log, replica = make_log(), make_log()
    add(log, A, 1)
    if seconds < 0:
        add(log, B, 1)
    for number in range(SOURCES_MAX):
        add(log, 0x100 + number, 1, now_ns=100 * SECOND)
    if seconds > 0:
        add(log, B, 1, now_ns=(100 + seconds) * SECOND)
    replica.load_state(log.state)
    assert log.forgotten is not None

    assert ([log.forgotten.id] if doubtful else []) == lost(log, B)[-1:] == lost(replica, B)[-1:]


def test_sources_that_have_ended_are_forgotten_before_live_ones() -> None:
    log = make_log(events_max=1)
    live = [0x100 + number for number in range(SOURCES_MAX - 1)]
    for incarnation in (*live, A):
        add(log, incarnation, 1)
    log.finish(A, 1)
    add(log, live[0], 2)
    add(log, B, 1)

    assert id_of(A) not in log.position.offsets
    assert {id_of(one) for one in (*live, B)} == set(log.position.offsets)


def test_a_publisher_that_restarts_often_leaves_nothing_in_doubt() -> None:
    """What ended before a position was over, forgotten or not."""
    log = make_log()
    for number in range(3 * SOURCES_MAX):
        add(log, 0x100 + number, 1, now_ns=number)
        log.finish(0x100 + number, 1, now_ns=number)
    add(log, A, 1, now_ns=3 * SOURCES_MAX)

    assert [] == lost(log, A)
    assert lost(log, 0x100) == [id_of(0x100)]


def test_what_was_evicted_of_sources_that_are_forgotten_is_reported_to_one_who_lags() -> None:
    """Once, for all of them, as what is not known of the last one. It is not reported to one who has had it."""
    log = make_log()
    add(log, A, 1)
    lags = log.newest
    for number in range(2 * SOURCES_MAX):
        add(log, 0x100 + number, 1)
    keeps_up = log.newest
    add(log, B, 1)
    gaps = [(one.epoch, one.from_, one.to, one.reason) for one in log.missing(lags)]

    assert [(id_of(0x100 + SOURCES_MAX), None, None, "epoch")] == gaps
    assert [] == log.missing(keeps_up)


def test_a_source_that_was_forgotten_returns_with_its_numbers() -> None:
    log = make_log(events_max=10)
    add(log, A, 1, 2)
    for number in range(2 * SOURCES_MAX):
        add(log, 0x100 + number, 1)

    assert log.reached(A) is None, "not known"
    assert len(log.position.offsets) <= SOURCES_MAX
    assert log.resume(Position(EPOCH_A, 2), ahead_max=0).lost == [EPOCH_A]
    assert add(log, A, 3) == [(EPOCH_A, 3, True)]
    assert EPOCH_A not in log.resume(Position(EPOCH_A, 3), ahead_max=0).lost


def test_a_publisher_in_doubt_that_was_forgotten_and_returned_is_in_doubt_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A gap for its end would stand for what the log held before, and evicting it would fail."""
    monkeypatch.setattr(entries, "SOURCES_MAX", FEW)
    log = make_log(events_max=1)
    add(log, A, 1)
    log.end(A, now_ns=0)
    add(log, None, 0)
    add(log, B, 1)
    add(log, C, 1)
    add(log, A, 2)
    log.has_ended = lambda _incarnation: True

    assert add(log, None, 0, 0, 0) == [("own", 2, True), ("own", 3, True), ("own", 4, True)]


class Reader:
    """One who reads pages of a history at any gateway, and what it has, or has been told that it may lack."""

    def __init__(self) -> None:
        self.since: Position | None = None
        self.accounted: set[tuple[str, int]] = set()

    def read(self, log: ChannelLog, limit: int, published: dict[str, int]) -> None:
        if self.since is None:
            after = log.before_last(limit)
            for id_ in published:
                self.excuse(id_, published)
        else:
            found = log.resume(self.since, ahead_max=100)
            after = found.cursor
            for gap in (*lost_gaps(log, found), *log.missing(after)):
                self.take(gap, log, published)
        page = log.read(after, bytes_max=1 << 20)[:limit]
        for entry in page:
            if entry.is_event:
                self.accounted.add((entry.source, entry.offset))
            else:
                self.take(gap_of(entry), log, published)
        self.since = log.advance(after, page[-1].at if page else log.at).position

    def take(self, gap: Gap, log: ChannelLog, published: dict[str, int]) -> None:
        if gap.from_ is not None:
            assert gap.to is not None
            self.accounted |= {(gap.epoch, number) for number in range(gap.from_, gap.to + 1)}
        elif gap.to is None and (log.forgotten is None or gap.epoch != log.forgotten.id):
            self.excuse(gap.epoch, published)
        else:  # it stands for all
            for id_ in published:
                self.excuse(id_, published)

    def excuse(self, id_: str, published: dict[str, int]) -> None:
        self.accounted |= {(id_, number) for number in range(1, published.get(id_, 0) + 1)}


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("bring"), st.integers(0, 1), st.sampled_from(PUBLISHERS), st.integers(1, 3)),
            st.tuples(st.just("end"), st.integers(0, 1), st.sampled_from(PUBLISHERS), st.just(0)),
            st.tuples(st.just("read"), st.integers(0, 1), st.just(0), st.sampled_from([1, 3, 100])),
        ),
        min_size=5,
        max_size=60,
    ),
    st.sampled_from([5, 1000]),
)
def test_nothing_is_missing_without_a_gap_at_gateways_that_forget_sources(
    steps: list[tuple[str, int, int, int]], events_max: int
) -> None:
    """Whatever order two gateways receive more publishers in than they remember, and wherever a client reads on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entries, "SOURCES_MAX", FEW)
        logs, reader = [make_log(events_max=events_max), make_log(events_max=events_max)], Reader()
        reached = [dict.fromkeys(PUBLISHERS, 0), dict.fromkeys(PUBLISHERS, 0)]
        published = dict.fromkeys(map(id_of, PUBLISHERS), 0)

        def bring(at: int, publisher: int, until: int, now_ns: int) -> None:
            published[id_of(publisher)] = max(published[id_of(publisher)], until)
            for number in range(reached[at][publisher] + 1, until + 1):
                add(logs[at], publisher, number, now_ns=now_ns)
            reached[at][publisher] = until

        for now, (what, at, publisher, count) in enumerate(steps):
            if what == "bring":
                bring(at, publisher, reached[at][publisher] + count, now)
            elif what == "end":
                logs[at].end(publisher, now_ns=now)
            else:
                reader.read(logs[at], count, published)
        last = {publisher: published[id_of(publisher)] + 1 for publisher in PUBLISHERS}
        for at in (0, 1):
            for publisher in PUBLISHERS:
                bring(at, publisher, last[publisher], len(steps))
        for at in (0, 1, 0):
            reader.read(logs[at], 100, published)

    assert {(id_of(one), number) for one in PUBLISHERS for number in range(1, last[one] + 1)} <= reader.accounted
