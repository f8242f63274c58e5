"""A worker as its parent sees it."""

from __future__ import annotations

import asyncio
import gc

import psutil
import pytest

from gateway.workers.child import Child


async def test_a_start_that_is_cancelled_leaves_no_process_and_no_socket() -> None:
    """The gateway may end just then."""
    child = Child(unread_bytes_max=1000, on_messages=lambda *_: None, on_lost=lambda _: None)
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
