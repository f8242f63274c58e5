"""The parent's side: keeps the workers running, hands them connections, sends them what is appended.

A worker goes through these states:

    launched   Its process runs. It gets the logs one by one, and every batch that is appended
               meanwhile. Its clients: none. Next: `ready`, when it sends `Ready`; else `lost`.
    ready      Its logs are complete. It gets connections, and batches as they are appended.
    lost       Its pipe is closed: the process ended, was killed, or fell too far behind. The parent
               disconnects its clients, whose sessions can be resumed, kills the process if it still
               runs, and launches another worker: at once, or after `_RESTART_SECONDS` if this one
               was never ready. If none is left and none can be launched as another version of the
               package was installed, the gateway is `outdated`, and ends.
    reaped     The process has ended, and the parent has forgotten it.

The parent asks each worker for a report every `_REPORT_SECONDS`. It kills a worker that does not answer while
it neither sends nor reads anything: a ready one after `_SILENT_SECONDS_MAX`, a launched one after
`_START_SECONDS`. While the gateway stops, it replaces no worker."""

import asyncio
import functools
import socket
from collections import defaultdict, deque
from collections.abc import Callable, Iterable

from aiohttp import web

from gateway.config.model import Config
from gateway.core.log.sources import Entry
from gateway.core.protocol.messages import BusState
from gateway.core.sessions.observer import Observer
from gateway.metrics.exposition import MOSTS, Extra, Key
from gateway.metrics.metrics import WorkerCounts
from gateway.runtime.logs import logger
from gateway.runtime.tasks import Tasks
from gateway.web.context import Context
from gateway.web.sockets.http import RequestHandler
from gateway.web.sockets.listener import Listener
from gateway.workers import messages
from gateway.workers.child import Child, installed
from gateway.workers.clients import Clients, ParentObserver
from gateway.workers.pipe import UNREAD_BYTES_MAX, Unreadable, framed, kind_and_number
from gateway.workers.proxy import forwarded


log = logger("gateway.workers")

_START_SECONDS = 30.0
_END_SECONDS = 3.0
_RESTART_SECONDS = 1.0
"""After a worker that did not get ready, the next one is launched so much later."""
_RETRY_SECONDS_MAX = 10.0
"""A worker that the operating system does not start is tried again ever later, up to this."""
_REPORT_SECONDS = 2.0
_SILENT_SECONDS_MAX = 10.0
"""A worker that shows no sign of running for so long is stuck. One that starts may take `_START_SECONDS`."""
_LOOKS = 5
"""So often within that time the parent looks for a sign. A parent that is late itself misses one look, not all."""
_ANSWER_SECONDS = 1.0
"""How long a request for figures waits for reports; later ones count the next time."""
_RETRY_SECONDS = 0.01
"""After this a connection that no worker could take is offered to them again."""


class _AnotherVersion(OSError):
    """Workers would run other code than the parent."""


class Supervisor:
    """The workers of one gateway. Needs a running event loop."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._installed = installed()
        self._problem = ""
        """Why no worker can be launched."""
        self.outdated = False
        """Whether no worker is left, and none can be launched since another version of the package was installed."""
        self.on_outdated: Callable[[], object] = lambda: None
        self._children: list[Child] = []
        self._ending: set[Child] = set()
        """Those that are lost, and not reaped yet."""
        self._metrics_sum = MetricsSum()
        self._lost = 0
        self._unassigned: deque[socket.socket] = deque()
        """Connections that no worker could take yet."""
        self._tasks = Tasks()
        self._complete = asyncio.Event()
        self._stopping = False
        self._sent_bus: BusState | None = None
        # With a key, a log's state also has its current values, within the history and beyond it.
        largest = max(log.bytes_max * (3 if log.key else 1) for log in (config.history, *config.channels.values()))
        self._unread_bytes_max = UNREAD_BYTES_MAX + 2 * largest

    def observer(self, local: Observer) -> Observer:
        """Return what the parent's hub reports to."""
        return ParentObserver(local, send=lambda *message: self._clients.send_personal(*message))

    # -- start and stop ------------------------------------------------------------------------

    def attach(self, context: Context, application: web.Application) -> None:
        """Use a gateway's hub, and answer with its application what workers proxy."""
        application.middlewares.insert(0, forwarded)
        self._hub = context.hub
        self._clients = Clients(context)
        self._hub.logs.on_append.append(self._send_entries)
        self._hub.logs.on_closed.append(self._send_closed)
        self._hub.logs.on_source.append(self._send_log_to_all)
        self._hub.logs.on_cut.append(lambda bytes_max: self._send_all(messages.Cut(bytes_max)))
        context.connected_clients = lambda: self._clients.connected
        context.let_go = self._clients.let_go
        context.disconnect = self._clients.disconnect
        context.refresh_statistics = self._refresh
        context.metrics.others = lambda: self._metrics_sum.of(self._children)
        context.metrics.workers = self._counts

    async def start(self, runner: web.AppRunner, listener: Listener) -> None:
        """Launch the workers, whose REST requests `runner` answers; return when all are ready.

        They share what the listener accepts.
        Raises OSError: they do not start."""
        self._listener, self._runner = listener, runner
        listener.on_accepted = self._assign
        for _ in range(self._config.workers):
            await self._launch()
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._complete.wait()
        except TimeoutError as error:
            raise OSError(f"the workers are not ready within {_START_SECONDS:g} s") from error
        self._tasks.start(self._watch())

    def unready(self) -> list[str]:
        if any(one.ready for one in self._children):
            return []
        return [f"no worker is ready: {self._problem}" if self._problem else "no worker is ready"]

    def _counts(self) -> WorkerCounts:
        return WorkerCounts(ready=sum(one.ready for one in self._children), lost=self._lost)

    async def drain(self) -> None:
        self._stopping = True
        limit = self._config.shutdown.timeout_seconds
        holding = [one for one in self._children if one.ready]
        await asyncio.gather(*[one.requests.ask(messages.Drain, within=limit) for one in holding])

    async def stop(self) -> None:
        self._stopping = True
        self._clients.close()
        self._tasks.cancel()
        for one in self._children:
            one.close()
            if not one.ready:
                one.kill()  # it has no clients
        ending = [*self._children, *self._ending]
        await asyncio.gather(*[one.ended(within=_END_SECONDS) for one in ending])
        for accepted in self._unassigned:
            accepted.close()
        self._unassigned.clear()

    def reload(self, config: Config) -> None:
        """Use another configuration, in the workers too; it reaches them in order with the entries."""
        self._config = config
        self._send_all(messages.Reload(config))

    def tick(self, now_ns: int) -> None:
        """Let the workers evict what is too old, right before it is evicted here."""
        self._send_all(messages.Evict(now_ns))
        self._send_bus()

    # -- workers -------------------------------------------------------------------------------

    async def _launch(self) -> None:
        if installed() != self._installed:
            raise _AnotherVersion(
                "another version of the package was installed since the gateway started; restart the gateway"
            )
        child = Child(
            unread_bytes_max=self._unread_bytes_max,
            on_messages=self._on_messages,
            on_lost=self._on_lost,
            on_socket=lambda connection: self._tasks.start(self._serve_rest(connection)),
        )
        await child.start()
        if child.gone:
            raise OSError("a worker ended at once")
        self._children.append(child)
        child.pipe.send(messages.Start(self._config, self._hub.logs.epoch))
        self._tasks.start(self._fill(child))

    async def _fill(self, child: Child) -> None:
        """Send a new worker what the logs hold, one by one; what is appended goes to it already."""
        child.pipe.send(messages.Bus(self._hub.bus_state()))
        sent: set[str] = set()
        logs = self._hub.logs.by_name
        while missing := [name for name in logs if name not in sent]:
            for name in missing:
                self._send_log(child, name)
                sent.add(name)
                await child.pipe.flows()
        child.pipe.send(messages.Filled())

    def _send_log(self, child: Child, name: str, *, empty: bool = False) -> None:
        """Send a worker a log; `empty` leaves out what it holds, as if it was evicted."""
        found = self._hub.logs.by_name.get(name)
        if found is None:
            return
        if not empty:
            try:
                child.pipe.send(messages.Log(found.state))
                return
            except Exception:
                log.exception("process_message_failed", message_type="Log")
        child.pipe.send(messages.Log(found.empty_state))

    def _send_log_to_all(self, name: str) -> None:
        for child in self._children:
            self._send_log(child, name)

    async def _resend(self, child: Child, message: messages.Resend) -> None:
        names = list(self._hub.logs.by_name) if message.names is None else message.names
        for name in names:
            self._send_log(child, name, empty=message.empty)
            await child.pipe.flows()

    def _on_lost(self, child: Child) -> None:
        """Do without a worker that has ended, and launch another."""
        if self._stopping and child in self._children:
            return  # `stop` gives it time to end by itself
        child.kill()
        child.close()
        self._ending.add(child)
        self._tasks.start(self._reap(child))
        if child not in self._children:
            return
        log.error("worker_lost", pid=child.pid, ready=child.ready)
        self._lost += 1
        self._children.remove(child)
        self._metrics_sum.retire(child)
        self._clients.on_worker_lost(child)
        self._tasks.start(self._replace(0.0 if child.ready else _RESTART_SECONDS))

    async def _reap(self, child: Child) -> None:
        await child.ended(within=_END_SECONDS)
        self._ending.discard(child)

    async def _replace(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        try:
            await self._launch()
        except OSError as error:
            self._problem = str(error)
            log.error("worker_spawn_failed", reason=self._problem)
            # Not at the first try: what is being installed may not be complete yet.
            if isinstance(error, _AnotherVersion) and seconds and not self._children and not self.outdated:
                self.outdated = True
                log.error("cannot_serve", reason=f"no worker is left, so this process ends: {self._problem}")
                self.on_outdated()
            self._tasks.start(self._replace(min(max(2 * seconds, _RESTART_SECONDS), _RETRY_SECONDS_MAX)))
        else:
            self._problem = ""

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_SECONDS)
            for child in self._children:
                if not child.checking:
                    self._tasks.start(self._check(child))

    async def _check(self, child: Child) -> None:
        child.checking = True
        if not await self._runs(child, within=_SILENT_SECONDS_MAX if child.ready else _START_SECONDS):
            child.kill()
        child.checking = False

    async def _runs(self, child: Child, *, within: float) -> bool:
        """Return whether a worker reports; it may take as long as it sends or reads anything, and `within` more."""
        report = asyncio.create_task(self._report(child, within=None))
        try:
            silent = 0
            child.pipe.has_progressed()
            while silent < _LOOKS:
                done, _ = await asyncio.wait([report], timeout=within / _LOOKS)
                if done:
                    return report.result()
                silent = 0 if child.pipe.has_progressed() else silent + 1
            return False
        finally:
            report.cancel()

    async def _report(self, child: Child, *, within: float | None) -> bool:
        answer = await child.requests.ask(messages.Report, within=within)
        if not isinstance(answer, messages.Reported):
            return False
        child.report = answer
        child.load = answer.sockets
        return True

    async def _refresh(self) -> None:
        """Wait for reports of now, as far as they come soon."""
        ready = [one for one in self._children if one.ready]
        await asyncio.gather(*[self._report(one, within=_ANSWER_SECONDS) for one in ready])

    # -- to the workers ------------------------------------------------------------------------

    def _assign(self, accepted: socket.socket) -> None:
        """Hand a connection over; it waits here while no worker takes any, and others in the kernel."""
        if self._unassigned or not self._hand_over(accepted):
            if not self._unassigned:
                self._listener.pause_accepting()
                asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._assign_waiting)
            self._unassigned.append(accepted)

    def _assign_waiting(self) -> None:
        while self._unassigned and self._hand_over(self._unassigned[0]):
            self._unassigned.popleft()
        if self._unassigned:
            asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._assign_waiting)
        else:
            self._listener.resume_accepting()

    def _hand_over(self, accepted: socket.socket) -> bool:
        """Hand a connection to the worker with the fewest that can take it."""
        by_load = sorted(self._children, key=lambda one: one.load)
        return any(child.ready and child.hand_over(accepted) for child in by_load)

    def _send_entries(self, entries: list[Entry]) -> None:
        self._send_bus()
        try:
            self._send_all(messages.Entries(entries))
        except Exception:
            log.exception("process_message_failed", message_type="Entries")
            names = list(dict.fromkeys(entry.channel for entry in entries))
            for child in self._children:
                self._tasks.start(self._resend(child, messages.Resend(names, empty=False)))

    def _send_closed(self, name: str) -> None:
        self._send_all(messages.Close(name, self._hub.logs.epoch))

    def _send_bus(self) -> None:
        state = self._hub.bus_state()
        if self._sent_bus != state:
            self._sent_bus = state
            self._send_all(messages.Bus(state))

    def _send_all(self, message: messages.Message) -> None:
        frame = framed(message)
        for child in self._children:
            child.pipe.write(frame)

    async def _serve_rest(self, connection: socket.socket) -> None:
        """Answer the REST requests that a worker passes on over a connection."""
        assert self._runner.server is not None
        loop, header_bytes_max = asyncio.get_running_loop(), self._config.clients.header_bytes_max
        make_protocol = functools.partial(
            RequestHandler,
            self._runner.server,
            loop=loop,
            access_log=None,  # as web.AppRunner passes it
            max_line_size=header_bytes_max,
            max_field_size=header_bytes_max,
        )
        connection.setblocking(False)
        await loop.connect_accepted_socket(make_protocol, connection)

    # -- from the workers ----------------------------------------------------------------------

    def _on_messages(self, child: Child, received: list[messages.ToParent | Unreadable]) -> None:
        for message in received:
            try:
                self._handle(child, message)
            except Exception:  # one client's failure must not cost the worker's others theirs
                kind, number = kind_and_number(message)
                log.exception("process_message_failed", message_type=kind)
                if kind == "Admit":
                    self._clients.refuse(child, number)
                elif kind == "Identify":
                    child.pipe.send(messages.Identified(number, allowed=False))
                elif kind == "Publish":
                    child.pipe.send(messages.Broadcasted(number, None))
                elif kind in {"Released", "Reported", "Drained"}:
                    child.requests.on_failure(number)

    def _handle(self, child: Child, message: messages.ToParent | Unreadable) -> None:
        match message:
            case Unreadable():
                raise ValueError(message.reason)
            case messages.Ready():
                self._on_ready(child)
            case messages.Resend():
                self._tasks.start(self._resend(child, message))
            case messages.Admit():
                self._clients.admit(child, message)
            case messages.Failed():
                self._clients.on_failed(child, message)
            case messages.Identify():
                self._clients.identify(child, message)
            case messages.Publish():
                self._clients.publish(child, message)
            case messages.Changed():
                self._clients.on_changed(child, message)
            case messages.Confirmed():
                self._clients.on_confirmed(child, message)
            case messages.Released() | messages.Reported() | messages.Drained():
                child.requests.on_answer(message)

    def _on_ready(self, child: Child) -> None:
        child.ready = True
        if sum(one.ready for one in self._children) == self._config.workers:
            self._complete.set()
        log.info("worker_ready", pid=child.pid)


class MetricsSum:
    """Adds up the workers' metrics; what a worker has counted stays counted when it is lost."""

    def __init__(self) -> None:
        self._retired: defaultdict[Key, float] = defaultdict(float)

    def retire(self, child: Child) -> None:
        """Keep the counts of a worker that was lost, as it last reported them."""
        for key, value in child.report.samples if child.report is not None else ():
            if key[1].endswith(("_total", "_bucket", "_sum", "_count")):
                self._retired[key] += value

    def of(self, children: Iterable[Child]) -> Extra:
        """Return the sums of all workers, by metric."""
        sums = self._retired.copy()
        for child in children:
            for key, value in child.report.samples if child.report is not None else ():
                sums[key] = max(sums[key], value) if key[0] in MOSTS else sums[key] + value
        extra: defaultdict[str, dict[Key, float]] = defaultdict(dict)
        for key, value in sums.items():
            extra[key[0]][key] = value
        return extra
