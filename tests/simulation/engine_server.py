"""Simulated Redis servers with the engine's data, connections to them, and failures of both."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextvars import Context
from types import SimpleNamespace
from typing import Any

import redis.exceptions as errors

from gateway.cluster import clients, cluster, engine, events, numbering, scripts, sessions
from gateway.cluster.scripts import Script
from gateway.runtime import clock, tasks
from tests.simulation.engine_data import Data, Stale, Stream


_SCRIPTS = {
    found.sha: found.name
    for module in (clients, cluster, engine, events, numbering, scripts, sessions)
    for found in vars(module).values()
    if isinstance(found, Script)
}
_NOT_SIMULATED = {"wildcards", "presence", "admit"}
_BLOCK_SECONDS = 5
_LATE_SHARE = 0.3
"""The share of commands of a gateway that is cut off which arrive once it is connected again."""


class Primary:
    """A Redis process that accepts writes."""

    def __init__(self, number: int, data: Data, *, clock_ms: int = 0) -> None:
        self.number = number
        self.data = data
        self.clock_ms = clock_ms
        """The difference between its clock and that of the first primary."""
        self.up = True


class Server:
    """The engine. `replica` is the data with which a failover would continue.

    An `old` primary may run beside the new one for a while: some gateways still write to it, and it confirms these writes."""

    def __init__(self, pick: random.Random, now: Callable[[], int]) -> None:
        self.live_max, self.inbox_max = pick.choice([3, 10_000]), pick.choice([2, 10_000])
        self.random = pick
        self.now = now
        self.on_numbered: Callable[[str, str, int, bytes, str], object] = lambda *event: None
        self.links: list[Link] = []
        self.primary = Primary(1, self.empty())
        self.old: Primary | None = None
        self.with_old: set[str] = set()
        """The gateways that still use the old primary."""
        self.replica = self.data.copy()
        self.cut_off: set[str] = set()
        """The gateways whose packets do not reach the engine, without an error."""
        self.loss = 0.0
        """The probability that a connection breaks after its commands ran, before the replies arrive."""
        self.delay = 0.0
        """The probability that commands or replies are late."""
        self.connections = 0
        self.partition_ended = asyncio.Event()
        self._processes = 1
        self._epochs = 0

    @property
    def data(self) -> Data:
        return self.primary.data

    @property
    def up(self) -> bool:
        return self.primary.up

    def empty(self) -> Data:
        data = Data()
        data.live_max, data.inbox_max = self.live_max, self.inbox_max
        data.on_append = self._wake
        data.on_numbered = lambda *event: self.on_numbered(*event)
        return data

    def of(self, gateway: str) -> Primary:
        """Return the primary that a gateway uses."""
        return self.old if self.old is not None and gateway in self.with_old else self.primary

    def fail(self) -> None:
        self._end(self.primary)

    def start(self, data: Data) -> None:
        """Replace the primary with a new process that has this data."""
        self.fail()
        self._begin(data)

    def split(self, gateways: set[str]) -> None:
        """Make a replica the primary, and keep the old primary running for some gateways."""
        self.stop_old_primary()
        self.old, self.with_old = self.primary, gateways
        for link in self.links:
            if link.primary is self.old and link.gateway not in gateways:
                link.break_()
        self._begin(self.replica.copy())

    def stop_old_primary(self) -> None:
        """Stop the old primary; the writes that it confirmed since the split are lost."""
        if self.old is not None:
            self._end(self.old)
        self.old = None
        self.with_old.clear()

    def _begin(self, data: Data) -> None:
        self._processes += 1
        self.primary = Primary(self._processes, data, clock_ms=self.random.choice([0, 0, -60_000]))

    def _end(self, primary: Primary) -> None:
        primary.up = False
        for link in self.links:
            if link.primary is primary:
                link.break_()

    def end_partition(self) -> None:
        """Let all gateways reach the engine again; all their connections break."""
        self.cut_off.clear()
        for link in self.links:
            link.break_()
        self.partition_ended.set()
        self.partition_ended = asyncio.Event()

    def flush(self) -> None:
        """Delete all data, without a restart."""
        self.primary.data = self.empty()

    def replicate(self) -> None:
        self.replica = self.data.copy()

    def run(self, link: Link, command: Sequence[Any]) -> Any:
        data = link.primary.data
        data.now_ms = self.now() // 1_000_000
        data.clock_ms = data.now_ms + link.primary.clock_ms
        match command:
            case ["INFO", "server"]:
                return {"run_id": f"process-{link.primary.number}"}
            case ["SCRIPT", "LOAD", _] | ["PING"] | ["CLIENT", "UNBLOCK", _]:
                if command[0] == "CLIENT":
                    self.unblock(int(command[2]))
                return b""
            case ["CLIENT", "ID"]:
                return link.number
            case ["HGET", _, "events"]:
                return b"%d" % data.events if data.events else None
            case ["ZRANGE", _, 0, -1]:
                return [name.encode() for name in data.channels]
            case ["XRANGE", str(key), str(after), "+", *count]:
                stream = data.streams.get(key.partition(":")[2], Stream())
                found = stream.behind(_place(after), count[1] if count else sys.maxsize)
                return [(_id(at), {name.encode(): value for name, value in fields.items()}) for at, fields in found]
            case ["EVALSHA", sha, 1, _, *arguments]:
                return self._script(data, _SCRIPTS[sha], arguments)
            case _:
                return 0  # commands for presence, which is not simulated

    def _script(self, data: Data, name: str, arguments: Sequence[Any]) -> Any:
        if name == "hello":
            self._epochs += 1
            return data.hello(f"{0xE << 60 | self._epochs:016x}", arguments[1]).encode()
        if name in _NOT_SIMULATED:
            return 0
        try:
            return data.run(name, arguments[0], arguments[1], arguments[2:])
        except Stale as error:
            return errors.ResponseError(str(error))

    def read(self, link: Link, names: Sequence[str], places: Sequence[str], most: int) -> list[Any]:
        found: list[Any] = []
        for name, place in zip(names, places, strict=True):
            stream = link.primary.data.streams.get(name.partition(":")[2])
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
    """One connection of a gateway, with the interface of `gateway.cluster.redis_client.Client`.

    Commands under way continue while the gateway is stopped, and after it has given up waiting."""

    def __init__(self, server: Server, gateway: str) -> None:
        self.server = "redis"
        self._server = server
        self.gateway = gateway
        self.primary = server.of(gateway)
        self.is_broken = False
        self.is_closed = False
        self.wake = asyncio.Event()
        self.unblocked = False
        server.links.append(self)
        server.connections += 1
        self.number = server.connections

    def break_(self) -> None:
        self.is_broken = True
        self.wake.set()

    async def send(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        exchange = asyncio.get_running_loop().create_task(self._exchange(commands), context=Context())
        # Retrieves the exception: the gateway may have given up waiting for it.
        exchange.add_done_callback(lambda one: one.cancelled() or one.exception())
        return await asyncio.shield(exchange)

    async def _exchange(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        server = self._server
        await self._travel()
        if self.gateway in server.cut_off:
            await server.partition_ended.wait()
            is_lost = server.random.random() >= _LATE_SHARE
        else:
            is_lost = self.is_broken
        if is_lost or not self.primary.up:
            raise ConnectionError("the connection broke")
        if commands[0][0] == "XREAD":
            return [await self._read(list(commands[0]))]
        replies = [server.run(self, list(command)) for command in commands]
        if server.random.random() < server.loss:
            self.break_()
        await self._come_back()
        return replies

    async def command(self, *command: Any) -> Any:
        [reply] = await self.send([command])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def close(self) -> None:
        self.is_closed = True
        self.wake.set()

    async def _travel(self) -> None:
        server = self._server
        if server.random.random() < server.delay:
            await asyncio.sleep(server.random.choice([0.0, 0.05, 0.4]))

    async def _come_back(self) -> None:
        await self._travel()
        if self.gateway in self._server.cut_off:
            await self._server.partition_ended.wait()
        self._check()

    def _check(self) -> None:
        if self.is_broken or self.is_closed:
            raise ConnectionError("the connection broke")

    async def _read(self, command: list[Any]) -> Any:
        most, blocks, at = command[2], "BLOCK" in command, command.index("STREAMS") + 1
        half = (len(command) - at) // 2
        names, places = command[at : at + half], command[at + half :]
        until = asyncio.get_running_loop().time() + _BLOCK_SECONDS
        while True:
            self.wake.clear()
            await self._come_back()
            found = self._server.read(self, names, places, most)
            if found or not blocks or self.unblocked:
                self.unblocked = False
                return found
            try:
                async with asyncio.timeout_at(until):
                    await self.wake.wait()
            except TimeoutError:
                return []


@contextlib.contextmanager
def simulated(server: Server, now: Callable[[], int]) -> Iterator[None]:
    """Make clusters connect to a simulated server, and use its clock and its random numbers."""
    pick = server.random
    chance = SimpleNamespace(
        token_hex=lambda size: f"{pick.getrandbits(8 * size):0{2 * size}x}",
        randbits=pick.getrandbits,
        randbelow=lambda most: pick.randrange(most),
    )

    async def connect(_address: object, _settings: object, *, name: str) -> Link:
        gateway = name.split(":")[1]
        if gateway in server.cut_off:
            await asyncio.get_running_loop().create_future()  # until the gateway's timeout cancels this
        if not server.of(gateway).up:
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
        (numbering, "log", log),
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
    """Return the entry id after which `XREAD` or `XRANGE` shall begin."""
    time, _, number = text.strip("(").partition("-")
    return int(time or 0), int(number or 0)


def _id(place: tuple[int, int]) -> bytes:
    return b"%d-%d" % place
