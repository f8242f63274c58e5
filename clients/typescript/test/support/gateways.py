"""Starts gateways and publishes to them, as each line of standard input says; answers each with a line.

    {"start": ["--port", "8000", …], "log": "file"}                       gateway serve …; its process id
    {"ended": pid}                                                        its exit status, null while it runs
    {"publish": "channel", "bus": "ipc://…", "from": 1, "to": 9, "data": {…}}    events with data {"n": number, …}
    {"send": ["base64", …], "to": "tcp://…"}                              these frames, sent by a plain ZeroMQ socket
    {"certificate": "folder"}                                             a certificate that nobody has signed: its file and its key's
    {"restart": "ipc://…"}                                                a new incarnation of the publisher there
    {"leave": "ipc://…"}                                                  closes that publisher

A publisher is made when its bus is first named, and waits for the gateway's subscription. It keeps as many events
for gateways that missed them as the first `publish` says with `replay`.
"""

import json
import os
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import zmq
from neurograph_publisher import Publisher

from tests.support import forkserver, tls


gateways: dict[int, forkserver.Process] = {}
publishers: dict[str, Publisher] = {}
foreign: dict[str, zmq.Socket[bytes]] = {}
"""Plain ZeroMQ sockets, by the endpoint that they connect to."""


def start(arguments: list[str], log: str) -> int:
    with open(os.devnull, "r+b") as nothing, open(log, "ab") as errors:
        process = forkserver.start(
            ["serve", *arguments],
            stdin=nothing.fileno(),
            stdout=nothing.fileno(),
            stderr=errors.fileno(),
            environment=os.environ,
        )
    gateways[process.pid] = process
    return process.pid


def publisher(bus: str, *, replay: int = 0) -> Publisher:
    if bus not in publishers:
        publishers[bus] = Publisher(connect=bus, high_water_mark=1_000_000, linger_seconds=0, replay=replay)
        publishers[bus].wait_for_subscriber(60)
    return publishers[bus]


def send(frames: list[bytes], to: str) -> None:
    if to not in foreign:
        foreign[to] = zmq.Context.instance().socket(zmq.XPUB)
        foreign[to].setsockopt(zmq.LINGER, 0)
        foreign[to].connect(to)
        foreign[to].recv()  # the gateway's subscription
    foreign[to].send_multipart(frames)


def obey(order: dict[str, Any]) -> Any:
    match order:
        case {"start": arguments, "log": log}:
            return start(arguments, log)
        case {"ended": pid}:
            return gateways[pid].poll()
        case {"certificate": folder}:
            files = tls.make(Path(folder))
            return [str(files.cert), str(files.key)]
        case {"restart": bus}:
            publishers.pop(bus).close()
            publisher(bus)
        case {"leave": bus} if bus in publishers:
            publishers.pop(bus).close()
        case {"publish": channel, "bus": bus, "from": first, "to": last}:
            kind = order.get("event_type", "test.event")
            for number in range(first, last + 1):
                data = {"n": number, **order.get("data", {})}
                publisher(bus, replay=order.get("replay", 0)).publish(channel, data, event_type=kind)
        case {"send": frames, "to": endpoint}:
            send([b64decode(frame) for frame in frames], endpoint)
    return None


for line in sys.stdin:
    sys.stdout.write(json.dumps(obey(json.loads(line))) + "\n")
    sys.stdout.flush()
