"""Worlds whose gateways share an engine find faults that are planted in gateways or engine."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from gateway.cluster import sessions
from gateway.cluster.engine import Engine, EngineUnavailable
from gateway.cluster.events import ClusterEvents
from gateway.cluster.sessions import ClusterSessions
from gateway.core.cluster import channels, numbered
from gateway.core.cluster.channels import EngineChannels
from tests.simulation.cluster_schedule import run_cluster
from tests.simulation.engine_data import Data


PLANTED_SEEDS = 600
"""A planted fault must be found within this many worlds."""


def test_a_seed_gives_the_same_cluster_each_time() -> None:
    assert run_cluster(7) == run_cluster(7)
    assert run_cluster(7) != run_cluster(8)


def _follow_on_in_another_epoch(patch: pytest.MonkeyPatch) -> None:
    right = Engine.connect

    async def wrong(self: Any, clients: Any) -> bool:
        before = {key: stream.after for key, stream in self._streams.items()}
        changed = await right(self, clients)
        for key, stream in self._streams.items():
            stream.after = before[key]
        return changed

    patch.setattr(Engine, "connect", wrong)


def _report_no_hole_in_a_stream(patch: pytest.MonkeyPatch) -> None:
    right = numbered.new_event

    def wrong(*arguments: Any, **options: Any) -> Any:
        event = right(*arguments, **options)
        return event if event is None else msgspec.structs.replace(event, missing=())

    patch.setattr(channels, "new_event", wrong)
    patch.setattr(sessions, "new_event", wrong)


def _let_two_gateways_keep_a_session(patch: pytest.MonkeyPatch) -> None:
    right = Data._save

    def wrong(self: Any, epoch: str, gateway: str, client: str, *arguments: Any) -> Any:
        if client in self.sessions:
            self.sessions[client]["owner"] = gateway
        return right(self, epoch, gateway, client, *arguments)

    patch.setattr(Data, "_save", wrong)


def _say_nothing_to_the_gateway_that_had_a_session(patch: pytest.MonkeyPatch) -> None:
    right = Data._send
    patch.setattr(
        Data, "_send", lambda self, gateway, fields: fields["kind"] != b"taken" and right(self, gateway, fields)
    )
    patch.setattr(ClusterSessions, "note_all", lambda self: None)


def _write_in_an_earlier_epoch(patch: pytest.MonkeyPatch) -> None:
    def wrong(self: Any, script: str, epoch: str, gateway: str, arguments: Any) -> Any:
        return getattr(self, f"_{script}")(epoch, gateway, *arguments)

    patch.setattr(Data, "run", wrong)


def _do_again_what_was_not_confirmed(patch: pytest.MonkeyPatch) -> None:
    right = ClusterEvents.publish

    async def wrong(self: Any, event: Any, **options: Any) -> Any:
        try:
            return await right(self, event, **options)
        except EngineUnavailable:
            await asyncio.sleep(1)
            return await right(self, event, **options)

    patch.setattr(ClusterEvents, "publish", wrong)


def _read_no_message_that_the_inbox_dropped(patch: pytest.MonkeyPatch) -> None:
    async def wrong(self: Any, session: Any) -> None:
        pass

    patch.setattr(ClusterSessions, "_catch_up", wrong)


def _forget_keys_of_messages(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Data, "_keep", lambda *_: None)


def _refuse_no_fence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Data, "_is_newest", lambda self, fence: True)


def _give_the_lease_to_all(patch: pytest.MonkeyPatch) -> None:
    right = Data._lease
    patch.setattr(Data, "_lease", lambda self, *arguments: [right(self, *arguments)[0], 1])


def _number_again_from_1_with_a_new_lease(patch: pytest.MonkeyPatch) -> None:
    right = Data._number

    def wrong(self: Any, epoch: str, fence: str, channel: str, most: int, source: str, *arguments: Any) -> Any:
        source = f"{len(channel):016x}" if fence else source
        return right(self, epoch, fence, channel, most, source, *arguments)

    patch.setattr(Data, "_number", wrong)


def _report_no_change_of_the_lease(patch: pytest.MonkeyPatch) -> None:
    right = EngineChannels._append

    def wrong(self: Any, one: Any, *arguments: Any, **options: Any) -> None:
        number = msgspec.structs.replace(one.numbered, begins=False)
        self._logs.has_ended = lambda incarnation: False
        right(self, msgspec.structs.replace(one, numbered=number), *arguments, **options)

    patch.setattr(EngineChannels, "_append", wrong)


def _take_the_first_event_of_a_channel_for_its_first_in_each_epoch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(channels, "new_event", _without_unknown)


def _take_the_first_message_of_a_session_for_its_first_in_each_epoch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sessions, "new_event", _without_unknown)


def _without_unknown(*arguments: Any, unknown: bool = False, **options: Any) -> Any:
    return numbered.new_event(*arguments, **options)


def _keep_the_epoch_with_another_primary(patch: pytest.MonkeyPatch) -> None:
    right = Data.hello
    patch.setattr(Data, "hello", lambda self, epoch, server: right(self, epoch, self.engine.get("server", server)))


@pytest.mark.parametrize(
    "plant",
    [
        _follow_on_in_another_epoch,
        _report_no_hole_in_a_stream,
        _let_two_gateways_keep_a_session,
        _say_nothing_to_the_gateway_that_had_a_session,
        _write_in_an_earlier_epoch,
        _do_again_what_was_not_confirmed,
        _read_no_message_that_the_inbox_dropped,
        _forget_keys_of_messages,
        _refuse_no_fence,
        _give_the_lease_to_all,
        _number_again_from_1_with_a_new_lease,
        _report_no_change_of_the_lease,
        _take_the_first_event_of_a_channel_for_its_first_in_each_epoch,
        _take_the_first_message_of_a_session_for_its_first_in_each_epoch,
        _keep_the_epoch_with_another_primary,
    ],
)
@pytest.mark.long
def test_a_planted_fault_of_a_cluster_is_found(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)

    assert any(run_cluster(seed)[0] is not None for seed in range(PLANTED_SEEDS))
