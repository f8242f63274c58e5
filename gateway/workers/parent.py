"""The clients of one worker, of which the parent decides and keeps what outlives a connection."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace

from gateway.core.protocol.errors import CloseCode
from gateway.core.protocol.events import ClientChange
from gateway.core.sessions import store
from gateway.core.sessions.permissions import Identity
from gateway.core.sessions.requests import ConnectRequest
from gateway.core.sessions.session import Session
from gateway.web import admission
from gateway.web.context import Context
from gateway.web.sockets.connection import Connection
from gateway.workers import messages
from gateway.workers.pipe import Pipe


Answer = messages.Admitted | messages.Refused | messages.Renamed


class ParentClient:
    """Asks the parent who may come in, and tells it what clients do."""

    def __init__(self, context: Context, pipe: Pipe[messages.ToWorker]) -> None:
        self._context = context
        self._hub = context.hub
        self._pipe = pipe
        self._numbers = itertools.count(1)
        self._asked: dict[int, Callable[[Answer], object]] = {}
        self._confirmed: dict[Session, None] = {}
        context.remote_admission = self
        self._hub.announce = self._did
        self._hub.confirm = self._confirm

    async def admit(self, connection: Connection, connect_request: ConnectRequest) -> None:
        """Ask the parent whether a client may come in, and let it in."""
        done = asyncio.Event()

        def go_on(answer: Answer) -> None:
            # At once: what the parent says of this client next may be in the same segment.
            if isinstance(answer, messages.Admitted):
                self._enter(connection, connect_request, answer)
            elif isinstance(answer, messages.Refused):
                connection.spread_seconds = answer.spread_seconds
                admission.refuse(self._context, connection, answer.code)
            done.set()

        number = self._ask(go_on)
        self._pipe.send(
            messages.Arrive(
                number,
                connect_request.client_id,
                connect_request.secret,
                connect_request.identity,
                connect_request.session,
                connection.address,
            )
        )
        await done.wait()

    def _enter(
        self, connection: Connection, connect_request: ConnectRequest, answer: messages.Admitted
    ) -> None:
        state = answer.session
        if state is None:
            connect_request = replace(connect_request, session=None)
            session = None
        else:
            assert connect_request.session is not None
            session = self._hub.session(state.client_id, state.identity)
            session.subscriptions = dict(store.subscriptions(state.followed))
            session.known = state.known
            if state.personal is not None:
                self._hub.store.log_of(session).replace(state.personal)
        if not connection.can_write or self._context.draining:
            # It went while it was asked for; its session, as it was, waits on.
            session = session or self._hub.session(
                connect_request.client_id, connect_request.identity
            )
            code = CloseCode.RESTART if self._context.draining else connection.code
            self._did(session, ClientChange("client.disconnected", code=code, seconds=0.0), 0)
            connection.close(CloseCode.RESTART)
            return
        if session is not None:
            self._hub.store.add(session, connect_request.session or "")
        admission.open_session(self._context, connection, connect_request)

    async def allows_identity(self, session: Session, identity: Identity) -> bool:
        """Ask the parent whether a client's user may have it among its clients."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def go_on(answer: Answer) -> None:
            if not done.done():
                done.set_result(isinstance(answer, messages.Renamed) and answer.allowed)

        self._pipe.send(messages.Rename(self._ask(go_on), session.client_id, identity))
        return await done

    def release(self, message: messages.Release) -> None:
        """Let go of a client that another connection takes over."""
        old = self._context.connections.get(message.client_id)
        if old is not None:
            old.close(CloseCode.SESSION_TAKEN_OVER)
            admission.release(self._context, old)
        self._pipe.send(messages.Released(message.number))

    def answered(self, answer: Answer) -> None:
        """Go on with an answer."""
        self._asked.pop(answer.number)(answer)

    def _ask(self, go_on: Callable[[Answer], object]) -> int:
        number = next(self._numbers)
        self._asked[number] = go_on
        return number

    def _did(self, session: Session, notice: ClientChange, _: int) -> None:
        """Tell the parent what a client did."""
        followed, known = store.followed(session), store.known(session)
        self._pipe.send(messages.Did(session.client_id, notice, followed, known))

    def _confirm(self, session: Session) -> None:
        self._confirmed[session] = None

    def tell_known(self) -> None:
        """Tell the parent what clients have confirmed; those that got the same share one message."""
        groups: dict[int, list[Session]] = {}
        for session in self._confirmed:
            if session.client_id in self._hub.sessions:
                groups.setdefault(id(session.known), []).append(session)
        self._confirmed.clear()
        for sessions in groups.values():
            names = [session.client_id for session in sessions]
            self._pipe.send(messages.Known(names, dict(sessions[0].known)))
