"""REST: the state of the gateway and its channels, and broadcasts over HTTP.

The docstring of each handler is its summary in the documents."""

import codecs
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec
from aiohttp import web

from gateway import __version__
from gateway.core.cluster.presence import PresentClient
from gateway.core.fanout.catch_up import with_sources
from gateway.core.ingest.pipeline import Pipeline
from gateway.core.ingest.publishers import Publisher
from gateway.core.ingest.streams import Stream
from gateway.core.log.log import ChannelLog
from gateway.core.log.sources import ORIGIN, Cursor
from gateway.core.protocol import messages
from gateway.core.protocol.channels import is_name
from gateway.core.protocol.errors import CloseCode, ErrorCode, RequestError
from gateway.core.protocol.events import STANDARD, timestamp, unix_ns
from gateway.core.protocol.frames import text_payload
from gateway.core.protocol.positions import read_position
from gateway.core.sessions import requests
from gateway.core.sessions.broadcast import Sender
from gateway.core.sessions.permissions import Action
from gateway.core.sessions.session import Session
from gateway.web.access import shown
from gateway.web.authentication import IDENTITY, audit
from gateway.web.context import BODY, CONTEXT, ConnectedClient, Context
from gateway.web.endpoints import resources
from gateway.web.problems import RETRY_AFTER_SECONDS, invalid_field


IDEMPOTENCY_KEY = "Idempotency-Key"
HISTORY_LIMIT, HISTORY_LIMIT_MAX = 100, 1000
PAGE_LIMIT, PAGE_LIMIT_MAX = 100, 1000
_HISTORY_BYTES_MAX = 4 * 1024 * 1024
_RATE_NS = 60 * 1_000_000_000
"""The period over which a channel's rate is measured."""

_ENTRIES_PER_PIECE = 20
"""Entries of a list that are written before events may pass."""

Entry = TypeVar("Entry")

_SCHEMAS = {name: msgspec.json.schema(standard.data) for name, standard in STANDARD.items()}


def answer(value: object, *, status: int = 200) -> web.Response:
    """Return a JSON response that is not to be cached."""
    return web.Response(
        body=msgspec.json.encode(value),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


async def status(request: web.Request) -> web.Response:
    """Counts, state of the bus, and a page of the clients."""
    context = request.app[CONTEXT]
    await context.refresh_statistics()
    hub, now_ns, reasons = context.hub, context.now_ns(), context.unready()
    clients = context.connected_clients()
    part, page = _page(request.query, len(clients))
    shown = [
        _client(one, one.session, now_ns)
        async for one in _unhurried(context, clients[part])
        if one.session is not None  # it has disconnected while those before it were written
    ]
    return answer(
        resources.GatewayStatus(
            version=__version__,
            authentication="none" if context.verifier is None else "token",
            uptime_seconds=(now_ns - context.started_ns) / 1e9,
            ready=not reasons,
            reasons=reasons,
            connections=len(clients),
            sessions_remembered=hub.store.remembered,
            subscriptions=sum(len(s.subscriptions) for s in hub.sessions.values()),
            lagging=sum(one.lagging for one in clients),
            channels=sum(map(is_name, hub.logs.by_name)),
            process=resources.ProcessFigures(*context.process.read()),
            bus_state=hub.bus_state(),
            bus=context.bus(),
            cluster=_cluster(context),
            rejected=dict(_pipeline(context).ingest.rejections.counts),
            clients=shown,
            page=page,
        )
    )


def _cluster(context: Context) -> resources.Cluster | None:
    if context.cluster is None:
        return None
    state, now = context.cluster.state, unix_ns(context.now_ns()) / 1e9
    gateways = [
        resources.ClusterGateway(
            id=one.id,
            name=one.name,
            version=one.version,
            uptime_seconds=max(now - one.started, 0.0),
            clients=one.clients,
            lag_seconds=one.lag_seconds,
            recovering=one.recovering,
            ready=one.ready,
            own=one.id == state.own_id,
        )
        for one in state.members
    ]
    return resources.Cluster(state.degraded, gateways)


def _client(client: ConnectedClient, session: Session, now_ns: int) -> resources.Client:
    return resources.Client(
        client_id=session.client_id,
        user_id=session.user_id,
        address=client.address,
        connected_seconds=(now_ns - client.connected_ns) / 1e9,
        channels=list(session.subscriptions),
        lagging=client.lagging,
        lag=client.lag,
        buffered=client.buffered,
    )


async def disconnect(request: web.Request) -> web.Response:
    """Disconnect a client: it is closed with 4504, and does not reconnect by itself."""
    context, identity = request.app[CONTEXT], request[IDENTITY]
    client_id = request.match_info["client"]
    is_here = context.disconnect(client_id, CloseCode.DISCONNECTED)
    if not (is_here or (context.cluster is not None and await context.cluster.sessions.kick(client_id))):
        raise RequestError(ErrorCode.UNKNOWN_CLIENT, f"no client {shown(client_id)} is connected")
    audit.info("client_disconnected", client_id=client_id, user_id=identity.user_id, address=request.remote)
    return answer(resources.Disconnected(client_id))


async def disconnect_user(request: web.Request) -> web.Response:
    """Disconnect all clients of a user, as one client is; the answer is how many there were."""
    context, identity = request.app[CONTEXT], request[IDENTITY]
    user = request.match_info["user"]
    count = context.disconnect_user(user)
    if context.cluster is not None:
        count += await context.cluster.sessions.kick_user(user)
    audit.info("user_disconnected", user=user, clients=count, user_id=identity.user_id, address=request.remote)
    return answer(resources.UserDisconnected(user, count))


async def channels(request: web.Request) -> web.Response:
    """The open channels that the caller may subscribe to."""
    context, permissions = request.app[CONTEXT], request[IDENTITY].permissions
    hub = context.hub
    # Once for all channels: one by one it would delay events.
    subscribers = hub.subscriber_counts()
    found = [
        _channel(log, subscribers=subscribers[name])
        async for name, log in _unhurried(context, sorted(hub.logs.by_name.items()))
        if is_name(name) and permissions.may(Action.SUBSCRIBE, name)
    ]
    return answer(resources.Channels(found))


async def channel(request: web.Request) -> web.Response:
    """One channel, with its rate (`events_per_second`)."""
    context = request.app[CONTEXT]
    log = _log(context, request.match_info["channel"])
    summary = _channel(log, subscribers=context.hub.subscribers(log.name))
    now_ns = context.now_ns()
    since_ns = max(now_ns - _RATE_NS, context.started_ns)
    count = log.count_since(since_ns)
    if count == len(log) and log.floor:  # evicted events are not counted
        since_ns = log.read(log.start, bytes_max=1)[0].received_ns
    rate = count / max((now_ns - since_ns) / 1e9, 1.0)
    return answer(resources.ChannelDetail(**msgspec.structs.asdict(summary), events_per_second=rate))


async def presence(request: web.Request) -> web.Response:
    """The clients that are subscribed to a channel now."""
    context = request.app[CONTEXT]
    name = request.match_info["channel"]
    present: Sequence[Session | PresentClient] = context.hub.presence(name)
    if context.cluster is not None:
        present = await context.cluster.clients.present(name)
    part, page = _page(request.query, len(present))
    clients = None
    if request[IDENTITY].permissions.may(Action.PRESENCE, name):
        clients = [resources.PresentClient(one.client_id, one.user_id) for one in present[part]]
    return answer(
        resources.Presence(
            channel=name,
            subscribers=len(present),
            users=len({one.user_id for one in present if one.user_id is not None}),
            clients=clients,
            page=page,
        )
    )


async def history(request: web.Request) -> web.Response:
    """A channel's history: the newest events, or those after a position."""
    context = request.app[CONTEXT]
    log = _log(context, request.match_info["channel"])
    limit = number(request.query, "limit", default=HISTORY_LIMIT, least=1, most=HISTORY_LIMIT_MAX)
    after, gaps = _start(log, request.query.get("since"), limit)
    entries = log.read(after, bytes_max=_HISTORY_BYTES_MAX)[:limit]
    reached = log.advance(after, entries[-1].at if entries else log.at)
    return answer(
        resources.History(
            channel=log.name,
            epoch=log.position.epoch,
            events=[msgspec.Raw(text_payload(frame)) for frame in with_sources(log, ORIGIN, gaps[1:], entries)],
            next=reached.position,
            gap=gaps[0] if gaps else None,
        )
    )


def _start(log: ChannelLog, since: str | None, limit: int) -> tuple[Cursor, list[messages.Gap]]:
    """Return the cursor after which a page starts, and the gaps before it."""
    if since is None:
        return log.before_last(limit), []
    try:
        position = read_position(since if ":" in since else f"{log.position.epoch}:{since}")
    except ValueError as error:
        raise invalid_field(f"since: {error}") from error
    found = log.resume(position, ahead_max=log.retention.events_max)
    return found.cursor, [*requests.lost_gaps(log, found), *log.missing(found.cursor)]


async def rejections(request: web.Request) -> web.Response:
    """The newest bus messages of each endpoint that were rejected, why, and what to change."""
    context = request.app[CONTEXT]
    found = _pipeline(context).ingest.rejections
    endpoints = {one.link: f"tcp://{one.address}" if one.address else one.endpoint for one in context.bus()}
    newest = [
        resources.RejectedMessage(
            number=one.number,
            time=timestamp(one.received_ns),
            reason=one.reason,
            detail=one.detail,
            advice=one.advice,
            topic=one.topic,
            frames=one.frames,
            hex=[begin.hex() for begin in one.begins],
            endpoint=endpoints.get(one.link, ""),
            publisher=one.publisher,
            payload=one.payload.decode(errors="replace"),
        )
        async for one in _unhurried(context, found.newest)
    ]
    return answer(resources.Rejections(counts=dict(found.counts), rejections=newest))


async def publishers(request: web.Request) -> web.Response:
    """Publishers and their topics: messages lost, duplicated and late."""
    context = request.app[CONTEXT]
    recovery, now_ns = _pipeline(context).ingest.recovery, context.now_ns()
    streams, known = recovery.streams, recovery.publishers.known[::-1][:PAGE_LIMIT_MAX]
    newest_first = list(streams)[::-1]
    part, page = _page(request.query, len(newest_first))
    transits: dict[int, float] = {}
    for stream in newest_first[:PAGE_LIMIT_MAX]:
        transit = _transit(stream)
        if transit is not None:
            transits[stream.incarnation] = min(transit, transits.get(stream.incarnation, transit), key=abs)
    publishers = [_publisher(one, transits, now_ns) async for one in _unhurried(context, known)]
    topics = [_topic(one, now_ns) async for one in _unhurried(context, newest_first[part])]
    return answer(
        resources.Publishers(
            lost=streams.lost,
            duplicates=streams.duplicates,
            late=streams.late,
            repaired=recovery.repaired,
            recovering=recovery.recovering,
            publishers=publishers,
            topics=topics,
            page=page,
        )
    )


def _publisher(publisher: Publisher, transits: Mapping[int, float], now_ns: int) -> resources.KnownPublisher:
    return resources.KnownPublisher(
        incarnation=f"{publisher.incarnation:016x}",
        name=publisher.name,
        stale=publisher.stale,
        interval_seconds=publisher.interval_ns / 1e9,
        silent_seconds=(now_ns - publisher.last_ns) / 1e9,
        transit_seconds=transits.get(publisher.incarnation),
        replay=publisher.replay,
    )


def _topic(stream: Stream, now_ns: int) -> resources.PublishedTopic:
    return resources.PublishedTopic(
        incarnation=f"{stream.incarnation:016x}",
        topic=stream.topic,
        first_sequence=stream.first,
        newest_sequence=stream.newest,
        lost=stream.lost,
        duplicates=stream.duplicates,
        late=stream.late,
        last_seconds=(now_ns - stream.last_ns) / 1e9,
        transit_seconds=_transit(stream),
    )


def _transit(stream: Stream) -> float | None:
    """Return the seconds from sending to receipt of a stream's last message, if its publisher gives the time."""
    if stream.transit_ns is None or stream.transit_ns == stream.last_ns:  # without a time of sending
        return None
    return unix_ns(stream.transit_ns) / 1e9


async def broadcast(request: web.Request) -> web.Response:
    """Send an event to a channel, a client, a user or everyone; with `?channel=` the body is the event."""
    context = request.app[CONTEXT]
    message = _broadcast(request[BODY], request.query.get("channel"), request.headers.get(IDEMPOTENCY_KEY))
    size, size_max = len(message.event), context.config.ingest.payload_bytes_max
    if size > size_max:
        raise RequestError(
            ErrorCode.TOO_LARGE,
            f"event: has {size} bytes; at most {size_max} are accepted (`ingest.payload_bytes_max`)",
        )
    identity = request[IDENTITY]
    assert context.broadcaster is not None, "the process that reads the bus answers REST"
    if context.cluster is None:
        result = context.broadcaster.send(message, Sender(identity), now_ns=context.now_ns())
    else:
        result = await context.cluster.broadcast(message, Sender(identity))
    audit.info(
        "broadcast",
        user_id=identity.user_id,
        address=request.remote,
        channel=result.channel,
        to=message.client_id or message.user_id,
        recipients=result.recipients,
        bytes=size,
    )
    return answer(result)


def _broadcast(body: bytes, channel: str | None, key: str | None) -> messages.Broadcast:
    """Read a broadcast's body: a message that names its target, or an event for `channel`.

    `key` is the idempotency key of the header, which counts if the body has none."""
    body = body.removeprefix(codecs.BOM_UTF8)  # of a file that an editor on Windows wrote
    try:
        body.decode()  # msgspec does not check the encoding of raw values
        if channel is None:
            message = msgspec.json.decode(body, type=messages.Broadcast)
        else:
            message = messages.Broadcast(channel=channel, event=msgspec.json.decode(body, type=msgspec.Raw))
        if key is not None and message.idempotency_key is None:
            message.idempotency_key = msgspec.convert(key, messages.IdempotencyKey)
        return message
    except msgspec.ValidationError as error:
        raise invalid_field(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(ErrorCode.INVALID_JSON, str(error)) from error


async def health(request: web.Request) -> web.Response:
    """Liveness: the event loop runs."""
    return answer(resources.Health("ok"))


async def readiness(request: web.Request) -> web.Response:
    """Readiness: whether new clients can connect."""
    context = request.app[CONTEXT]
    reasons = context.unready()
    degraded = [] if context.cluster is None else context.cluster.state.degraded
    response = answer(resources.Readiness(not reasons, reasons, degraded), status=503 if reasons else 200)
    if reasons:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


async def metrics(request: web.Request) -> web.Response:
    """Metrics for Prometheus."""
    context = request.app[CONTEXT]
    await context.refresh_statistics()
    written = []
    content_type, parts = context.metrics.render(request.headers.get("Accept", ""))
    for part in parts:
        written.append(part)
        await context.request_limit.pause()
    return web.Response(body=b"".join(written), headers={"Content-Type": content_type, "Vary": "Accept"})


async def _unhurried(context: Context, entries: Iterable[Entry]) -> AsyncIterator[Entry]:
    """Return entries one by one, with pauses for events."""
    for number_, entry in enumerate(entries):
        if number_ % _ENTRIES_PER_PIECE == 0:
            await context.request_limit.pause()
        yield entry


def _page(query: Mapping[str, str], total: int) -> tuple[slice, resources.Page]:
    """Return the part of a list that a query asks for."""
    offset = number(query, "offset", default=0, least=0, most=2**31)
    limit = number(query, "limit", default=PAGE_LIMIT, least=1, most=PAGE_LIMIT_MAX)
    return slice(offset, offset + limit), resources.Page(offset, limit, total)


def _pipeline(context: Context) -> Pipeline:
    assert context.pipeline is not None, "the process that reads the bus answers REST"
    return context.pipeline


def _log(context: Context, name: str) -> ChannelLog:
    log = context.hub.logs.by_name.get(name)
    if log is None:
        raise RequestError(
            ErrorCode.UNKNOWN_CHANNEL, f"the channel {name!r} is not open; it opens with its first event"
        )
    return log


def _channel(log: ChannelLog, *, subscribers: int) -> resources.Channel:
    standard, retention = STANDARD.get(log.name), log.retention
    return resources.Channel(
        name=log.name,
        description=standard.description if standard else "",
        standard=standard is not None,
        subscribers=subscribers,
        position=log.position,
        events=len(log),
        bytes=log.bytes,
        start=log.start.position,
        retention=resources.RetentionInfo(
            events_max=retention.events_max, bytes_max=retention.bytes_max, age_seconds_max=retention.age_ns_max / 1e9
        ),
        schema=_SCHEMAS.get(log.name),
    )


def number(query: Mapping[str, str], name: str, *, default: int, least: int, most: int) -> int:
    """Return a whole number from a query. Raises RequestError: it is not a number, or out of range."""
    text = query.get(name)
    if text is None:
        return default
    if text.isascii() and text.isdigit() and len(text) <= 19 and least <= int(text) <= most:
        return int(text)
    raise invalid_field(f"{name}: {text[:40]!r} is not a whole number from {least} to {most}")
