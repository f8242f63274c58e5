"""Delays between attempts to connect."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.cluster.backoff import Backoff


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_delays_grow_to_a_limit_and_are_spread(chances: list[float]) -> None:
    backoff = Backoff(first_seconds=0.1, seconds_max=5.0)
    for number, chance in enumerate(chances):
        whole = min(0.1 * 2**number, 5.0)
        assert whole / 2 <= backoff.next_seconds(chance) <= whole


def test_after_a_success_the_delay_is_short_again() -> None:
    backoff = Backoff(first_seconds=0.1, seconds_max=5.0)
    for _ in range(9):
        backoff.next_seconds(1.0)
    backoff.reset()

    assert 0.1 == backoff.next_seconds(1.0)
