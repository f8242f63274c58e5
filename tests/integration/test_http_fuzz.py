"""Every operation of the OpenAPI document, with generated values within its schema and outside it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.web.endpoints.schemas import openapi_document
from gateway.web.routes import ROUTES
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.sizes import full
from tests.support.tokens import SETTINGS, bearer, token
from tests.support.waiting import DEADLINE_SECONDS, eventually, scaled


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
HEADERS = [*[bearer(token("admin"))] * 3, *(bearer(token("developer")), bearer("nonsense"), {})]
OPERATIONS = {
    f"{found.ok().method.upper()} {found.ok().path}": found.ok()
    for found in schemathesis.openapi.from_dict(openapi_document(ROUTES)).get_all_operations()
    if isinstance(found, Ok)
}
RIGHT = [(name, GenerationMode.POSITIVE) for name in OPERATIONS]
WRONG = [(name, GenerationMode.NEGATIVE) for name, one in OPERATIONS.items() if one.query or one.body]
KNOWN: dict[str, dict[str, Any]] = {
    "{channel}": {"path_parameters": {"channel": "metrics"}},
    "GET /events": {"query": {"channels": "metrics"}},
    "/broadcast": {"query": {"channel": "metrics"}},
}
"""What no generator hits upon: the names of channels that there are."""
KEPT_BYTES_MAX = 32 * 1024 * 1024
EXAMPLES = full(200, 12)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Gateway]:
    """A gateway that wants tokens, with something behind every address."""
    with Gateway(settings={**SETTINGS, "auth.query_token": "true"}) as gateway:
        publisher = Publisher(gateway.bus_in)
        asyncio.run(fill(gateway, publisher))
        before = gateway.rss()
        yield gateway
        assert gateway.rss() - before < KEPT_BYTES_MAX
        publisher.close()


async def fill(gateway: Gateway, publisher: Publisher) -> None:
    """Publish on one channel, and a message that is rejected."""
    await publisher.subscribed()
    publisher.send_numbered("metrics", range(20), enveloped=True)
    publisher.send_payload("metrics", b"no JSON \xff\x1b")
    gateway.token = token("admin")
    await gateway.broadcast({"event_type": "x", "data": {}}, "?channel=signals")


@pytest.mark.parametrize(("name", "mode"), [*RIGHT, *WRONG])
def test_whatever_is_asked_is_answered_as_documented(guarded: Gateway, name: str, mode: GenerationMode) -> None:
    """Never by 500, by a status that is not documented, or by a body that is not of its schema.

    No task stays behind; the gateway's fixture looks at what it has kept in memory.
    """
    operation = OPERATIONS[name]
    cases = operation.as_strategy(mode)
    for known in KNOWN:
        if known in name:
            cases |= operation.as_strategy(mode, **KNOWN[known])

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=cases, headers=st.sampled_from(HEADERS))
    def ask(case: Case[Any], headers: dict[str, str]) -> None:
        how = case.as_transport_kwargs(base_url=guarded.url, headers=headers)
        with http.request(**how, stream=True, timeout=scaled(DEADLINE_SECONDS)) as answer:
            if answer.headers["Content-Type"] == "text/event-stream":
                assert 200 == answer.status_code  # and what follows has no end
                return
            case.validate_response(answer, checks=CHECKS)

    async def rests() -> bool:
        return await guarded.metric("neurograph_gateway_event_loop_tasks") <= before

    before = asyncio.run(guarded.metric("neurograph_gateway_event_loop_tasks"))
    with requests.Session() as http:
        ask()
    asyncio.run(eventually(rests, saying="no task stays behind"))


async def test_a_client_that_disconnects_while_it_waits_to_continue_causes_no_error(gateway: Gateway) -> None:
    """The gateway fixture checks that nothing of it is logged as an error."""
    head = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\n\r\n"
    for _ in range(50):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(head)
        writer.write_eof()
        await reader.read()
        writer.close()

    assert 200 == (await gateway.request("GET", "/healthz")).status
