"""Token buckets: a burst at once, then so many per second."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.protocol.errors import RequestError
from gateway.core.sessions.rate_limit import Kind, RateLimit, RateLimiter
from tests.support.core import SECOND


def made(burst: int = 3, per_second: float = 2) -> RateLimiter:
    allowance = RateLimit(burst, per_second)
    return RateLimiter({"messages": allowance, "subscribes": allowance, "pings": allowance})


def takes(quota: RateLimiter, now_ns: int, kind: Kind = "messages") -> bool:
    try:
        quota.charge(kind, now_ns=now_ns)
    except RequestError:
        return False
    return True


def test_a_burst_passes_and_what_comes_after_it_hears_when_to_come_again() -> None:
    quota = made()

    assert [takes(quota, 0) for _ in range(4)] == [True, True, True, False]
    with pytest.raises(RequestError) as refused:
        quota.charge("messages", now_ns=0)
    assert 0.5 == refused.value.retry_after
    assert takes(quota, SECOND // 2)
    assert not takes(quota, SECOND // 2)


@given(st.floats(0.1, 100), st.integers(0, 20 * SECOND))
def test_who_comes_when_it_was_told_to_is_served(per_second: float, now_ns: int) -> None:
    quota = made(1, per_second)
    quota.charge("messages", now_ns=0)
    with contextlib.suppress(RequestError):
        quota.charge("messages", now_ns=now_ns)
    with pytest.raises(RequestError) as refused:
        quota.charge("messages", now_ns=now_ns)
    retry_after = refused.value.retry_after

    assert retry_after
    assert takes(quota, now_ns + round(retry_after * SECOND))


def test_each_kind_has_a_bucket_of_its_own() -> None:
    quota = made(burst=1)

    assert takes(quota, 0, "pings")
    assert takes(quota, 0, "messages")
    assert not takes(quota, 0, "pings")


@given(st.integers(1, 20), st.floats(0.1, 100), st.lists(st.floats(0, 5), max_size=60))
def test_over_any_time_no_more_passes_than_the_burst_and_what_has_dripped(
    burst: int, per_second: float, pauses: list[float]
) -> None:
    quota = made(burst, per_second)
    now_ns = passed = 0
    for pause in pauses:
        now_ns += round(pause * SECOND)
        passed += takes(quota, now_ns)

        assert passed <= burst + now_ns / SECOND * per_second + 1e-6
