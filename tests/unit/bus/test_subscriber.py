"""What an endpoint's state says of peers that are not publishers, and without any peer."""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path

import pytest
import zmq

from gateway.bus import diagnosis
from gateway.bus import subscriber as module
from gateway.bus.curve import Curve, Mode
from gateway.bus.framing import Frames
from gateway.bus.subscriber import Subscriber
from gateway.config.model import Bus, Source
from tests.support.addresses import free_tcp, ipc
from tests.support.waiting import eventually


Context = zmq.Context["zmq.Socket[bytes]"]


class Watched:
    """A subscriber, and what it reported."""

    def __init__(self, context: Context, endpoint: str, mode: Mode, config: Bus, source: Source | None = None) -> None:
        self.changes: list[tuple[str, str]] = []
        self.messages: list[Frames] = []
        self.subscriber = Subscriber(
            context,
            endpoint,
            mode,
            config,
            Curve(context, config),
            on_messages=self.messages.extend,
            on_change=lambda one, change: self.changes.append((change, one.diagnosis.problem)),
            source=source,
        )

    def changed_since(self, seen: int) -> bool:
        return len(self.changes) > seen

    async def reported(self, change: str, problem: str = "") -> None:
        await eventually(
            lambda: any(change == was and problem in why for was, why in self.changes),
            saying=lambda: f"{change}: {problem} in {self.changes}",
        )


Watch = Callable[..., Watched]


@pytest.fixture
async def context() -> AsyncIterator[Context]:
    context: Context = zmq.Context()
    context.setsockopt(zmq.LINGER, 0)  # of all its sockets
    yield context
    context.destroy(linger=0)


@pytest.fixture
async def watch(context: Context) -> AsyncIterator[Watch]:
    """Open a subscriber: ``watch(endpoint, "bind")``."""
    opened: list[Watched] = []

    def make(endpoint: str, mode: Mode, **config: object) -> Watched:
        opened.append(Watched(context, endpoint, mode, Bus(**config)))  # type: ignore[arg-type]
        opened[-1].subscriber.open()
        return opened[-1]

    yield make
    for one in opened:
        one.subscriber.close()


@pytest.mark.parametrize(
    ("kind", "problem"),
    [(zmq.PUSH, "is a PUSH socket"), (zmq.ROUTER, "is a ROUTER socket"), (zmq.SUB, "perhaps another gateway")],
)
async def test_a_wrong_kind_of_socket_is_named_where_the_gateway_connects(
    kind: int, problem: str, context: Context, watch: Watch
) -> None:
    with context.socket(kind) as peer:
        peer.bind("tcp://127.0.0.1:*")
        link = watch(peer.getsockopt_string(zmq.LAST_ENDPOINT), "connect")
        await link.reported("refused", problem)

        assert (link.subscriber.state, link.subscriber.peers) == ("refused", 0)


async def test_a_wrong_kind_of_socket_takes_no_publisher_away_where_the_gateway_binds(
    context: Context, watch: Watch
) -> None:
    """Also if it closes the connection before the gateway does, as one with a thread of its own may."""
    link = watch(free_tcp(), "bind")
    with context.socket(zmq.PUB) as publisher, zmq.Context() as elsewhere:
        publisher.connect(link.subscriber.endpoint)
        await link.reported("up")
        for there in [context, elsewhere] * 3:
            with there.socket(zmq.PUSH) as wrong:
                wrong.connect(link.subscriber.endpoint)
                await eventually(functools.partial(link.changed_since, len(link.changes)))

        assert {change for change, _ in link.changes[1:]} == {"refused"}
        assert all("another kind than PUB and XPUB" in problem for _, problem in link.changes[1:])
        assert (link.subscriber.state, link.subscriber.peers) == ("connected", 1)


async def test_a_publisher_at_a_pull_endpoint_is_refused_with_the_remedy(context: Context) -> None:
    with context.socket(zmq.PUB) as peer:
        peer.bind("tcp://127.0.0.1:*")
        endpoint = peer.getsockopt_string(zmq.LAST_ENDPOINT)
        link = Watched(context, endpoint, "connect", Bus(), Source(endpoint=endpoint, socket="pull"))
        link.subscriber.open()
        try:
            await link.reported("refused", 'Remove socket = "pull"')
        finally:
            link.subscriber.close()


async def test_nobody_at_an_endpoint_is_reported_with_the_reason(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "WAITING_SECONDS", 0.0)
    there, here = watch(free_tcp(), "connect"), watch(free_tcp(), "bind")
    for one in (there, here):
        one.subscriber.poll()
    await there.reported("waiting", "Connection refused")
    await here.reported("waiting")

    assert (there.subscriber.state, here.subscriber.state) == ("connecting", "listening")


async def test_gateways_that_lost_a_publisher_come_back_soon_and_not_in_step(context: Context) -> None:
    intervals = set()
    for _ in range(20):
        with context.socket(zmq.SUB) as socket:
            module.configure(socket, Bus())
            intervals.add(int(socket.getsockopt(zmq.RECONNECT_IVL_MAX)))

    assert max(intervals) <= 1000
    assert len(intervals) > 1


@pytest.mark.parametrize("mode", ["connect", "bind"])
async def test_an_ipv6_endpoint_works_at_both_ends(mode: Mode, context: Context, watch: Watch) -> None:
    with context.socket(zmq.XPUB) as publisher:
        publisher.setsockopt(zmq.IPV6, 1)
        endpoint = free_tcp().replace("127.0.0.1", "[::1]")
        if mode == "connect":
            publisher.bind(endpoint)
        link = watch(endpoint, mode)
        if mode == "bind":
            publisher.connect(endpoint)
        await link.reported("up")


async def test_a_connection_without_a_handshake_is_closed(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds an open file; libzmq's own limit is 30 s."""
    monkeypatch.setattr(module, "HANDSHAKE_SECONDS", 0.1)
    link = watch(free_tcp(), "bind")
    host, port = link.subscriber.endpoint.removeprefix("tcp://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    while await reader.read(100):
        pass
    writer.close()
    await writer.wait_closed()


async def test_without_heartbeats_no_ping_is_sent_and_a_peer_that_dies_of_them_gets_none(watch: Watch) -> None:
    """As the pure Rust crate does: it closes the connection when a PING comes."""
    pinged = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal pinged
        ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x03PUB"
        writer.write(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
        writer.write(bytes([4, len(ready)]) + ready)
        received = b""
        with closing(writer), suppress(OSError):  # whatever ends it, also a reset or the end of the test
            while chunk := await reader.read(1000):
                received += chunk
                if b"\x04PING" in received:
                    pinged += 1
                    break

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        endpoint = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        link = watch(endpoint, "connect", heartbeat_seconds=0.2, heartbeat_timeout_seconds=5.0)
        await eventually(lambda: not link.subscriber.pings and link.subscriber.peers)
        assert pinged >= 2  # a busy machine may send more before it has seen two connections lost
        link.subscriber.close()
        assert not watch(endpoint, "connect", heartbeat_seconds=0).subscriber.pings


async def test_a_path_that_was_removed_is_bound_again(context: Context, watch: Watch, tmp_path: Path) -> None:
    link = watch(ipc(tmp_path, "bus"), "bind")
    (tmp_path / "bus").unlink()

    def bound_again() -> bool:
        link.subscriber.poll()
        return link.subscriber.reopened == 1

    await eventually(bound_again)
    with context.socket(zmq.XPUB) as publisher:
        publisher.connect(link.subscriber.endpoint)
        await link.reported("up")


async def test_a_batch_gets_more_time_only_while_publishers_send_more_than_is_read(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So one publisher's flood delays the others' events little, and yet the bus is read if clients take much time, too."""
    now = 0.0
    for clock in ("perf_counter", "thread_time"):
        monkeypatch.setattr(time, clock, lambda: now)
    batches: list[int] = []

    def take(messages: Iterable[Frames]) -> None:
        nonlocal now
        batches.append(0)
        for _ in messages:
            batches[-1] += 1
            now += 0.0002

    config = Bus()
    with context.socket(zmq.XPUB) as publisher:
        publisher.bind("inproc://flood")
        subscriber = Subscriber(
            context,
            "inproc://flood",
            "connect",
            config,
            Curve(context, config),
            on_messages=take,
            on_change=lambda _one, _change: None,
        )
        subscriber.open()
        await eventually(lambda: publisher.poll(0), saying="the subscription")
        publisher.recv()

        async def flood(count: int) -> list[int]:
            batches.clear()
            for _ in range(count):
                publisher.send(b"metrics")
            subscriber.poll()
            await eventually(lambda: sum(batches) == count, saying="all is read")
            return list(batches)

        first, again = await flood(1_000), await flood(5)
        subscriber.close()

    assert first[0] == again[0] == 3
    assert first == sorted(first[:-1]) + first[-1:]
    assert max(first) == math.ceil(module.BATCH_SECONDS_MAX / (0.0002 - module.MESSAGE_SECONDS))
