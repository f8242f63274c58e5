"""A connection's states: what it still does once its socket is lost."""

from __future__ import annotations

import asyncio
import json
import socket
import struct

from gateway.config.model import Clients, Config
from tests.support.raw import TEXT, RawPeer, encode_frame, open_raw
from tests.support.waiting import eventually
from tests.unit.web.conftest import MakeEdge


async def flood(peer: RawPeer) -> None:
    """Send messages that are answered, and read no answer."""
    loop = asyncio.get_running_loop()
    ping = json.dumps({"type": "ping", "id": "x" * 120}).encode()
    while True:
        await loop.sock_sendall(peer.socket, encode_frame(TEXT, ping) * 100)


async def test_a_client_that_does_not_read_and_is_lost_is_released(make_edge: MakeEdge) -> None:
    """Its messages that are still queued do not wait for a socket that is gone."""
    limits = Clients(messages_burst=10**6, pings_burst=10**6, buffer_bytes_max=16_384)
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
