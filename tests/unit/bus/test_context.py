"""How the threads of ZeroMQ are scheduled."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
import zmq

from gateway.bus.context import make_context


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there are other policies elsewhere")
UNSET = -1


@pytest.fixture
def batch() -> Iterator[None]:
    """Have this process scheduled as its user wants it to be."""
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    yield
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def policy() -> int:
    context = make_context()
    try:
        return int(context.get(zmq.THREAD_SCHED_POLICY))
    except zmq.ZMQError:  # -1 is the policy here; pyzmq takes it for an error if an earlier call left an errno
        return UNSET
    finally:
        context.destroy()


def test_they_yield_the_cpu_to_the_event_loop() -> None:
    assert os.SCHED_BATCH == policy()


@pytest.mark.usefixtures("batch")
def test_a_policy_that_was_chosen_for_the_process_is_theirs_too() -> None:
    assert UNSET == policy()


def test_a_sandbox_that_forbids_policies_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """libzmq would abort the process."""

    def forbidden(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", forbidden)

    assert UNSET == policy()
