"""A worker as its parent sees it."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys

import psutil
import pytest

from gateway.workers.child import Child


async def test_a_start_that_is_cancelled_leaves_no_process_and_no_socket() -> None:
    """The gateway may end just then."""
    child = Child(
        unread_bytes_max=1000, on_messages=lambda *_: None, on_lost=lambda _: None, on_socket=socket.socket.close
    )
    starts = asyncio.create_task(child.start())
    await asyncio.sleep(0)
    starts.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starts
    pid = child.pid
    del child
    gc.collect()  # tells of a socket that is not closed, and of a process that was not waited for

    assert pid
    assert not psutil.pid_exists(pid)


async def test_a_worker_that_has_ended_takes_no_connection() -> None:
    """It is offered to another one then, and must still be open."""
    lost = asyncio.Event()
    child = Child(
        unread_bytes_max=1000, on_messages=lambda *_: None, on_lost=lambda _: lost.set(), on_socket=socket.socket.close
    )
    await child.start()
    child.kill()
    await lost.wait()
    with socket.create_server(("127.0.0.1", 0)) as accepted:
        taken = child.hand_over(accepted)

        assert not taken
        assert accepted.fileno() >= 0
    child.close()
    await child.ended(within=60)


async def test_a_worker_that_ends_before_it_has_taken_a_connection_causes_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lost = asyncio.Event()
    child = Child(
        unread_bytes_max=1000, on_messages=lambda *_: None, on_lost=lambda _: lost.set(), on_socket=socket.socket.close
    )
    await child.start()
    psutil.Process(child.pid).suspend()
    with socket.create_server(("127.0.0.1", 0)) as accepted:
        assert child.hand_over(accepted)
        child.kill()
        await lost.wait()
        await child.ended(within=60)
    child.close()

    assert [] == caplog.records


async def test_a_worker_that_does_not_end_is_killed() -> None:
    child = Child(
        unread_bytes_max=1000, on_messages=lambda *_: None, on_lost=lambda _: None, on_socket=socket.socket.close
    )
    await child.start()
    psutil.Process(child.pid).suspend()
    child.close()

    assert -signal.SIGKILL == await child.ended(within=0)


async def test_no_room_for_a_process_leaves_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    child = Child(
        unread_bytes_max=1000, on_messages=lambda *_: None, on_lost=lambda _: None, on_socket=socket.socket.close
    )
    with pytest.raises(OSError, match="No such file"):
        await child.start()
    del child
    gc.collect()
