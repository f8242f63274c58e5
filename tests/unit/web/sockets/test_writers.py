"""Writing past transports: each socket gets its bytes complete and in order."""

from __future__ import annotations

import asyncio
import functools
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from gateway.core.fanout.cohorts import CohortWriter, SequentialWriter
from gateway.web.sockets.io_uring import IoUring
from gateway.web.sockets.writers import RingWriter, SocketWriter, SocketWriters
from tests.support.core import make_hub
from tests.support.counting import calls
from tests.support.waiting import eventually


BUFFER = 4096
"""What the kernel keeps of what a client does not read, about."""


class Peer:
    """A client: its end of the connection, the gateway's, and what it is to get."""

    def __init__(self, end: socket.socket, transport: asyncio.Transport) -> None:
        self.end = end
        self.writer = SocketWriter(transport)
        self.wanted = bytearray()
        self.got = bytearray()

    def tell(self, data: bytes) -> None:
        """Write to it alone."""
        self.wanted += data
        self.writer.write(data)

    def read(self, most: int = 1 << 20) -> int:
        try:
            data = self.end.recv(most)
        except BlockingIOError:
            return 0
        self.got += data
        return len(data)

    def has_all(self) -> bool:
        self.read()
        return len(self.got) >= len(self.wanted)


NewPeer = Callable[[], Awaitable[Peer]]


@pytest.fixture
async def new_peer(tmp_path: Path) -> AsyncIterator[NewPeer]:
    """Connects clients with little room for what they do not read."""
    loop = asyncio.get_running_loop()
    accepted: asyncio.Queue[asyncio.Transport] = asyncio.Queue()
    peers: list[Peer] = []

    class Server(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.put_nowait(cast("asyncio.Transport", transport))  # uvloop's is none by name

    path = str(tmp_path / "socket")
    server = await loop.create_unix_server(Server, path)  # TCP waits long where windows are small

    async def make() -> Peer:
        end = socket.socket(socket.AF_UNIX)
        end.setblocking(False)
        await loop.sock_connect(end, path)
        transport = await accepted.get()
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        peers.append(Peer(end, transport))
        return peers[-1]

    yield make
    for peer in peers:
        peer.end.close()
        peer.writer.transport.abort()
    server.close()
    await server.wait_closed()


class World:
    """Clients that come, go, read and do not, and one who writes to them, together and alone."""

    def __init__(self, cohort_writer: CohortWriter, new_peer: NewPeer, seed: int) -> None:
        self.cohort_writer = cohort_writer
        self.new_peer = new_peer
        self.random = random.Random(seed)
        self.inside: list[Peer] = []
        self.outside: list[Peer] = []
        self.number = 0
        self.short = 0
        """How often a socket took less than all that was sent past its transport."""
        self.waited = 0
        """How often something was written to all while a transport held something."""

    def data(self, most: int) -> bytes:
        self.number += 1
        return (b"%d;" % self.number) * self.random.randint(1, most)

    async def come(self) -> None:
        self.outside.append(await self.new_peer())

    async def join(self) -> None:
        if self.outside:
            peer = self.outside.pop(self.random.randrange(len(self.outside)))
            self.cohort_writer.add(peer.writer)
            self.inside.append(peer)

    async def leave(self) -> None:
        if self.inside:
            peer = self.inside.pop(self.random.randrange(len(self.inside)))
            self.cohort_writer.discard(peer.writer)
            self.outside.append(peer)

    async def tell_one(self) -> None:
        if self.inside or self.outside:
            self.random.choice(self.inside + self.outside).tell(self.data(5))

    async def tell_all(self) -> None:
        data = self.data(self.random.choice((5, 5, 5, 5_000)))
        for peer in self.inside:
            peer.wanted += data
        self.waited += any(peer.writer.transport.get_write_buffer_size() for peer in self.inside)
        placed = [peer for peer in self.inside if peer.writer.index >= 0]
        assert [] == list(self.cohort_writer.write_all(data))
        self.short += sum(peer.writer.index < 0 for peer in placed)

    async def read(self) -> None:
        for peer in self.inside + self.outside:
            if self.random.random() < 0.7:
                peer.read(self.random.choice((10, 1 << 20)))

    async def advance(self) -> None:
        await asyncio.sleep(0)

    async def live(self, steps: int) -> None:
        acts = [self.tell_all, self.tell_all, self.tell_one, self.read, self.advance]
        for _ in range(10):
            await self.come()
            await self.join()
        for _ in range(steps):
            await self.random.choice([*acts, self.join, self.leave])()
            if self.random.random() < 0.05:
                await self.come()


@pytest.mark.parametrize("seed", range(10))
async def test_everyone_gets_everything_in_order(ring: IoUring, new_peer: NewPeer, seed: int) -> None:
    world = World(RingWriter(ring), new_peer, seed)
    await world.live(300)
    peers = world.inside + world.outside

    def all_have_all() -> bool:
        return len([peer for peer in peers if peer.has_all()]) == len(peers)

    await eventually(all_have_all, every=0.001)

    assert [] == [one for one in peers if one.got != one.wanted]
    assert world.short > 0
    assert world.waited > 0


async def peers_of(new_peer: NewPeer, cohort_writer: CohortWriter, count: int) -> list[Peer]:
    peers = [await new_peer() for _ in range(count)]
    for peer in peers:
        cohort_writer.add(peer.writer)
    return peers


async def test_a_further_client_costs_no_call(ring: IoUring, new_peer: NewPeer) -> None:
    """But for those of one system call more with each full ring of them."""
    counts = []
    for size in (10, 50):  # less than a ring, with what went before
        batch = RingWriter(ring)
        await peers_of(new_peer, batch, size)
        batch.write_all(b"first")
        counts.append(calls(functools.partial(batch.write_all, b"second")))

    assert counts[0] == counts[1] <= 20


async def test_a_client_that_reads_again_is_written_to_together_with_the_others(
    ring: IoUring, new_peer: NewPeer
) -> None:
    batch = RingWriter(ring)
    peers = await peers_of(new_peer, batch, 8)
    slow, others = peers[0], peers[1:]

    def write(data: bytes) -> None:
        for peer in peers:
            peer.wanted += data
        assert [] == list(batch.write_all(data))

    write(b"first")
    assert slow.writer.index >= 0
    number = 0
    while slow.writer.index >= 0:
        number += 1
        write(b"%d;" % number * 100)
        for peer in others:
            peer.read()
    assert 0 < slow.writer.transport.get_write_buffer_size()
    write(b"while its transport holds something")
    for peer in peers:
        await eventually(peer.has_all)
    write(b"last")
    for peer in peers:
        assert peer.writer.index >= 0
        await eventually(peer.has_all)
        assert peer.got == peer.wanted


async def test_a_transport_that_closes_is_not_bypassed(ring: IoUring, new_peer: NewPeer) -> None:
    batch = RingWriter(ring)
    peers = await peers_of(new_peer, batch, 8)
    gone = peers[3].writer
    gone.transport.abort()
    batch.write_all(b"data")

    assert [gone] == [peer.writer for peer in peers if peer.writer.index < 0]


async def test_few_are_written_to_one_by_one(ring: IoUring, new_peer: NewPeer) -> None:
    batch = RingWriter(ring)
    peers = await peers_of(new_peer, batch, 2)
    for peer in peers:
        peer.wanted += b"datadata"
    batch.write_all(b"data")
    batch.write_all(b"data")
    assert [-1, -1] == [peer.writer.index for peer in peers]
    for peer in peers:
        await eventually(peer.has_all)


async def test_one_client_costs_few_calls(ring: IoUring, new_peer: NewPeer) -> None:
    """As with a view of its own, of which there may be many."""
    batch = RingWriter(ring)
    await peers_of(new_peer, batch, 1)

    assert calls(functools.partial(batch.write_all, b"data")) <= 10


async def test_writers_of_another_kind_get_the_same(ring: IoUring, new_peer: NewPeer) -> None:
    """Compressed and encrypted connections, and event streams."""
    batch = RingWriter(ring)
    await peers_of(new_peer, batch, 8)
    other, written = await new_peer(), []

    class Other:
        def write(self, data: bytes, /) -> None:
            written.append(data)

    alone = Other()
    batch.add(alone)
    batch.add(other.writer.transport)
    other.wanted += b"one"
    batch.write_all(b"one")
    batch.discard(alone)
    batch.discard(other.writer.transport)
    batch.write_all(b"two")

    assert [b"one"] == written
    await eventually(other.has_all)
    assert b"one" == other.got


class Broken(asyncio.Transport):
    """A transport that fails whenever it is written to."""

    def __init__(self, real: asyncio.Transport) -> None:
        super().__init__()
        self.real = real

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self.real.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.real.is_closing()

    def abort(self) -> None:
        self.real.abort()

    def write(self, data: object) -> None:
        raise RuntimeError("the handler is closed")


async def test_a_writer_that_fails_is_returned_and_does_not_affect_the_others(ring: IoUring, new_peer: NewPeer) -> None:
    batch = RingWriter(ring)
    peers = await peers_of(new_peer, batch, 8)
    away = (await new_peer()).writer.transport
    broken = Broken(away)
    batch.add(broken)
    assert [broken] == list(batch.write_all(b"data"))
    for peer in peers:
        peer.wanted += b"data"
        await eventually(peer.has_all)


async def test_a_client_that_got_a_part_and_cannot_get_the_rest_is_aborted(ring: IoUring, new_peer: NewPeer) -> None:
    """What follows from its log would begin in the middle of a frame."""
    batch = RingWriter(ring)
    peers = await peers_of(new_peer, batch, 8)
    broken = SocketWriter(Broken((await new_peer()).writer.transport))
    batch.add(broken)
    failed = list(batch.write_all(b"x" * 10 * BUFFER))
    for peer in peers:
        batch.discard(peer.writer)

    assert [broken] == failed
    assert broken.transport.is_closing()


async def test_transports_are_used_if_the_kernel_fails(ring: IoUring, new_peer: NewPeer) -> None:
    batch = RingWriter(ring)
    peers = await peers_of(new_peer, batch, 8)
    batch.write_all(b"one")
    assert all(peer.writer.index >= 0 for peer in peers)
    ring.close()
    batch.write_all(b"two")
    batch.write_all(b"three")
    for peer in peers:
        peer.wanted += b"onetwothree"
        await eventually(peer.has_all)
        assert peer.got == peer.wanted
        assert peer.writer.index < 0


async def test_the_transport_of_a_tls_connection_is_not_bypassed(new_peer: NewPeer) -> None:
    class Encrypted(Broken):
        def get_extra_info(self, name: str, default: object = None) -> object:
            return object() if name == "sslcontext" else super().get_extra_info(name, default)

    sockets = SocketWriters(make_hub().fanout, io_uring=True)
    transport = (await new_peer()).writer.transport
    plain, encrypted = sockets.writer(transport), sockets.writer(Encrypted(transport))
    sockets.close()

    assert isinstance(encrypted, Encrypted)
    assert isinstance(plain, SocketWriter)


async def test_without_io_uring_the_transport_is_the_writer(new_peer: NewPeer) -> None:
    fanout = make_hub().fanout
    transport = (await new_peer()).writer.transport

    assert SocketWriters(fanout, io_uring=False).writer(transport) is transport
    assert isinstance(fanout.make_writer(), SequentialWriter)
