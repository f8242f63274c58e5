"""The parent as a worker sees it: it admits clients, and keeps what must outlive a connection."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace

import msgspec

from gateway.core.fanout.cohorts import Cursors
from gateway.core.fanout.views import View
from gateway.core.protocol.errors import CloseCode, ErrorCode, RequestError
from gateway.core.protocol.events import ClientChange
from gateway.core.protocol.messages import Publish
from gateway.core.sessions.observer import Observer
from gateway.core.sessions.permissions import Identity
from gateway.core.sessions.requests import ConnectRequest
from gateway.core.sessions.session import Session
from gateway.web import admission
from gateway.web.context import Context
from gateway.web.sockets.connection import Connection
from gateway.workers import messages
from gateway.workers.pipe import Pipe, Requests


_NOTHING: tuple[View, Cursors] = frozenset(), {}


class ParentClient:
    """Asks the parent which clients may connect, and as whom."""

    def __init__(self, pipe: Pipe[messages.ToWorker]) -> None:
        self.requests = Requests(pipe.send)
        self._pipe = pipe

    async def admit(self, context: Context, connection: Connection, request: ConnectRequest) -> None:
        """Ask the parent whether a client may connect, and connect or refuse it."""
        done = asyncio.Event()

        def on_answer(answer: messages.Answer | None) -> None:
            # At once: what the parent sends to this client next may be in the same segment.
            try:
                if isinstance(answer, messages.Admitted):
                    self._connect(context, connection, request, answer)
                elif isinstance(answer, messages.Refused):
                    connection.spread_seconds = answer.spread_seconds
                    admission.refuse(context, connection, answer.code)
                else:  # it cannot be read
                    self._give_up(connection, request)
            except Exception:
                self._give_up(connection, request)
                raise
            finally:
                done.set()

        self.requests.send(
            lambda number: messages.Admit(
                number,
                request.client_id,
                request.secret,
                request.identity,
                request.session,
                connection.address,
                connection.kind,
            ),
            on_answer,
        )
        await done.wait()

    def _give_up(self, connection: Connection, request: ConnectRequest) -> None:
        """Close a connection whose client the parent may have admitted."""
        connection.close(CloseCode.INTERNAL)
        self._pipe.send(messages.Failed(request.secret))

    def _connect(
        self, context: Context, connection: Connection, request: ConnectRequest, answer: messages.Admitted
    ) -> None:
        hub, state = context.hub, answer.session
        if state is None:
            request = replace(request, session=None)
            session = None
        else:
            assert request.session is not None
            session = hub.new_session(state.client_id, state.identity)
            session.subscriptions = {one.pattern: one for one in state.subscriptions}
            session.known, session.elsewhere = state.known, state.elsewhere
            if state.personal is not None:
                hub.store.log_of(session).load_state(state.personal)
        if not connection.can_write or context.draining:
            # The connection was lost while the parent was asked: its session stays as it was.
            session = session or hub.new_session(request.client_id, request.identity)
            code = CloseCode.RESTART if context.draining else connection.code
            change = ClientChange("client.disconnected", code=code, seconds=0.0)
            hub.report(session, change, now_ns=0)
            connection.close(CloseCode.RESTART)
            return
        if session is not None:
            hub.store.add_attached(session, request.session or "")
        # The policy may have been replaced while the parent was asked.
        request = replace(request, identity=context.policy.renewed(request.identity))
        admission.open_session(context, connection, request)

    async def allows_identity(self, context: Context, session: Session, identity: Identity) -> bool:
        """Ask the parent whether a client's user may have one more client."""
        answer = await self.requests.ask(
            lambda number: messages.Identify(number, session.client_id, identity), within=None
        )
        return isinstance(answer, messages.Identified) and answer.allowed

    def publish(self, context: Context, session: Session, message: Publish) -> None:
        """Have the parent publish a client's event, and answer the client when it has."""
        give = admission.answering(context, session, message)

        def on_answer(answer: messages.Answer | None) -> None:
            if isinstance(answer, messages.Broadcasted) and answer.result is not None:
                give(answer.result)
            elif isinstance(answer, messages.Broadcasted) and answer.error:
                give(RequestError(ErrorCode[answer.error], answer.message, retry_after=answer.retry_after))
            else:
                give(RequestError(ErrorCode.INTERNAL, "the event may or may not have been published"))

        text = msgspec.json.encode(message)
        self.requests.send(lambda number: messages.Publish(number, session.client_id, text), on_answer)

    def release(self, context: Context, message: messages.Release) -> None:
        """Close the connection of a client whose session another connection takes over."""
        admission.take_over(context, message.client_id)
        self._pipe.send(messages.Released(message.number))


class WorkerObserver:
    """Reports to the parent what clients do, and delivers personal messages in this process."""

    def __init__(self, local: Observer, *, send: Callable[[messages.Message], object]) -> None:
        self.on_denied = local.on_denied
        self.deliver_personal = local.deliver_personal
        self._send = send
        self._confirmed: dict[Session, None] = {}
        self._reported: dict[Session, tuple[View, Cursors]] = {}
        """What the parent knows of each client."""

    def on_change(self, session: Session, change: ClientChange, *, connected: int, now_ns: int) -> None:
        """Report it, with what the parent must know of the session if this process ends."""
        view_before, known_before = self._reported.pop(session, _NOTHING)
        known = {name: at for name, at in session.known.items() if known_before.get(name) != at}
        view = view_before
        if session.reader is not None:
            view = session.reader.view  # one object for all clients that subscribe to the same
            self._reported[session] = view, session.known
        removed = [one.pattern for one in view_before - view if one.pattern not in session.subscriptions]
        self._send(messages.Changed(session.client_id, change, list(view - view_before), removed, known))

    def on_subscribed(self, patterns: Iterable[str]) -> None:
        """Do nothing: `on_change` reports it."""

    def on_confirmed(self, session: Session) -> None:
        self._confirmed[session] = None

    def send_confirmed(self) -> None:
        """Report what clients have confirmed; equal cursors share one message."""
        groups: dict[int, list[Session]] = {}
        for session in self._confirmed:
            if session.reader is not None:
                view, _ = self._reported.get(session, _NOTHING)
                self._reported[session] = view, session.known
                groups.setdefault(id(session.known), []).append(session)
        self._confirmed.clear()
        for sessions in groups.values():
            names = [session.client_id for session in sessions]
            self._send(messages.Confirmed(names, dict(sessions[0].known)))
