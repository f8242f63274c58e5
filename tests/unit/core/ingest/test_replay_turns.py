"""Replay requests wait while too many are under way, to their publisher or to others."""

from __future__ import annotations

from gateway.core.ingest.replay_turns import PUBLISHERS_ASKED_MAX, REQUESTS_OPEN_MAX, ReplayTurns
from gateway.core.ingest.streams import Stream


def stream(publisher: int, topic: str = "a") -> Stream:
    return Stream(publisher, topic, newest=0)


def test_a_publisher_gets_the_next_request_when_one_has_ended() -> None:
    turns = ReplayTurns()
    streams = [stream(1, f"t{n}") for n in range(REQUESTS_OPEN_MAX + 2)]
    begun = [one for one in streams if turns.begin(one)]

    assert begun == streams[:REQUESTS_OPEN_MAX]
    assert [one for one in turns.finish(streams[0]) if turns.begin(one)] == [streams[REQUESTS_OPEN_MAX]]


def test_a_publisher_waits_until_another_has_answered_all() -> None:
    """The one that waits for longest is asked next."""
    turns = ReplayTurns()
    asked = [stream(number) for number in range(PUBLISHERS_ASKED_MAX)]
    assert all(map(turns.begin, asked))
    again, first, second = stream(0, "b"), stream(1000), stream(1001)
    assert [turns.begin(one) for one in (again, first, second)] == [True, False, False]

    assert not list(turns.finish(asked[0]))
    assert [one for one in turns.finish(again) if turns.begin(one)] == [first]
    assert [one for one in turns.finish(asked[1]) if turns.begin(one)] == [second]


def test_those_that_are_not_asked_any_more_keep_nobody_waiting() -> None:
    turns = ReplayTurns()
    asked = [stream(number) for number in range(PUBLISHERS_ASKED_MAX)]
    assert all(map(turns.begin, asked))
    given_up, dropped, last = stream(1000), stream(1001), stream(1002)
    assert not any(map(turns.begin, (given_up, dropped, last)))

    assert list(turns.drop_queued(1001)) == [dropped]
    assert not list(turns.drop_queued(1001))
    assert list(turns.finish(asked[0])) == [given_up, last]


def test_a_stream_waits_once_however_often_it_is_given_up_and_misses_messages_again() -> None:
    """So no more streams wait than there are."""
    turns = ReplayTurns()
    asked = [stream(1, f"t{n}") for n in range(REQUESTS_OPEN_MAX)]
    assert all(map(turns.begin, asked))
    again = stream(1, "again")
    assert not any(turns.begin(again) for _ in range(3))

    assert list(turns.finish(asked[0])) == [again]
