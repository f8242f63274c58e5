"""What is logged of requests that outlast the shutdown."""

from __future__ import annotations

import asyncio
import functools
import socket
import time

import pytest
from aiohttp import web

from gateway.web.sockets.http import RequestHandler
from tests.support.waiting import eventually


async def test_a_request_that_ends_when_the_shutdown_gives_it_up_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Both are due at the same moment, as the event loop was held up."""
    loop = asyncio.get_running_loop()
    ends: asyncio.Future[None] = loop.create_future()
    begun = False

    async def handle(_: web.Request) -> web.Response:
        nonlocal begun
        begun = True
        await ends
        return web.Response()

    application = web.Application()
    application.router.add_get("/", handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    assert runner.server is not None
    ours, theirs = socket.socketpair()
    with ours:
        theirs.setblocking(False)
        await loop.connect_accepted_socket(functools.partial(RequestHandler, runner.server, loop=loop), theirs)
        ours.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await eventually(lambda: begun)
        loop.call_later(0.05, time.sleep, 0.1)
        loop.call_later(0.06, ends.set_result, None)
        await runner.cleanup()
        await eventually(lambda: len(asyncio.all_tasks()) == 1)

    assert [] == caplog.records
