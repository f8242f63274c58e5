"""Every address that the gateway serves, in one table.

`gateway.web.app` serves it; the OpenAPI document, the links on the page ``/`` and the table in
docs/protocol.md, part 3, come from it.
"""

from typing import Final

from gateway.core.protocol import messages
from gateway.core.protocol.errors import ErrorCode
from gateway.web.authentication import Access
from gateway.web.endpoints import page, resources, rest, schemas
from gateway.web.endpoints.schemas import (
    CONNECT_QUERY,
    SUBSCRIBE_QUERY,
    TEXT,
    Query,
    Route,
    integer,
)
from gateway.web.endpoints.sse import events
from gateway.web.endpoints.websocket import websocket


_API: Final = "/api/v1/websocket"
_PAGE: Final = (
    Query("limit", "entries per page", integer(1, rest.PAGE_LIMIT_MAX)),
    Query("offset", "entries to skip", integer(0, 2**31)),
)
_INVALID_FIELD: Final = (ErrorCode.INVALID_FIELD,)
_NO_CHANNEL: Final = (ErrorCode.INVALID_CHANNEL, ErrorCode.UNKNOWN_CHANNEL)

ROUTES: Final = (
    Route(
        "GET",
        "/",
        page.page,
        "A page that links to these addresses; JSON if `Accept` asks for it",
        is_in_openapi=False,
    ),
    Route(
        "GET",
        "/ws",
        websocket,
        "The WebSocket (part 2)",
        # It reads the token itself: an invalid one from a browser is reported on the open socket.
        access=Access.OPEN,
        query=CONNECT_QUERY,
        is_stream=True,
        is_in_openapi=False,
    ),
    Route(
        "GET",
        "/events",
        events,
        "The same stream as Server-Sent Events; the header `Last-Event-ID` resumes it",
        access=Access.IDENTIFIED,
        query=(*SUBSCRIBE_QUERY, Query("lastEventId", "the same as the header", TEXT)),
        errors=(*_INVALID_FIELD, ErrorCode.INVALID_CHANNEL, ErrorCode.INVALID_FILTER),
        media="text/event-stream",
        is_stream=True,
    ),
    Route(
        "GET",
        f"{_API}/status",
        rest.status,
        "Counts, state of the bus, and a page of the clients",
        access=Access.ADMIN,
        is_proxied=True,
        query=_PAGE,
        answer=resources.GatewayStatus,
        errors=_INVALID_FIELD,
    ),
    Route(
        "GET",
        f"{_API}/channels",
        rest.channels,
        "The open channels that the caller may subscribe to",
        access=Access.IDENTIFIED,
        is_proxied=True,
        answer=resources.Channels,
    ),
    Route(
        "GET",
        f"{_API}/channels/{{channel}}",
        rest.channel,
        "One channel, with its rate (`events_per_second`)",
        access=Access.SUBSCRIBER,
        is_proxied=True,
        answer=resources.ChannelDetail,
        errors=_NO_CHANNEL,
    ),
    Route(
        "GET",
        f"{_API}/channels/{{channel}}/events",
        rest.history,
        "A channel's history: the newest events, or those after a position",
        access=Access.SUBSCRIBER,
        is_proxied=True,
        query=(
            Query("since", "the last position seen: OFFSET or EPOCH:OFFSET", TEXT),
            Query("limit", "maximum number of events", integer(1, rest.HISTORY_LIMIT_MAX)),
        ),
        answer=resources.History,
        errors=(*_INVALID_FIELD, *_NO_CHANNEL),
    ),
    Route(
        "GET",
        f"{_API}/channels/{{channel}}/presence",
        rest.presence,
        "The clients that are subscribed to a channel now",
        access=Access.SUBSCRIBER,
        is_proxied=True,
        query=_PAGE,
        answer=resources.Presence,
        errors=(*_INVALID_FIELD, ErrorCode.INVALID_CHANNEL),
    ),
    Route(
        "POST",
        f"{_API}/broadcast",
        rest.broadcast,
        "Send an event to a channel, a client, a user or everyone; with `?channel=` the body is "
        "the event",
        access=Access.IDENTIFIED,
        is_proxied=True,
        query=(Query("channel", "the channel for which the body is an event", TEXT),),
        body=messages.Broadcast,
        answer=messages.BroadcastResult,
        errors=(
            ErrorCode.INVALID_JSON,
            *_INVALID_FIELD,
            ErrorCode.UNKNOWN_CLIENT,
            ErrorCode.TOO_LARGE,
            ErrorCode.INVALID_EVENT,
            ErrorCode.UNAVAILABLE,
        ),
    ),
    Route(
        "GET",
        f"{_API}/publishers",
        rest.publishers,
        "Publishers and their topics: messages lost, duplicated and late",
        access=Access.ADMIN,
        is_proxied=True,
        query=_PAGE,
        answer=resources.Publishers,
        errors=_INVALID_FIELD,
    ),
    Route(
        "GET",
        f"{_API}/rejections",
        rest.rejections,
        "The newest bus messages that were rejected, and why",
        access=Access.ADMIN,
        is_proxied=True,
        answer=resources.Rejections,
    ),
    Route(
        "GET",
        "/metrics",
        rest.metrics,
        "Metrics for Prometheus",
        access=Access.ADMIN,
        is_proxied=True,
        media="text/plain",
    ),
    Route(
        "GET",
        "/healthz",
        rest.health,
        "Liveness: the event loop runs",
        is_proxied=True,
        answer=resources.Health,
    ),
    Route(
        "GET",
        "/readyz",
        rest.readiness,
        "Readiness: whether new clients can connect",
        is_proxied=True,
        answer=resources.Readiness,
        also={503: "New clients cannot connect; `reasons` says why"},
    ),
    Route("GET", "/openapi.json", schemas.openapi, "This HTTP interface (OpenAPI)", answer=dict),
    Route("GET", "/asyncapi.json", schemas.asyncapi, "The WebSocket (AsyncAPI)", answer=dict),
)
