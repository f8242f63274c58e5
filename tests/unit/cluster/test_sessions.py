"""Sessions that a real Redis keeps for two gateways, when notices are lost, and what changes meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from msgspec import Raw
from structlog.testing import capture_logs

from gateway.cluster.cluster import Cluster
from gateway.config.model import Cluster as Settings
from gateway.core.cluster.members import OwnFigures
from gateway.core.protocol.messages import Broadcast
from gateway.core.sessions.broadcast import Broadcaster, Sender
from gateway.core.sessions.requests import ConnectRequest
from gateway.core.sessions.session import Session
from gateway.runtime import clock
from tests.support.core import Peer, make_hub, open_identity
from tests.support.redis import RedisServer
from tests.support.waiting import eventually
from tests.unit.cluster.conftest import up


NewNode = Callable[[], Awaitable["Node"]]


class Node:
    """A gateway of a cluster without sockets, which reports itself only when it starts, or is told to."""

    def __init__(self, redis: RedisServer, prefix: str) -> None:
        self.redis = redis
        self.hub = make_hub()
        broadcaster = Broadcaster(self.hub, self.hub.pipeline)
        settings = Settings(url=redis.url, prefix=prefix, timeout_seconds=30.0, ttl_seconds=3600.0)
        self.cluster = Cluster(settings, self.hub, self.hub.pipeline, broadcaster, own=self._own, away_seconds=0.0)
        self.sessions = self.cluster.sessions
        self.sessions.let_go = self._let_go
        broadcaster.deliver = self.sessions.deliver_from_bus

    def _own(self) -> OwnFigures:
        return OwnFigures("node", len(self.hub.sessions), 0, True)

    async def _let_go(self, session: Session) -> None:
        if session.client_id in self.hub.sessions:
            self.hub.disconnect(session, code=4500, seconds=1.0, now_ns=clock.now_ns(), remember=False)
        else:
            self.hub.store.drop(session)

    async def key(self, *command: str | int, of: str) -> Any:
        """Do something to a key: ``await key("DEL", of="session:a")``."""
        name, *more = command
        return await asyncio.to_thread(self.redis.command, name, self.cluster.engine.key(of), *more)

    async def listed(self, *, again: bool = False) -> None:
        """Wait until the engine lists this gateway, and so has an inbox for it; `again` after `unlist`."""
        if again:
            self.cluster.report_soon()
        await eventually(lambda: self.key("EXISTS", of=f"gateway:{self.cluster.id}"))

    async def unlist(self) -> None:
        """Let the engine take this gateway for gone: what others send it is in no inbox."""
        await self.key("DEL", of=f"gateway:{self.cluster.id}")

    async def connect(self, name: str, *channels: str, session: str | None = None) -> Peer:
        """Connect a client as a gateway does, and wait until the engine has its session."""
        if session is not None:
            await self.take(session)
        peer = Peer(self.hub, name)
        found = peer.connect(*channels, session=session, now_ns=clock.now_ns())
        await eventually(lambda: self.has(found.client_id))
        return peer

    async def take(self, secret: str) -> None:
        await self.sessions.take(ConnectRequest("new", "new secret", open_identity(), session=secret))

    async def has(self, client_id: str) -> bool:
        """Return whether the engine has a client's session as that of this gateway."""
        owner = await self.key("HGET", "owner", of=f"session:{client_id}")
        return bool(owner == self.cluster.id)

    async def send(self, client_id: str, n: int) -> int:
        event = Raw(b'{"event_type":"note","data":%d}' % n)
        sent = await self.cluster.broadcast(Broadcast(client_id=client_id, event=event), Sender(open_identity()))
        return sent.recipients


@pytest.fixture
async def node(redis: RedisServer, prefix: str) -> AsyncIterator[NewNode]:
    async with AsyncExitStack() as stack:

        async def make() -> Node:
            made = Node(redis, prefix)
            stack.push_async_callback(made.cluster.close)
            await made.cluster.start()
            await up(made.cluster.engine)
            await made.listed()
            return made

        yield make


def notes(peer: Peer) -> list[int | None]:
    """The numbers of the personal messages that a client has had; a gap is None."""
    found = [one for one in peer.received if one.get("channel") == "$personal" and one["type"] in {"event", "gap"}]
    return [one.get("data") for one in found]


async def got(peer: Peer, *expected: int) -> None:
    await eventually(lambda: notes(peer) == [*expected], saying=lambda: str(notes(peer)))


async def test_a_message_whose_notice_found_no_inbox_comes_when_its_gateway_reports_again(node: NewNode) -> None:
    """So it is for a gateway that reported too late. What its client has had already does not come again."""
    here, there = await node(), await node()
    peer = await here.connect("ada")
    assert peer.session is not None
    assert 1 == await there.send(peer.session.client_id, 1)
    await got(peer, 1)
    await here.unlist()
    assert 1 == await there.send(peer.session.client_id, 2)
    await here.listed(again=True)

    await got(peer, 1, 2)


async def test_a_message_after_one_whose_notice_was_lost_brings_that_one_first(node: NewNode) -> None:
    here, there = await node(), await node()
    peer = await here.connect("ada")
    assert peer.session is not None
    await here.unlist()
    assert 1 == await there.send(peer.session.client_id, 1)
    await here.key("SET", "listed again", "PX", 60_000, of=f"gateway:{here.cluster.id}")
    assert 1 == await there.send(peer.session.client_id, 2)

    await got(peer, 1, 2)


async def test_a_message_to_a_client_that_has_just_come_waits_for_its_session(node: NewNode) -> None:
    here = await node()
    peer = Peer(here.hub, "ada")
    session = peer.connect(now_ns=clock.now_ns())

    assert 1 == await here.send(session.client_id, 1)
    await got(peer, 1)


async def test_a_message_of_the_bus_to_a_session_that_the_engine_lacks_is_numbered_here(node: NewNode) -> None:
    """It may lack one after a failover, until that is written again."""
    here = await node()
    peer = await here.connect("ada")
    assert peer.session is not None
    client_id = peer.session.client_id
    await here.key("DEL", of=f"session:{client_id}")
    payload = b'{"event_type":"note","data":1,"client_id":"%s"}' % client_id.encode()
    tick = here.hub.tick([[b"$personal", payload]], now_ns=clock.now_ns())

    assert [] == [*tick.rejections]
    await got(peer, 1)
    await eventually(lambda: here.has(client_id))


async def test_a_session_that_its_gateway_forgets_is_forgotten_by_the_engine(node: NewNode) -> None:
    here, there = await node(), await node()
    peer = await here.connect("ada")
    session = peer.session
    assert session is not None
    here.hub.disconnect(session, code=1000, seconds=1.0, now_ns=clock.now_ns(), remember=False)
    await eventually(lambda: _lacks(here, session.client_id))
    await there.take(session.secret)

    assert there.hub.store.of_client(session.client_id) is None


async def test_a_session_that_is_forgotten_while_it_is_written_is_forgotten_by_the_engine(node: NewNode) -> None:
    """Also if it is found to be gone before the engine has said that it was written."""
    here = await node()
    peer = Peer(here.hub, "ada")
    session = peer.connect(now_ns=clock.now_ns())
    first = asyncio.ensure_future(here.sessions.write_all())
    await asyncio.sleep(0)
    here.hub.disconnect(session, code=1000, seconds=1.0, now_ns=clock.now_ns(), remember=False)
    await here.sessions.write_all()
    await first

    await eventually(lambda: _lacks(here, session.client_id))


async def _lacks(node: Node, client_id: str) -> bool:
    return not await node.key("EXISTS", of=f"session:{client_id}")


async def test_a_client_that_moves_away_and_back_ends_the_connection_that_its_first_gateway_still_has(
    node: NewNode,
) -> None:
    """That gateway knows nothing of the move, as its notice was lost; so the secret is another one than it has."""
    first, second = await node(), await node()
    before = await first.connect("ada", "robots")
    assert before.session is not None
    client_id = before.session.client_id
    await first.unlist()
    away = await second.connect("ada elsewhere", "lidar", session=before.session.secret)
    assert away.session is not None
    await eventually(lambda: second.has(client_id))
    assert client_id in first.hub.sessions
    back = await first.connect("ada again", session=away.session.secret)

    assert back.session is not None
    assert back.received[0]["resumed"]
    assert before.session.reader is None
    assert back.session is first.hub.sessions[client_id]
    assert {"robots", "lidar"} == set(back.session.subscriptions)


async def test_a_session_that_cannot_be_read_is_logged_and_its_client_gets_a_new_one(node: NewNode) -> None:
    """Another version of the gateway may have written it."""
    first, second = await node(), await node()
    before = await first.connect("ada")
    assert before.session is not None
    await first.key("HSET", "kept", "{}", of=f"session:{before.session.client_id}")
    with capture_logs() as logged:
        after = await second.connect("ada elsewhere", session=before.session.secret)

    assert not after.received[0]["resumed"]
    assert after.session is not None
    assert after.session.client_id != before.session.client_id
    [line] = [one for one in logged if one["event"] == "session_not_restored"]
    assert before.session.client_id == line["client_id"]
    assert "user_id" in line["problem"]
