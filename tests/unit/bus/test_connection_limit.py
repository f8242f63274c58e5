"""However many connections there are to what the gateway binds, open files are left, and publishers' events come."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from gateway.bus.connection_limit import AcceptMonitor, ConnectionLimit
from gateway.bus.curve import Curve
from gateway.bus.framing import Frames
from gateway.bus.subscriber import Subscriber
from gateway.config.model import Bus
from tests.support.addresses import free_tcp, ipc
from tests.support.waiting import eventually


Context = zmq.Context["zmq.Socket[bytes]"]


@pytest.fixture
def context() -> Iterator[Context]:
    context: Context = zmq.Context()
    context.setsockopt(zmq.LINGER, 0)  # of all its sockets
    yield context
    context.destroy(linger=0)


class Bound:
    """An endpoint that is bound, with its limit, and what came."""

    def __init__(self, context: Context, endpoint: str, limit: ConnectionLimit) -> None:
        self.messages: list[Frames] = []
        self.problems: list[str] = []
        self.subscriber = Subscriber(
            context,
            endpoint,
            "bind",
            Bus(),
            Curve(context, Bus()),
            on_messages=self.messages.extend,
            on_change=lambda one, change: self.problems.append(one.diagnosis.problem),
            limit=limit,
        )
        self.subscriber.open()

    def heard(self, publisher: zmq.Socket[bytes], text: bytes) -> bool:
        """Publish; return whether it has come, now or before."""
        publisher.send_multipart([b"robots", text])
        return any(message[1] == text for message in self.messages)


async def idle(endpoint: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect, and send nothing."""
    if endpoint.startswith("ipc://"):
        return await asyncio.open_unix_connection(endpoint.removeprefix("ipc://"))
    host, port = endpoint.removeprefix("tcp://").split(":")
    return await asyncio.open_connection(host, int(port))


async def test_connections_that_send_nothing_make_room_for_publishers(context: Context) -> None:
    limit = ConnectionLimit(5)
    bound = Bound(context, free_tcp(), limit)
    with context.socket(zmq.PUB) as before, context.socket(zmq.PUB) as after, contextlib.ExitStack() as stack:
        before.connect(bound.subscriber.endpoint)
        await eventually(lambda: bound.heard(before, b"before"))
        strangers = [await idle(bound.subscriber.endpoint) for _ in range(40)]
        for _, writer in strangers:
            stack.callback(writer.close)
        after.connect(bound.subscriber.endpoint)
        await eventually(lambda: bound.heard(after, b"after") and bound.heard(before, b"still"))
        await asyncio.gather(*(reader.read() for reader, _ in strangers[:30]))  # until they are closed

        assert len(limit) <= 5
        assert any("bus.connections_max" in problem for problem in bound.problems)
    bound.subscriber.close()
    assert len(limit) == 0


@pytest.mark.parametrize("kind", ["tcp", "ipc"])
async def test_if_all_have_spoken_the_newest_is_refused(kind: str, context: Context, tmp_path: Path) -> None:
    limit = ConnectionLimit(2)
    bound = Bound(context, free_tcp() if kind == "tcp" else ipc(tmp_path, "bus"), limit)
    with context.socket(zmq.PUB) as one, context.socket(zmq.PUB) as other:
        for publisher, text in ((one, b"one"), (other, b"other")):
            publisher.connect(bound.subscriber.endpoint)
            await eventually(functools.partial(bound.heard, publisher, text))
        for _ in range(3):
            reader, writer = await idle(bound.subscriber.endpoint)
            while await reader.read(100):
                pass
            writer.close()

        bound.messages.clear()
        await eventually(lambda: bound.heard(one, b"again") and bound.heard(other, b"too"))
        assert len(limit) == 2
    bound.subscriber.close()


async def test_a_limit_is_shared_by_all_that_is_bound(context: Context) -> None:
    limit = ConnectionLimit(3)
    sockets = [context.socket(zmq.XPUB) for _ in range(2)]
    monitors = [AcceptMonitor(one, limit) for one in sockets]
    for one in sockets:
        one.bind("tcp://127.0.0.1:*")
    endpoints = [one.getsockopt_string(zmq.LAST_ENDPOINT) for one in sockets]
    strangers = [await idle(endpoint) for endpoint in endpoints * 4]
    reading = [asyncio.create_task(reader.read()) for reader, _ in strangers]
    await eventually(lambda: sum(task.done() for task in reading) == 5)
    assert len(limit) == 3

    for _, writer in strangers:
        writer.close()
    await eventually(lambda: len(limit) == 0)
    for monitor, one in zip(monitors, sockets, strict=True):
        monitor.close()
        one.close()


def test_a_descriptor_that_is_another_files_by_now_is_left_alone() -> None:
    """libzmq may have closed the connection before its limit looks at it."""
    with open(__file__, "rb") as file:
        limit = ConnectionLimit(0)
        limit.opened("owner", "tcp://127.0.0.1:1", file.fileno())

        assert len(limit) == 0
        assert not limit.ends("owner")
        assert file.read(3) == b'"""'
