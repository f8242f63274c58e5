"""The metrics of several processes as those of one gateway."""

import asyncio
import shutil
import socket
import tempfile
from collections import defaultdict, deque
from collections.abc import Iterable
from pathlib import Path

from aiohttp import web

from gateway.config.model import Config
from gateway.core.log.epochs import EpochTable
from gateway.core.log.log import Entry
from gateway.core.protocol.messages import BusState
from gateway.logs import logger
from gateway.metrics import MOSTS, Extra, Key
from gateway.runtime import Tasks
from gateway.web.context import Context
from gateway.web.sockets.listener import Listener
from gateway.workers import messages
from gateway.workers.child import Child
from gateway.workers.clients import Clients
from gateway.workers.pipe import UNREAD_BYTES_MAX, framed
from gateway.workers.proxy import forwarded


class MetricsSum:
    """Adds up what the workers report; what one has counted stays counted when it is gone."""

    def __init__(self) -> None:
        self._gone: defaultdict[Key, float] = defaultdict(float)

    def retire(self, child: Child) -> None:
        """Keep the counts of a worker that has ended, as it last reported them."""
        for key, value in _samples(child):
            if key[1].endswith(("_total", "_bucket", "_sum", "_count")):
                self._gone[key] += value

    def of(self, children: Iterable[Child]) -> Extra:
        """Return what all workers come to, by metric."""
        sums = self._gone.copy()
        for child in children:
            for key, value in _samples(child):
                sums[key] = max(sums[key], value) if key[0] in MOSTS else sums[key] + value
        extra: defaultdict[str, dict[Key, float]] = defaultdict(dict)
        for key, value in sums.items():
            extra[key[0]][key] = value
        return extra


def _samples(child: Child) -> Iterable[tuple[Key, float]]:
    if child.report is None:
        return
    for metric, name, labels, value in child.report.samples:
        yield (metric, name, tuple(sorted(labels.items()))), value


log = logger("gateway.workers")

_START_SECONDS = 30.0
_END_SECONDS = 3.0
_RESTART_SECONDS = 1.0
"""How long after one that did not even get ready the next is tried."""
_REPORT_SECONDS = 2.0
_SILENT_SECONDS_MAX = 10.0
"""A worker that reports nothing for so long is stuck: it is killed, and replaced.

One that starts may take `_START_SECONDS`.
"""
_ANSWER_SECONDS = 1.0
"""How long who asks for figures waits for reports; later ones count the next time."""
_AGAIN_SECONDS = 0.01
"""After this it is tried again to hand over a connection that no worker could take."""


def make(config: Config, context: Context, application: web.Application) -> "Supervisor":
    """Return the workers of a gateway, whose REST requests an application answers."""
    application.middlewares.insert(0, forwarded)
    return Supervisor(config, context)


class Supervisor:
    """The workers of one gateway. Needs a running event loop."""

    def __init__(self, config: Config, context: Context) -> None:
        self._config = config
        self._context = context
        self._hub = context.hub
        self._folder = Path(tempfile.mkdtemp(prefix="gateway-"))  # only this user may enter
        self._children: list[Child] = []
        self._clients = Clients(context)
        self._metrics_sum = MetricsSum()
        self._held: deque[socket.socket] = deque()
        self._tasks = Tasks()
        self._complete = asyncio.Event()
        self._stopping = False
        self._epochs: dict[str, tuple[int | None, int]] = {}
        self._bus: BusState | None = None
        largest = max(log.bytes_max for log in (config.log, *config.channels.values()))
        self._unread_bytes_max = UNREAD_BYTES_MAX + 2 * largest
        self._hub.logs.follow(self._ship)
        context.connected_clients = lambda: self._clients.clients
        context.refresh_statistics = self._refresh
        context.metrics.others = lambda: self._metrics_sum.of(self._children)

    # -- its life ------------------------------------------------------------------------------

    async def start(self, runner: web.AppRunner, listener: Listener) -> None:
        """Start the workers, whose REST requests `runner` answers; returns when all are ready.

        They share what the listener accepts.

        Raises:
            OSError: They do not start.
        """
        self._listener = listener
        listener.on_accepted = self._take
        await web.UnixSite(runner, str(self._folder / "rest")).start()
        for _ in range(self._config.workers):
            await self._launch()
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._complete.wait()
        except TimeoutError as error:
            raise OSError(f"the workers are not ready within {_START_SECONDS:g} s") from error
        self._tasks.begin(self._watch())

    def unready(self) -> list[str]:
        """Say why no client should be sent here."""
        return [] if any(one.ready for one in self._children) else ["no worker is ready"]

    async def drain(self) -> None:
        """Let every worker send its clients away."""
        self._stopping = True
        limit = self._config.shutdown.seconds_max
        holding = [one for one in self._children if one.ready]
        await asyncio.gather(*[one.ask(messages.Drain, within=limit) for one in holding])

    async def stop(self) -> None:
        """End all workers."""
        self._stopping = True
        self._clients.close()
        self._tasks.cancel()
        for one in self._children:
            one.close()
        await asyncio.gather(*[one.ended(within=_END_SECONDS) for one in self._children])
        for accepted in self._held:
            accepted.close()
        self._held.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def reload(self) -> None:
        """Let the workers read keys again."""
        self._tell(framed(messages.Reload()))

    def tidy(self, now_ns: int) -> None:
        """Let the workers drop what is too old, right before it is dropped here."""
        self._tell(framed(messages.Evict(now_ns)))
        self._tell_bus()

    async def _launch(self) -> None:
        child = Child(
            unread_bytes_max=self._unread_bytes_max, on_messages=self._heard, on_lost=self._lost
        )
        await child.start()
        if child.gone:
            raise OSError("a worker ended at once")
        self._children.append(child)
        begin = messages.Begin(self._config, self._hub.logs.epoch, str(self._folder / "rest"))
        child.pipe.send(begin)
        self._tasks.begin(self._fill(child))

    async def _fill(self, child: Child) -> None:
        """Send a new worker what the logs hold, one by one; what is appended goes to it already."""
        child.pipe.send(messages.Bus(self._hub.bus))
        sent: set[str] = set()
        logs = self._hub.logs.by_name
        while missing := [name for name in logs if name not in sent]:
            for name in missing:
                child.pipe.send(messages.Log(logs[name].state))
                sent.add(name)
                await child.pipe.flows()
        child.pipe.send(messages.Filled())

    def _lost(self, child: Child) -> None:
        """Do without a worker that has ended, and start another."""
        child.kill()
        self._tasks.begin(self._bury(child))
        if self._stopping or child not in self._children:
            return
        log.error("worker lost", pid=child.pid, ready=child.ready)
        self._children.remove(child)
        self._metrics_sum.retire(child)
        self._clients.lost(child)
        self._tasks.begin(self._replace(0.0 if child.ready else _RESTART_SECONDS))

    async def _bury(self, child: Child) -> None:
        child.close()
        await child.ended(within=_END_SECONDS)

    async def _replace(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        try:
            await self._launch()
        except OSError as error:
            log.error("cannot start a worker", reason=str(error))
            self._tasks.begin(self._replace(_RESTART_SECONDS))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_SECONDS)
            for child in self._children:
                if not child.checking:
                    self._tasks.begin(self._check(child))

    async def _check(self, child: Child) -> None:
        child.checking = True
        within = _SILENT_SECONDS_MAX if child.ready else _START_SECONDS
        if not await self._report(child, within=within):
            child.kill()
        child.checking = False

    async def _report(self, child: Child, *, within: float) -> bool:
        answer = await child.ask(messages.Report, within=within)
        if not isinstance(answer, messages.Reported):
            return False
        child.report = answer
        child.load = answer.sockets
        return True

    async def _refresh(self) -> None:
        """Have figures of now, of all who tell them soon."""
        ready = [one for one in self._children if one.ready]
        await asyncio.gather(*[self._report(one, within=_ANSWER_SECONDS) for one in ready])

    # -- to the workers ------------------------------------------------------------------------

    def _take(self, accepted: socket.socket) -> None:
        """Hand a connection on; it waits here while no worker takes any, and others in the kernel."""
        if self._held or not self._hand(accepted):
            if not self._held:
                self._listener.pause_accepting()
                asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._hand_held)
            self._held.append(accepted)

    def _hand_held(self) -> None:
        while self._held and self._hand(self._held[0]):
            self._held.popleft()
        if self._held:
            asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._hand_held)
        else:
            self._listener.resume_accepting()

    def _hand(self, accepted: socket.socket) -> bool:
        """Hand a connection to the worker that has fewest and can take it."""
        by_load = sorted(self._children, key=lambda one: one.load)
        return any(child.ready and child.hand(accepted) for child in by_load)

    def _ship(self, entries: list[Entry]) -> None:
        self._tell_bus()
        self._tell(framed(messages.Entries(entries, self._lives_begun(entries))))

    def _lives_begun(self, entries: list[Entry]) -> dict[str, EpochTable]:
        """Return the numbering of the channels where it is not what was told last."""
        begun = {}
        for name in dict.fromkeys([entry.channel for entry in entries]):
            epochs = self._hub.logs.by_name[name].epochs
            present = (epochs.source, epochs.newest.epoch_number)
            if self._epochs.get(name) != present:
                self._epochs[name] = present
                begun[name] = epochs.table
        return begun

    def _tell_bus(self) -> None:
        if self._bus != self._hub.bus:
            self._bus = self._hub.bus
            self._tell(framed(messages.Bus(self._bus)))

    def _tell(self, frame: bytes) -> None:
        for child in self._children:
            child.pipe.write(frame)

    # -- from the workers ----------------------------------------------------------------------

    def _heard(self, child: Child, received: list[messages.ToParent]) -> None:
        for message in received:
            match message:
                case messages.Ready():
                    self._joined(child)
                case messages.Arrive():
                    self._clients.arrive(child, message)
                case messages.Rename():
                    self._clients.rename(child, message)
                case messages.Did():
                    self._clients.did(child, message)
                case messages.Known():
                    self._clients.known(child, message)
                case messages.Released() | messages.Reported() | messages.Drained():
                    child.answered(message)

    def _joined(self, child: Child) -> None:
        child.ready = True
        if sum(one.ready for one in self._children) == self._config.workers:
            self._complete.set()
        log.info("worker ready", pid=child.pid)
