"""websockets, its `broadcast` for each event: python websockets_server.py PORT BUS_PORT."""

import sys

import uvloop
import zmq
import zmq.asyncio
from websockets.asyncio.server import ServerConnection, broadcast, serve


clients: set[ServerConnection] = set()


async def follow(client: ServerConnection) -> None:
    clients.add(client)
    try:
        await client.wait_closed()
    finally:
        clients.discard(client)


async def main() -> None:
    bus = zmq.asyncio.Context.instance().socket(zmq.SUB)
    bus.connect(f"tcp://127.0.0.1:{sys.argv[2]}")
    bus.subscribe(b"")
    port = int(sys.argv[1])
    async with serve(follow, "127.0.0.1", port, compression=None, backlog=4096):
        while True:
            broadcast(clients, (await bus.recv_multipart())[1].decode())


if __name__ == "__main__":
    uvloop.run(main())
