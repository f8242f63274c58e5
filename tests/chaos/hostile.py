"""Hostile publishers and clients that send invalid or costly input, while the deliveries to other clients are checked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from urllib.parse import quote

import psutil
import zmq

from tests.chaos.latency import Latency, measured
from tests.chaos.publisher import TOPICS
from tests.chaos.stage import Stage
from tests.chaos.usage import Usage, lowest_priority, spinning
from tests.support.publisher import envelope
from tests.support.raw import BINARY, CONTINUATION, PING, PONG, TEXT, Ended, RawPeer, encode_frame
from tests.support.waiting import DEADLINE_SECONDS, eventually, scaled


Message = tuple[bytes, ...]

AGAIN_SECONDS = 0.05
_CONNECT_AGAIN_SECONDS = 5.0
NUMBERS = [b"1e999", b"-1e999", b"1" * 5_000, b"9" * 400, b"1e-9999", b"18446744073709551616", b"NaN", b"Infinity"]
RUBBISH = [b"", b"\xff\xfe", b"{", b"]", b'"', b'{"a":1,"a":2', b"\x00" * 40, b'"\\ud800"', b"nul", b"[" * 200_000]
INTERVALS = [1e-9, 0, -1, 3600, 1e300, True, "1", None]
SEQUENCES = [2**70, 2**63, -1, 1.5, "7", None, [], 2**53]
NAMES = ["$everyone", "$personal", "*", ">", "a..b", "", "\x07", "ü", "x" * 5_000, "strange.1", "strange.2"]
HISTORY_BYTES_MAX = 128 * 1024 * 1024
SETTINGS: dict[str, object] = {
    "channels.keyed.key": "data.k",
    "clients.compression_bytes_min": 1_024,
    "history.total_bytes_max": HISTORY_BYTES_MAX,
}
"""The features that the attacks aim at must be enabled; the limit on histories bounds the memory that the test allows."""
HTTP_BYTES_MAX = 40 * 1024 * 1024
"""The sum of the defaults of `http.bodies_bytes_max` and `http.answers_bytes_max`."""
OTHER_BYTES_MAX = 128 * 1024 * 1024
"""For 10,000 channels of 3 KB, 100,000 of their publishers of 0.4 KB, and what the allocator keeps."""
WORST_FILTER = " || ".join(f"data.x.contains('{n:x}{n:x}y')" for n in range(24))


class Hostile:
    """Runs attacks of every kind at the same time; `done` counts them by kind."""

    def __init__(
        self,
        stage: Stage,
        seed: int,
        *,
        say: Callable[[str], object] = print,
        only: str | None = None,
        pause: float = AGAIN_SECONDS,
        compares: bool = False,
    ) -> None:
        """Each kind of attack is repeated after about `pause` seconds; with `only`, just the kind of this method's name.

        With `compares`, this process runs at the lowest priority, so that the gateway alone causes the latencies of
        events; before the attacks, processes that only use CPU run at that priority, for comparison."""
        self.stage = stage
        self.random = random.Random(seed)
        self._only = only
        self._pause = pause
        self._compares = compares
        self.done: Counter[str] = Counter()
        self.bytes_before = self.bytes_max = 0
        """The memory of all processes of the gateway, before the attacks and at most during them."""
        self.quiet, self.loud = Latency(), Latency()
        """The latency of events at another client, before and during the attacks."""
        self.quiet_usage, self.loud_usage = Usage(1.0), Usage(1.0)
        """The gateway's CPU usage before and during the attacks."""
        self._say = say
        self._context = zmq.Context[zmq.Socket[bytes]]()

    async def run(self, seconds: float) -> None:
        """Measure without attacks for a fifth of the time, then repeat all kinds of attacks at the same time."""
        acts: tuple[Callable[[], Awaitable[None]], ...] = (
            *(self.bad_events, self.deep_events, self.lying_heartbeats, self.many_topics, self.wrong_kinds),
            *(self.many_keys, self.idle_connections, self.vanish_full, self.vanish_subscribing, self.fragments),
            *(self.pongs, self.invented_names, self.worst_filters, self.bad_publishes, self.bad_messagepack),
            *(self.event_streams, self.history_floods, self.bodies),
        )
        if self._only is not None:
            acts = (getattr(self, self._only),)
        async with measured(self.stage.gateway.url) as latency:
            with lowest_priority() if self._compares else contextlib.nullcontext():
                with spinning() if self._compares else contextlib.nullcontext():
                    usage = Usage.of(self.processes())
                    await asyncio.sleep(seconds / 5)  # the time measured without attacks
                    self.quiet_usage = Usage.of(self.processes()) - usage
                self.quiet = await latency.take()
                self.bytes_before = self.memory()
                usage = Usage.of(self.processes())
                ends = time.monotonic() + seconds
                await asyncio.gather(self._watch(ends), *(self._repeat(act, ends) for act in acts))
                self.loud_usage = Usage.of(self.processes()) - usage
                self.loud = await latency.take()
        self._context.destroy(linger=0)

    @property
    def figures(self) -> dict[str, float]:
        """The figures that are printed at the end."""
        quiet, loud = self.quiet_usage, self.loud_usage
        more = max(loud.worked - quiet.worked / quiet.seconds * loud.seconds, 0)
        return {
            "MB before": self.bytes_before / 1e6,
            "MB maximum": self.bytes_max / 1e6,
            "MB allowed": self.bytes_allowed / 1e6,
            "workers lost": self.workers_lost,
            "ms median before": self.quiet.median,
            "ms median during attacks": self.loud.median,
            "ms p99 before": self.quiet.p99,
            "ms p99 during attacks": self.loud.p99,
            "p99 during attacks / before": self.loud.p99 / max(self.quiet.p99, 1e-3),
            "% of a CPU before": 100 * quiet.worked / quiet.seconds,
            "% of a CPU during attacks": 100 * loud.worked / loud.seconds,
            "% waiting for a CPU before": 100 * quiet.waited / quiet.seconds,
            "% waiting for a CPU, attacked": 100 * loud.waited / loud.seconds,
            "attacks per second": self.done.total() / max(loud.seconds, 1e-3),
            "CPU ms per attack": 1000 * more / max(self.done.total(), 1),
        }

    @property
    def workers_lost(self) -> int:
        return sum(record["message"] == "worker_lost" for record in self.stage.gateway.records)

    @property
    def bytes_allowed(self) -> int:
        """The memory that all processes of the gateway may use: what they used before, and for each process its limits on
        histories and on HTTP, and what channels, their publishers and sockets take beside them (docs/size.md)."""
        processes = max(len(self.processes()), 1)
        return self.bytes_before + processes * (HISTORY_BYTES_MAX + HTTP_BYTES_MAX + OTHER_BYTES_MAX)

    async def _repeat(self, act: Callable[[], Awaitable[None]], ends: float) -> None:
        while time.monotonic() < ends:
            with contextlib.suppress(OSError, Ended, TimeoutError):  # the gateway may refuse or close the connection
                await act()
            self.done[act.__name__] += 1
            await asyncio.sleep(self.random.uniform(0, 2 * self._pause))

    async def _watch(self, ends: float) -> None:
        reported_at = time.monotonic()
        while time.monotonic() < ends:
            self.bytes_max = max(self.bytes_max, self.memory())
            if time.monotonic() > reported_at + 5:
                reported_at = time.monotonic()
                left, faults = ends - reported_at, self.stage.faults()[:1]
                self._say(f"{left:4.0f} s left, {self.stage.delivered():,} delivered, wrong deliveries: {faults}")
            await asyncio.sleep(0.25)

    def memory(self) -> int:
        """Return the resident memory of all processes of the gateway, in bytes."""
        found = 0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                found += process.memory_info().rss
        return found

    def processes(self) -> list[psutil.Process]:
        """Return the gateway's process and those of its workers."""
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.stage.gateway.process.pid)
            return [parent, *parent.children()]
        return []

    # -- on the bus ----------------------------------------------------------------------------

    async def bad_events(self) -> None:
        await self._publish((topic, b'{"data":%b}' % number) for topic in self._topics() for number in NUMBERS)
        await self._publish((topic, rubbish) for topic in self._topics() for rubbish in RUBBISH)
        odd = [
            (b"x",),
            (b"",),
            (b"a", b"1", b"short"),
            (b"a", b"1", envelope(7, 0)),
            (b"a",) * 9,
            (b"big", b"9" * 2_000_000),
        ]
        await self._publish(iter(odd))

    async def deep_events(self) -> None:
        depth = self.random.choice([100, 128, 129, 900, 975, 5_000])
        await self._publish((b"deep.%d" % nth, b'{"data":' + b"[" * depth + b"]" * depth + b"}") for nth in range(10))

    async def lying_heartbeats(self) -> None:
        def lies() -> Iterator[Message]:
            for _ in range(100):
                beat = {
                    "incarnation": self.random.choice([f"{self.random.getrandbits(64):016x}", "0" * 16, "zz", 7]),
                    "interval": self.random.choice(INTERVALS),
                    "sequences": {self.random.choice(NAMES): self.random.choice(SEQUENCES) for _ in range(5)},
                    "replay": self.random.choice(["tcp://127.0.0.1:9", "nonsense", "", None, "ipc:///x" * 100]),
                }
                yield b"$heartbeat", json.dumps(beat).encode()

        await self._publish(lies())

    async def many_topics(self) -> None:
        """Publish numbered events on new topics, more than the limit on channels allows."""
        incarnation, first = self.random.getrandbits(63), self.random.randrange(20_000)
        await self._publish(
            (b"many.%d" % nth, b"1", envelope(incarnation, self.random.randrange(1, 5)))
            for nth in range(first, first + 1_000)
        )

    async def many_keys(self) -> None:
        """Publish more keys than a channel may keep, sometimes with large values."""
        size = self.random.choice([10, 10_000, 100_000])
        first, count = self.random.randrange(20_000), 2_000 if size < 10_000 else 10
        await self._publish(
            (b"keyed", b'{"data":{"k":%d,"x":"%b"}}' % (nth, b"x" * size)) for nth in range(first, first + count)
        )

    async def wrong_kinds(self) -> None:
        endpoint = f"tcp://127.0.0.1:{self.stage.bus_port}"
        kind = self.random.choice([zmq.PUSH, zmq.ROUTER, zmq.REQ, zmq.DEALER, zmq.SUB, zmq.PAIR])
        with self._context.socket(kind) as wrong:
            wrong.linger = 0
            wrong.connect(endpoint)
            await asyncio.sleep(AGAIN_SECONDS)
        with socket.create_connection(("127.0.0.1", self.stage.bus_port)) as web:
            web.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            await asyncio.sleep(AGAIN_SECONDS)

    async def idle_connections(self) -> None:
        """Open connections to the bus and to the HTTP port that send nothing."""
        with contextlib.ExitStack() as stack:
            for port in [self.stage.bus_port, self.stage.http_port] * 20:
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            await asyncio.sleep(0.5)

    def _topics(self) -> list[bytes]:
        return [b"strange.%d" % self.random.randrange(10), b"metrics"]

    async def _publish(self, messages: Iterator[Message]) -> None:
        with self._context.socket(zmq.XPUB) as publisher:
            publisher.linger, publisher.sndhwm = 0, 10_000
            await self._connect(publisher)
            for nth, message in enumerate(messages):
                publisher.send_multipart(message, zmq.NOBLOCK)
                if nth % 100 == 99:
                    await asyncio.sleep(0.005)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _connect(self, publisher: zmq.Socket[bytes]) -> None:
        """Connect, and wait until the gateway subscribes.

        libzmq does not reconnect after a handshake that the peer broke off, as a gateway does that replaces its socket on
        a busy machine."""
        endpoint, ends = f"tcp://127.0.0.1:{self.stage.bus_port}", time.monotonic() + scaled(DEADLINE_SECONDS)
        while True:
            publisher.connect(endpoint)
            left = min(_CONNECT_AGAIN_SECONDS, ends - time.monotonic())
            try:
                await eventually(lambda: publisher.poll(0), within=max(left, 0), saying="the gateway subscribes")
                return
            except AssertionError:
                if left < _CONNECT_AGAIN_SECONDS:
                    raise
            publisher.disconnect(endpoint)

    # -- as clients ----------------------------------------------------------------------------

    async def vanish_full(self) -> None:
        """Fill the socket, send three pings in one segment, and reset the connection."""
        async with self._peer(f"/ws?channels={','.join(TOPICS)}&last=1000", receive_buffer=2_048) as peer:
            await asyncio.sleep(AGAIN_SECONDS)
            await peer.send_bytes(b"".join(encode_frame(PING, b"%d" % nth) for nth in range(3)))
            await peer.send_json({"type": "ping"})

    async def vanish_subscribing(self) -> None:
        async with self._peer("/ws") as peer:
            await peer.send_json({"type": "subscribe", "channels": [*TOPICS, "robots.*", ">"]})

    async def fragments(self) -> None:
        async with self._peer("/ws") as peer:
            await peer.send_bytes(encode_frame(TEXT, b" ", fin=False))
            for _ in range(40):
                await peer.send_bytes(encode_frame(CONTINUATION, b" ", fin=False) * 500)

    async def pongs(self) -> None:
        async with self._peer("/ws") as peer:
            for _ in range(40):
                await peer.send_bytes(encode_frame(PONG) * 500)

    async def invented_names(self) -> None:
        """Subscribe with positions to channels that do not exist."""
        async with self._peer("/ws") as peer:
            for _ in range(5):
                names = [f"invented.{self.random.getrandbits(60):x}" for _ in range(100)]
                since = {name: {"epoch": "0" * 16, "offset": self.random.getrandbits(52)} for name in names}
                await peer.send_json({"type": "subscribe", "channels": names, "since": since})
            await asyncio.sleep(AGAIN_SECONDS)

    async def worst_filters(self) -> None:
        query = quote(f"{WORST_FILTER} || data.n == {self.random.randrange(10_000)}")
        async with self._peer(f"/ws?channels={TOPICS[0]}&last=200&filter={query}"):
            await asyncio.sleep(0.3)

    async def bad_publishes(self) -> None:
        """Publish invalid events as a client."""
        async with self._peer("/ws") as peer:
            for number in NUMBERS:
                message = b'{"type":"publish","channel":"strange.1","event":{"data":%b},"idempotency_key":"k"}'
                await peer.send_frame(TEXT, message % number[:60_000])
            await peer.send_frame(TEXT, b'{"type":"publish","channel":"strange.1","event":' + b"[" * 60_000)

    async def bad_messagepack(self) -> None:
        async with self._peer("/ws?encoding=msgpack") as peer:
            for data in (b"\x91" * 60_000, b"\xdf\xff\xff\xff\xff", b"\xc1", self.random.randbytes(1_000)):
                await peer.send_frame(BINARY, data)
            await asyncio.sleep(AGAIN_SECONDS)

    async def event_streams(self) -> None:
        """Open event streams, and do not read them."""
        head = f"GET /events?channels={','.join(TOPICS)}&last=1000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        await self._requests([head.encode()] * 4)

    async def history_floods(self) -> None:
        head = f"GET /api/v1/websocket/channels/{TOPICS[0]}/events?limit=10000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        await self._requests([head.encode()] * 30 + [b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"] * 5)

    async def bodies(self) -> None:
        head = b"POST /api/v1/websocket/broadcast HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n"
        await self._requests([head + b"x" * 900_000] * 10)

    async def _requests(self, requests: list[bytes]) -> None:
        """Send each request on its own connection, and do not read the answers."""
        peers: list[RawPeer] = []
        try:
            for request in requests:
                peers.append(RawPeer(self.stage.http_port, receive_buffer=4_096))
                await peers[-1].send_bytes(request)
            await asyncio.sleep(0.3)
        finally:
            for peer in peers:
                _reset(peer)

    @contextlib.asynccontextmanager
    async def _peer(self, path: str, *, receive_buffer: int = 0) -> AsyncIterator[RawPeer]:
        """Connect a WebSocket client whose connection ends with a reset."""
        peer = RawPeer(self.stage.http_port, receive_buffer=receive_buffer)
        try:
            await peer.upgrade(path)
            yield peer
        finally:
            _reset(peer)


def _reset(peer: RawPeer) -> None:
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
