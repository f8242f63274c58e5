"""One worker: replicated logs, and the clients that it holds."""

import asyncio
import contextlib
import itertools
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace

import msgspec
from aiohttp import web

from gateway import logs
from gateway.assembly import build_hub, build_policy
from gateway.auth import verifier
from gateway.core import portable
from gateway.core.arrival import Arrival
from gateway.core.errors import CloseCode
from gateway.core.events import Notice
from gateway.core.log import Entry
from gateway.core.numbering import Lives
from gateway.core.rights import Identity
from gateway.core.session import Session
from gateway.metrics import Metrics
from gateway.service import allow_many_files, loop_factory
from gateway.web import app, arrivals
from gateway.web.connection import Connection
from gateway.web.context import Context
from gateway.web.listener import listener_of
from gateway.web.pulse import Pulse
from gateway.web.tls import Certificate
from gateway.workers import wire
from gateway.workers.forward import Forward
from gateway.workers.link import Link


log = logs.logger("gateway.workers")

_TIDY_SECONDS = 1.0
_CLEANUP_SECONDS = 1.0
_ORPHAN_SECONDS = 3.0
"""How long a worker without a parent may take to end."""
_HANDED_MAX = 64

_decoder: msgspec.msgpack.Decoder[wire.ToWorker] = msgspec.msgpack.Decoder(wire.ToWorker)


class Worker:
    """What a process holds once it has been told how the gateway is. Needs a running event loop."""

    def __init__(self, begin: wire.Begin, link: Link[wire.ToWorker], door: socket.socket) -> None:
        self.config = config = begin.config
        self._link = link
        self._door = door
        self._loop = asyncio.get_running_loop()
        # Lost sessions are remembered by the parent.
        sessions = msgspec.structs.replace(config.sessions, remembered_max=0)
        self._hub = hub = build_hub(
            msgspec.structs.replace(config, sessions=sessions), epoch=begin.epoch
        )
        hub.deny = arrivals.denied
        hub.announce = self._did
        hub.confirm = self._confirm
        self._verifier = verifier(config.auth)
        self._metrics = Metrics(hub, links=list, buffers=self._buffers)
        self._pulse = Pulse(hub, config.clients)
        self._context = Context(
            config=config,
            hub=hub,
            metrics=self._metrics,
            now_ns=time.time_ns,
            started_ns=time.time_ns(),
            pulse=self._pulse,
            bus=list,
            unready=list,
            policy=build_policy(config),
            verifier=self._verifier,
            registry=self,
        )
        self._forward = Forward(begin.rest, body_seconds=config.clients.handshake_seconds)
        self._runner = web.AppRunner(
            app.build(self._context, forward=self._forward.handle),
            access_log=None,
            shutdown_timeout=_CLEANUP_SECONDS,
        )
        self._certificate = Certificate(config.tls)
        self._filling: set[str] | None = set()
        """The logs that are here already; None once all are."""
        self._numbers = itertools.count(1)
        self._asked: dict[int, Callable[[wire.Admitted | wire.Refused | wire.Renamed], object]] = {}
        self._confirmed: dict[Session, None] = {}
        self._flush: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        hub.fanout.wake = self._arm

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
        self._begin(self._every(self._pulse.interval, self._beat))
        self._begin(self._every(_TIDY_SECONDS, self._tidy))
        self._door.setblocking(False)
        self._loop.add_reader(self._door, self._take)

    async def stop(self) -> None:
        """Release everything."""
        self._loop.remove_reader(self._door)
        for task in self._tasks:
            task.cancel()
        if self._flush is not None:
            self._flush.cancel()
        if self._verifier is not None:
            await self._verifier.close()
        self._listener.close()
        await self._runner.cleanup()
        await self._forward.close()

    def _begin(self, what: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take(self) -> None:
        """Take the connections that the parent accepted."""
        flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
        with contextlib.suppress(BlockingIOError):
            for _ in range(_HANDED_MAX):
                data, found, _, _ = socket.recv_fds(self._door, 1, 1, flags)
                for one in found:
                    self._listener.admit(socket.socket(fileno=one))
                if not data:
                    self._loop.remove_reader(self._door)
                    return

    # -- from the parent -----------------------------------------------------------------------

    def heard(self, messages: list[wire.ToWorker]) -> None:
        """Take in what one wake-up brought; what was appended is written as one tick."""
        entries: list[Entry] = []
        lives: dict[str, Lives] = {}
        for message in messages:
            if isinstance(message, wire.Entries):
                if not (lives.keys() & message.lives.keys()):
                    entries += message.entries
                    lives |= message.lives
                    continue
                self._append(entries, lives)
                entries, lives = message.entries, message.lives
                continue
            if entries:
                self._append(entries, lives)
                entries, lives = [], {}
            self._obey(message)
        if entries:
            self._append(entries, lives)

    def _append(self, entries: list[Entry], lives: dict[str, Lives]) -> None:
        filling = self._filling
        if filling is not None:  # what is not here yet comes with all that it holds
            entries = [entry for entry in entries if entry.channel in filling]
            lives = {name: known for name, known in lives.items() if name in filling}
        if entries:
            self._hub.engine.take(entries, lives)
            self._metrics.fanned_out((time.time_ns() - entries[0].received_ns) / 1e9)

    def _obey(self, message: wire.ToWorker) -> None:
        match message:
            case wire.Log():
                assert self._filling is not None
                self._hub.engine.replace(message.state)
                self._filling.add(message.state.name)
            case wire.Filled():
                self._filling = None
                self._link.send(wire.Ready())
            case wire.Evict():
                self._hub.engine.evict(now_ns=message.now_ns)
            case wire.Bus():
                self._hub.told = message.state
            case wire.Admitted() | wire.Refused() | wire.Renamed():
                self._asked.pop(message.number)(message)
            case wire.Personal():
                session = self._hub.sessions.get(message.client_id)
                if session is not None:  # else it goes just now, and the parent keeps the message
                    self._hub.take_personal(session, message.entry)
            case wire.Release():
                self._release(message)
            case wire.Report():
                self._report(message.number)
            case wire.Drain():
                self._begin(self._drain(message.number))
            case _:
                raise AssertionError(f"{message} is for nobody here")

    def _release(self, message: wire.Release) -> None:
        old = self._context.connections.get(message.client_id)
        if old is not None:
            old.end(CloseCode.SESSION_TAKEN_OVER)
            arrivals.leave(self._context, old)
        self._link.send(wire.Released(message.number))

    def _report(self, number: int) -> None:
        behind = {
            one.client_id: wire.Behind(one.lagging, one.lag, one.buffered)
            for one in self._context.connections.values()
            if one.lagging or one.buffered
        }
        sockets = len(self._listener.seats)
        self._link.send(wire.Reported(number, sockets, self._metrics.samples(), behind))

    async def _drain(self, number: int) -> None:
        self._context.draining = True
        await arrivals.close_all(self._context, CloseCode.RESTART)
        self._link.send(wire.Drained(number))

    # -- clients -------------------------------------------------------------------------------

    async def arrive(self, connection: Connection, arrival: Arrival) -> bool:
        """Ask the parent whether a client may come in, and let it in."""
        done: asyncio.Future[bool] = self._loop.create_future()

        def go_on(answer: wire.Admitted | wire.Refused | wire.Renamed) -> None:
            # At once: what the parent says of this client next may be in the same segment.
            entered = isinstance(answer, wire.Admitted) and self._enter(connection, arrival, answer)
            if isinstance(answer, wire.Refused):
                connection.spread_seconds = answer.spread_seconds
                connection.end(answer.code)
                self._metrics.closed(answer.code, 0)
            if not done.done():
                done.set_result(entered)

        number = self._ask(go_on)
        self._link.send(
            wire.Arrive(
                number,
                arrival.client_id,
                arrival.secret,
                arrival.identity,
                arrival.session,
                connection.address,
            )
        )
        return await done

    def _enter(self, connection: Connection, arrival: Arrival, answer: wire.Admitted) -> bool:
        state = answer.session
        if state is None:
            arrival = replace(arrival, session=None)
            session = None
        else:
            assert arrival.session is not None
            session = self._hub.session(state.client_id, state.identity)
            session.subscriptions = dict(portable.subscriptions(state.followed))
            session.known = state.known
            if state.personal is not None:
                self._hub.mailbox.log_of(session).replace(state.personal)
        if connection.ending or connection.lost or self._context.draining:
            # It went while it was asked for; its session, as it was, waits on.
            session = session or self._hub.session(arrival.client_id, arrival.identity)
            code = CloseCode.RESTART if self._context.draining else connection.code
            self._did(session, Notice("client.disconnected", code=code, seconds=0.0), 0)
            connection.end(CloseCode.RESTART)
            return False
        if session is not None:
            self._hub.mailbox.add(session, arrival.session or "")
        arrivals.enter(self._context, connection, arrival)
        return True

    async def may_become(self, session: Session, identity: Identity) -> bool:
        """Ask the parent whether a client's user may have it among its clients."""
        done: asyncio.Future[bool] = self._loop.create_future()

        def go_on(answer: wire.Admitted | wire.Refused | wire.Renamed) -> None:
            if not done.done():
                done.set_result(isinstance(answer, wire.Renamed) and answer.allowed)

        self._link.send(wire.Rename(self._ask(go_on), session.client_id, identity))
        return await done

    def _ask(self, go_on: Callable[[wire.Admitted | wire.Refused | wire.Renamed], object]) -> int:
        number = next(self._numbers)
        self._asked[number] = go_on
        return number

    def _did(self, session: Session, notice: Notice, _: int) -> None:
        """Tell the parent what a client did."""
        followed, known = portable.followed(session), portable.known(session)
        self._link.send(wire.Did(session.client_id, notice, followed, known))

    def _confirm(self, session: Session) -> None:
        self._confirmed[session] = None

    def _tell_known(self) -> None:
        """Tell the parent what clients have confirmed; those that got the same share one message."""
        groups: dict[int, list[Session]] = {}
        for session in self._confirmed:
            if session.client_id in self._hub.sessions:
                groups.setdefault(id(session.known), []).append(session)
        self._confirmed.clear()
        for sessions in groups.values():
            names = [session.client_id for session in sessions]
            self._link.send(wire.Known(names, dict(sessions[0].known)))

    # -- time ----------------------------------------------------------------------------------

    async def _every(self, seconds: float, act: Callable[[], None]) -> None:
        while True:
            due = self._loop.time() + seconds
            await asyncio.sleep(seconds)
            self._metrics.loop_lag(max(self._loop.time() - due, 0.0))
            try:
                act()
            except Exception:
                log.exception("a timer failed")

    def _beat(self) -> None:
        self._pulse.beat(now=self._loop.time())

    def _tidy(self) -> None:
        self._certificate.refresh()
        self._tell_known()

    def _arm(self) -> None:
        """Set the timer for what rates hold back."""
        due_ns = self._hub.fanout.due_ns
        if due_ns is None:
            return
        at = self._loop.time() + max(due_ns - time.time_ns(), 0) / 1e9
        if self._flush is not None:
            if self._flush.when() <= at:
                return
            self._flush.cancel()
        self._flush = self._loop.call_at(at, self._flush_due)

    def _flush_due(self) -> None:
        self._flush = None
        self._hub.fanout.flush(now_ns=time.time_ns())
        self._arm()

    def _buffers(self) -> list[int]:
        return [connection.buffered for connection in self._context.connections.values()]


def run(link: int, door: int) -> int:
    """Be a worker until the parent ends; return the process's exit status."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the parent says when clients are sent away
    threading.Thread(target=_follow, args=(link,), daemon=True).start()
    allow_many_files()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_serve(socket.socket(fileno=link), socket.socket(fileno=door)))


def _follow(link: int) -> None:
    """End with the parent, also if the loop does not turn: nobody else would end this process."""
    hung_up = select.poll()
    hung_up.register(link, 0)
    hung_up.poll()
    time.sleep(_ORPHAN_SECONDS)
    os._exit(1)


async def _serve(pair: socket.socket, door: socket.socket) -> int:
    ended, begun = asyncio.Event(), asyncio.Event()
    waiting: list[wire.ToWorker] = []

    def heard(messages: list[wire.ToWorker]) -> None:
        waiting.extend(messages)
        begun.set()

    def lost() -> None:
        begun.set()
        ended.set()

    link: Link[wire.ToWorker] = Link(_decoder, on_messages=heard, on_lost=lost)
    await link.open(pair)
    await begun.wait()
    if ended.is_set():
        return 1
    begin = waiting.pop(0)
    assert isinstance(begin, wire.Begin)
    logs.set_up(begin.config.logging.level, begin.config.logging.format)
    worker = Worker(begin, link, door)
    try:
        await worker.start()
        worker.heard(waiting)
        link.on_messages = worker.heard
        await ended.wait()
    finally:
        await worker.stop()
    return 0
