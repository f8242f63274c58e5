"""Publishers, gateways and clients in one deterministic world: a seed decides what happens.

The gateways are real cores (`Core`) without sockets; links, publishers and clients are minimal
implementations of docs/protocol.md. Time is a number that the schedule advances.
"""

from __future__ import annotations

import json
import random
import struct
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.core.fanout.cohorts import Reader
from gateway.core.ingest.publishers import ReplayRequest
from gateway.core.log.sources import make_position
from gateway.core.protocol.envelope import Envelope
from gateway.core.protocol.frames import text_payloads
from gateway.core.protocol.messages import Position, ViewOptions
from gateway.core.sessions.requests import ConnectRequest
from tests.simulation.account import Account
from tests.support.core import SECOND, Core, Socket, make_hub, open_identity


TOPICS = ["alpha", "beta"]
SENDS_HEARTBEATS = 1
STREAMS_ENOUGH = 100


class Publisher:
    """A publisher and its restarts: it numbers and keeps messages, sends heartbeats, and replays."""

    def __init__(self, world: World, name: str, topics: list[str], *, sends_heartbeats: bool) -> None:
        self.world = world
        self.name = name
        self.topics = topics
        self.sends_heartbeats = sends_heartbeats
        self.mute = False
        self.begin()

    def begin(self) -> None:
        """Start, or restart as a new incarnation, without messages kept for replay."""
        self.incarnation = self.world.next_incarnation()
        self.sequences = dict.fromkeys(self.topics, 0)
        self.kept: dict[str, deque[tuple[int, bytes, bytes]]] = {
            topic: deque(maxlen=self.world.keep) for topic in self.topics
        }

    def publish(self, topic: str, count: int) -> None:
        for _ in range(count):
            self.sequences[topic] += 1
            number = self.sequences[topic]
            flags = SENDS_HEARTBEATS if self.sends_heartbeats else 0
            frame = Envelope(self.incarnation, number, 1, flags).pack()
            payload = b'{"event_type":"x","data":{"p":%d,"n":%d,"k":%d}}' % (self.incarnation, number, number % 2)
            self.kept[topic].append((number, payload, frame))
            self.world.published(topic, self.incarnation, number)
            self.world.send([topic.encode(), payload, frame])

    def send_heartbeat(self, *, farewell: bool = False) -> None:
        if self.sends_heartbeats:
            text = {
                "incarnation": f"{self.incarnation:016x}",
                "interval": 0 if farewell else 1,
                "replay": self.name,
                "sequences": {name: number for name, number in self.sequences.items() if number},
            }
            self.world.send([b"$heartbeat", json.dumps(text).encode()])

    def reply_to(self, request: ReplayRequest) -> list[bytes] | None:
        """Return a reply of at most three messages; None if the publisher is mute."""
        if self.mute:
            return None
        held = [one for one in self.kept.get(request.topic, ()) if request.first <= one[0] <= request.last]
        pairs = [frame for _, payload, stamp in held[:3] for frame in (payload, stamp)]
        head = [b"NGR1", request.number.to_bytes(8, "big"), struct.pack(">Q", self.incarnation)]
        return [*head, *pairs]


class Gateway:
    """A core, the messages on their way to it, and the probabilities that they are lost or duplicated."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.start_count = 0
        self.loss = 0.0
        self.twice = 0.0
        self.known: set[tuple[str, int]] = set()
        """The topics and incarnations of which it has received a message or heartbeat."""
        self.begin()

    def begin(self) -> None:
        """Start, or restart after a kill, without data."""
        self.start_count += 1
        self.hub: Core = make_hub(
            epoch=f"{self.name}{self.start_count}",
            events_max=self.world.events_max,
            streams_max=self.world.streams_max,
            disconnected_max=1000,
            started_ns=self.world.now_ns,
        )
        self.hub.fanout.on_pending = self._ready
        self.arriving: deque[list[bytes]] = deque()
        self.replies: deque[list[bytes]] = deque()

    def receive(self, most: int) -> None:
        """Receive some of the messages, and send replay requests."""
        batch = [self.arriving.popleft() for _ in range(min(most, len(self.arriving)))]
        now_ns = self.world.now_ns
        for frames in batch:
            self._receive(frames)
        if batch:
            self.hub.tick(batch, now_ns=now_ns)
        if self.replies:
            self.hub.pipeline.receive_replies([self.replies.popleft()], now_ns=now_ns)
        self._ask()

    def _receive(self, frames: list[bytes]) -> None:
        if len(frames) == 3:
            self.known.add((frames[0].decode(), struct.unpack(">4sIQ", frames[2][:16])[2]))
        else:
            send_heartbeat = json.loads(frames[1])
            self.known |= {(topic, int(send_heartbeat["incarnation"], 16)) for topic in send_heartbeat["sequences"]}

    def _ready(self) -> None:
        """Write now, or leave it to a later step."""
        if self.world.random.random() >= self.world.patience:
            self.write()

    def expire(self) -> None:
        acts = [self.write, self.flush]
        self.world.random.shuffle(acts)
        acts[0]()
        self.hub.pipeline.expire(now_ns=self.world.now_ns)
        acts[1]()
        self._ask()

    def write(self) -> None:
        self.hub.fanout.write(now_ns=self.world.now_ns)

    def flush(self) -> None:
        self.hub.fanout.flush(now_ns=self.world.now_ns)

    def _ask(self) -> None:
        for request in self.hub.pipeline.ingest.recovery.take_requests():
            for publisher in self.world.publishers:
                if publisher.name == request.endpoint:
                    reply = publisher.reply_to(request)
                    if reply is not None and self.world.random.random() >= self.loss:
                        self.replies.append(reply)


class Client(Socket):
    """A client that keeps positions as docs/protocol.md says, and accounts for what it received."""

    channels: Sequence[str] = TOPICS

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.gateway: Gateway | None = None
        self.session: Any = None
        self.epoch_number = 0
        self.options: dict[str, Any] = {}
        self.patterns: list[str] = []
        self.positions: dict[str, Position] = {}
        self.seen: dict[tuple[str, str], int] = {}
        self.accounts: dict[str, Account] = {}

    def connect(self, gateway: Gateway) -> None:
        """Connect to a gateway, with the positions reached so far."""
        self.epoch_number += 1
        self.gateway = gateway
        since = dict(self.positions) if self.patterns else None
        connect_request = ConnectRequest(
            client_id=f"{self.name}.{self.epoch_number}",
            secret=f"{self.name}.{self.epoch_number}",
            identity=open_identity(),
            channels=self.patterns,
            since=since,
            options=ViewOptions(self.options.get("filter"), self.options.get("rate")),
        )
        now_ns = self.world.now_ns
        self.session = gateway.hub.connect(connect_request, self._reader, now_ns=now_ns)

    def disconnect(self, *, flushed: bool = False) -> None:
        assert self.gateway is not None
        if flushed:
            self.gateway.hub.fanout.flush_reader(self.session.reader)
        if self.session.client_id in self.gateway.hub.sessions:  # else the gateway was killed
            self.gateway.hub.disconnect(self.session, code=1006, seconds=1, now_ns=self.world.now_ns)
        self.gateway = None
        self.writing_paused = False

    def subscribe(self, patterns: list[str], **options: Any) -> None:
        assert self.gateway is not None
        self.patterns = patterns
        self.options = {name: options[name] for name in ("filter", "rate") if name in options}
        message = json.dumps({"type": "subscribe", "channels": patterns, **options})
        self.gateway.hub.receive(self.session, message, now_ns=self.world.now_ns)

    def read_on(self) -> None:
        self.writing_paused = False
        reader = self.session.reader
        assert self.gateway is not None
        if reader is not None and reader in self.gateway.hub.fanout.lagging:
            self.gateway.hub.fanout.catch_up(reader, bytes_max=500)

    def _reader(self) -> Reader:
        assert self.gateway is not None
        return self.make_reader(self.gateway.hub.fanout, self._write)

    def _write(self, data: bytes) -> None:
        is_full = self.writing_paused
        for payload in text_payloads(data):
            message = json.loads(payload)
            try:
                assert not (is_full and message["type"] == "event"), "an event was written to a full socket"
                self._receive(message)
            except AssertionError as fault:  # otherwise the gateway would handle it as a failure of the socket
                self.world.faults.append(f"{self.name}: {fault}")
        if self.world.random.random() < 0.02:
            self.writing_paused = True

    def _receive(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind in {"event", "gap", "subscribed"}:
            self.world.say(f"  {self.name} {_short(message)}")
        if kind == "subscribed":
            self._begin(message)
        elif kind in {"event", "gap"} and message["channel"] in self.channels:
            self._take(message)
        assert kind != "error", message

    def _begin(self, message: dict[str, Any]) -> None:
        for channel, place in message["positions"].items():
            if channel in self.channels:
                position = msgspec.convert(place, Position)
                if channel not in message["recovered"] and channel not in self.positions:
                    self._account(channel).begin(position, self.truth_of(channel))
                elif not message["recovered"].get(channel, True) and set(position.offsets.values()) == {0}:
                    # Nothing was received: the publishers may have started earlier.
                    self._account(channel).unopened = True
                self.positions[channel] = position

    def _take(self, message: dict[str, Any]) -> None:
        channel = message["channel"]
        known = self.positions.get(channel, Position("", 0))
        epoch = message.get("epoch", known.epoch)
        account = self._account(channel)
        truth = self.truth_of(channel)
        # An event without an epoch means that no other source is live.
        offsets = known.offsets if "epoch" in message else {epoch: known.offset}
        if message["type"] == "event":
            offset = message["offset"]
            assert offset > offsets.get(epoch, 0), f"offset {offset} arrived, and is not newer than {known}"
            offsets[epoch] = offset
            # A source that the position does not name starts from its beginning: skip what was delivered or reported.
            if offset > self.seen.get((channel, epoch), 0):
                self.seen[channel, epoch] = offset
                account.deliver(epoch, offset, self._data_of(message, epoch), truth)
        else:
            account.gap(epoch, message, truth)
            reached = message["to"]
            if reached is None:  # the source ended
                offsets.pop(epoch, None)
                epoch = known.epoch if known.epoch in offsets else next(iter(offsets), "")
                reached = 0
            offsets[epoch] = max(reached, offsets.get(epoch, 0))
            self.seen[channel, epoch] = max(reached, self.seen.get((channel, epoch), 0))
        self.positions[channel] = make_position({id_: at for id_, at in offsets.items() if at or id_ == epoch}, epoch)

    def truth_of(self, channel: str) -> dict[int, int]:
        return self.world.truth[channel]

    def _data_of(self, message: dict[str, Any], _epoch: str) -> dict[str, int]:
        """Return an event's publisher and number."""
        data: dict[str, int] = message["data"]
        return data

    def _account(self, channel: str) -> Account:
        account = self.accounts.get(channel)
        if account is None:
            account = self.accounts[channel] = Account(self.options)
        return account


def _short(message: dict[str, Any]) -> str:
    if message["type"] == "subscribed":
        at = {
            name: {place["epoch"]: place["offset"], **place.get("others", {})}
            for name, place in message["positions"].items()
            if name in TOPICS
        }
        return f"subscribed at {at}, recovered {message['recovered']}"
    if message["type"] == "gap":
        shown = {name: message[name] for name in ("epoch", "from", "to", "count", "reason")}
        return f"gap on {message['channel']}: {shown}"
    epoch = message.get("epoch", "")
    return f"event {message['channel']} {epoch}:{message['offset']} {message['data']}"


class World:
    """All publishers, gateways and clients of a simulation, and what was really published."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        pick = self.random
        self.now_ns = 100 * SECOND
        self.keep = pick.choice([3, 20, 1000])
        self.events_max = pick.choice([4, 20, 1000])
        self.streams_max = pick.choice([1, 2, STREAMS_ENOUGH])
        self.patience = pick.choice([0.0, 0.5, 1.0])
        self.truth: dict[str, dict[int, int]] = {topic: {} for topic in TOPICS}
        """The newest number of each incarnation, by topic."""
        self.trace: list[str] = []
        """The steps so far, to be printed."""
        self.faults: list[str] = []
        """Descriptions of wrong deliveries."""
        self._incarnation = 0
        self.gateways: list[Gateway] = []
        self.gateways = self._make_gateways()
        self.publishers: list[Publisher] = []
        self.publishers.append(Publisher(self, "core", TOPICS, sends_heartbeats=pick.random() < 0.8))
        for name in ["second", "third", "fourth"][: pick.choice([0, 0, 1, 1, 3])]:
            self.publishers.append(Publisher(self, name, TOPICS[1:], sends_heartbeats=pick.random() < 0.7))
        self.clients = [self._make_client(f"c{number}") for number in range(pick.randint(1, 3))]

    def _make_gateways(self) -> list[Gateway]:
        return [Gateway(self, name) for name in "gh"[: self.random.choice([1, 1, 2])]]

    def _make_client(self, name: str) -> Client:
        return Client(self, name)

    def run_due(self) -> None:
        """Run what is due; called after each step."""

    def heal(self) -> None:
        """End all failures."""
        for gateway in self.gateways:
            gateway.loss = gateway.twice = 0.0
        for publisher in self.publishers:
            publisher.mute = False

    def check(self) -> None:
        """Check what only this kind of world guarantees."""

    def end(self) -> None:
        """Release what the world has opened."""

    def next_incarnation(self) -> int:
        self._incarnation += 1
        return self._incarnation

    def say(self, text: str) -> None:
        self.trace.append(text)

    def published(self, topic: str, incarnation: int, number: int) -> None:
        self.truth[topic][incarnation] = number

    def send(self, frames: list[bytes]) -> None:
        """Send a message to each gateway, unless it is lost."""
        for gateway in self.gateways:
            if self.random.random() < gateway.loss:
                continue
            gateway.arriving.append(frames)
            if self.random.random() < gateway.twice:
                gateway.arriving.append(frames)
