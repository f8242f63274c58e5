"""Random worlds: in every order of events and failures, each client's account is exact."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.fanout import catch_up
from gateway.core.fanout.fanout import Fanout
from gateway.core.ingest import recovery
from gateway.core.log import log, places
from gateway.core.log.sources import Cursor
from tests.simulation.__main__ import simulate_many
from tests.simulation.worlds import run
from tests.support.sizes import full


SEEDS = full(10_000, 1_000)
PLANTED_SEEDS = 1_500
"""A planted fault must be found within this many worlds."""


@pytest.mark.timeout(900)
def test_every_event_is_delivered_once_or_reported_in_every_world() -> None:
    faults = [fault for _, found in simulate_many(0, SEEDS) for fault in found]

    shown = "\n".join(f"make simulate SEED={seed}: {fault}" for seed, fault in faults[:5])
    assert faults == [], shown


def test_a_seed_gives_the_same_world_each_time() -> None:
    assert run(7) == run(7)
    assert run(7) != run(8)


def _count_one_loss_too_few(patch: pytest.MonkeyPatch) -> None:
    right = recovery.Recovery._skip_to

    def wrong(self: Any, stream: Any, last: int, *, is_lost: bool) -> None:
        right(self, stream, last, is_lost=is_lost and last > stream.newest + 1)
        stream.newest = max(stream.newest, last)

    patch.setattr(recovery.Recovery, "_skip_to", wrong)


def _skip_one_when_catching_up(patch: pytest.MonkeyPatch) -> None:
    right = log.ChannelLog.read

    def wrong(self: Any, after: Cursor, *, bytes_max: int) -> Any:
        entries = right(self, after, bytes_max=bytes_max)
        return entries[1:] if len(entries) > 2 else entries

    patch.setattr(log.ChannelLog, "read", wrong)


def _start_lagging_behind_what_was_not_written(patch: pytest.MonkeyPatch) -> None:
    right = Fanout._lag
    patch.setattr(Fanout, "_lag", lambda self, reader, *, before: right(self, reader, before={}))


def _accept_any_epoch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(log.ChannelLog, "resume", lambda self, _position, *, ahead_max: places.Resumed(self.newest, []))


def _report_no_eviction(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(log.ChannelLog, "missing", lambda _self, _after: [])


def _report_no_conflation(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(catch_up, "_conflated", lambda *_: [])


def _release_replayed_messages_twice(patch: pytest.MonkeyPatch) -> None:
    right = recovery.Recovery.released

    def wrong(self: Any, *, now_ns: int) -> Any:
        for one in right(self, now_ns=now_ns):
            yield one
            if one[1].sequence % 5 == 0:
                yield one

    patch.setattr(recovery.Recovery, "released", wrong)


def _keep_a_full_reader_live_when_it_subscribes(patch: pytest.MonkeyPatch) -> None:
    right = Fanout._stays_live

    def wrong(self: Any, reader: Any, *options: Any) -> bool:
        full, reader.full = reader.full, False
        try:
            return right(self, reader, *options)
        finally:
            reader.full = full

    patch.setattr(Fanout, "_stays_live", wrong)


@pytest.mark.parametrize(
    "plant",
    [
        _count_one_loss_too_few,
        _skip_one_when_catching_up,
        _start_lagging_behind_what_was_not_written,
        _accept_any_epoch,
        _report_no_eviction,
        _report_no_conflation,
        _release_replayed_messages_twice,
        _keep_a_full_reader_live_when_it_subscribes,
    ],
)
def test_a_planted_fault_is_found(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)

    assert any(run(seed)[0] is not None for seed in range(PLANTED_SEEDS))
