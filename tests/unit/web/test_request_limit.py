"""What HTTP requests cost at once has a limit, and none keeps the event loop for long."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from contextlib import nullcontext

import pytest

from gateway.config.model import Auth, Config, Http
from gateway.core.protocol.errors import RequestError
from gateway.web import request_limit
from gateway.web.request_limit import SLICE_SECONDS, RequestLimit
from tests.support.raw import RawPeer
from tests.support.waiting import eventually
from tests.unit.web.conftest import API, Answer, MakeEdge, MakeSite


def limit(**settings: int) -> RequestLimit:
    return RequestLimit(Http(**settings), at_once=1, on_refused=lambda: None)


async def first_done(*tasks: asyncio.Task[Answer]) -> Answer:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    return done.pop().result()


async def test_a_request_beyond_those_that_may_wait_is_refused_with_a_time(make_site: MakeSite) -> None:
    site = await make_site(Config(http=Http(requests_waiting_max=1)))
    go_on = asyncio.Event()
    site.context.refresh_statistics = go_on.wait  # type: ignore[assignment]  # as if workers had not answered yet
    first = asyncio.ensure_future(site.get("/metrics"))
    second = asyncio.ensure_future(site.get("/metrics"))
    refused = await first_done(first, second, asyncio.ensure_future(site.get("/metrics")))
    health = await site.get("/healthz")
    go_on.set()

    assert (refused.status, refused.json["code"]) == (503, "unavailable")
    assert "http.requests_waiting_max" in refused.json["detail"]
    assert int(refused.headers["Retry-After"]) > 0
    assert health.status == 200


async def test_a_request_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_limit, "WAIT_SECONDS_MAX", 0.01)
    full = limit(bodies_bytes_max=10)
    async with full.body(10, nullcontext()):
        with pytest.raises(RequestError, match=r"0\.01 s"):
            async with full.body(1, nullcontext()):
                pass
    async with full.body(1, nullcontext()):  # there is room again
        pass


async def test_an_answer_is_not_begun_while_others_that_are_not_read_hold_too_much(make_edge: MakeEdge) -> None:
    """What one peer does not read does not become more with every peer."""
    edge = await make_edge(Config(http=Http(answers_bytes_max=1, requests_waiting_max=1)))
    pipeline = edge.context.pipeline
    assert pipeline is not None
    pipeline.receive([[b"a", b'"%b"' % (b"x" * 9_000)] for _ in range(1000)], now_ns=1)
    history = (
        b"GET %b/channels/a/events?limit=1000 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % API.encode()
    )
    peers = [RawPeer(edge.port, receive_buffer=4096) for _ in range(3)]
    await peers[0].send_bytes(history)
    begun = await peers[0].read_some()
    for peer in peers[1:]:
        await peer.send_bytes(history)
    refused = await peers[2].read_to_end()
    for peer in peers:
        peer.close()

    assert begun.startswith(b"HTTP/1.1 200 ")
    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: " in refused


async def test_work_leaves_the_event_loop_to_others_between_its_pieces() -> None:
    """However long a handler works, a callback waits for a piece of it only."""
    turns, passed = limit(), 0

    def count() -> None:
        nonlocal passed
        passed += 1
        asyncio.get_running_loop().call_soon(count)

    async with turns._turn(nullcontext()):
        count()
        for _ in range(10):
            ends = time.thread_time() + SLICE_SECONDS
            before = passed
            while time.thread_time() < ends:
                pass
            await turns.pause()

            assert passed > before


async def test_requests_have_their_turns_one_by_one_in_order() -> None:
    turns, order = limit(), []

    async def take(name: int) -> None:
        async with turns._turn(nullcontext()):
            order.append(name)
            await asyncio.sleep(0)
            order.append(name)

    await asyncio.gather(*(take(n) for n in range(4)))

    assert order == [0, 0, 1, 1, 2, 2, 3, 3]


async def test_a_request_whose_client_has_gone_waits_no_longer(
    make_edge: MakeEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it waits for is for nobody, and the part of its body that has come takes memory."""
    monkeypatch.setattr(request_limit, "WAIT_SECONDS_MAX", 600.0)
    edge = await make_edge(Config(auth=Auth(unauthenticated_role="admin"), http=Http(bodies_bytes_max=1)))
    head = f"POST {API}/broadcast HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    first, second = RawPeer(edge.port), RawPeer(edge.port)
    limit = edge.context.request_limit
    await first.send_bytes(head.encode())
    await eventually(lambda: not limit._bodies.has_room)
    await second.send_bytes(head.encode())
    await eventually(lambda: limit._waiting == 1)
    second.close()
    await eventually(lambda: limit._waiting == 0)
    first.close()
    await eventually(lambda: limit._bodies.has_room)


# -- bodies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "length", "status"), [("monitor", 1000, b"403"), ("admin", 2_000_000, b"413"), ("admin", 2, b"100")]
)
async def test_a_body_is_asked_for_once_rights_and_length_are_known(
    make_edge: MakeEdge, role: str, length: int, status: bytes
) -> None:
    edge = await make_edge(Config(auth=Auth(unauthenticated_role=role)))
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    head = f"POST {API}/broadcast HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n"
    writer.write(f"{head}Expect: 100-continue\r\n\r\n".encode())
    first = await reader.readline()
    writer.close()

    assert first.split()[1] == status


async def test_the_bodies_of_clients_that_have_gone_take_no_memory(make_edge: MakeEdge) -> None:
    """Not even until the garbage collector runs, which the error of a lost connection may need."""
    edge = await make_edge(Config(auth=Auth(unauthenticated_role="admin")))
    head = f"POST {API}/broadcast HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    request, bodies = head.encode() + b"x" * 900_000, edge.context.request_limit._bodies
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(10):
            peer = RawPeer(edge.port)
            await peer.send_bytes(request)
            await eventually(lambda: bodies._held)
            peer.close()
            await eventually(lambda: not bodies._held)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()

    assert held < 4_000_000
