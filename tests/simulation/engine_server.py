"""A server with the engine's data, connections to it, and how they fail; and an event loop whose time is the world's."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import redis.exceptions as errors

from gateway.cluster import clients, cluster, engine, events, scripts, sessions
from gateway.cluster.scripts import Script
from gateway.runtime import clock, tasks
from tests.simulation.engine_data import Data, Stale, Stream


_SCRIPTS = {
    found.sha: found.name
    for module in (clients, cluster, engine, events, scripts, sessions)
    for found in vars(module).values()
    if isinstance(found, Script)
}
_ROUNDS_MAX = 10_000
_NOT_SIMULATED = {"wildcards", "presence", "admit"}


class Loop(asyncio.BaseEventLoop):
    """Runs what is due, and returns: time passes only in the world."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, now: Callable[[], int]) -> None:
        super().__init__()
        self._now = now
        self._selector = SimpleNamespace(select=lambda timeout: [])

    def time(self) -> float:
        return self._now() / 1e9

    def run_due(self) -> None:
        rounds = itertools.count()
        while self._ready or (self._scheduled and self._scheduled[0].when() <= self.time()):
            self.call_soon(self.stop)
            self.run_forever()
            assert next(rounds) < _ROUNDS_MAX, "something goes on for ever, in no time"

    def end(self) -> None:
        """Cancel everything."""
        for task in asyncio.all_tasks(self):
            task.cancel()
        self.run_due()
        self.close()

    def _process_events(self, event_list: object) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


class Server:
    """The engine: at most one process runs at a time; `replica` is what a failover would go on with."""

    def __init__(self, pick: random.Random, now: Callable[[], int]) -> None:
        self.live_max, self.inbox_max = pick.choice([3, 10_000]), pick.choice([2, 10_000])
        self.random = pick
        self.now = now
        self.on_numbered: Callable[[str, str, int, bytes], object] = lambda channel, epoch, offset, event: None
        self.data = self.empty()
        self.replica = self.data.copy()
        self.up = True
        self.cut_off: set[str] = set()
        """The gateways that do not reach it, and do not get to know that."""
        self.loss = 0.0
        """How often a connection breaks after what was sent was done."""
        self.delay = 0.0
        """How often something is late."""
        self.process = 1
        self.connections = 0
        self.links: list[Link] = []
        self._epochs = 0
        self._clock_ms = 0
        """How far the clock of this process is from the one before."""

    def empty(self) -> Data:
        data = Data()
        data.live_max, data.inbox_max = self.live_max, self.inbox_max
        data.on_append = self._wake
        data.on_numbered = lambda *event: self.on_numbered(*event)
        return data

    def fail(self) -> None:
        self.up = False
        for link in self.links:
            link.break_()
        self.links.clear()

    def start(self, data: Data) -> None:
        """Run a new process, with this data."""
        self.fail()
        self.up = True
        self.process += 1
        self.data = data
        self._clock_ms = self.random.choice([0, 0, -60_000])

    def lose_requests(self) -> None:
        """Break the connections on which something was not answered."""
        for link in self.links:
            link.break_()

    def flush(self) -> None:
        """Lose all data, and go on."""
        self.data = self.empty()

    def replicate(self) -> None:
        self.replica = self.data.copy()

    def run(self, link: Link, command: Sequence[Any]) -> Any:
        self.data.now_ms = self.now() // 1_000_000
        self.data.clock_ms = self.data.now_ms + self._clock_ms
        match command:
            case ["INFO", "server"]:
                return {"run_id": f"process-{self.process}"}
            case ["SCRIPT", "LOAD", _] | ["PING"] | ["CLIENT", "UNBLOCK", _]:
                if command[0] == "CLIENT":
                    self.unblock(int(command[2]))
                return b""
            case ["CLIENT", "ID"]:
                return link.number
            case ["HGET", _, "events"]:
                return b"%d" % self.data.events if self.data.events else None
            case ["ZRANGE", _, 0, -1]:
                return [name.encode() for name in self.data.channels]
            case ["XRANGE", str(key), str(after), "+", *count]:
                stream = self.data.streams.get(key.partition(":")[2], Stream())
                found = stream.behind(_place(after), count[1] if count else sys.maxsize)
                return [(_id(at), {name.encode(): value for name, value in fields.items()}) for at, fields in found]
            case ["EVALSHA", sha, 1, _, *arguments]:
                return self._script(_SCRIPTS[sha], arguments)
            case _:
                return 0  # what keeps presence

    def _script(self, name: str, arguments: Sequence[Any]) -> Any:
        if name == "hello":
            self._epochs += 1
            return self.data.hello(f"{0xE << 60 | self._epochs:016x}", arguments[1]).encode()
        if name in _NOT_SIMULATED:
            return 0
        try:
            return self.data.run(name, arguments[0], arguments[1], arguments[2:])
        except Stale as error:
            return errors.ResponseError(str(error))

    def read(self, names: Sequence[str], places: Sequence[str], most: int) -> list[Any]:
        found: list[Any] = []
        for name, place in zip(names, places, strict=True):
            stream = self.data.streams.get(name.partition(":")[2])
            if stream is not None and (entries := stream.behind(_place(place), most)):
                dicts = [(_id(at), {key.encode(): value for key, value in fields.items()}) for at, fields in entries]
                found.append([name.encode(), dicts])
        return found

    def _wake(self, _key: str) -> None:
        for link in self.links:
            link.wake.set()

    def unblock(self, number: int) -> None:
        for link in self.links:
            if link.number == number:
                link.unblocked = True
                link.wake.set()


class Link:
    """One connection of a gateway, as `gateway.cluster.redis_client.Client`."""

    def __init__(self, server: Server, gateway: str) -> None:
        self.server = "redis"
        self._server = server
        self._gateway = gateway
        self._broken = asyncio.get_running_loop().create_future()
        self.wake = asyncio.Event()
        self.unblocked = False
        server.links.append(self)
        server.connections += 1
        self.number = server.connections

    @property
    def is_broken(self) -> bool:
        return self._broken.done()

    def break_(self) -> None:
        if not self._broken.done():
            self._broken.set_result(None)
        self.wake.set()

    async def send(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        await self._travel()
        if commands[0][0] == "XREAD":
            return [await self._read(list(commands[0]))]
        replies = [self._server.run(self, list(command)) for command in commands]
        if self._server.random.random() < self._server.loss:
            self.break_()
        await self._travel()
        return replies

    async def command(self, *command: Any) -> Any:
        [reply] = await self.send([command])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def close(self) -> None:
        self.break_()

    async def _travel(self) -> None:
        server = self._server
        if server.random.random() < server.delay:
            await asyncio.sleep(server.random.choice([0.0, 0.05, 0.4]))
        if self._gateway in server.cut_off:
            await asyncio.get_running_loop().create_future()  # until it is given up
        if self._broken.done():
            raise ConnectionError("the connection broke")

    async def _read(self, command: list[Any]) -> Any:
        most, blocks, at = command[2], "BLOCK" in command, command.index("STREAMS") + 1
        half = (len(command) - at) // 2
        names, places = command[at : at + half], command[at + half :]
        while True:
            self.wake.clear()
            await self._travel()
            found = self._server.read(names, places, most)
            if found or not blocks or self.unblocked:
                self.unblocked = False
                return found
            try:
                async with asyncio.timeout(5):
                    await self.wake.wait()
            except TimeoutError:
                return []


@contextlib.contextmanager
def simulated(server: Server, now: Callable[[], int]) -> Iterator[None]:
    """Let clusters connect to a server of the simulation, whose clock and chance they have."""
    pick = server.random
    chance = SimpleNamespace(
        token_hex=lambda size: f"{pick.getrandbits(8 * size):0{2 * size}x}",
        randbits=pick.getrandbits,
        randbelow=lambda most: pick.randrange(most),
    )

    async def connect(_address: object, _settings: object, *, name: str) -> Link:
        gateway = name.split(":")[1]
        if gateway in server.cut_off:
            await asyncio.get_running_loop().create_future()
        if not server.up:
            raise ConnectionError("nobody listens")
        return Link(server, gateway)

    def fail(event: str, **fields: object) -> None:
        raise AssertionError(event) from sys.exception()

    nothing = lambda event, **fields: None  # noqa: E731
    log = SimpleNamespace(info=nothing, warning=nothing, exception=fail)
    replaced: list[tuple[Any, str, object]] = [
        (engine, "connect", connect),
        (engine, "secrets", chance),
        (engine, "log", log),
        (sessions, "log", log),
        (events, "log", log),
        (cluster, "log", log),
        (tasks, "log", log),
        (cluster, "secrets", chance),
        (events, "secrets", chance),
        (clock, "now_ns", now),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    try:
        for owner, name, value in replaced:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def _place(text: str) -> tuple[int, int]:
    """Return the place that `XREAD` or `XRANGE` names as the one to begin behind."""
    time, _, number = text.strip("(").partition("-")
    return int(time or 0), int(number or 0)


def _id(place: tuple[int, int]) -> bytes:
    return b"%d-%d" % place
