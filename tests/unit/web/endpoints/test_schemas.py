"""The OpenAPI and AsyncAPI documents: complete, consistent, and true to what is answered.

That the running gateway agrees with them is tested in tests/integration/test_documents.py.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from gateway.config.model import Config
from gateway.core.protocol.errors import CloseCode, ErrorCode
from gateway.core.protocol.events import STANDARD
from gateway.metrics.metrics import EndpointStatus
from gateway.web.endpoints.schemas import asyncapi_document, openapi_document
from gateway.web.routes import ROUTES
from tests.support.core import Peer
from tests.unit.web.conftest import API, MakeSite, Site


Document = dict[str, Any]
DATA: dict[str, Document] = {
    "metrics": {"cpu_percent": 1.5},
    "signals": {"event_id": "1", "priority": 255},
    "actions": {"action_id": 1, "result": [1]},
    "logs": {"level": "info", "message": "m"},
    "status": {"status": "up"},
    "connections": {"client_id": "c"},
}


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from [value] if key == "$ref" else references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def faults(document: Document, schema: object, value: object) -> list[str]:
    root = {"components": document["components"], "allOf": [schema]}
    errors = jsonschema.Draft202012Validator(root).iter_errors(value)
    return [f"{error.json_path}: {error.message}" for error in errors]


@pytest.mark.parametrize("document", [openapi_document(ROUTES), asyncapi_document()])
def test_schemas_are_schemas_and_references_lead_somewhere(document: Document) -> None:
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for reference in references(document):
        at = document
        for part in reference.removeprefix("#/").split("/"):
            at = at[part]


@pytest.mark.parametrize("document", [openapi_document(ROUTES), asyncapi_document()])
def test_no_schema_is_there_for_nothing(document: Document) -> None:
    used = set(references(document))

    unused = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]} - used
    assert unused == set()


def test_operations_have_names_of_their_own() -> None:
    names = [
        operation["operationId"] for item in openapi_document(ROUTES)["paths"].values() for operation in item.values()
    ]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("path", "documented"),
    [
        (f"{API}/status?limit=1", f"{API}/status"),
        (f"{API}/channels", f"{API}/channels"),
        (f"{API}/channels/metrics", f"{API}/channels/{{channel}}"),
        (f"{API}/channels/robots", f"{API}/channels/{{channel}}"),
        (f"{API}/channels/none", f"{API}/channels/{{channel}}"),
        (f"{API}/channels/a..b", f"{API}/channels/{{channel}}"),
        (f"{API}/channels/robots/events", f"{API}/channels/{{channel}}/events"),
        (f"{API}/channels/robots/events?since=1", f"{API}/channels/{{channel}}/events"),
        (f"{API}/channels/robots/events?since=x:1", f"{API}/channels/{{channel}}/events"),
        (f"{API}/channels/robots/events?since=x", f"{API}/channels/{{channel}}/events"),
        (f"{API}/rejections", f"{API}/rejections"),
        (f"{API}/publishers", f"{API}/publishers"),
        (f"{API}/publishers?limit=x", f"{API}/publishers"),
        ("/healthz", "/healthz"),
        ("/readyz", "/readyz"),
    ],
)
async def test_answers_are_as_documented(make_site: MakeSite, path: str, documented: str) -> None:
    site = await make_site(events_max=3)
    site.links = lambda: [
        EndpointStatus("tcp://x:1", "bind", "listening", 1, 2, 0, last)  #
        for last in (None, 0.5)
    ]
    site.unready = ["draining"]
    site.publish("robots", 9)
    envelope = struct.pack(">4sIQQQ", b"NGE1", 0, 7, 3, 0)
    site.hub.tick([[b"robots"], [b"robots", b"1", envelope]], now_ns=0)
    answer = await site.get(path)
    document = openapi_document(ROUTES)
    responses = document["paths"][documented]["get"]["responses"]
    content = responses[str(answer.status)]["content"]

    assert faults(document, content[answer.headers["Content-Type"]]["schema"], answer.json) == []


def test_an_answer_that_is_wrong_does_not_fit() -> None:
    """A document that accepts everything says nothing."""
    document = openapi_document(ROUTES)
    get = document["paths"][f"{API}/channels/{{channel}}/events"]["get"]
    schema = get["responses"]["200"]["content"]["application/json"]["schema"]
    history = {"channel": "x", "epoch": "e", "next": {"epoch": "e", "offset": 1}, "gap": None}

    assert faults(document, schema, {**history, "events": []}) == []
    assert faults(document, schema, {**history, "events": [{"type": "gap"}]})
    assert faults(document, schema, {**history, "events": [], "gap": {"reason": "none"}})


@pytest.mark.parametrize("channel", STANDARD)
def test_events_of_standard_channels_have_typed_data(channel: str) -> None:
    document = asyncapi_document()
    schema = document["components"]["messages"][f"{channel.capitalize()}Event"]["payload"]
    event = {
        "type": "event",
        "channel": channel,
        "offset": 1,
        "event_type": "x.y",
        "timestamp": "2026-11-23T12:00:00Z",
        "data": DATA[channel],
    }

    assert faults(document, schema, event) == []
    assert faults(document, schema, {**event, "data": "x"})
    assert faults(document, schema, {**event, "channel": "other"})
    wrong: Document = {key: [{}] for key in DATA[channel] if key != "result"}
    assert faults(document, schema, {**event, "data": wrong})


@pytest.mark.parametrize("channel", STANDARD)
async def test_what_is_delivered_on_standard_channels_fits(site: Site, channel: str) -> None:
    peer = Peer(site.hub, "p")
    peer.connect(channel)
    await site.broadcast({"channel": channel, "event": {"event_type": "x.y", "data": DATA[channel]}})
    document = asyncapi_document()
    schema = document["components"]["messages"][f"{channel.capitalize()}Event"]["payload"]
    delivered = [message for message in peer.take() if message["type"] == "event"]

    assert delivered
    assert [faults(document, schema, event) for event in delivered] == [[]] * len(delivered)


@pytest.mark.parametrize(
    ("since", "fits"),
    [
        ({"epoch": "e", "offset": 3}, True),
        ({"metrics": {"epoch": "e", "offset": 3}}, True),
        ({}, True),
        (None, True),
        ({"metrics": 3}, False),
        ({"epoch": "e", "offset": -1}, False),
        (3, False),
    ],
)
def test_since_is_documented_in_both_its_forms(since: object, fits: bool) -> None:
    document = asyncapi_document()
    schema = document["components"]["messages"]["Subscribe"]["payload"]
    message = {"type": "subscribe", "channels": ["metrics"], "since": since}

    assert fits is (faults(document, schema, message) == [])


def test_each_side_says_its_own_messages() -> None:
    document = asyncapi_document()
    said = {
        name: {
            document["components"]["messages"][one["$ref"].rsplit("/", 1)[1]]["name"] for one in operation["messages"]
        }
        for name, operation in document["operations"].items()
    }

    assert said["receive"] == {"subscribe", "unsubscribe", "get_subscriptions", "ping", "auth", "publish"}
    assert said["send"] == {
        *("connected", "subscribed", "unsubscribed", "subscriptions", "pong"),
        *("error", "gap", "closing", "event", "authenticated", "token_expiring", "warning", "published"),
    }


def test_every_close_code_and_error_code_is_explained() -> None:
    document = asyncapi_document()
    text = document["info"]["description"]

    assert document["x-close-codes"].keys() == {str(int(code)) for code in CloseCode}
    assert document["x-close-codes"]["4500"] == {"reason": "session_taken_over", "reconnect": False}
    assert all(code.word in text for code in ErrorCode)


def test_the_documents_are_plain_json() -> None:
    for document in (openapi_document(ROUTES), asyncapi_document()):
        assert document == json.loads(json.dumps(document))


# -- what tools for these documents need --------------------------------------------------------------


def operations() -> dict[str, Document]:
    paths = openapi_document(ROUTES)["paths"]
    return {operation["operationId"]: operation for item in paths.values() for operation in item.values()}


def test_operations_have_readable_ids_tags_and_security() -> None:
    found = operations()

    assert {"getEvents", "getStatus", "getHistory", "broadcast", "getMetrics", "getHealth"} <= set(found)
    assert found["getMetrics"]["security"] == [{"bearer": []}]
    assert {} in found["getHistory"]["security"]
    assert {"401", "403"} <= set(found["getHistory"]["responses"])
    assert {one["tags"][0] for one in found.values()} == {tag["name"] for tag in openapi_document(ROUTES)["tags"]}


def test_the_header_that_resumes_a_stream_is_documented() -> None:
    assert ("Last-Event-ID", "header") in {(one["name"], one["in"]) for one in operations()["getEvents"]["parameters"]}


@pytest.mark.parametrize(("headers", "prefix"), [({}, ""), ({"X-Forwarded-Prefix": "/gw/"}, "/gw")])
async def test_the_documents_name_the_server_behind_a_proxys_prefix(
    make_site: MakeSite, headers: dict[str, str], prefix: str
) -> None:
    site = await make_site(Config(trusted_proxies=("127.0.0.1",)))
    openapi = (await site.get("/openapi.json", headers=headers)).json
    asyncapi = (await site.get("/asyncapi.json", headers={**headers, "X-Forwarded-Proto": "https"})).json
    server = asyncapi["servers"]["gateway"]

    assert openapi["servers"] == [{"url": prefix or "."}]
    assert (server["protocol"], server["pathname"]) == ("wss", prefix or "/")
    assert server["host"].startswith("127.0.0.1:")
