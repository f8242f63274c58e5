"""What many peers ask for at once is done over several turns of the event loop."""

from __future__ import annotations

import asyncio

from gateway.runtime.turns import Turns


class Loop:
    """Counts the turns of the event loop."""

    def __init__(self) -> None:
        self.turn = 0
        self._count()

    def _count(self) -> None:
        self.turn += 1
        self._handle = asyncio.get_running_loop().call_soon(self._count)

    def stop(self) -> None:
        self._handle.cancel()


async def turns_taken(turns: Turns, *, parts: int, cancelled: int | None = None) -> list[tuple[int, int]]:
    """Return who took which turn, of peers that each have a part of work at the same time."""
    loop = Loop()
    taken: list[tuple[int, int]] = []

    async def work(peer: int) -> None:
        await turns.take()
        taken.append((peer, loop.turn))

    tasks = [asyncio.create_task(work(peer)) for peer in range(parts)]
    await asyncio.sleep(0)
    if cancelled is not None:
        tasks[cancelled].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    loop.stop()
    return taken


async def test_parts_for_which_there_is_time_share_a_turn() -> None:
    taken = await turns_taken(Turns(60.0), parts=10)

    assert len({turn for _, turn in taken}) == 1


async def test_the_others_come_in_later_turns_in_their_order() -> None:
    taken = await turns_taken(Turns(0.0), parts=10)

    assert [peer for peer, _ in taken] == list(range(10))
    assert len({turn for _, turn in taken}) == 10


async def test_one_that_is_cancelled_keeps_nobody_waiting() -> None:
    taken = await turns_taken(Turns(0.0), parts=4, cancelled=2)

    assert [peer for peer, _ in taken] == [0, 1, 3]


async def test_very_many_do_not_wait_for_a_turn_each() -> None:
    taken = await turns_taken(Turns(0.0), parts=1_000)

    assert [peer for peer, _ in taken] == list(range(1_000))
    assert len({turn for _, turn in taken}) < 300


async def test_once_nobody_waits_there_is_time_again() -> None:
    turns = Turns(60.0)
    await turns_taken(turns, parts=3)
    taken = await turns_taken(turns, parts=3)

    assert len({turn for _, turn in taken}) == 1
