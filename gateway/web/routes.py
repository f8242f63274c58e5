"""Every address that the gateway serves, in one table.

`gateway.web.app` serves it; the OpenAPI document, the links on the page ``/`` and the table in
docs/protocol.md, part 3, come from it. A route's summary is the docstring of its handler."""

from functools import partial
from typing import Final

from gateway.core.protocol import messages
from gateway.core.protocol.errors import ErrorCode
from gateway.web.authentication import Access
from gateway.web.endpoints import page, resources, rest, schemas
from gateway.web.endpoints.schemas import SUBSCRIBE_QUERY, WEBSOCKET_QUERY, Query, Route, integer
from gateway.web.endpoints.sse import events
from gateway.web.endpoints.websocket import websocket


_API: Final = "/api/v1/websocket"
_PAGE: Final = (
    Query("limit", "entries per page", integer(1, rest.PAGE_LIMIT_MAX)),
    Query("offset", "entries to skip", integer(0, 2**31)),
)
_HISTORY: Final = (
    Query("since", "the last position seen: OFFSET or EPOCH:OFFSET"),
    Query("limit", "maximum number of events", integer(1, rest.HISTORY_LIMIT_MAX)),
)
_INVALID: Final = (ErrorCode.INVALID_FIELD,)
_INVALID_CHANNEL: Final = (*_INVALID, ErrorCode.INVALID_CHANNEL)
_UNKNOWN_CHANNEL: Final = (ErrorCode.INVALID_CHANNEL, ErrorCode.UNKNOWN_CHANNEL)
_BROADCAST_ERRORS: Final = (
    *(ErrorCode.INVALID_JSON, ErrorCode.INVALID_FIELD, ErrorCode.UNKNOWN_CLIENT),
    *(ErrorCode.TOO_LARGE, ErrorCode.INVALID_EVENT, ErrorCode.UNAVAILABLE),
)
_admin: Final = partial(Route, access=Access.ADMIN, is_proxied=True, tag="gateway", is_strict=True)
_subscriber: Final = partial(Route, access=Access.SUBSCRIBER, is_proxied=True, tag="channels", is_strict=True)
_publisher: Final = partial(Route, access=Access.PUBLISHER, is_proxied=True, tag="events", is_strict=True)
_identified: Final = partial(Route, access=Access.IDENTIFIED, is_proxied=True, tag="channels", is_strict=True)

ROUTES: Final = (
    Route("/", page.page, is_in_openapi=False),
    Route("/icon.svg", page.page_file, is_in_openapi=False),
    Route("/embed.js", page.embed, is_in_openapi=False),
    Route("/event-stream.js", page.event_stream, is_in_openapi=False),
    Route("/assets/{name}", page.page_file, is_in_openapi=False),
    # It reads the token itself: an invalid one from a browser is reported on the open socket.
    Route("/ws", websocket, query=WEBSOCKET_QUERY, is_stream=True, is_in_openapi=False, aliases=("/ws/",)),
    Route(
        "/events",
        events,
        access=Access.IDENTIFIED,
        tag="events",
        query=(*SUBSCRIBE_QUERY, Query("lastEventId", "the same as the header")),
        headers=(Query("Last-Event-ID", "the id of the last event received: the stream continues after it"),),
        errors=(*_INVALID_CHANNEL, ErrorCode.INVALID_FILTER),
        media="text/event-stream",
        is_stream=True,
        is_strict=True,
    ),
    _admin(f"{_API}/status", rest.status, query=_PAGE, answer=resources.GatewayStatus, errors=_INVALID),
    Route(
        f"{_API}/clients/{{client}}",
        rest.disconnect,
        method="DELETE",
        access=Access.OPERATOR,
        is_proxied=True,
        tag="gateway",
        answer=resources.Disconnected,
        errors=(ErrorCode.UNKNOWN_CLIENT,),
    ),
    Route(
        f"{_API}/users/{{user}}",
        rest.disconnect_user,
        method="DELETE",
        access=Access.OPERATOR,
        is_proxied=True,
        tag="gateway",
        answer=resources.UserDisconnected,
        errors=(ErrorCode.UNAVAILABLE,),
    ),
    _identified(f"{_API}/channels", rest.channels, answer=resources.Channels, errors=_INVALID),
    _subscriber(f"{_API}/channels/{{channel}}", rest.channel, answer=resources.ChannelDetail, errors=_UNKNOWN_CHANNEL),
    _subscriber(
        f"{_API}/channels/{{channel}}/events",
        rest.history,
        tag="events",
        query=_HISTORY,
        answer=resources.History,
        errors=(*_INVALID, *_UNKNOWN_CHANNEL),
    ),
    _subscriber(
        f"{_API}/channels/{{channel}}/presence",
        rest.presence,
        query=_PAGE,
        answer=resources.Presence,
        errors=_INVALID_CHANNEL,
    ),
    _publisher(
        f"{_API}/broadcast",
        rest.broadcast,
        method="POST",
        query=(Query("channel", "the channel for which the body is an event"),),
        body=messages.Broadcast,
        answer=messages.BroadcastResult,
        errors=_BROADCAST_ERRORS,
    ),
    _admin(f"{_API}/publishers", rest.publishers, query=_PAGE, answer=resources.Publishers, errors=_INVALID),
    _admin(f"{_API}/rejections", rest.rejections, answer=resources.Rejections, errors=_INVALID),
    _admin("/metrics", rest.metrics, media="text/plain", is_strict=False),
    Route("/healthz", rest.health, is_proxied=True, is_urgent=True, tag="gateway", answer=resources.Health),
    Route(
        "/readyz",
        rest.readiness,
        is_proxied=True,
        is_urgent=True,
        tag="gateway",
        answer=resources.Readiness,
        also={503: "New clients cannot connect; `reasons` says why"},
    ),
    Route("/openapi.json", schemas.openapi, answer=dict),
    Route("/asyncapi.json", schemas.asyncapi, answer=dict),
)
