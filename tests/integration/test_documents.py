"""The OpenAPI and AsyncAPI documents agree with what the running gateway really says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import pytest

from tests.conftest import Connect, Launch, NewPublisher
from tests.support.gateway import Gateway, Json
from tests.support.record import Message
from tests.support.ws import Client


API = "/api/v1/websocket"
METHODS = {"get", "post", "put", "delete", "patch", "head", "options"}


def _resolve(document: Json, node: Json) -> Json:
    while isinstance(node, Mapping) and "$ref" in node:
        at = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            at = at[part.replace("~1", "/").replace("~0", "~")]
        node = at
    return node


def _conforms(document: Json, schema: Json, value: object) -> None:
    """Check `value` against a schema whose references point into `document`."""
    rest = {k: v for k, v in document.items() if not k.startswith("$")}
    validator = jsonschema.Draft202012Validator({**rest, "allOf": [schema]})
    errors = [f"{e.json_path}: {e.message}" for e in validator.iter_errors(value)]
    assert errors == [], value


async def _answer_conforms(gateway: Gateway, document: Json, documented: str, path: str) -> None:
    answer = await gateway.request("GET", path)
    responses = document["paths"][documented]["get"]["responses"]
    response = responses.get(str(answer.status), responses.get("default"))
    assert response is not None, f"{documented}: {answer.status} is not documented"
    content = _resolve(document, response)["content"]
    kind = answer.headers["Content-Type"].split(";")[0]
    assert kind in content, f"{documented}: {kind} is not documented"
    if kind.endswith("json"):
        _conforms(document, content[kind].get("schema", {}), answer.json)


@pytest.fixture
async def openapi(gateway: Gateway) -> Json:
    return await gateway.get_json("/openapi.json")


@pytest.fixture
async def asyncapi(gateway: Gateway) -> Json:
    return await gateway.get_json("/asyncapi.json")


def _references(node: Json) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "$ref" and isinstance(value, str):
                yield value
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


@pytest.mark.parametrize("path", ["/openapi.json", "/asyncapi.json"])
async def test_all_references_lead_somewhere(gateway: Gateway, path: str) -> None:
    """Each $ref names something in the same document."""
    document = await gateway.get_json(path)
    references = set(_references(document))

    assert references
    for reference in references:
        assert reference.startswith("#/")
        assert _resolve(document, {"$ref": reference}) is not None


async def test_the_documents_name_their_version(openapi: Json, asyncapi: Json) -> None:
    """OpenAPI 3.1 and AsyncAPI 3, with the gateway's own version."""
    assert openapi["openapi"].startswith("3.1")
    assert asyncapi["asyncapi"].startswith("3.")
    assert openapi["info"]["version"] == asyncapi["info"]["version"]


async def test_every_endpoint_is_documented(openapi: Json) -> None:
    """All that protocol.md, part 3, lists."""
    assert {
        "/",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/asyncapi.json",
        f"{API}/status",
        f"{API}/channels",
        f"{API}/channels/{{channel}}",
        f"{API}/channels/{{channel}}/events",
        f"{API}/rejections",
        f"{API}/broadcast",
    } <= set(openapi["paths"]) | {"/", "/openapi.json", "/asyncapi.json"}


async def test_every_documented_get_answers_as_documented(gateway: Gateway, openapi: Json, connect: Connect) -> None:
    """Status, content type and schema of each answer, of a gateway with clients and events."""
    client = await connect("metrics", user_id="ada")
    await gateway.broadcast({"channel": "documented", "event": {"n": 1}})
    found = []
    for path, item in openapi["paths"].items():
        if "get" not in item or path in {"/ws", "/events"}:
            continue
        await _answer_conforms(gateway, openapi, path, path.replace("{channel}", "documented"))
        found.append(path)
        if "{channel}" in path:
            await _answer_conforms(gateway, openapi, path, path.replace("{channel}", "metrics"))
            await _answer_conforms(gateway, openapi, path, path.replace("{channel}", "not.there"))
    await _answer_conforms(gateway, openapi, f"{API}/status", f"{API}/status?limit=x")
    events = f"{API}/channels/{{channel}}/events"
    for query in ("since=0&limit=1", "since=other:3", "limit=x"):
        await _answer_conforms(gateway, openapi, events, f"{API}/channels/documented/events?{query}")
    await client.ping()

    assert f"{API}/status" in found


@pytest.mark.parametrize(
    "body",
    [
        {"everyone": True, "event": {"event_type": "t", "data": {}}},
        {"channel": "metrics", "event": {"event_type": "t", "data": {"cpu_percent": 1}}},
        {"user_id": "nobody", "event": [1]},
        {"client_id": "nobody", "event": 1},
        {"channel": "metrics", "event": 1},
        {"channel": "no name", "event": 1},
        [],
    ],
)
async def test_broadcast_answers_as_documented(gateway: Gateway, openapi: Json, body: object) -> None:
    """Each kind of answer, good or bad."""
    answer = await gateway.request("POST", f"{API}/broadcast", body=body)
    responses = openapi["paths"][f"{API}/broadcast"]["post"]["responses"]
    response = _resolve(openapi, responses.get(str(answer.status), responses.get("default")))
    kind = answer.headers["Content-Type"].split(";")[0]

    _conforms(openapi, response["content"][kind]["schema"], answer.json)


async def test_every_documented_method_exists(gateway: Gateway, openapi: Json) -> None:
    """No path is documented that answers 404 for itself or 405 for its methods."""
    for path, item in openapi["paths"].items():
        for method in METHODS & set(item):
            address = path.replace("{channel}", "metrics").replace("{client}", "nobody").replace("{user}", "nobody")
            answer = await gateway.request(method.upper(), address)
            is_served = answer.status != 404 or answer.json["code"] == "unknown_client"
            assert is_served, f"{method} {path}"
            assert answer.status != 405, f"{method} {path}"


def _payloads(document: Json) -> dict[str, Json]:
    """The documented messages by their `type`; a payload may be a union."""
    found: dict[str, Json] = {}

    def visit(schema: Json) -> None:
        resolved = _resolve(document, schema)
        for part in (*resolved.get("anyOf", []), *resolved.get("oneOf", [])):
            visit(part)
        for part in resolved.get("allOf", []):
            visit(part)
        kind = resolved.get("properties", {}).get("type", {})
        for value in [kind["const"]] if "const" in kind else kind.get("enum", []):
            found.setdefault(value, schema)

    for message in document["components"]["messages"].values():
        visit(_resolve(document, message)["payload"])
    return found


def _received(clients: list[Client]) -> dict[str, list[Message]]:
    found: dict[str, list[Message]] = {}
    for client in clients:
        for message in client.everything:
            found.setdefault(message["type"], []).append(message)
    return found


async def _provoke_everything(gateway: Gateway, bus_send: Any, connect: Connect) -> dict[str, list[Message]]:
    """Have the gateway say each kind of message that it knows, in several forms."""
    first = await connect(">", to=gateway, user_id="ada")
    bus_send("metrics", {"cpu_percent": 1.5}, event_type="system_metrics")
    bus_send("logs", {"level": "info", "message": "m"}, event_type="log.info")
    bus_send("status", {"status": "up"}, event_type="status.up")
    bus_send("signals", {"event_id": "1", "priority": 3}, event_type="signal.x")
    bus_send("actions", {"action_id": "1", "status": "done"}, event_type="action.x")
    for n in range(30):
        bus_send("own", {"n": n})
    await first.events("own", 30)
    positions = (await first.ping())["positions"]
    await first.ask({"type": "ping", "id": 3}, "pong")
    await first.ask({"type": "get_subscriptions", "id": "x"}, "subscriptions")
    await first.refused({"type": "no_such"})
    await first.refused({"type": "subscribe", "channels": ["bad name"], "id": 1})
    await first.refused({"type": "subscribe", "channels": ["x"], "rate": 0})
    await first.subscribe("x", rate=1, filter="data.n > 1")
    await first.ask({"type": "get_subscriptions", "id": "y"}, "subscriptions")
    await first.ask({"type": "unsubscribe", "channels": [">"], "id": 1}, "unsubscribed")
    second = await connect(to=gateway)
    own = positions["own"]
    await second.subscribe("own", since={**own, "offset": 1}, id=1)
    await second.events("own", 5)
    await second.subscribe("own", since={"epoch": "other", "offset": 1})
    await gateway.broadcast({"everyone": True, "event": [1]})
    await gateway.broadcast({"client_id": second.client_id, "event": {"n": 1}})
    await second.events("$everyone", 1)
    await second.events("$personal", 1)
    third = await connect(to=gateway, session=first.session)
    await first.closed()
    return _received([first, second, third])


async def test_every_message_is_sent_as_documented(launch: Launch, publisher: NewPublisher, connect: Connect) -> None:
    """Each message the gateway sends has a documented type and fits its schema; none is left out."""
    gateway = await launch(settings={"history.events_max": 20})
    bus = await publisher(gateway.bus_in)
    document = await gateway.get_json("/asyncapi.json")
    payloads = _payloads(document)
    received = await _provoke_everything(gateway, bus.send, connect)

    server = {"connected", "subscribed", "unsubscribed", "subscriptions", "pong", "error", "gap", "event", "closing"}
    assert server == set(received)
    assert server <= set(payloads)
    for kind, messages in received.items():
        for message in messages:
            _conforms(document, payloads[kind], message)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "subscribe", "channels": ["metrics", {"channel": "x", "last": 1}], "id": 1},
        {"type": "subscribe", "channels": ["metrics"], "since": {"epoch": "e", "offset": 1}},
        {"type": "subscribe", "channels": ["a.*"], "since": {"a.b": {"epoch": "e", "offset": 1}}},
        {"type": "unsubscribe", "channels": ["metrics"]},
        {"type": "get_subscriptions"},
        {"type": "ping", "id": "x"},
        {"type": "auth", "token": "t"},
    ],
)
async def test_what_clients_may_send_is_documented(asyncapi: Json, message: Message) -> None:
    """The schemas of client messages accept what the gateway accepts."""
    _conforms(asyncapi, _payloads(asyncapi)[message["type"]], message)


async def test_client_schemas_refuse_what_the_gateway_refuses(asyncapi: Json) -> None:
    """A schema that accepts everything documents nothing."""
    schema = _payloads(asyncapi)["subscribe"]
    for bad in ({"type": "subscribe"}, {"type": "subscribe", "channels": "metrics"}):
        with pytest.raises(AssertionError):
            _conforms(asyncapi, schema, bad)
