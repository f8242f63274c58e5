"""Every error is a problem document, which shows nothing of the internals."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from gateway.metrics.metrics import EndpointStatus
from tests.unit.web.conftest import API, Answer, Site


def broken() -> list[EndpointStatus]:
    raise KeyError("secret/of/the/inside")


def problem_of(answer: Answer) -> tuple[int, str]:
    """Status and code of a problem, once its form is right."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json.keys() == {"type", "title", "status", "detail", "code"}
    assert answer.json["title"] == HTTPStatus(answer.status).phrase
    assert answer.json["detail"]
    assert answer.json["status"] == answer.status
    return answer.status, answer.json["code"]


async def test_an_unknown_address_is_named(site: Site) -> None:
    answer = await site.get("/no/such%20place")

    assert problem_of(answer) == (404, "not_found")
    assert "'/no/such place'" in answer.json["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", f"{API}/status", {"GET", "HEAD"}),
        ("POST", "/", {"GET", "HEAD"}),
        ("GET", f"{API}/broadcast", {"POST"}),
        ("OPTIONS", f"{API}/broadcast", {"POST"}),
    ],
)
async def test_an_unsupported_method_is_answered_with_the_supported_ones(
    site: Site, method: str, path: str, allowed: set[str]
) -> None:
    answer = await site.ask(method, path)

    assert problem_of(answer) == (405, "method_not_allowed")
    assert set(answer.headers["Allow"].split(",")) == allowed
    assert all(word in answer.json["detail"] for word in {method, *allowed})


async def test_a_request_to_ws_that_is_no_handshake_is_asked_to_upgrade(site: Site) -> None:
    answer = await site.get("/ws")

    assert problem_of(answer) == (426, "upgrade_required")
    assert answer.headers["Upgrade"] == "websocket"


async def test_an_unexpected_exception_is_logged_and_not_shown(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    site.links = broken
    answer = await site.get(f"{API}/status")

    assert problem_of(answer) == (500, "internal")
    assert b"secret" not in answer.body
    out, err = capfd.readouterr()
    assert "secret/of/the/inside" in out + err
    assert "Traceback" in out + err


async def test_a_failure_does_not_affect_other_requests(site: Site) -> None:
    site.links = broken
    await site.get(f"{API}/status")
    site.links = list

    assert (await site.get(f"{API}/status")).status == 200


async def test_an_exhausted_limit_says_when_to_retry(site: Site) -> None:
    for number in range(20):
        site.hub.logs.admit(f"taken.{number}")
    answer = await site.broadcast({"channel": "one.more", "event": 1})

    assert problem_of(answer) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0
