"""OpenAPI 3.1 and AsyncAPI 3.0, generated from the models of messages, events and answers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, get_args

import msgspec
from aiohttp import web

from gateway import __version__
from gateway.core.protocol import events, messages
from gateway.core.protocol.errors import CloseCode, ErrorCode
from gateway.web.endpoints import resources
from gateway.web.endpoints.rest import answer
from gateway.web.problems import CONTENT_TYPE as PROBLEM_TYPE
from gateway.web.problems import Problem


JsonObject = dict[str, Any]  # Any: a document's values are of every JSON kind

_REF: Final = "#/components/schemas/{name}"
_API: Final = "/api/v1/websocket"


@dataclass(frozen=True, slots=True)
class Query:
    """A query parameter."""

    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that can be asked over HTTP."""

    method: str
    path: str
    summary: str
    answer: type | None
    query: tuple[Query, ...] = ()
    body: type | None = None
    errors: tuple[ErrorCode, ...] = ()
    also: Mapping[int, str] | None = None
    """Other statuses with the same answer, and when."""
    media: str = "application/json"


def _whole(least: int, most: int) -> JsonObject:
    return {"type": "integer", "minimum": least, "maximum": most}


_PAGE: Final = (
    Query("limit", "entries per page", _whole(1, 1000)),
    Query("offset", "entries to pass over", _whole(0, 2**31)),
)
_TEXT: Final = {"type": "string"}
_WRONG: Final = (ErrorCode.INVALID_FIELD,)
_NO_CHANNEL: Final = (ErrorCode.INVALID_CHANNEL, ErrorCode.UNKNOWN_CHANNEL)

OPERATIONS: Final = (
    Operation(
        "get",
        f"{_API}/status",
        "Counts, bus links, and a page of the clients",
        resources.GatewayStatus,
        _PAGE,
        errors=_WRONG,
    ),
    Operation("get", f"{_API}/channels", "The open channels", resources.Channels),
    Operation(
        "get",
        f"{_API}/channels/{{channel}}",
        "One channel, and how much comes on it",
        resources.ChannelDetail,
        errors=_NO_CHANNEL,
    ),
    Operation(
        "get",
        f"{_API}/channels/{{channel}}/events",
        "A part of a channel's log: the newest events, or those after a position",
        resources.History,
        (
            Query("since", "OFFSET or EPOCH:OFFSET, the last one seen", _TEXT),
            Query("limit", "events at most", _whole(1, 1000)),
        ),
        errors=(*_WRONG, *_NO_CHANNEL),
    ),
    Operation(
        "get",
        f"{_API}/channels/{{channel}}/presence",
        "Who follows a channel now",
        resources.Presence,
        _PAGE,
        errors=(*_WRONG, ErrorCode.INVALID_CHANNEL),
    ),
    Operation(
        "get", f"{_API}/rejections", "The newest bus messages not let in", resources.Rejections
    ),
    Operation(
        "get",
        f"{_API}/publishers",
        "What publishers' numbering tells: what was lost on the bus, what came twice",
        resources.Publishers,
        _PAGE,
        errors=_WRONG,
    ),
    Operation(
        "post",
        f"{_API}/broadcast",
        "Send an event to one of a channel, a client, a user, everyone; or, with the query "
        "parameter `channel`, the body itself as an event on that channel",
        messages.BroadcastResult,
        (Query("channel", "the body is an event for this channel", _TEXT),),
        body=messages.Broadcast,
        errors=(
            ErrorCode.INVALID_JSON,
            *_WRONG,
            ErrorCode.UNKNOWN_CLIENT,
            ErrorCode.TOO_LARGE,
            ErrorCode.INVALID_EVENT,
            ErrorCode.UNAVAILABLE,
        ),
    ),
    Operation(
        "get",
        "/events",
        "The same stream as over the WebSocket, as Server-Sent Events; the header Last-Event-ID "
        "resumes it",
        None,
        (
            Query("channels", "names and patterns, separated by commas", _TEXT),
            Query("last", "start with the newest events held", _whole(0, 10**9)),
            Query("since", "JSON object with a position for each channel by name", _TEXT),
            Query("filter", "a condition on events, in CEL", _TEXT),
            Query("rate", "events per second and key at most", {"type": "number"}),
            Query("lastEventId", "the same as the header", _TEXT),
        ),
        errors=(*_WRONG, ErrorCode.INVALID_CHANNEL, ErrorCode.INVALID_FILTER),
        media="text/event-stream",
    ),
    Operation("get", "/metrics", "Metrics for Prometheus", None, media="text/plain"),
    Operation("get", "/healthz", "The event loop turns", resources.Health),
    Operation(
        "get",
        "/readyz",
        "Whether new clients are welcome",
        resources.Readiness,
        also={503: "Not now, and why"},
    ),
    Operation("get", "/openapi.json", "This document", dict),
    Operation("get", "/asyncapi.json", "The WebSocket protocol", dict),
)


@cache
def openapi_document() -> JsonObject:
    """Return the OpenAPI document of the HTTP interface."""
    types = [kind for one in OPERATIONS for kind in (one.answer, one.body) if _is_struct(kind)]
    _, components = _components(
        [Problem, messages.EventMessage, messages.Gap, *dict.fromkeys(types)]
    )
    paths: JsonObject = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": _info("The HTTP interface of the gateway"),
        "paths": paths,
        "components": {"schemas": components},
    }


@cache
def asyncapi_document() -> JsonObject:
    """Return the AsyncAPI document of the WebSocket protocol."""
    theirs = _messages(get_args(messages.ClientMessage))
    ours = _messages(get_args(messages.ServerMessage)) | _standard_events()
    data = [standard.data for standard in events.STANDARD.values()]
    spoken = [*get_args(messages.ServerMessage), *get_args(messages.ClientMessage)]
    _, components = _components([*spoken, *data, messages.Position])
    return {
        "asyncapi": "3.0.0",
        "info": _info(_protocol_text()),
        "channels": {
            "ws": {
                "address": "/ws",
                "bindings": {"ws": {"query": _parameters_of_ws(), "bindingVersion": "0.1.0"}},
                "messages": {
                    name: {"$ref": f"#/components/messages/{name}"} for name in (*theirs, *ours)
                },
            }
        },
        "operations": {
            "receive": _speak("receive", "What a client may send", theirs),
            "send": _speak("send", "What the gateway sends", ours),
        },
        "components": {
            "messages": theirs | ours,
            "schemas": components,
        },
        "x-close-codes": {
            str(int(code)): {"reason": code.reason, "reconnect": code.reconnect}
            for code in CloseCode
        },
    }


async def openapi(_request: web.Request) -> web.Response:
    """Answer with the OpenAPI document."""
    return answer(openapi_document())


async def asyncapi(_request: web.Request) -> web.Response:
    """Answer with the AsyncAPI document."""
    return answer(asyncapi_document())


def _components(types: Iterable[Any]) -> tuple[Any, JsonObject]:
    references, components = msgspec.json.schema_components(types, ref_template=_REF)
    return references, components


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _info(description: str) -> JsonObject:
    return {
        "title": "neurograph-gateway",
        "version": __version__,
        "description": description,
        "license": {"name": "MIT"},
    }


def _operation(operation: Operation) -> JsonObject:
    good = {"description": operation.summary, "content": {operation.media: _content(operation)}}
    responses: JsonObject = {"200": good}
    for status, text in (operation.also or {}).items():
        responses[str(status)] = {**good, "description": text}
    for error in operation.errors:
        known = responses.setdefault(str(error.status), _problem_response())
        known["description"] = " or ".join(filter(None, [known["description"], error.word]))
    responses["default"] = {**_problem_response(), "description": "any other error"}
    document: JsonObject = {
        "operationId": operation.method + operation.path.title().replace("/", "").translate(_PLAIN),
        "summary": operation.summary,
        "parameters": list(_parameters(operation)),
        "responses": responses,
    }
    if operation.body is not None:
        reference = {"$ref": _REF.format(name=operation.body.__name__)}
        # Any JSON is a body for the form with `?channel=`.
        document["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": {"anyOf": [reference, {}]}}},
        }
    return document


_PLAIN: Final = str.maketrans("", "", "{}._")


def _content(operation: Operation) -> JsonObject:
    if _is_struct(operation.answer) and operation.answer is not None:
        return {"schema": {"$ref": _REF.format(name=operation.answer.__name__)}}
    return {"schema": {"type": "object" if operation.answer else "string"}}


def _parameters(operation: Operation) -> Iterable[JsonObject]:
    if "{channel}" in operation.path:
        yield {"name": "channel", "in": "path", "required": True, "schema": _TEXT}
    for query in operation.query:
        yield {
            "name": query.name,
            "in": "query",
            "description": query.description,
            "schema": dict(query.schema),
        }


def _problem_response() -> JsonObject:
    content = {PROBLEM_TYPE: {"schema": {"$ref": _REF.format(name="Problem")}}}
    return {"description": "", "content": content}


def _messages(kinds: Iterable[type]) -> JsonObject:
    return {
        kind.__name__: {
            "name": kind.__struct_config__.tag,  # type: ignore[attr-defined]  # all are tagged structs
            "summary": (kind.__doc__ or "").split("\n")[0],
            "payload": {"$ref": _REF.format(name=kind.__name__)},
        }
        for kind in kinds
    }


def _standard_events() -> JsonObject:
    """Describe the events of the six standard channels, whose `data` is typed."""
    any_event = {"$ref": _REF.format(name=messages.EventMessage.__name__)}
    return {
        f"{name.capitalize()}Event": {
            "name": "event",
            "summary": f"{standard.description}: channel `{name}`, `event_type` {standard.event_types}",
            "payload": {
                "allOf": [
                    any_event,
                    {
                        "type": "object",
                        "properties": {
                            "channel": {"const": name},
                            "data": {"$ref": _REF.format(name=standard.data.__name__)},
                        },
                        "required": ["event_type"],
                    },
                ]
            },
        }
        for name, standard in events.STANDARD.items()
    }


def _speak(action: str, summary: str, names: Iterable[str]) -> JsonObject:
    return {
        "action": action,
        "summary": summary,
        "channel": {"$ref": "#/channels/ws"},
        "messages": [{"$ref": f"#/channels/ws/messages/{name}"} for name in names],
    }


def _parameters_of_ws() -> JsonObject:
    text = {
        "channels": "names and patterns, separated by commas; followed at once",
        "since": "JSON object with a position for each channel by name",
        "filter": "a condition on events, in CEL",
        "session": "the secret of a session that was lost",
        "user_id": "who this is; believed while no authentication is configured",
    }
    properties: JsonObject = {
        name: {"type": "string", "description": description} for name, description in text.items()
    }
    properties["last"] = {"type": "integer", "minimum": 0, "description": "newest events first"}
    properties["rate"] = {"type": "number", "description": "events per second and key at most"}
    return {"type": "object", "properties": properties}


def _protocol_text() -> str:
    codes = ", ".join(f"{int(code)} {code.reason}" for code in CloseCode)
    words = ", ".join(sorted(code.word for code in ErrorCode))
    return f"JSON text messages. Error codes: {words}. Close codes: {codes}."
