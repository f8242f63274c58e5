"""A connection's states: which events it still handles while it closes, and after its end."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from dataclasses import replace

import pytest

from gateway.config.model import Clients, Config
from gateway.core.protocol.errors import CloseCode
from gateway.core.protocol.parser import Parser
from gateway.core.sessions.rate_limit import RateLimit
from gateway.runtime.turns import Turns
from gateway.web.sockets.connection import Connection, State
from gateway.web.sockets.websocket import FRAMES_AT_ONCE_MAX, ReceiveQueue
from tests.support.raw import CONTINUATION, PONG, TEXT, RawPeer, encode_frame, open_raw
from tests.support.waiting import eventually
from tests.unit.web.conftest import Edge, MakeEdge


async def flood(peer: RawPeer) -> None:
    """Send messages that are answered, and read no answer."""
    loop = asyncio.get_running_loop()
    ping = json.dumps({"type": "ping", "id": "x" * 120}).encode()
    while True:
        await loop.sock_sendall(peer.socket, encode_frame(TEXT, ping) * 100)


async def test_a_client_that_does_not_read_and_is_lost_is_released(make_edge: MakeEdge) -> None:
    """Its messages that are still queued do not wait for a socket that is gone."""
    limits = Clients(messages_burst=10**6, pings_burst=10**6, write_buffer_bytes_max=16_384)
    edge = await make_edge(Config(clients=limits))
    peer = await open_raw(edge.port, receive_buffer=2048)
    [connection] = edge.context.connections.values()
    flooding = asyncio.create_task(flood(peer))
    await eventually(lambda: connection._writable is not None, within=60)
    flooding.cancel()
    await asyncio.gather(flooding, return_exceptions=True)
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()

    await eventually(lambda: not edge.context.connections, within=60)


async def test_only_the_first_close_has_an_effect(make_edge: MakeEdge) -> None:
    """What the client sends after it is dropped, up to its own close frame."""
    edge = await make_edge()
    peer = await open_raw(edge.port)
    [connection] = edge.context.connections.values()
    connection.close(CloseCode.TRY_LATER)
    connection.close(CloseCode.RESTART)
    assert State.CLOSING is connection._state
    peer.answers_closes = False
    await peer.send_json({"type": "ping"})
    ending = await peer.read_ending()
    peer.close()
    await connection.wait_closed()

    assert (CloseCode.TRY_LATER, State.CLOSED) == (connection.code, connection._state)
    assert ending.code == CloseCode.TRY_LATER
    assert [message["type"] for message in ending.messages] == ["closing"]


async def test_a_client_gets_all_pending_events_before_the_reason_why_it_is_closed(make_edge: MakeEdge) -> None:
    """They are more than one part, and nobody else has a turn in between."""
    edge = await make_edge(Config(clients=Clients(write_buffer_bytes_max=10_000_000)))
    peer = await open_raw(edge.port, "/ws?channels=robots")
    [connection] = edge.context.connections.values()
    pipeline, fanout = edge.context.pipeline, edge.context.hub.fanout
    assert pipeline is not None
    fanout.on_pending = lambda: None
    pipeline.receive([[b"robots", b'{"data":"%b"}' % (b"x" * 900)]] * 200, now_ns=1)
    connection.close(CloseCode.RESTART)
    ending = await peer.read_ending()
    peer.close()

    assert [message["type"] for message in ending.messages] == ["subscribed", *["event"] * 200, "closing"]


async def test_a_lost_connection_only_keeps_the_code_of_a_later_close(make_edge: MakeEdge) -> None:
    edge = await make_edge()
    peer = await open_raw(edge.port)
    [connection] = edge.context.connections.values()
    peer.close()
    await connection.wait_closed()
    assert (1006, State.LOST) == (connection.code, connection._state)
    connection.close(CloseCode.RESTART)

    assert (CloseCode.RESTART, State.CLOSED) == (connection.code, connection._state)


async def test_a_close_frame_of_the_peer_is_answered_with_its_code(make_edge: MakeEdge) -> None:
    edge = await make_edge()
    peer = await open_raw(edge.port)
    [connection] = edge.context.connections.values()
    await peer.send_close(4321)
    ending = await peer.read_ending()
    peer.close()

    assert (4321, State.CLOSED, 4321) == (connection.code, connection._state, ending.code)


FRAGMENT = encode_frame(CONTINUATION, b" ", fin=False)


async def test_fragments_above_the_rate_limit_pause_reading(make_edge: MakeEdge) -> None:
    """Each is a frame that takes time, and no message is complete; the client is there all the time."""
    edge = await make_edge(Config(clients=Clients(messages_burst=1)))
    peer = await open_raw(edge.port)
    [connection] = edge.context.connections.values()
    queue = connection._receive_queue
    assert queue is not None
    await peer.send_bytes(encode_frame(TEXT, b'{"type":"ping"}', fin=False) + FRAGMENT * 20_000)
    await eventually(lambda: queue.paused)
    now = asyncio.get_running_loop().time()
    for second in range(31, 43):
        edge.context.heartbeat.check(now=now + second)

    assert queue._parser.frames < 20_000
    assert State.OPEN is connection._state
    peer.close()


async def test_frames_are_read_a_few_at_a_time(make_edge: MakeEdge) -> None:
    """Between them, others have their turn."""
    edge = await make_edge()
    peer = await open_raw(edge.port)
    [connection] = edge.context.connections.values()
    parser = Parser(message_bytes_max=1000)
    queue = ReceiveQueue(connection._protocol, parser)
    queue.feed_data(encode_frame(PONG) * 1000)
    received = await queue.receive()
    peer.close()

    assert received is not None
    assert (received.frames, parser.frames) == (FRAMES_AT_ONCE_MAX, FRAMES_AT_ONCE_MAX)


async def test_a_client_that_floods_and_is_reset_while_it_is_not_read_from_is_released(make_edge: MakeEdge) -> None:
    """Its socket reports nothing, as nobody reads it; the kernel is asked."""
    edge = await make_edge(Config(clients=Clients(messages_burst=1, messages_per_second=0.01)))
    peer = await open_raw(edge.port)
    [connection] = edge.context.connections.values()
    queue = connection._receive_queue
    assert queue is not None
    await peer.send_bytes(encode_frame(TEXT, b'{"type":"ping"}', fin=False) + FRAGMENT * 30_000)
    await eventually(lambda: queue.paused)
    peer.reset()
    now = asyncio.get_running_loop().time()
    for second in range(31, 43):
        edge.context.heartbeat.check(now=now + second)

    assert CloseCode.HEARTBEAT_TIMEOUT == connection.code
    await eventually(lambda: not edge.context.connections)


async def fill(edge: Edge) -> tuple[RawPeer, Connection]:
    """Return a client that does not read, and its connection, whose buffers are full."""
    pipeline = edge.context.pipeline
    assert pipeline is not None
    pipeline.receive([[b"fat", b'{"data":"%b"}' % (b"x" * 9000)]] * 20, now_ns=1)
    peer = await open_raw(edge.port, "/ws?channels=fat&last=20", receive_buffer=2048)
    [connection] = edge.context.connections.values()
    assert connection.buffered
    return peer, connection


async def test_a_peer_that_closes_and_reads_no_answer_is_disconnected(make_edge: MakeEdge) -> None:
    edge = await make_edge(Config(clients=Clients(send_buffer_bytes=4096)))
    peer, connection = await fill(edge)
    await peer.send_close(1000)

    await eventually(lambda: not edge.context.connections)
    await eventually(lambda: connection._protocol.transport is None)
    peer.close()


async def test_a_peer_that_ends_its_side_and_reads_nothing_is_closed_as_stalled(make_edge: MakeEdge) -> None:
    """The socket closes only when all is sent, and no ping can be written to it."""
    edge = await make_edge(Config(clients=Clients(send_buffer_bytes=4096)))
    peer, connection = await fill(edge)
    peer.socket.shutdown(socket.SHUT_WR)
    await eventually(lambda: not connection.can_write)
    now = asyncio.get_running_loop().time()
    for second in range(200):
        edge.context.heartbeat.check(now=now + second)
    peer.close()

    assert (CloseCode.SLOW_CONSUMER, State.CLOSING) == (connection.code, connection._state)


async def test_a_client_that_floods_and_is_lost_is_read_no_further(make_edge: MakeEdge) -> None:
    """What it has sent beyond its limit takes time from others, and answers nothing."""
    edge = await make_edge()
    hub = edge.context.hub
    limits = replace(hub.limits, rates={**hub.limits.rates, "frames": RateLimit(100, 100)})
    hub.set_limits(limits, hub.welcome)
    peer = await open_raw(edge.port)
    [connection] = edge.context.connections.values()
    queue = connection._receive_queue
    assert queue is not None
    queue.feed_data(encode_frame(PONG) * 20_000)
    peer.reset()
    connection._transport.abort()
    await eventually(lambda: not edge.context.connections)

    assert queue._parser.frames < 1_000


async def test_others_have_their_turn_between_a_clients_messages(make_edge: MakeEdge) -> None:
    edge = await make_edge()
    edge.context.turns = Turns(0.0)  # each message takes longer
    peer = await open_raw(edge.port)
    [connection] = edge.context.connections.values()
    queue = connection._receive_queue
    assert queue is not None
    subscribed: list[int] = []

    def note_turn() -> None:
        assert connection.session is not None
        subscribed.append(len(connection.session.subscriptions))
        if len(subscribed) < 20:
            asyncio.get_running_loop().call_soon(note_turn)

    subscribe = [json.dumps({"type": "subscribe", "channels": [f"c{n}"]}).encode() for n in range(5)]
    queue.feed_data(b"".join(encode_frame(TEXT, one) for one in subscribe))
    note_turn()
    await eventually(lambda: len(subscribed) == 20)
    peer.close()

    assert {1, 2, 3, 4, 5} <= set(subscribed)


@pytest.mark.parametrize(("path", "events"), [("/events", 100), ("/ws", 500)])
async def test_others_have_their_turn_while_a_client_gets_what_it_has_missed(
    make_edge: MakeEdge, path: str, events: int
) -> None:
    """It gets all of it, in parts: smaller ones if they have to be encoded for it alone."""
    edge = await make_edge()
    pipeline = edge.context.pipeline
    assert pipeline is not None
    pipeline.receive([[b"robots", b'{"data":"%b"}' % (b"x" * 900)]] * events, now_ns=1)
    tally, written = edge.context.hub.fanout.tally, set[int]()

    def note_turn() -> None:
        written.add(tally.bytes)
        if tally.events < events:
            asyncio.get_running_loop().call_soon(note_turn)

    note_turn()
    peer = RawPeer(edge.port)
    address = f"{path}?channels=robots&last={events}"
    if path == "/ws":
        await peer.upgrade(address)
    else:
        await peer.send_bytes(b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % address.encode())
    await eventually(lambda: tally.events >= events)
    peer.close()

    assert len(written) > 5
