"""Admission: reads a connect request, gives a connection its session, and releases it at the end."""

import asyncio
import logging
import secrets
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import msgspec
from aiohttp import web

from gateway.core.protocol import messages
from gateway.core.protocol.errors import CloseCode, ErrorCode, RequestError
from gateway.core.protocol.messages import Position
from gateway.core.sessions.permissions import Identity
from gateway.core.sessions.requests import ConnectRequest
from gateway.core.sessions.session import Session, Unanswered
from gateway.runtime.logs import Throttle
from gateway.web.authentication import audit, identity_of_token
from gateway.web.context import Context
from gateway.web.problems import invalid_field
from gateway.web.sockets.connection import Connection, Format, WebSocket
from gateway.web.sockets.token_deadline import TokenDeadline


_SECRET_BYTES = 24
_USER_ID_CHARS_MAX = 128
_LAST_DIGITS_MAX = 9
_STARTUP_SPREAD_SECONDS = 1.0
"""A gateway that has just started is ready soon."""
_denials = Throttle(count=5, interval_seconds=1.0)


def refusal_code(context: Context, address: str) -> CloseCode | None:
    """Return why no client from an address is admitted now, or None.

    It is a close code, sent on the open connection: browsers hide the status of an upgrade."""
    if context.draining:
        return CloseCode.RESTART
    if context.refilling():
        return CloseCode.TRY_LATER
    if len(context.hub.sessions) >= context.config.clients.connections_max:
        context.metrics.refused("clients")
        return CloseCode.TRY_LATER
    if context.address_limit.is_reached(address):
        context.metrics.refused("address")
        return CloseCode.TRY_LATER
    return None


def spread_seconds(context: Context) -> float:
    """Return over how many seconds the clients that are closed now reconnect."""
    if context.refilling():
        return _STARTUP_SPREAD_SECONDS
    return context.config.shutdown.reconnect_spread_seconds


def connect(context: Context, request: web.Request, stream: WebSocket | Format) -> Connection:
    """Return the connection of a request, closed already if no client is admitted now."""
    connection = Connection(
        request,
        stream,
        hub=context.hub,
        heartbeat=context.heartbeat,
        turns=context.turns,
        writers=context.socket_writers,
        write_buffer_bytes_max=context.config.clients.write_buffer_bytes_max,
        spread_seconds=spread_seconds(context),
        connected_ns=context.now_ns(),
    )
    code = refusal_code(context, connection.address)
    if code is not None:
        refuse(context, connection, code)
    return connection


def refuse(context: Context, connection: Connection, code: CloseCode) -> None:
    """Close a connection that has no session."""
    connection.close(code)
    count_refused(context, code)


def count_refused(context: Context, code: CloseCode) -> None:
    """Count a connection that was opened and closed without a session."""
    context.metrics.opened()
    context.metrics.closed(code, 0)


class LocalAdmission:
    """Admission by a process that knows all clients."""

    async def admit(self, context: Context, connection: Connection, request: ConnectRequest) -> None:
        """Attach a session, unless its user, its address or the gateway has too many clients."""
        if context.cluster is not None:
            await context.cluster.sessions.take(request)
        held = context.hub.attached(request, now_ns=context.now_ns())
        if context.cluster is not None and held is None:
            client_id = context.hub.client_id(request, now_ns=context.now_ns())
            if not await user_admitted(context, request.identity, client_id):
                refuse(context, connection, CloseCode.USER_LIMIT)
                return
            if not connection.can_write:
                return  # it ended meanwhile
            held = context.hub.attached(request, now_ns=context.now_ns())
        if held is not None:
            take_over(context, held.client_id)
        else:
            code: CloseCode | None = CloseCode.USER_LIMIT
            if not user_limit_reached(context, request.identity):
                # Checked again: others were admitted while the token was verified.
                code = refusal_code(context, connection.address)
            if code is not None:
                refuse(context, connection, code)
                return
        session = open_session(context, connection, request)
        if request.session:
            context.metrics.session_resumed(found=session.client_id != request.client_id)

    async def allows_identity(self, context: Context, session: Session, identity: Identity) -> bool:
        return session.user_id == identity.user_id or await user_admitted(context, identity, session.client_id)

    def publish(self, context: Context, session: Session, message: messages.Publish) -> None:
        on_answer = answering(context, session, message)
        if context.cluster is not None:
            context.cluster.publish(message, session, on_answer)
            return
        assert context.broadcaster is not None, "this process reads the bus"
        try:
            on_answer(context.broadcaster.publish(message, session, now_ns=context.now_ns()))
        except RequestError as error:
            on_answer(error)


LOCAL = LocalAdmission()


def answering(
    context: Context, session: Session, message: messages.Publish
) -> Callable[[messages.BroadcastResult | RequestError], None]:
    """Return what answers the client that has sent an event, if it is still connected as it is now."""
    reader = session.reader

    def on_answer(answer: messages.BroadcastResult | RequestError) -> None:
        if session.reader is not reader:
            return  # another connection has the session, and its messages may have the same ids
        if isinstance(answer, RequestError):
            session.refuse(answer, message.id)
        else:
            session.confirm(message, answer, now_ns=context.now_ns())

    return on_answer


def open_session(context: Context, connection: Connection, connect_request: ConnectRequest) -> Session:
    """Attach an admitted client's session, send what it subscribed to, and return it.

    No other connection may have the session."""
    session = context.hub.connect(connect_request, connection.make_reader, now_ns=context.now_ns())
    connection.attach(session)
    context.connections[session.client_id] = connection
    context.address_limit.acquire(connection.address)
    if not context.in_worker:
        context.metrics.opened()
    context.heartbeat.monitor(connection, now=asyncio.get_running_loop().time())
    if context.verifier is not None:
        connection.token_deadline = TokenDeadline(session, connection.close, context.config.auth, context.now_ns)
    # Without authentication anyone can connect, and could fill the log.
    level = logging.DEBUG if context.verifier is None else logging.INFO
    audit.log(level, "client_connected", address=connection.address, **_identity_fields(session))
    return session


def user_limit_reached(context: Context, identity: Identity) -> bool:
    if context.verifier is None or identity.user_id is None:
        return False
    limit = context.config.clients.connections_per_user_max
    return context.hub.clients_of(identity.user_id) >= limit


async def user_admitted(context: Context, identity: Identity, client_id: str) -> bool:
    """Count a client as its user's on all gateways; return False if the user has too many already.

    If the engine of the cluster is down, the clients of this gateway count alone."""
    if user_limit_reached(context, identity):
        return False
    if context.cluster is None or context.verifier is None or identity.user_id is None:
        return True
    limit = context.config.clients.connections_per_user_max
    try:
        return await context.cluster.clients.admit(identity.user_id, client_id, limit=limit)
    except RequestError:
        return True


async def answer(context: Context, connection: Connection, message: Unanswered) -> None:
    """Answer a message that takes more than the client's session."""
    match message:
        case messages.Auth():
            await _authenticate(context, connection, message)
        case messages.Publish() if connection.session is not None:
            context.admission.publish(context, connection.session, message)


async def _authenticate(context: Context, connection: Connection, message: messages.Auth) -> None:
    """Verify the token in a message, and give the client's session its identity."""
    session = connection.session
    try:
        if context.verifier is None:
            raise RequestError(ErrorCode.UNSUPPORTED, "this gateway has no authentication; connect without a token")
        identity = await identity_of_token(context, message.token, address=connection.address)
        if session is None or not connection.can_write:
            return  # the connection ended meanwhile
        if not await context.admission.allows_identity(context, session, identity):
            raise RequestError(
                ErrorCode.FORBIDDEN,
                f"the user has {context.config.clients.connections_per_user_max} clients already "
                "(`clients.connections_per_user_max`); close one first",
            )
        if session.reader is None:
            return  # it ended meanwhile
        context.hub.authenticate(session, identity, message.id, now_ns=context.now_ns())
    except RequestError as error:
        if session is not None:
            session.refuse(error, message.id)
        return
    audit.info("client_authenticated", address=connection.address, **_identity_fields(session))
    if connection.token_deadline is not None:
        connection.token_deadline.restart()


def log_denied(session: Session, channels: Sequence[str]) -> None:
    """Write channels to the audit log that a client may not subscribe to."""
    suppressed = _denials.allow(session.client_id, now=time.monotonic())
    if suppressed is not None:
        audit.warning("subscription_denied", channels=channels, suppressed=suppressed, **_identity_fields(session))


def _identity_fields(session: Session) -> dict[str, object]:
    identity = session.identity
    roles = list(identity.roles)
    return {"client_id": session.client_id, "user_id": identity.user_id, "roles": roles}


def release(context: Context, connection: Connection, *, remember: bool = True) -> None:
    """Detach a connection's session, which may be resumed if it is to be remembered.

    Further calls have no effect."""
    session = connection.session
    if session is None:
        return
    connection.session = None
    if connection.token_deadline is not None:
        connection.token_deadline.cancel()
        connection.token_deadline = None  # it refers to the connection
    now_ns, code = context.now_ns(), connection.code
    seconds = (now_ns - connection.connected_ns) / 1e9
    context.heartbeat.stop_monitoring(connection)
    del context.connections[session.client_id]
    context.address_limit.release(connection.address)
    context.hub.disconnect(session, code=code, seconds=seconds, remember=remember, now_ns=now_ns)
    if not context.in_worker:
        context.metrics.closed(code, seconds)


def take_over(context: Context, client_id: str, *, remember: bool = True) -> bool:
    """Close a client's connection to this process, as another one takes its session over; return whether it has one."""
    connection = context.connections.get(client_id)
    if connection is None:
        return False
    connection.close(CloseCode.SESSION_TAKEN_OVER)
    release(context, connection, remember=remember)
    return True


async def let_go(context: Context, session: Session) -> None:
    """End a session of this process that another gateway has taken, with its connection."""
    if not take_over(context, session.client_id, remember=False):
        context.hub.store.drop(session)


def read_connect_request(query: Mapping[str, str], identity: Identity) -> ConnectRequest:
    """Read the query parameters of a connect; `user_id` counts only without authentication.
    Raises RequestError: a parameter is invalid."""
    user_id = query.get("user_id") or None
    if user_id is not None and len(user_id) > _USER_ID_CHARS_MAX:
        raise invalid_field(f"user_id: has {len(user_id)} characters; at most {_USER_ID_CHARS_MAX} are accepted")
    if identity.is_open:
        identity = replace(identity, user_id=user_id)
    elif user_id not in {None, identity.user_id}:
        raise invalid_field("user_id: is not the token's user; leave it out")
    names = [name for name in query.get("channels", "").split(",") if name]
    for name in () if names else ("last", "filter", "rate"):
        if query.get(name):
            raise invalid_field(
                f"{name}: has no effect without `channels`; name them, as in ?channels=metrics&{name}=…"
            )
    return ConnectRequest(
        client_id=str(uuid.uuid4()),
        secret=secrets.token_urlsafe(_SECRET_BYTES),
        identity=identity,
        session=query.get("session") or None,
        channels=names,
        last=_last(query.get("last")),
        since=_since(query.get("since")),
        options=messages.ViewOptions(query.get("filter") or None, _rate(query.get("rate"))),
    )


def _last(text: str | None) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _LAST_DIGITS_MAX):
        raise invalid_field(f"last: {text[:40]!r} is not a whole number of events")
    return int(text)


def _rate(text: str | None) -> float | None:
    if not text:
        return None
    try:
        return msgspec.convert(text, messages.Rate, strict=False)
    except msgspec.ValidationError as error:
        raise invalid_field(f"rate: {error}") from error


def _since(text: str | None) -> dict[str, Position] | None:
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=dict[str, Position])
    except (msgspec.DecodeError, RecursionError) as error:
        raise invalid_field(
            f'since: {error}; expected JSON like {{"metrics": {{"epoch": "...", "offset": 12}}}}'
        ) from error
