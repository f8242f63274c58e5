"""Writing past transports: whatever else happens, each socket gets its bytes whole and in order."""

from __future__ import annotations

import asyncio
import functools
import random
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from gateway.core.cohorts import Each, Ways
from gateway.core.readers import Way
from gateway.web.batch import Batch, Direct
from gateway.web.ring import Ring
from tests.support.waiting import eventually


BUFFER = 32_768
"""What a client's kernel keeps for it, about."""


@pytest.fixture
def ring() -> Iterator[Ring]:
    try:
        ring = Ring()
    except OSError as error:
        pytest.xfail(f"no io_uring here: {error}")
    yield ring
    ring.close()


class Peer:
    """A client: its end of the connection, the gateway's, and what it is to get."""

    def __init__(self, end: socket.socket, transport: asyncio.Transport) -> None:
        self.end = end
        self.way = Direct(transport)
        self.wanted = bytearray()
        self.got = bytearray()

    def tell(self, data: bytes) -> None:
        """Write to it alone."""
        self.wanted += data
        self.way.write(data)

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


NewPeer = Callable[[], "asyncio.Future[Peer]"]


@pytest.fixture
async def new_peer() -> AsyncIterator[NewPeer]:
    """Connects clients with little room for what they do not read."""
    loop = asyncio.get_running_loop()
    accepted: asyncio.Queue[asyncio.Transport] = asyncio.Queue()
    ends: list[socket.socket] = []
    transports: list[asyncio.Transport] = []

    class Server(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            accepted.put_nowait(transport)
            transports.append(transport)

    server = await loop.create_server(Server, "127.0.0.1", 0)

    async def make() -> Peer:
        end = socket.socket()
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        end.setblocking(False)
        ends.append(end)
        await loop.sock_connect(end, server.sockets[0].getsockname())
        return Peer(end, await accepted.get())

    yield lambda: asyncio.ensure_future(make())
    for end in ends:
        end.close()
    for transport in transports:
        transport.abort()
    server.close()
    await server.wait_closed()


class World:
    """Clients that come, go, read and do not, and one who writes to them, together and alone."""

    def __init__(self, ways: Ways, new_peer: NewPeer, seed: int) -> None:
        self.ways = ways
        self.new_peer = new_peer
        self.random = random.Random(seed)
        self.inside: list[Peer] = []
        self.outside: list[Peer] = []
        self.number = 0

    def data(self, most: int) -> bytes:
        self.number += 1
        return (b"%d;" % self.number) * self.random.randint(1, most)

    async def come(self) -> None:
        self.outside.append(await self.new_peer())

    async def join(self) -> None:
        if self.outside:
            peer = self.outside.pop(self.random.randrange(len(self.outside)))
            self.ways.add(peer.way)
            self.inside.append(peer)

    async def leave(self) -> None:
        if self.inside:
            peer = self.inside.pop(self.random.randrange(len(self.inside)))
            self.ways.discard(peer.way)
            self.outside.append(peer)

    async def tell_one(self) -> None:
        if self.inside or self.outside:
            self.random.choice(self.inside + self.outside).tell(self.data(5))

    async def tell_all(self) -> None:
        data = self.data(self.random.choice((5, 5, 5, 5, 5_000)))
        for peer in self.inside:
            peer.wanted += data
        assert [] == list(self.ways.write(data))

    async def read(self) -> None:
        for peer in self.inside + self.outside:
            if self.random.random() < 0.7:
                peer.read(self.random.choice((10, 1 << 20)))

    async def turn(self) -> None:
        await asyncio.sleep(0)

    async def live(self, steps: int) -> None:
        acts = [self.tell_all, self.tell_all, self.tell_one, self.read, self.turn]
        for _ in range(10):
            await self.come()
            await self.join()
        for _ in range(steps):
            await self.random.choice([*acts, self.join, self.leave])()
            if self.random.random() < 0.05:
                await self.come()


@pytest.mark.parametrize("seed", range(20))
async def test_everyone_gets_everything_in_order(ring: Ring, new_peer: NewPeer, seed: int) -> None:
    world = World(Batch(ring), new_peer, seed)
    await world.live(300)
    for peer in world.inside + world.outside:
        await eventually(peer.has_all)

    assert [] == [one for one in world.inside + world.outside if one.got != one.wanted]
    assert world.number > 50


async def peers_of(new_peer: NewPeer, ways: Ways, count: int) -> list[Peer]:
    peers = [await new_peer() for _ in range(count)]
    for peer in peers:
        ways.add(peer.way)
    return peers


def calls(act: Callable[[], object]) -> int:
    """Count the calls of functions, of Python's and of C's."""
    count = 0

    def note(_frame: object, event: str, _what: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(before)
    return count


async def test_a_further_client_costs_no_call(ring: Ring, new_peer: NewPeer) -> None:
    """But for those of one system call more with each full ring of them."""
    counts = []
    for size in (10, 50):  # less than a ring, with what went before
        batch = Batch(ring)
        await peers_of(new_peer, batch, size)
        batch.write(b"first")
        counts.append(calls(functools.partial(batch.write, b"second")))

    assert counts[0] == counts[1]


async def test_a_client_that_reads_again_is_written_to_together_with_the_others(
    ring: Ring, new_peer: NewPeer
) -> None:
    batch = Batch(ring)
    peers = await peers_of(new_peer, batch, 8)
    slow, others = peers[0], peers[1:]
    batch.write(b"first")
    assert slow.way.place >= 0
    written = len(b"first")
    while slow.way.place >= 0:
        batch.write(b"x" * 10_000)
        written += 10_000
        for peer in others:
            peer.read()
    # Now its transport holds what its socket did not take.
    assert 0 < slow.way.transport.get_write_buffer_size()
    assert all(peer.way.place >= 0 for peer in others)

    def has_all() -> bool:
        slow.read()
        return len(slow.got) == written

    await eventually(has_all)
    batch.write(b"last")
    assert slow.way.place >= 0


async def test_nothing_goes_past_a_transport_that_closes(ring: Ring, new_peer: NewPeer) -> None:
    """Its descriptor is another's soon."""
    batch = Batch(ring)
    peers = await peers_of(new_peer, batch, 8)
    batch.write(b"first")
    gone = peers[3].way
    gone.set_aside()  # as its connection does when it is lost
    gone.transport.abort()
    batch.write(b"second")

    assert [-1] == [peer.way.place for peer in peers if peer.way.place < 0]
    assert gone.place == -1


async def test_few_are_written_to_one_by_one(ring: Ring, new_peer: NewPeer) -> None:
    batch = Batch(ring)
    peers = await peers_of(new_peer, batch, 2)
    for peer in peers:
        peer.wanted += b"datadata"
    batch.write(b"data")
    batch.write(b"data")
    assert [-1, -1] == [peer.way.place for peer in peers]
    for peer in peers:
        await eventually(peer.has_all)


async def test_ways_of_another_kind_get_the_same(ring: Ring, new_peer: NewPeer) -> None:
    """Compressed and encrypted connections, and event streams."""
    batch = Batch(ring)
    await peers_of(new_peer, batch, 8)
    other, written = await new_peer(), []

    class Other:
        def write(self, data: bytes, /) -> None:
            written.append(data)

    way = Other()
    batch.add(way)
    batch.add(other.way.transport)
    other.wanted += b"one"
    batch.write(b"one")
    batch.discard(way)
    batch.discard(other.way.transport)
    batch.write(b"two")

    assert [b"one"] == written
    await eventually(other.has_all)
    assert b"one" == other.got


@pytest.mark.parametrize("kind", [Each, Batch])
async def test_one_that_fails_is_named_and_costs_the_others_nothing(
    kind: type[Ways], new_peer: NewPeer, ring: Ring
) -> None:
    ways: Ways = Batch(ring) if kind is Batch else Each()
    peers = await peers_of(new_peer, ways, 8)

    class Broken:
        def write(self, data: bytes, /) -> None:
            raise RuntimeError("the handler is closed")

    broken: Way = Broken()
    ways.add(broken)
    assert [broken] == list(ways.write(b"data"))
    for peer in peers:
        peer.wanted += b"data"
        await eventually(peer.has_all)


async def test_without_a_ring_transports_take_over(new_peer: NewPeer) -> None:
    """As after `close`: what is written still arrives."""
    try:
        ring = Ring()
    except OSError as error:
        pytest.xfail(f"no io_uring here: {error}")
    batch = Batch(ring)
    peers = await peers_of(new_peer, batch, 8)
    batch.write(b"one")
    ring.close()
    batch.write(b"two")
    for peer in peers:
        peer.wanted += b"onetwo"
        await eventually(peer.has_all)
    assert {b"onetwo"} == {bytes(peer.got) for peer in peers}
