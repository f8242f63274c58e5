"""REST requests on their way from a worker to the parent, which may not answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

from gateway.core.protocol.errors import RequestError
from gateway.workers.proxy import RestProxy
from tests.support.waiting import eventually


Client = TestClient[web.Request, web.Application]


def refuse(_: socket.socket) -> None:
    raise ConnectionRefusedError


def close(_: socket.socket) -> None:
    """Keep no end, so that both are closed."""


@pytest.fixture(params=[refuse, close])
def hand_over(request: pytest.FixtureRequest) -> Callable[[socket.socket], None]:
    found: Callable[[socket.socket], None] = request.param
    return found


@pytest.fixture
async def client(hand_over: Callable[[socket.socket], None]) -> AsyncIterator[Client]:
    """A client of a worker whose parent has ended; it is answered with the code of the refusal."""
    proxy = RestProxy(hand_over)

    async def handle(request: web.Request) -> web.Response:
        try:
            return await proxy.handle(request)
        except RequestError as error:
            return web.Response(text=error.code.name)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    async with TestClient(TestServer(application)) as made:
        yield made
    await proxy.close()


async def test_a_parent_that_does_not_answer_is_unavailable(client: Client) -> None:
    assert "UNAVAILABLE" == await (await client.get("/status")).text()


async def test_a_request_that_waited_for_its_turn_while_the_worker_closed_is_refused() -> None:
    proxy = RestProxy(close)
    await proxy.close()

    with pytest.raises(RequestError, match="the gateway is stopping"):
        await proxy.handle(make_mocked_request("GET", "/status"))


async def test_an_answer_that_is_being_read_while_the_worker_closes_is_unavailable() -> None:
    """A part of it comes at the same moment."""
    ends: list[socket.socket] = []
    proxy = RestProxy(lambda end: ends.append(end.dup()))
    asked = asyncio.create_task(proxy.handle(make_mocked_request("GET", "/status")))
    await eventually(lambda: ends)
    with ends[0] as end:
        end.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_recv(end, 10_000)
        await loop.sock_sendall(end, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        await turns(10)
        end.send(b"a part")
        await turns(2)  # it has come, and the reader does not go on before the next turn
        await proxy.close()

    with pytest.raises(RequestError, match="does not answer"):
        await asked


async def turns(count: int) -> None:
    """Let the event loop go round so often."""
    for _ in range(count):
        await asyncio.sleep(0)
