"""The Redis or Valkey that the gateways of a cluster share: commands, streams to follow, and whether it is available.

    down  it cannot be reached, refuses writes, or does not answer in time: commands fail at once
    up    commands are sent, and streams are followed

The engine is down until `start` has connected. When it fails, both connections are closed, all commands under
way fail, and it is connected again after a delay (`Backoff`). Nothing is sent twice: a command that fails
with `sent` may have been done.

**Epoch.** The engine's data is of an epoch. A new one begins if the data is gone, or another server process has
it: after a restart or a failover, writes that were confirmed may be lost. A script with an older epoch does
nothing, and fails."""

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from gateway.cluster.redis_client import FAILURES, Argument, Client, Reply, address_of, connect, described, is_failure
from gateway.cluster.scripts import HELLO, Script
from gateway.config.model import Cluster
from gateway.core.cluster.backoff import Backoff
from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.runtime.logs import logger
from gateway.runtime.tasks import answer_timeout


log = logger("gateway.cluster")

StreamEntry = tuple[str, Mapping[str, bytes]]
"""The id of an entry and its fields."""

_WAITING_MAX = 20_000
"""Commands that wait to be sent; a gateway with so many more clients than its engine answers refuses requests."""
_TOGETHER_MAX = 500
_ENTRIES_MAX = 500
_IDLE_SECONDS = 2.0
"""Without commands, the engine is asked in this interval whether it is there."""
_FOLLOW_SECONDS = 5.0
"""How long one request for entries waits for some."""
_BEGINNING = "0-0"


class EngineUnavailable(RequestError):
    """The engine cannot be used now. If `sent`, the command may have been done."""

    def __init__(self, problem: str, *, sent: bool = False) -> None:
        what = "the cluster's engine (cluster.url) has not confirmed it" if sent else "the cluster's engine is down"
        super().__init__(ErrorCode.UNAVAILABLE, f"{what}: {problem}")
        self.sent = sent


class EngineError(RequestError):
    """The engine has refused a command that is wrong: a mistake of this gateway, or of whoever else uses its keys."""

    def __init__(self, problem: str) -> None:
        super().__init__(ErrorCode.INTERNAL, f"the cluster's engine (cluster.url) refuses a command: {problem}")


@dataclass(slots=True)
class _Command:
    arguments: Sequence[Argument]
    reply: asyncio.Future[Reply]


@dataclass(slots=True)
class _Stream:
    after: str
    on_entries: Callable[[list[StreamEntry]], object]


class Engine:
    """Needs a running event loop. Raises ConfigError: the file with the password cannot be read.

    `gateway` is an id of this process that no other one has."""

    def __init__(self, settings: Cluster, *, gateway: str) -> None:
        self.address = address_of(settings)
        self.gateway = gateway
        self.epoch = 0
        """The epoch of the data, as `Event.incarnation`; 0 before the first connection."""
        self.problem = "not connected yet"
        """Why the engine is down; empty if it is up."""
        self.advice = ""
        """What to do about it."""
        self.failures = 0
        """How often it went down."""
        self.commands = 0
        """How many commands were sent."""
        self.on_up: list[Callable[[bool], object]] = []
        """Called when the engine is up, with whether its epoch is another one than before."""
        self.on_down: list[Callable[[], object]] = []
        self._settings = settings
        self._key = f"{settings.prefix}:engine"
        self._scripts: dict[str, Script] = {}
        self._waiting: deque[_Command] = deque()
        self._sent: list[_Command] = []
        self._wake = asyncio.Event()
        self._streams: dict[str, _Stream] = {}
        self._follower_id: Reply = None
        self._streams_changed = asyncio.Event()
        self.settled = asyncio.Event()
        """Set once what the streams held at the first connection was read, or the first attempt has failed."""
        self._has_caught_up = False
        self._task: asyncio.Task[None] | None = None
        self._reported = ""

    @property
    def up(self) -> bool:
        return not self.problem

    def key(self, *parts: str) -> str:
        """Return the name of a key of this cluster."""
        return ":".join((self._settings.prefix, *parts))

    async def keep(self, wake: asyncio.Event, act: Callable[[], Awaitable[None]]) -> None:
        """Await `act` each time that `wake` is set while the engine is up; if it fails, `wake` is set with `on_up`."""
        while True:
            await wake.wait()
            wake.clear()
            with contextlib.suppress(RequestError):
                if self.up:
                    await act()

    def start(self) -> None:
        """Connect, and stay connected, in the background."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._go_down("the gateway stops", "")

    # -- commands ------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises EngineUnavailable: the engine is down."""
        if self.problem:
            raise EngineUnavailable(self.problem)

    def run(self, script: Script, *arguments: Argument) -> asyncio.Future[Reply]:
        """Run a script: all of it, or nothing. Scripts are run in the order of the calls.
        Raises EngineUnavailable, EngineError."""
        if script.sha not in self._scripts:
            self.command("SCRIPT", "LOAD", script.text).add_done_callback(_ignore_failure)  # that of the script says it
            self._scripts[script.sha] = script
        return self.command("EVALSHA", script.sha, 1, self._key, f"{self.epoch:016x}", self.gateway, *arguments)

    def command(self, *arguments: Argument) -> asyncio.Future[Reply]:
        """Send a command; commands that collect meanwhile are sent together, in order.
        Raises EngineUnavailable, EngineError."""
        self.check()
        if len(self._waiting) >= _WAITING_MAX:
            raise EngineUnavailable(f"{_WAITING_MAX} commands wait already")
        command = _Command(arguments, asyncio.get_running_loop().create_future())
        self._waiting.append(command)
        self._wake.set()
        return command.reply

    async def _send_commands(self, client: Client) -> None:
        """Send what waits, for as long as the engine answers. Raises `FAILURES`."""
        while True:
            if not self._waiting:
                self._wake.clear()
                try:
                    async with asyncio.timeout(_IDLE_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    async with answer_timeout(self._settings.timeout_seconds):
                        await client.command("PING")
                continue
            taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), _TOGETHER_MAX))]
            self._sent = taken
            async with answer_timeout(self._settings.timeout_seconds):
                replies = await client.send([one.arguments for one in taken])
            self._sent = []
            self.commands += len(taken)
            failure = None
            for one, reply in zip(taken, replies, strict=True):
                if one.reply.done():  # whoever asked was cancelled
                    continue
                if not isinstance(reply, Exception):
                    one.reply.set_result(reply)
                elif is_failure(reply):
                    failure = reply
                    # It was answered: it has not been done.
                    one.reply.set_exception(EngineUnavailable(described(reply, self.address)[0]))
                else:
                    one.reply.set_exception(EngineError(str(reply)))
            if failure is not None:
                raise failure

    # -- streams -------------------------------------------------------------------------------

    def follow(self, key: str, on_entries: Callable[[list[StreamEntry]], object], *, after: str = _BEGINNING) -> None:
        """Call `on_entries` with the entries of a stream behind an id, as they come.

        If the epoch changes, they come again from the oldest one: the ids of the new ones may be lower."""
        self._streams[key] = _Stream(after, on_entries)
        self._streams_changed.set()

    async def _follow(self, client: Client) -> None:
        """Read the streams, for as long as the engine answers. Raises `FAILURES`."""
        while True:
            self._streams_changed.clear()
            if not self._streams:
                await self._streams_changed.wait()
                continue
            names = list(self._streams)
            places = [self._streams[name].after for name in names]
            # Once without waiting, to know when all that there was is read.
            wait = ("BLOCK", round(_FOLLOW_SECONDS * 1000)) if self._has_caught_up else ()
            async with answer_timeout(_FOLLOW_SECONDS + self._settings.timeout_seconds):
                found = await client.command("XREAD", "COUNT", _ENTRIES_MAX, *wait, "STREAMS", *names, *places)
            if not found:
                self._has_caught_up = True
                self.settled.set()
            for name, entries in _streams_of(found):
                if not entries:
                    continue
                stream = self._streams[name]
                stream.after = entries[-1][0]
                try:
                    stream.on_entries(entries)
                except Exception:  # one stream must not cost the others their entries
                    log.exception("cluster_entries_failed", stream=name)

    async def _interrupt_follower(self) -> None:
        """Let the request for entries end when other streams are to be followed."""
        while True:
            await self._streams_changed.wait()
            await self.command("CLIENT", "UNBLOCK", str(self._follower_id))
            # The follower may not have begun to wait yet: once more, until it has seen the change.
            await asyncio.sleep(0.02)

    # -- up and down ---------------------------------------------------------------------------

    async def _run(self) -> None:
        backoff = Backoff()
        while True:
            clients: list[Client] = []
            try:
                changed = await self.connect(clients)
                backoff.reset()
                self._go_up(clients[0].server, changed=changed)
                await _until_one_fails(
                    self._send_commands(clients[0]), self._follow(clients[1]), self._interrupt_follower()
                )
            except (*FAILURES, EngineUnavailable) as error:
                self._fail(error)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.exception("cluster_failed")
                self._fail(error)
            finally:
                for client in clients:
                    await client.close()
            await asyncio.sleep(backoff.next_seconds(secrets.randbelow(1000) / 1000))

    async def connect(self, clients: list[Client]) -> bool:
        """Open both connections, and add them to `clients`; return whether the epoch is another one than before."""
        async with answer_timeout(self._settings.timeout_seconds * (1 + len(self.address.servers))):
            for use in ("commands", "streams"):
                name = f"{self._settings.prefix}:{self.gateway}:{use}"
                clients.append(await connect(self.address, self._settings, name=name))
            commands, streams = clients
            server = _run_id(await commands.command("INFO", "server"))
            replies = await commands.send([("SCRIPT", "LOAD", one.text) for one in (HELLO, *self._scripts.values())])
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
            found = await commands.command("EVALSHA", HELLO.sha, 1, self._key, f"{secrets.randbits(64):016x}", server)
            self._follower_id = await streams.command("CLIENT", "ID")
        assert isinstance(found, bytes)
        epoch = int(found, 16)
        changed = epoch != self.epoch
        if changed and self.epoch:
            for stream in self._streams.values():
                stream.after = _BEGINNING
        self.epoch = epoch
        return changed

    @contextlib.asynccontextmanager
    async def visit(self) -> AsyncIterator[Client]:
        """Connect once, as `start` would, and close the connections at the end. Raises `FAILURES`."""
        clients: list[Client] = []
        try:
            await self.connect(clients)
            yield clients[0]
        finally:
            for one in clients:
                await one.close()

    def _go_up(self, server: str, *, changed: bool) -> None:
        self.problem = self.advice = self._reported = ""
        log.info("cluster_available", server=server, epoch=f"{self.epoch:016x}")
        for call in self.on_up:
            call(changed)

    def _fail(self, error: Exception) -> None:
        problem, advice = described(error, self.address)
        if not self._reported:  # once, whatever else fails before it is up again
            log.warning("cluster_unavailable", problem=problem, advice=advice)
            self.failures += 1
        self._reported = problem
        self.settled.set()
        self._go_down(problem, advice)

    def _go_down(self, problem: str, advice: str) -> None:
        was_up = self.up
        self.problem, self.advice = problem, advice
        for sent, commands in ((True, self._sent), (False, self._waiting)):
            for one in commands:
                if not one.reply.done():
                    one.reply.set_exception(EngineUnavailable(problem, sent=sent))
                    one.reply.exception()  # nobody may wait for it
        self._sent = []
        self._waiting.clear()
        if was_up:
            for call in self.on_down:
                call()


async def _until_one_fails(*coroutines: Awaitable[None]) -> None:
    """Run coroutines that do not end until one fails; raise its error, after all have ended."""
    tasks = [asyncio.ensure_future(one) for one in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:  # in this order, if several have failed: a set has none
        if task in done:
            await task


def _ignore_failure(reply: asyncio.Future[Reply]) -> None:
    if not reply.cancelled():
        reply.exception()


def _run_id(info: Reply) -> str:
    """Return the id of a server process, which a restarted one does not have."""
    found = info.get("run_id", "") if isinstance(info, dict) else ""
    return str(found)


def _streams_of(reply: Reply) -> list[tuple[str, list[StreamEntry]]]:
    found: list[tuple[str, list[StreamEntry]]] = []
    for name, entries in reply if isinstance(reply, list) else []:
        read: list[StreamEntry] = [
            (id_.decode(), {key.decode(): value for key, value in fields.items()}) for id_, fields in entries
        ]
        found.append((name.decode(), read))
    return found


async def probe(settings: Cluster) -> tuple[str, str] | None:
    """Connect once; return what is wrong and what to do, or None if the engine can be used.
    Raises ConfigError: the file with the password cannot be read."""
    engine = Engine(settings, gateway="check")
    try:
        async with engine.visit() as client:
            return _evicts(engine, await client.command("INFO", "memory"))
    except FAILURES as error:
        return described(error, engine.address)


def _evicts(engine: Engine, memory: Reply) -> tuple[str, str] | None:
    """Return what is wrong with a server that removes data silently when it is full, and what to do."""
    found = memory if isinstance(memory, dict) else {}
    policy = found.get("maxmemory_policy", "noeviction")
    if policy == "noeviction" or not found.get("maxmemory"):
        return None
    problem = f"{engine.address} evicts keys silently when it is full (maxmemory-policy is {policy})"
    return problem, "set it to noeviction: a full server then refuses writes, which is reported"
