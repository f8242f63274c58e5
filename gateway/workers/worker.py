"""One worker: replicated logs, and the sockets of the clients that it holds."""

import asyncio
import contextlib
import socket
import time

import msgspec
from aiohttp import web

from gateway import logs
from gateway.auth import verifier
from gateway.config.errors import ConfigError
from gateway.core.log.epochs import EpochTable
from gateway.core.log.log import Entry
from gateway.core.protocol.errors import CloseCode
from gateway.metrics import Metrics
from gateway.runtime import Tasks, every
from gateway.web import admission, app
from gateway.web.context import Context
from gateway.web.sockets.heartbeat import ClientHeartbeat
from gateway.web.sockets.listener import listener_of
from gateway.web.sockets.tls import Certificate
from gateway.wiring import build_hub, build_policy
from gateway.workers import messages
from gateway.workers.parent import ParentClient
from gateway.workers.pipe import Pipe
from gateway.workers.proxy import RestProxy
from gateway.write_scheduler import WriteScheduler


log = logs.logger("gateway.workers")

_TIDY_SECONDS = 1.0
_CLEANUP_SECONDS = 1.0
_HANDED_MAX = 64


class Worker:
    """What a process holds once it has been told how the gateway is. Needs a running event loop.

    Raises:
        ConfigError: A key or certificate cannot be used any more.
    """

    def __init__(
        self, begin: messages.Begin, pipe: Pipe[messages.ToWorker], door: socket.socket
    ) -> None:
        self.config = config = begin.config
        self._verifier = verifier(config.auth)
        self._certificate = Certificate(config.tls)
        self._pipe = pipe
        self._door = door
        self._loop = asyncio.get_running_loop()
        # Lost sessions are remembered by the parent.
        sessions = msgspec.structs.replace(config.sessions, remembered_max=0)
        self._hub = hub = build_hub(
            msgspec.structs.replace(config, sessions=sessions), epoch=begin.epoch
        )
        hub.deny = admission.log_denied
        self._metrics = Metrics(hub, links=list, buffers=self._buffers)
        self._heartbeat = ClientHeartbeat(hub, config.clients)
        self._context = Context(
            config=config,
            hub=hub,
            metrics=self._metrics,
            now_ns=time.time_ns,
            started_ns=time.time_ns(),
            heartbeat=self._heartbeat,
            bus=list,
            unready=list,
            policy=build_policy(config),
            verifier=self._verifier,
        )
        self._parent = ParentClient(self._context, pipe)
        self._proxy = RestProxy(begin.rest, body_seconds=config.clients.handshake_seconds)
        self._runner = web.AppRunner(
            app.build(self._context, forward=self._proxy.handle),
            access_log=None,
            shutdown_timeout=_CLEANUP_SECONDS,
        )
        self._filling: set[str] | None = set()
        """The logs that are here already; None once all are."""
        self._tasks = Tasks()
        self._write_scheduler = WriteScheduler(
            hub.fanout, config.fanout, on_written=self._metrics.fanned_out
        )

    async def start(self) -> None:
        """Be ready for connections; none comes before the logs are filled."""
        if self._verifier is not None:
            self._verifier.start()
        await self._runner.setup()
        self._listener = listener_of(
            self._runner,
            self.config,
            tls=lambda: self._certificate.context,
            on_refused=self._metrics.refused,
        )
        late = self._metrics.loop_lag
        self._tasks.begin(every(self._heartbeat.interval, self._beat, on_late=late))
        self._tasks.begin(every(_TIDY_SECONDS, self._tidy, on_late=late))
        self._door.setblocking(False)
        self._loop.add_reader(self._door, self._take)

    async def stop(self) -> None:
        """Release everything."""
        self._loop.remove_reader(self._door)
        self._tasks.cancel()
        self._write_scheduler.close()
        if self._verifier is not None:
            await self._verifier.close()
        self._listener.close()
        await self._runner.cleanup()
        self._context.socket_writers.close()
        await self._proxy.close()

    def _take(self) -> None:
        """Take the connections that the parent accepted."""
        flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
        with contextlib.suppress(BlockingIOError):
            for _ in range(_HANDED_MAX):
                data, found, _, _ = socket.recv_fds(self._door, 1, 1, flags)
                if not data:
                    self._loop.remove_reader(self._door)
                    return
                for one in found:
                    self._listener.serve(socket.socket(fileno=one))
                if not found:  # the kernel closed it, as this process may open no more
                    self._metrics.refused("files")

    # -- from the parent -----------------------------------------------------------------------

    def heard(self, received: list[messages.ToWorker]) -> None:
        """Take in what one wake-up brought; what was appended is written as one tick."""
        entries: list[Entry] = []
        table: dict[str, EpochTable] = {}
        for message in received:
            if isinstance(message, messages.Entries):
                entries += message.entries
                table |= message.table
                continue
            self._append(entries, table)
            entries, table = [], {}
            self._obey(message)
        self._append(entries, table)

    def _append(self, entries: list[Entry], table: dict[str, EpochTable]) -> None:
        filling = self._filling
        if filling is not None:  # what is not here yet comes with all that it holds
            entries = [entry for entry in entries if entry.channel in filling]
            table = {name: known for name, known in table.items() if name in filling}
        if entries:
            self._hub.logs.take(entries, table)

    def _obey(self, message: messages.ToWorker) -> None:
        match message:
            case messages.Log():
                assert self._filling is not None
                self._hub.logs.replace(message.state)
                self._filling.add(message.state.name)
            case messages.Filled():
                self._filling = None
                self._pipe.send(messages.Ready())
            case messages.Evict():
                self._hub.logs.evict(now_ns=message.now_ns)
            case messages.Bus():
                self._hub.told = message.state
            case messages.Admitted() | messages.Refused() | messages.Renamed():
                self._parent.answered(message)
            case messages.Personal():
                session = self._hub.sessions.get(message.client_id)
                if session is not None:  # else it goes just now, and the parent keeps the message
                    self._hub.take_personal(session, message.entry)
            case messages.Release():
                self._parent.release(message)
            case messages.Report():
                self._report(message.number)
            case messages.Reload():
                self._reload()
            case messages.Drain():
                self._tasks.begin(self._drain(message.number))
            case _:
                raise AssertionError(f"{message} is for nobody here")

    def _report(self, number: int) -> None:
        behind = {
            one.client_id: messages.Behind(one.lagging, one.lag, one.buffered)
            for one in self._context.connections.values()
            if one.lagging or one.buffered
        }
        sockets = len(self._listener.slots)
        self._pipe.send(messages.Reported(number, sockets, self._metrics.samples(), behind))

    def _reload(self) -> None:
        if self._verifier is not None:
            with contextlib.suppress(ConfigError):  # the parent finds the same, and says it
                self._verifier.reload()

    async def _drain(self, number: int) -> None:
        self._context.draining = True
        await admission.close_all(self._context, CloseCode.RESTART)
        self._pipe.send(messages.Drained(number))

    # -- time ----------------------------------------------------------------------------------

    def _beat(self) -> None:
        self._heartbeat.check(now=self._loop.time())

    def _tidy(self) -> None:
        self._certificate.refresh()
        self._parent.tell_known()

    def _buffers(self) -> list[int]:
        return [connection.buffered for connection in self._context.connections.values()]
