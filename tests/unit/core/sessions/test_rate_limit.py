"""Token buckets: a burst at once, then a number per second."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.protocol.errors import RequestError
from gateway.core.sessions.rate_limit import Kind, RateLimit, RateLimiter
from tests.support.core import SECOND


def make(burst: int = 3, per_second: float = 2) -> RateLimiter:
    limit = RateLimit(burst, per_second)
    return RateLimiter({"messages": limit, "subscribes": limit, "pings": limit, "frames": limit})


def is_served(limiter: RateLimiter, now_ns: int, kind: Kind = "messages") -> bool:
    try:
        limiter.charge(kind, now_ns=now_ns)
    except RequestError:
        return False
    return True


def test_after_a_burst_the_error_has_the_time_until_the_next_token() -> None:
    limiter = make()

    assert [is_served(limiter, 0) for _ in range(4)] == [True, True, True, False]
    with pytest.raises(RequestError) as refused:
        limiter.charge("messages", now_ns=0)
    assert 0.5 == refused.value.retry_after
    assert is_served(limiter, SECOND // 2)
    assert not is_served(limiter, SECOND // 2)


@given(st.floats(0.1, 100), st.integers(0, 20 * SECOND))
def test_a_request_after_retry_after_is_served(per_second: float, now_ns: int) -> None:
    limiter = make(1, per_second)
    limiter.charge("messages", now_ns=0)
    with contextlib.suppress(RequestError):
        limiter.charge("messages", now_ns=now_ns)
    with pytest.raises(RequestError) as refused:
        limiter.charge("messages", now_ns=now_ns)
    retry_after = refused.value.retry_after

    assert retry_after
    assert is_served(limiter, now_ns + round(retry_after * SECOND))


def test_each_kind_has_its_own_bucket() -> None:
    limiter = make(burst=1)

    assert is_served(limiter, 0, "pings")
    assert is_served(limiter, 0, "messages")
    assert not is_served(limiter, 0, "pings")


@given(st.integers(1, 20), st.floats(0.1, 100), st.lists(st.floats(0, 5), max_size=60))
def test_no_more_passes_than_the_burst_and_the_rate_allow(burst: int, per_second: float, pauses: list[float]) -> None:
    limiter = make(burst, per_second)
    now_ns = passed = 0
    for pause in pauses:
        now_ns += round(pause * SECOND)
        passed += is_served(limiter, now_ns)

        assert passed <= burst + now_ns / SECOND * per_second + 1e-6
