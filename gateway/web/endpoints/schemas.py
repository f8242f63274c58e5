"""OpenAPI 3.1 and AsyncAPI 3.0, generated from the routes and the models of messages and answers."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, get_args

import msgspec
from aiohttp import web

from gateway import __version__
from gateway.core.protocol import events, messages
from gateway.core.protocol.errors import CloseCode, ErrorCode
from gateway.runtime.docstrings import docstring
from gateway.web.authentication import Access
from gateway.web.context import PREFIX
from gateway.web.endpoints.rest import answer
from gateway.web.problems import CONTENT_TYPE as PROBLEM_TYPE
from gateway.web.problems import Handler, Problem


JsonObject = dict[str, Any]  # Any: a document's values are of every JSON kind

_REF: Final = "#/components/schemas/{name}"
_PATH_PARAMETER: Final = re.compile(r"{(\w+)}")
_TAGS: Final = {
    "events": "Receive events, read their history, send them",
    "channels": "Channels and their subscribers",
    "gateway": "The gateway's own state",
    "documents": "Descriptions of these interfaces",
}
_BEARER: Final = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
_SUBPROTOCOL: Final = {
    "type": "httpApiKey",
    "name": "Sec-WebSocket-Protocol",
    "in": "header",
    "description": "For browsers: `neurograph, bearer.<token>`",
}
_PERMITTED: Final[list[JsonObject]] = [{}, {"bearer": []}]
"""A token is needed if `anonymous` does not have the permissions."""
_SECURITY: Final[Mapping[Access, list[JsonObject]]] = {
    Access.OPEN: [],
    Access.IDENTIFIED: _PERMITTED,
    Access.SUBSCRIBER: _PERMITTED,
    Access.PUBLISHER: _PERMITTED,
    Access.ADMIN: [{"bearer": []}],
    Access.OPERATOR: [{"bearer": []}],
}


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter in the query, or a header."""

    name: str
    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})


def integer(least: int, most: int) -> JsonObject:
    return {"type": "integer", "minimum": least, "maximum": most}


SUBSCRIBE_QUERY: Final = (
    Query("channels", "names and patterns to subscribe to, separated by commas"),
    Query("last", "start with this many of the newest events held", integer(0, 10**9)),
    Query("since", "JSON object: a position for each channel by name"),
    Query("filter", "a condition on events, in CEL"),
    Query("rate", "maximum events per second and key", {"type": "number"}),
)
WEBSOCKET_QUERY: Final = (
    *SUBSCRIBE_QUERY,
    Query("session", "the secret of a session to resume"),
    Query("user_id", "the user's name; used only if no authentication is configured"),
    Query("encoding", "how messages are encoded, in both directions", {"enum": ["json", "msgpack"]}),
)


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One address: what serves it, to whom, and what the documents say about it."""

    path: str
    handler: Handler
    method: str = "GET"
    access: Access = Access.OPEN
    is_proxied: bool = False
    """Whether a worker passes the request on to its parent, which knows the whole gateway."""
    tag: str = "documents"
    """The group that the documents list it in."""
    query: tuple[Query, ...] = ()
    headers: tuple[Query, ...] = ()
    body: type | None = None
    answer: type | None = None
    errors: tuple[ErrorCode, ...] = ()
    also: Mapping[int, str] | None = None
    """Other statuses with the same answer, and when they occur."""
    media: str = "application/json"
    is_stream: bool = False
    """Whether the answer goes on until a client leaves."""
    is_in_openapi: bool = True
    is_urgent: bool = False
    """Whether it is answered at once, however many requests wait, and under any host name."""
    is_strict: bool = False
    """Whether an address with a parameter that is not in `query` is refused."""
    aliases: tuple[str, ...] = ()
    """Other paths at which it is served, too."""

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.query)

    @property
    def is_limited(self) -> bool:
        """Whether its requests wait for their turn."""
        return not (self.is_stream or self.is_urgent)

    @property
    def summary(self) -> str:
        """The docstring of the handler, as one line."""
        return " ".join(docstring(self.handler).split()).removesuffix(".")

    @property
    def example(self) -> str:
        """The address for a link in a browser; empty if it cannot be opened there."""
        openable = self.method == "GET" and self.is_in_openapi and not self.is_stream
        return self.path.replace("{channel}", "metrics") if openable else ""


ROUTES: web.AppKey[tuple[Route, ...]] = web.AppKey("routes", tuple)
"""All addresses that an application serves."""


@cache
def openapi_document(routes: tuple[Route, ...]) -> JsonObject:
    documented = [route for route in routes if route.is_in_openapi]
    types = [kind for one in documented for kind in (one.answer, one.body) if _is_struct(kind)]
    components = _components([Problem, messages.EventMessage, messages.Gap, *dict.fromkeys(types)])
    paths: JsonObject = {}
    for route in documented:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": _info("The HTTP interface of the gateway"),
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"bearer": _BEARER}},
    }


@cache
def asyncapi_document() -> JsonObject:
    client_kinds, server_kinds = get_args(messages.ClientMessage), get_args(messages.ServerMessage)
    received = _messages(client_kinds)
    sent = _messages(server_kinds) | _standard_events()
    data = [standard.data for standard in events.STANDARD.values()]
    components = _components([*server_kinds, *client_kinds, *data, messages.Position])
    security = {"bearer": _BEARER, "subprotocol": _SUBPROTOCOL}
    query = {one.name: {"description": one.description, **one.schema} for one in WEBSOCKET_QUERY}
    binding = {"query": {"type": "object", "properties": query}, "bindingVersion": "0.1.0"}
    return {
        "asyncapi": "3.0.0",
        "info": _info(_protocol_text()),
        "channels": {
            "ws": {
                "address": "/ws",
                "bindings": {"ws": binding},
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in (*received, *sent)},
            }
        },
        "operations": {
            "receive": _channel_operation("receive", "Messages that a client may send", received),
            "send": _channel_operation("send", "Messages that the gateway sends", sent),
        },
        "components": {"messages": received | sent, "schemas": components, "securitySchemes": security},
        "x-close-codes": {str(int(code)): {"reason": code.reason, "reconnect": code.reconnect} for code in CloseCode},
    }


async def openapi(request: web.Request) -> web.Response:
    """This HTTP interface, as an OpenAPI document."""
    # A dot stands for the folder of this document, whatever proxies put in front of it.
    return answer(openapi_document(request.app[ROUTES]) | {"servers": [{"url": request.get(PREFIX, ".")}]})


async def asyncapi(request: web.Request) -> web.Response:
    """The WebSocket protocol, as an AsyncAPI document."""
    server = {
        "host": request.host,
        "pathname": request.get(PREFIX, "/"),
        "protocol": "wss" if request.scheme == "https" else "ws",
        "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in ("bearer", "subprotocol")],
    }
    return answer(asyncapi_document() | {"servers": {"gateway": server}})


def _components(types: Iterable[Any]) -> JsonObject:
    return msgspec.json.schema_components(types, ref_template=_REF)[1]


def _reference(kind: type) -> JsonObject:
    return {"$ref": _REF.format(name=kind.__name__)}


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _info(description: str) -> JsonObject:
    return {
        "title": "neurograph-gateway",
        "version": __version__,
        "description": description,
        "license": {"name": "MIT"},
    }


def _operation(route: Route) -> JsonObject:
    schema: JsonObject = {"type": "object" if route.answer else "string"}
    if route.answer is not None and _is_struct(route.answer):
        schema = _reference(route.answer)
    good = {"description": route.summary, "content": {route.media: {"schema": schema}}}
    responses: JsonObject = {"200": good}
    for status, text in (route.also or {}).items():
        responses[str(status)] = {**good, "description": text}
    for error in _errors(route):
        known = responses.setdefault(str(error.status), _problem_response())
        known["description"] = " or ".join(filter(None, [known["description"], error.word]))
    responses["default"] = {**_problem_response(), "description": "any other error"}
    name = route.handler.__name__
    document: JsonObject = {
        "operationId": f"get{name.title()}" if route.method == "GET" else name,
        "tags": [route.tag],
        "summary": route.summary,
        "security": _SECURITY[route.access],
        "parameters": list(_parameters(route)),
        "responses": responses,
    }
    if route.body is not None:
        body = {"schema": {"anyOf": [_reference(route.body), {}]}}  # `?channel=` takes any JSON
        document["requestBody"] = {"required": True, "content": {"application/json": body}}
    return document


def _errors(route: Route) -> Iterable[ErrorCode]:
    yield from route.errors
    if route.access is not Access.OPEN:
        yield from (ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN)
    if not route.is_urgent:
        yield ErrorCode.FORBIDDEN_ORIGIN
    if route.is_limited and ErrorCode.UNAVAILABLE not in route.errors:
        yield ErrorCode.UNAVAILABLE


def _parameters(route: Route) -> Iterable[JsonObject]:
    for name in _PATH_PARAMETER.findall(route.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
    for place, parameters in (("query", route.query), ("header", route.headers)):
        for one in parameters:
            yield {"name": one.name, "in": place, "description": one.description, "schema": dict(one.schema)}


def _problem_response() -> JsonObject:
    return {"description": "", "content": {PROBLEM_TYPE: {"schema": _reference(Problem)}}}


def _messages(kinds: Iterable[type]) -> JsonObject:
    return {
        kind.__name__: {
            "name": kind.__struct_config__.tag,  # type: ignore[attr-defined]  # all are tagged structs
            "summary": docstring(kind).split("\n")[0],
            "payload": _reference(kind),
        }
        for kind in kinds
    }


def _standard_events() -> JsonObject:
    """Describe the events of the six standard channels, whose `data` is typed."""
    found = {}
    for name, standard in events.STANDARD.items():
        of_channel = {
            "type": "object",
            "properties": {"channel": {"const": name}, "data": _reference(standard.data)},
            "required": ["event_type"],
        }
        found[f"{name.capitalize()}Event"] = {
            "name": "event",
            "summary": f"{standard.description}: channel `{name}`, `event_type` {standard.event_types}",
            "payload": {"allOf": [_reference(messages.EventMessage), of_channel]},
        }
    return found


def _channel_operation(action: str, summary: str, names: Iterable[str]) -> JsonObject:
    return {
        "action": action,
        "summary": summary,
        "channel": {"$ref": "#/channels/ws"},
        "messages": [{"$ref": f"#/channels/ws/messages/{name}"} for name in names],
    }


def _protocol_text() -> str:
    codes = ", ".join(f"{int(code)} {code.reason}" for code in CloseCode)
    words = ", ".join(sorted(code.word for code in ErrorCode))
    return f"JSON text messages. Error codes: {words}. Close codes: {codes}."
