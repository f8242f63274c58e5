"""A connection that is lost at any wait of its request: nothing goes on for it, and nothing of it stays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import pytest
from aiohttp.web_protocol import RequestHandler
from structlog.testing import capture_logs

from gateway.auth import Verifier
from gateway.auth.keys import FixedKeys, Key
from gateway.config.model import ROLES, Auth, Clients, Config, Role
from tests.support.raw import CLOSE, CONTINUATION, PING, PONG, TEXT, RawPeer, encode_frame
from tests.support.tokens import SECRET, token
from tests.support.waiting import eventually
from tests.unit.web.conftest import Edge, MakeEdge


HANDSHAKE = (
    b"GET /ws?channels=%b&last=5 HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
FULL = Clients(write_buffer_bytes_max=1024, send_buffer_bytes=4096, pings_burst=2, messages_burst=4)
"""A socket is full after one event, and a client exceeds its rate limits at once."""

ROLES_AND_FAT = ROLES | {"anonymous": Role(subscribe=("metrics", "fat"))}


def text(message: object) -> bytes:
    return encode_frame(TEXT, json.dumps(message).encode())


SENT = {
    "pings": encode_frame(PING, b"x") * 3,
    "messages": text({"type": "ping"}) * 6,
    "auth": text({"type": "subscribe", "channels": [">"]}) + text({"type": "auth", "token": token("developer")}) * 3,
    "fragments": encode_frame(TEXT, b'{"type":', fin=False) + encode_frame(CONTINUATION, b" ", fin=False) * 500,
    "pongs": encode_frame(PONG) * 300 + text({"type": "get_subscriptions"}),
    "close": encode_frame(PING) + encode_frame(CLOSE, b"\x03\xe8"),
    "violation": encode_frame(PING) * 2 + encode_frame(3),
}


class Stepped(Coroutine[Any, Any, Any]):
    """A coroutine that calls `on_wait` each time it waits, and `on_start` in the task that runs it."""

    def __init__(
        self, inner: Coroutine[Any, Any, Any], on_start: Callable[[], object], on_wait: Callable[[], object]
    ) -> None:
        self._inner = inner
        self._on_start: Callable[[], object] | None = on_start
        self._on_wait = on_wait

    def send(self, value: Any) -> Any:
        if self._on_start is not None:
            self._on_start()
            self._on_start = None
        waited_for = self._inner.send(value)
        self._on_wait()
        return waited_for

    def throw(self, kind: Any, value: BaseException | object = None, traceback: TracebackType | None = None) -> Any:
        return self._inner.throw(kind)

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._inner.__await__()


class Requests:
    """Calls `on_wait`, with the number of waits so far, each time that the handling of a request waits.

    It wraps what aiohttp makes a task of: from Python 3.12 on, aiohttp asks no task factory."""

    def __init__(self, on_wait: Callable[[int], object]) -> None:
        self.tasks: list[asyncio.Task[Any]] = []
        self.waits = 0
        self._on_wait = on_wait

    @contextmanager
    def watched(self) -> Iterator[None]:
        handle = RequestHandler._handle_request
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                RequestHandler, "_handle_request", lambda *given: Stepped(handle(*given), self._started, self._waited)
            )
            yield

    def _started(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)

    def _waited(self) -> None:
        self.waits += 1
        self._on_wait(self.waits)


class SlowKey(FixedKeys):
    """A key that takes several turns of the loop to find, as one that is fetched."""

    async def find(self, kid: str | None) -> Sequence[Key]:
        for _ in range(5):
            await asyncio.sleep(0)
        return await super().find(kid)


async def lose_at(wait: int, edge: Edge, sent: bytes, how: str) -> bool:
    """Connect, send, and lose the connection at one of its waits; return whether there are so many."""
    peer = RawPeer(edge.port, receive_buffer=2048)
    connections = edge.context.connections

    def lose(waits: int) -> None:
        if waits != wait:
            return
        if how == "abort" and connections:
            next(iter(connections.values()))._transport.abort()
        else:
            peer.reset()

    requests = Requests(lose)
    with requests.watched():
        await peer.send_bytes(sent)
        await eventually(lambda: requests.waits >= wait or (requests.tasks and waits_for_client(edge)))
    peer.reset()
    await eventually(lambda: requests.tasks and all(task.done() for task in requests.tasks))
    return requests.waits >= wait


def waits_for_client(edge: Edge) -> bool:
    """Whether the gateway waits for a client's next message, or until it reads, or has ended."""
    for connection in edge.context.connections.values():
        queue, writable = connection._receive_queue, connection._writable
        assert queue is not None
        waits = queue._waiter is not None and not queue._waiter.done()
        return waits or (writable is not None and not writable.is_set())
    return True


@pytest.mark.parametrize("how", ["reset", "abort"])
@pytest.mark.parametrize("channels", [b"metrics", b"metrics,fat"], ids=["writable", "full"])
@pytest.mark.parametrize("sent", SENT.values(), ids=SENT)
async def test_a_connection_lost_at_any_wait_leaves_nothing_behind(
    make_edge: MakeEdge, sent: bytes, channels: bytes, how: str
) -> None:
    """Neither its session's connection, nor its task, nor its socket, nor an error in the log."""
    auth = Auth(secret=SECRET)
    key = SlowKey([Key("HS256", SECRET.encode())])
    edge = await make_edge(Config(clients=FULL, auth=auth, roles=ROLES_AND_FAT), Verifier(auth, key))
    pipeline = edge.context.pipeline
    assert pipeline is not None
    pipeline.receive([[b"fat", b'{"data":"%b"}' % (b"x" * 9000)]] * 5, now_ns=1)
    waits = 1
    with capture_logs() as logged:
        while await lose_at(waits, edge, HANDSHAKE % channels + sent, how):
            await eventually(lambda: not edge.context.connections and not edge.context.hub.sessions)
            waits += 1

    assert [one for one in logged if one["log_level"] == "error"] == []
