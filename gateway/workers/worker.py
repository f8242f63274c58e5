"""One worker: replicated logs, and the sockets of the clients that it holds."""

import asyncio
import socket

from gateway.config.errors import ConfigError
from gateway.config.model import Config
from gateway.core.fanout.fanout import Fanout
from gateway.core.log.sources import Entry
from gateway.core.protocol.messages import BusState
from gateway.core.sessions.observer import LocalObserver
from gateway.runtime import logs
from gateway.runtime.tasks import Tasks
from gateway.web import admission
from gateway.web.edge import Edge
from gateway.wiring import build_hub, build_logs
from gateway.workers import messages
from gateway.workers.parent import ParentClient, WorkerObserver
from gateway.workers.pipe import Pipe, Unreadable, kind_and_number
from gateway.workers.proxy import RestProxy
from gateway.workers.replica import Replica


log = logs.logger("gateway.workers")

_TICK_SECONDS = 1.0
_SOCKETS_PER_WAKE_UP = 64
_REPLICATION = frozenset({"", "Log", "Entries", "Evict"})
"""Messages with which logs follow those of the parent; "" may be one of them."""
_ANSWERS = frozenset({"Admitted", "Refused", "Identified", "Broadcasted"})


class Worker:
    """What a process does once its parent has sent `Start`. Needs a running event loop.

    Over `sockets` the parent hands over the connections that it accepts, and gets those for REST requests.
    Raises ConfigError: a key or certificate cannot be used any more."""

    def __init__(self, start: messages.Start, pipe: Pipe[messages.ToWorker], sockets: socket.socket) -> None:
        self.config = config = start.config
        self._pipe = pipe
        self._sockets = sockets
        self._loop = asyncio.get_running_loop()
        self._bus_state: BusState = "waiting"
        self._logs = build_logs(config, epoch=start.epoch)
        fanout = Fanout(self._logs.by_name, epoch=start.epoch)
        self._logs.on_append.append(fanout.deliver)
        local = LocalObserver(self._logs, fanout, on_denied=admission.log_denied)
        self._observer = WorkerObserver(local, send=pipe.send)
        self._hub = build_hub(
            config, self._logs, fanout, self._observer, bus_state=lambda: self._bus_state, remember=False
        )
        self._proxy = RestProxy(self._send_socket)
        self._parent = ParentClient(pipe)
        self._edge = Edge(config, self._hub, pipeline=None, proxy=self._proxy.handle, admission=self._parent)
        self._replica = Replica(
            self._logs, fanout, ask=lambda *what: pipe.send(messages.Resend(*what)), on_failure=self._on_replica_failure
        )
        self._failures_throttle = logs.Throttle(count=5, interval_seconds=10.0)
        self._tasks = Tasks()

    async def start(self) -> None:
        """Be ready for connections; none comes before the logs are filled."""
        self._listener = await self._edge.start()
        self._edge.every(_TICK_SECONDS, self._tick)
        self._sockets.setblocking(False)
        self._loop.add_reader(self._sockets, self._receive_sockets)

    async def stop(self) -> None:
        self._loop.remove_reader(self._sockets)
        self._tasks.cancel()
        await self._edge.close()
        await self._proxy.close()

    def _receive_sockets(self) -> None:
        flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
        for _ in range(_SOCKETS_PER_WAKE_UP):
            try:
                data, found, _, _ = socket.recv_fds(self._sockets, 1, 1, flags)
            except BlockingIOError:
                return
            except ConnectionError:  # the parent ended before it had read what was sent to it
                data, found = b"", []
            if not data:
                self._loop.remove_reader(self._sockets)
                return
            for one in found:
                self._listener.serve(socket.socket(fileno=one))
            if not found:  # the kernel closed it, as this process may open no more
                self._edge.metrics.refused("files")

    def _send_socket(self, one: socket.socket) -> None:
        """Give the parent a connection for REST requests."""
        socket.send_fds(self._sockets, [b"."], [one.fileno()])

    # -- from the parent -----------------------------------------------------------------------

    def on_messages(self, received: list[messages.ToWorker | Unreadable]) -> None:
        """Handle what one wake-up brought; what was appended is written as one batch."""
        entries: list[Entry] = []
        for message in received:
            if isinstance(message, messages.Entries):
                entries += message.entries
                continue
            self._replica.append(entries)
            entries = []
            try:
                self._handle(message)
            except Exception:
                kind, number = kind_and_number(message)
                log.exception("process_message_failed", message_type=kind)
                self._fail(kind, number)
        self._replica.append(entries)

    def _on_replica_failure(self, kind: str, error: Exception) -> None:
        self._edge.metrics.replication_failed()
        suppressed = self._failures_throttle.allow(kind, now=self._loop.time())
        if suppressed is not None:
            log.error("process_message_failed", message_type=kind, suppressed=suppressed, exc_info=error)

    def _fail(self, kind: str, number: int) -> None:
        """Let nobody wait for what a message that failed would have done."""
        if kind in _ANSWERS:
            self._parent.requests.on_failure(number)
        elif kind == "Release":
            self._pipe.send(messages.Released(number))
        elif kind == "Report":  # without it the parent would replace this worker
            self._pipe.send(messages.Reported(number, len(self._listener.slots), [], {}))

    def _handle(self, message: messages.ToWorker | Unreadable) -> None:
        match message:
            case Unreadable(kind) if kind in _REPLICATION:
                self._replica.on_unreadable(message)
            case Unreadable():
                raise ValueError(message.reason)
            case messages.Log():
                self._replica.load(message.state)
            case messages.Filled():
                self._replica.finish_filling()
                self._pipe.send(messages.Ready())
            case messages.Evict():
                self._replica.evict(message.now_ns)
            case messages.Close():
                self._replica.close(message.name, message.epoch)
            case messages.Cut():
                self._logs.cut(message.bytes_max)
            case messages.Bus():
                self._bus_state = message.state
            case messages.Admitted() | messages.Refused() | messages.Identified() | messages.Broadcasted():
                self._parent.requests.on_answer(message)
            case messages.Personal():
                self._deliver_personal(message)
            case messages.Disconnect():
                self._edge.context.disconnect(message.client_id, message.code)
            case messages.Release():
                self._parent.release(self._edge.context, message)
            case messages.Report():
                self._report(message.number)
            case messages.Reload():
                self._reload(message.config)
            case messages.Drain():
                self._tasks.start(self._drain(message.number))
            case _:
                raise AssertionError(f"a worker does not handle {message}")

    def _deliver_personal(self, message: messages.Personal) -> None:
        session = self._hub.sessions.get(message.client_id)
        if session is not None:  # else it is being disconnected, and the parent keeps the message
            log_ = self._hub.store.log_of(session)
            log_.replicate(message.entry)
            self._observer.deliver_personal(session, log_, message.entry)

    def _reload(self, config: Config) -> None:
        try:
            apply = self._edge.prepare_reload(config)
        except ConfigError as error:  # a file that could be read when the parent looked
            log.error("reload_refused", reason=str(error))
        else:
            apply(elsewhere=False)

    def _report(self, number: int) -> None:
        behind = {
            one.client_id: messages.Behind(one.lagging, one.lag, one.buffered)
            for one in self._edge.context.connections.values()
            if one.lagging or one.buffered
        }
        sockets = len(self._listener.slots)
        samples = self._edge.metrics.samples()
        self._pipe.send(messages.Reported(number, sockets, samples, behind))

    async def _drain(self, number: int) -> None:
        await self._edge.drain()
        self._pipe.send(messages.Drained(number))

    def _tick(self) -> None:
        self._edge.refresh_certificate()
        self._hub.warn_of_failed_filters(now_ns=self._edge.context.now_ns())
        self._observer.send_confirmed()
        self._replica.tick()
