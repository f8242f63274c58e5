"""Clients move from gateways that have many to those that have few, and then stay."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.cluster.balance import Balance


STEP_SECONDS = 2.5
AWAY_SECONDS = 10.0
SECOND = 1_000_000_000
COUNTS = st.lists(st.integers(0, 2000), min_size=2, max_size=6)

Choose = Callable[[list[int], random.Random, int], int]
BALANCERS: dict[str, Choose] = {
    "round robin": lambda counts, chance, number: number % len(counts),
    "fewest connections": lambda counts, chance, number: counts.index(min(counts)),
    "random": lambda counts, chance, number: chance.randrange(len(counts)),
}


class World:
    """Gateways behind a balancer, which know each other's counts a step late."""

    def __init__(self, counts: list[int], choose: Choose, seed: int) -> None:
        self.counts, self.reported = list(counts), list(counts)
        self.balances = [Balance(away_seconds=AWAY_SECONDS) for _ in counts]
        self.asked = 0
        self._choose, self._chance, self._number, self._now = choose, random.Random(seed), 0, 0
        self._away: list[int] = []
        """In which step clients come back."""

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self._now += 1
            before, self.reported = self.reported, list(self.counts)
            for n, balance in enumerate(self.balances):
                others = before[:n] + before[n + 1 :]
                count = balance.step(self.counts[n], others, now_ns=round(self._now * STEP_SECONDS * SECOND))
                assert 0 <= count <= self.counts[n]
                self.asked += count
                self.counts[n] -= count
                self._away += [self._now + self._chance.randrange(3) for _ in range(count)]
            back = [one for one in self._away if one <= self._now]
            self._away = [one for one in self._away if one > self._now]
            for _ in back:
                self._number += 1
                self.counts[self._choose(self.counts, self._chance, self._number)] += 1

    @property
    def above(self) -> float:
        return max(self.counts) - sum(self.counts) / len(self.counts)


@pytest.mark.parametrize("balancer", BALANCERS)
@settings(max_examples=30)
@given(counts=COUNTS, seed=st.integers(0, 99))
def test_it_converges_and_then_is_quiet(balancer: str, counts: list[int], seed: int) -> None:
    """Whatever the balancer does, with at most the attempts that it may make, and without coming and going."""
    world = World(counts, BALANCERS[balancer], seed)
    mean = sum(counts) / len(counts)
    excess = sum(max(one - mean, 0) for one in counts)
    world.run(400)
    asked = world.asked
    world.run(400)

    assert sum(counts) == sum(world.counts)
    assert world.above <= max(0.2 * mean, 20)
    assert asked == world.asked
    assert world.asked <= 4 * excess + 20 * len(counts)


@given(counts=COUNTS)
def test_what_is_nearly_even_stays(counts: list[int]) -> None:
    mean = sum(counts) / len(counts)
    near = [round(mean + (one - mean) / 200) for one in counts]
    world = World(near, BALANCERS["random"], 0)
    world.run(50)

    assert 0 == world.asked


@given(own=st.integers(0, 100_000), others=st.lists(st.integers(0, 100_000), max_size=5))
def test_a_hundredth_of_the_clients_is_asked_in_a_second_at_most(own: int, others: list[int]) -> None:
    balance = Balance(away_seconds=AWAY_SECONDS)
    balance.step(own, others, now_ns=0)

    assert balance.step(own, others, now_ns=SECOND) <= own / 100 + 1


def test_a_gateway_alone_asks_nobody() -> None:
    """So is one that does not know the others because the engine is down."""
    balance = Balance(away_seconds=AWAY_SECONDS)
    first = [balance.step(1000, [0], now_ns=n * SECOND) for n in range(3)]
    alone = [balance.step(1000, [], now_ns=n * SECOND) for n in range(3, 6)]

    assert first[2]
    assert [0, 0, 0] == alone
    assert not balance.active


def test_it_is_given_up_for_a_while_where_all_come_back() -> None:
    """As with a balancer that does not know the other gateway."""
    balance = Balance(away_seconds=AWAY_SECONDS)
    asked = [balance.step(1000, [0], now_ns=n * SECOND) for n in range(590)]
    paused = balance.is_paused
    later = [balance.step(1000, [0], now_ns=n * SECOND) for n in range(590, 900)]

    assert sum(asked) <= 4 * 500
    assert paused
    assert 0 < sum(later) <= 4 * 500
