"""Hostile publishers and clients, beside those whose events are accounted for."""

from __future__ import annotations

import json
import struct

from gateway.core.protocol.envelope import Envelope
from gateway.core.protocol.messages import Position
from tests.simulation.world import World
from tests.support.core import Peer


TOPICS = [b"alpha", b"beta", b"$everyone", b"*", b"\xff"]
PAYLOADS = [b"", b"{", b"NaN", b'{"n":1e999}', b"[" * 129 + b"]" * 129, b"9" * 40, b'"\\ud800"', b"x" * 10_001]
TIMELESS = b'{"event_type":"x","data":{},"timestamp":"2026-02-30T12:00:00Z"}'
SEQUENCES = [2**63, 2**70, -1, 1.5, None]
TEXTS = [
    "",
    "[]",
    "[" * 5_000,
    '{"type":"subscribe"}',
    '{"type":"subscribe","channels":["a..b"]}',
    '{"type":"subscribe","channels":["alpha"],"filter":"data.n >"}',
    '{"type":"subscribe","channels":["alpha"],"filter":"data.n > \'x\'"}',
    '{"type":"subscribe","channels":["*"],"rate":0.1,"last":1000}',
    '{"type":"unsubscribe","channels":["alpha","beta","gamma"]}',
    '{"type":"ping","id":{}}',
]


def publish_hostile(world: World) -> None:
    """Publish events and heartbeats that the gateway rejects, and numbered events on new topics."""
    pick = world.random
    incarnation = 2**63 + pick.randrange(3)
    beat = {
        "incarnation": f"{incarnation:016x}",
        "interval": pick.choice([1, 1e-9, -1]),
        "sequences": {pick.choice(["hostile.1", "alpha", "$everyone"]): pick.choice(SEQUENCES)},
    }
    numbered = Envelope(incarnation, pick.choice([1, 2, 7, 2**62]), 1, pick.choice([0, 1])).pack()
    batch = [
        [pick.choice(TOPICS), pick.choice([*PAYLOADS, TIMELESS])],
        [b"alpha", b"{}", struct.pack(">4sIQQQ", b"NGE1", 0, incarnation, pick.choice([0, 2**63]), 1)],
        [b"$heartbeat", json.dumps(beat).encode()],
        [b"hostile.%d" % pick.randrange(3), b"1", numbered],
    ]
    gateway = pick.choice(world.gateways)
    gateway.hub.tick(pick.sample(batch, pick.randint(1, len(batch))), now_ns=world.now_ns)


def connect_hostile_client(world: World) -> None:
    """Connect a client with invented positions, send invalid messages, and disconnect it, whether it reads or not."""
    pick = world.random
    peer = Peer(pick.choice(world.gateways).hub, f"hostile{pick.getrandbits(60)}")
    since = {f"invented.{number}": Position("0" * 16, pick.getrandbits(52)) for number in range(3)}
    session = peer.connect("alpha", *since, since=since, now_ns=world.now_ns)
    peer.writing_paused = pick.random() < 0.5
    for text in pick.sample(TEXTS, 4):
        peer.hub.receive(session, text, now_ns=world.now_ns)
    peer.disconnect(now_ns=world.now_ns)
